"""Watch streams.

Every stream has its own place in the store's log, so that any resourceVersion within the log can be resumed from; what
all streams of a resource share is the encoding: a change becomes bytes once, whoever watches.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.api.status import ApiError
from nodeport.apiserver.encoding import Splicer, encode, prefix_of, stored_labels
from nodeport.apiserver.errors import too_old
from nodeport.apiserver.listing import Lister, matcher
from nodeport.apiserver.options import ListOptions
from nodeport.kit.clock import Clock
from nodeport.store.base import Compacted, Event, KeyValue, Revision, SlowWatcher, Store

BOOKMARK_INTERVAL = timedelta(minutes=1)
MIN_TIMEOUT_SECONDS = 1800
SHARED_CHANGES = 1024
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
INITIAL_CHUNK = 256

Render = Callable[[JsonObject], JsonObject]
"""Turns a decoded object into what this watcher sees: a Table row or metadata only."""


class Change:
    """One event of a resource with what watchers derive from it, each derived once."""

    __slots__ = ("_after", "_before", "_lines", "_splicer", "event")

    def __init__(self, event: Event, splicer: Splicer) -> None:
        self.event = event
        self._splicer = splicer
        self._lines: dict[str, bytes] = {}
        self._before: dict[str, str] | None = None
        self._after: dict[str, str] | None = None

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

    def labels_before(self) -> dict[str, str]:
        if self._before is None:
            assert self.event.previous is not None
            self._before = stored_labels(self.event.previous.value)
        return self._before

    def labels_after(self) -> dict[str, str]:
        if self._after is None:
            assert self.event.current is not None
            self._after = stored_labels(self.event.current.value)
        return self._after


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


def visible_kind(change: Change, splicer: Splicer, options: ListOptions) -> str:
    """What this watcher must be told of a change; empty for nothing.

    An object that leaves or enters a selector is deleted or added for whoever watches by it.
    """
    event = change.event
    before = event.previous is not None and _selected(event.previous, change, splicer, options, after=False)
    after = event.current is not None and _selected(event.current, change, splicer, options, after=True)
    if after:
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else ""


def _selected(
    state: KeyValue, change: Change, splicer: Splicer, options: ListOptions, *, after: bool
) -> bool:
    labels = options.label_selector
    if not labels.empty and not labels.matches(change.labels_after() if after else change.labels_before()):
        return False
    fields = options.field_selector
    return not fields.requirements or fields.matches(splicer.read(state))


class BatchReader:
    """Reads batches with patience; what arrives after patience ran out is the next answer, nothing gets lost."""

    def __init__(self, batches: AsyncIterator[Sequence[Event]]) -> None:
        self._batches = batches
        self._pending: asyncio.Task[Sequence[Event]] | None = None

    async def read(self, patience: float) -> Sequence[Event]:
        """The next batch; empty when none came within ``patience`` seconds. StopAsyncIteration: there are no more."""
        if self._pending is None:
            self._pending = asyncio.ensure_future(anext(self._batches))
        done, _ = await asyncio.wait((self._pending,), timeout=patience)
        if not done:
            return ()
        batch, self._pending = self._pending, None
        return batch.result()

    def close(self) -> None:
        if self._pending is not None:
            self._pending.cancel()


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """``name`` empty: the whole collection. ``render`` None: whole objects, spliced from stored bytes."""

    resource: Resource
    namespace: str
    name: str
    options: ListOptions
    render: Render | None = None

    @property
    def prefix(self) -> str:
        return f"{prefix_of(self.resource, self.namespace)}{self.name}"

    def concerns(self, key: str) -> bool:
        """Whether a key below the prefix is one that is watched."""
        return not self.name or key == self.prefix


class WatchSource:
    """Makes the lines of watch streams; knows no HTTP."""

    def __init__(self, store: Store, lister: Lister, clock: Clock, rng: random.Random) -> None:
        self._store = store
        self._lister = lister
        self._clock = clock
        self._rng = rng
        self._caches: dict[str, ChangeCache] = {}

    def timeout(self, options: ListOptions) -> float:
        """Seconds that a stream lives: as asked, else 30 to 60 minutes so that reconnects spread."""
        return options.timeout_seconds or MIN_TIMEOUT_SECONDS * (1 + self._rng.random())

    async def check(self, watch: WatchRequest) -> None:
        """Refuse, before anything is sent, a revision that does not come to pass."""
        if watch.options.resource_version:
            await self._lister.wait_until_fresh(watch.options.resource_version)

    async def lines(self, watch: WatchRequest, splicer: Splicer) -> AsyncIterator[bytes]:
        """Chunks of whole lines until the stream's time is over; a refusal midway is an ERROR line."""
        deadline = self._clock.monotonic() + self.timeout(watch.options)
        try:
            revision, initial = await self._start(watch, splicer)
            for chunk in initial:
                yield chunk
            async for chunk in self._changes(watch, splicer, revision, deadline):
                if chunk:
                    yield chunk
        except Compacted as error:
            yield error_line(too_old(error.asked, error.oldest))
        except SlowWatcher:
            return

    async def _start(self, watch: WatchRequest, splicer: Splicer) -> tuple[Revision, Sequence[bytes]]:
        """The revision to go on from and the lines that come first."""
        options = watch.options
        wanted = options.resource_version
        if not options.send_initial_events and (wanted or options.match):
            return Revision(wanted or self._store.revision), ()
        listing = await self._store.list(watch.prefix)
        matches = matcher(splicer, options)
        items = [kv for kv in listing.items if watch.concerns(kv.key) and (matches is None or matches(kv))]
        lines = [self._state_line(watch, splicer, kv) for kv in items]
        if options.send_initial_events and options.allow_bookmarks:
            lines.append(bookmark_line(watch, splicer, listing.revision, initial_events_end=True))
        chunks = [b"".join(lines[at : at + INITIAL_CHUNK]) for at in range(0, len(lines), INITIAL_CHUNK)]
        return listing.revision, chunks

    def _state_line(self, watch: WatchRequest, splicer: Splicer, kv: KeyValue) -> bytes:
        if watch.render is None:
            return event_line("ADDED", splicer.serve(kv.value, kv.mod_revision))
        return event_line("ADDED", encode(watch.render(splicer.read(kv))))

    async def _changes(
        self, watch: WatchRequest, splicer: Splicer, revision: Revision, deadline: float
    ) -> AsyncIterator[bytes]:
        """A chunk for each batch, empty when this watcher sees nothing of it, and bookmarks in between."""
        cache = self._caches.setdefault(watch.resource.qualified_name, ChangeCache(splicer))
        bookmarks = watch.options.allow_bookmarks
        sent = int(revision)
        async with self._store.watch(watch.prefix, revision) as batches:
            reader = BatchReader(batches)
            try:
                while (left := deadline - self._clock.monotonic()) > 0:
                    seen = self._store.revision
                    batch = await reader.read(
                        min(left, BOOKMARK_INTERVAL.total_seconds()) if bookmarks else left
                    )
                    if batch:
                        sent = max(sent, batch[-1].revision)
                        yield self._chunk(watch, splicer, cache, batch)
                    elif bookmarks and seen > sent:
                        sent = seen
                        yield bookmark_line(watch, splicer, seen)
            except StopAsyncIteration:
                return
            finally:
                reader.close()

    def _chunk(
        self, watch: WatchRequest, splicer: Splicer, cache: ChangeCache, batch: Sequence[Event]
    ) -> bytes:
        lines = []
        for event in batch:
            if not watch.concerns(event.key):
                continue
            change = cache.change(event)
            kind = visible_kind(change, splicer, watch.options)
            if not kind:
                continue
            if watch.render is None:
                lines.append(change.line(kind))
            else:
                obj = splicer.read_as_of(*change.state(kind))
                lines.append(event_line(kind, encode(watch.render(obj))))
        return b"".join(lines)


def bookmark_line(
    watch: WatchRequest, splicer: Splicer, revision: int, *, initial_events_end: bool = False
) -> bytes:
    metadata: JsonObject = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    obj: JsonObject = {
        "kind": watch.resource.kind,
        "apiVersion": watch.resource.api_version,
        "metadata": metadata,
    }
    if watch.render is not None:
        obj = watch.render(obj)
    return event_line("BOOKMARK", encode(obj))


def error_line(error: ApiError) -> bytes:
    return event_line("ERROR", encode(error.to_status()))
