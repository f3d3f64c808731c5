"""The state machine that every store shares: current values, recent history, and commits under way.

Pure and single-threaded: no I/O, no clock, no waiting. A commit is *staged* (preconditions checked against everything
staged before it, revision assigned, nothing visible yet) and then, once the medium holds it, *published*; or all that
is staged is *discarded* when the medium refused.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence

import msgspec

from nodeport.store.base import (
    Compacted,
    Delete,
    Event,
    Expect,
    FutureRevision,
    KeyValue,
    Listing,
    Operation,
    PreconditionFailed,
    Put,
    Revision,
    Undecided,
)

INSERT_SINGLY = 16
"""Up to this many new keys are inserted one by one; more are appended and sorted, which merges runs in linear time."""


class Commit(msgspec.Struct, frozen=True, gc=False):
    """A staged commit; ``events`` in the order of its operations."""

    revision: Revision
    events: tuple[Event, ...]


class State:
    """Current values in key order, plus the events since ``compacted_revision``."""

    def __init__(self) -> None:
        self.revision = Revision(0)
        self.compacted_revision = Revision(0)
        self._current: dict[str, KeyValue] = {}
        self._keys: list[str] = []
        self._unsorted: list[str] = []
        self._log: list[Event] = []
        self._staged: dict[str, Event] = {}
        self._next = 1

    @property
    def history(self) -> int:
        """How many revisions the log reaches back."""
        return self.revision - self.compacted_revision

    # Writing

    def stage(self, operations: Sequence[Operation]) -> Commit:
        """Check and number a commit. Raises ``PreconditionFailed``, or ``Undecided``; then nothing has changed."""
        if len({operation.key for operation in operations}) != len(operations):
            raise ValueError("a key may occur only once in a commit")
        if not operations:
            raise ValueError("a commit needs at least one operation")
        revision = Revision(self._next)
        events = []
        for operation in operations:
            event = self._stage_one(operation, revision)
            if event is not None:
                events.append(event)
        for event in events:
            self._staged[event.key] = event
        self._next += 1
        return Commit(revision, tuple(events))

    def _stage_one(self, operation: Operation, revision: Revision) -> Event | None:
        key = operation.key
        staged = self._staged.get(key)
        previous = staged.current if staged else self._current.get(key)
        expected = operation.expect
        if expected is not None and expected != (previous.mod_revision if previous else 0):
            if staged:
                raise Undecided(f"{key} is being written")
            raise PreconditionFailed(key, expected, previous)
        match operation:
            case Put(value=value):
                created = previous.create_revision if previous else revision
                return Event(revision, key, KeyValue(key, value, created, revision), previous)
            case Delete() if previous is None:
                if expected == 0:
                    raise PreconditionFailed(key, expected, None)
                return None
            case Delete():
                return Event(revision, key, None, previous)
            case Expect():
                return None

    def publish(self, commit: Commit) -> None:
        """Make a staged commit visible; commits are published in the order in which they were staged."""
        if commit.revision != self.revision + 1:
            raise ValueError(f"revision {commit.revision} published after {self.revision}")
        for event in commit.events:
            self._apply(event)
            if self._staged.get(event.key) is event:
                del self._staged[event.key]
        self._log.extend(commit.events)
        self.revision = commit.revision

    def discard_staged(self) -> None:
        """Forget every commit that is staged and not published; their revisions will be given again."""
        self._staged.clear()
        self._next = self.revision + 1

    def _apply(self, event: Event) -> None:
        if event.current is not None:
            if event.previous is None:
                self._unsorted.append(event.key)
            self._current[event.key] = event.current
        elif self._current.pop(event.key, None) is not None:
            keys = self._sorted_keys()
            del keys[bisect_left(keys, event.key)]

    def restore(
        self, rows: Iterable[tuple[str, bytes | None, int, int]], *, revision: int, compacted_revision: int
    ) -> None:
        """Fill an empty state from what a medium kept.

        ``rows``: (key, value or None for a deletion, create revision, mod revision), in the order of writing. Those up
        to ``compacted_revision`` are only values, those above are history as well.
        """
        for key, value, created, modified in rows:
            previous = self._current.get(key)
            current = None if value is None else KeyValue(key, value, Revision(created), Revision(modified))
            if current is not None:
                self._current[key] = current
            else:
                self._current.pop(key, None)
            if modified > compacted_revision:
                self._log.append(Event(Revision(modified), key, current, previous))
        self._keys = sorted(self._current)
        self.revision = Revision(revision)
        self.compacted_revision = Revision(compacted_revision)
        self._next = revision + 1

    def compact(self, revision: Revision) -> None:
        """Forget history up to and including the event of ``revision``: reads at ``revision`` itself stay possible."""
        self.check_compaction(revision)
        if revision > self.compacted_revision:
            del self._log[: self._log_position(revision)]
            self.compacted_revision = revision

    def check_compaction(self, revision: Revision) -> None:
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)

    # Reading

    def check_readable(self, revision: Revision) -> None:
        """Raises ``Compacted`` or ``FutureRevision`` when reading at, or watching from, ``revision`` is impossible."""
        if revision < self.compacted_revision:
            raise Compacted(revision, self.compacted_revision)
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)

    def get(self, key: str, revision: Revision | None = None) -> KeyValue | None:
        if revision is None:
            return self._current.get(key)
        self.check_readable(revision)
        for event in self._log[self._log_position(revision) :]:
            if event.key == key:
                return event.previous
        return self._current.get(key)

    def list_prefix(
        self, prefix: str, start_after: str, limit: int, revision: Revision | None = None
    ) -> Listing:
        if revision is None or revision == self.revision:
            return self._list_now(prefix, start_after, limit)
        self.check_readable(revision)
        values = self._values_at(prefix, start_after, revision)
        cut = values[:limit] if limit else values
        return Listing(cut, revision, len(values) - len(cut))

    def _list_now(self, prefix: str, start_after: str, limit: int) -> Listing:
        keys = self._sorted_keys()
        first, end = self._range(keys, prefix, start_after)
        stop = min(end, first + limit) if limit else end
        current = self._current
        return Listing([current[key] for key in keys[first:stop]], self.revision, end - stop)

    def _values_at(self, prefix: str, start_after: str, revision: Revision) -> Sequence[KeyValue]:
        """Today's values with every later change undone: the first later event of a key knows the value before it."""
        undone: dict[str, KeyValue | None] = {}
        for event in self._log[self._log_position(revision) :]:
            key = event.key
            if key.startswith(prefix) and key > start_after:
                undone.setdefault(key, event.previous)
        keys = self._sorted_keys()
        first, end = self._range(keys, prefix, start_after)
        values = [self._current[key] for key in keys[first:end] if key not in undone]
        if undone:
            values.extend(value for value in undone.values() if value is not None)
            values.sort(key=_key)
        return values

    def events_after(self, revision: Revision, prefix: str) -> Sequence[Event]:
        """History below ``prefix`` after ``revision``, oldest first."""
        return [event for event in self._log[self._log_position(revision) :] if event.key.startswith(prefix)]

    def _log_position(self, revision: Revision) -> int:
        return bisect_right(self._log, revision, key=_revision)

    def _sorted_keys(self) -> list[str]:
        added = self._unsorted
        if added:
            if len(added) <= INSERT_SINGLY:
                for key in added:
                    insort(self._keys, key)
            else:
                self._keys += sorted(added)
                self._keys.sort()
            added.clear()
        return self._keys

    @staticmethod
    def _range(keys: Sequence[str], prefix: str, start_after: str) -> tuple[int, int]:
        first = bisect_left(keys, prefix)
        end = bisect_left(keys, _prefix_end(prefix), lo=first) if prefix else len(keys)
        if start_after >= prefix:
            first = min(max(first, bisect_right(keys, start_after)), end) if start_after else first
        return first, end


def _key(item: KeyValue) -> str:
    return item.key


def _revision(event: Event) -> Revision:
    return event.revision


def _prefix_end(prefix: str) -> str:
    """The least string above every string that begins with ``prefix``, which is not empty."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
