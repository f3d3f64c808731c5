"""What watchers see of a change: each encoding made once, whoever watches.

A ``Change`` is shared by all watchers of a resource, a ``View`` by those who look at it in the same way. So a batch of
changes becomes the same bytes for a thousand watchers at the cost of one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.api.selectors import FieldSelector, field_value
from nodeport.apiserver.encoding import Splicer, encode, prefix_of, stored_labels
from nodeport.apiserver.options import ListOptions
from nodeport.store.base import Event

SHARED_CHANGES = 1024

Render = Callable[[JsonObject], JsonObject]
"""Turns a decoded object into what this watcher sees: a Table row or metadata only."""


def unframed(lines: bytes) -> bytes:
    return lines


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """``name`` empty: the whole collection. ``render`` None: whole objects, spliced from stored bytes.

    ``frame`` puts lines into the form in which they travel.
    """

    resource: Resource
    namespace: str
    name: str
    options: ListOptions
    render: Render | None = None
    frame: Callable[[bytes], bytes] = unframed

    @property
    def prefix(self) -> str:
        return f"{prefix_of(self.resource, self.namespace)}{self.name}"

    def concerns(self, key: str) -> bool:
        """Whether a key below the prefix is one that is watched."""
        return not self.name or key == self.prefix

    @property
    def look(self) -> Hashable:
        """Equal for requests that see the same bytes of every change; one with a ``render`` is like no other."""
        options = self.options
        return (
            self.resource.qualified_name, self.prefix, options.label_selector, options.field_selector, self.frame,
        )  # fmt: skip


class Change:
    """One event of a resource with what watchers derive from it, each derived once."""

    __slots__ = ("_fields", "_labels", "_lines", "_splicer", "event")

    def __init__(self, event: Event, splicer: Splicer) -> None:
        self.event = event
        self._splicer = splicer
        self._lines: dict[str, bytes] = {}
        self._labels: dict[bool, dict[str, str]] = {}
        self._fields: dict[tuple[str, bool], str] = {}

    def line(self, kind: str) -> bytes:
        """The event as sent; ``kind`` as this watcher must see it: ADDED, MODIFIED or DELETED."""
        found = self._lines.get(kind)
        if found is None:
            found = self._lines[kind] = event_line(kind, self._splicer.serve(*self.state(kind)))
        return found

    def state(self, kind: str) -> tuple[bytes, int]:
        """The stored bytes to show and the revision to show them at: a deletion shows the last state."""
        state = self.event.previous if kind == "DELETED" else self.event.current
        if state is None:
            state = self.event.current or self.event.previous
        assert state is not None
        return state.value, self.event.revision

    def labels(self, *, after: bool) -> dict[str, str]:
        """Of the object before or after the change, which must be there."""
        found = self._labels.get(after)
        if found is None:
            state = self.event.current if after else self.event.previous
            assert state is not None
            found = self._labels[after] = stored_labels(state.value)
        return found

    def field(self, path: str, *, after: bool) -> str:
        """What a field selector compares ``path`` with; the object itself is not kept."""
        found = self._fields.get((path, after))
        if found is None:
            state = self.event.current if after else self.event.previous
            assert state is not None
            found = self._fields[path, after] = field_value(self._splicer.read(state), path)
        return found


def event_line(kind: str, obj: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), obj)


class ChangeCache:
    """The newest changes of one resource, shared by its watchers."""

    def __init__(self, splicer: Splicer) -> None:
        self._splicer = splicer
        self._changes: OrderedDict[tuple[int, str], Change] = OrderedDict()

    def change(self, event: Event) -> Change:
        key = (event.revision, event.key)
        found = self._changes.get(key)
        if found is None:
            found = self._changes[key] = Change(event, self._splicer)
            if len(self._changes) > SHARED_CHANGES:
                self._changes.popitem(last=False)
        return found


def visible_kind(change: Change, options: ListOptions) -> str:
    """What this watcher must be told of a change; empty for nothing.

    An object that leaves or enters a selector is deleted or added for whoever watches by it.
    """
    event = change.event
    before = event.previous is not None and _selected(change, options, after=False)
    after = event.current is not None and _selected(change, options, after=True)
    if after:
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else ""


def _selected(change: Change, options: ListOptions, *, after: bool) -> bool:
    labels = options.label_selector
    if not labels.empty and not labels.matches(change.labels(after=after)):
        return False
    fields: FieldSelector = options.field_selector
    return all(
        (change.field(path, after=after) == value) is (operator == "=")
        for path, operator, value in fields.requirements
    )


class View:
    """One way of looking at a resource's changes. ``chunk`` remembers its last answer: its watchers ask one by one."""

    def __init__(self, watch: WatchRequest, splicer: Splicer, changes: ChangeCache) -> None:
        self._watch = watch
        self._splicer = splicer
        self._changes = changes
        self._batch: Sequence[Event] = ()
        self._chunk = b""

    def chunk(self, batch: Sequence[Event]) -> bytes:
        """The lines of a batch, framed; empty when nothing of it is seen."""
        if batch is not self._batch:
            lines = b"".join(self._line(event) for event in batch)
            self._chunk = self._watch.frame(lines) if lines else b""
            self._batch = batch
        return self._chunk

    def _line(self, event: Event) -> bytes:
        watch = self._watch
        if not watch.concerns(event.key):
            return b""
        change = self._changes.change(event)
        kind = visible_kind(change, watch.options)
        if not kind:
            return b""
        if watch.render is None:
            return change.line(kind)
        return event_line(kind, encode(watch.render(self._splicer.read_as_of(*change.state(kind)))))


class Views:
    """The views that somebody has, and the changes behind them."""

    def __init__(self) -> None:
        self._changes: dict[str, ChangeCache] = {}
        self._views: WeakValueDictionary[Hashable, View] = WeakValueDictionary()

    def view(self, watch: WatchRequest, splicer: Splicer) -> View:
        changes = self._changes.setdefault(watch.resource.qualified_name, ChangeCache(splicer))
        if watch.render is not None:
            return View(watch, splicer, changes)
        look = watch.look
        found = self._views.get(look)
        if found is None:
            found = self._views[look] = View(watch, splicer, changes)
        return found

    def __len__(self) -> int:
        return len(self._views)
