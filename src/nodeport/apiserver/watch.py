"""Watch streams, as far as they know no HTTP.

Every stream has its own place in the store's log, so that any resourceVersion within the log can be resumed from. A
change is written to every stream in the moment in which the store publishes it, without a task for each; only a stream
whose connection does not take it leaves it in its queue and is woken when it does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Protocol

from nodeport.api.meta import JsonObject
from nodeport.api.status import ApiError
from nodeport.apiserver.encoding import Splicer, encode
from nodeport.apiserver.errors import too_old
from nodeport.apiserver.listing import Lister, matcher
from nodeport.apiserver.options import ListOptions
from nodeport.apiserver.watchviews import View, Views, WatchRequest, event_line
from nodeport.kit.clock import Clock
from nodeport.store.base import Closed, Compacted, KeyValue, Revision, SlowWatcher, Store, Watch

BOOKMARK_INTERVAL = timedelta(minutes=1)
MIN_TIMEOUT_SECONDS = 1800
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
FUTURE_POLL_SECONDS = 0.1
CHUNK_BYTES = 64 * 1024
"""Of the initial events are made, and of any lines are written, so many bytes ahead of a reader."""
Data = bytes | memoryview


class Sink(Protocol):
    """Where a stream's bytes go."""

    @property
    def full(self) -> bool:
        """Whether what was written waits for the reader."""
        ...

    def write(self, data: Data) -> None:
        """Send or buffer; ConnectionError when nobody is there any more."""
        ...

    async def drain(self, kept: int = 0) -> None:
        """Wait until it is not full, with ``kept`` bytes more held back for this reader.

        TimeoutError: the reader had its time; ConnectionError: it is gone; TooManyRequests: it leaves too much unread.
        """
        ...


class Stream:
    """Brings what a watch announces to a sink, at once while that is not full."""

    def __init__(self, watch: Watch, view: View, sink: Sink) -> None:
        self._watch = watch
        self._view = view
        self._sink = sink
        self._failure: BaseException | None = None
        self._look = asyncio.Event()
        self._rest: Data = b""

    def ready(self) -> None:
        """Called by the store. Whatever goes wrong here is the stream's own and raised to whoever follows it."""
        if self._failure is None and not self._sink.full:
            try:
                self._flush()
            except Exception as error:
                self._failure = error
        if self._sink.full or self._failure is not None:
            self._look.set()

    def _flush(self) -> None:
        """The chunks of many watchers are the same bytes; a reader's own is only what is written already."""
        while not self._sink.full:
            if self._rest:
                self._write_piece()
            elif batch := self._watch.take():
                chunk: Data = self._view.chunk(batch)
                self._rest = chunk if len(chunk) <= CHUNK_BYTES else memoryview(chunk)
            else:
                break

    async def finish(self) -> None:
        """Write what is begun to its end: whole lines."""
        while self._rest:
            await self._sink.drain()
            self._write_piece()

    def _write_piece(self) -> None:
        piece, self._rest = self._rest[:CHUNK_BYTES], self._rest[CHUNK_BYTES:]
        self._sink.write(piece)

    async def follow(self, patience: float) -> bool:
        """Keep it going for ``patience`` seconds or a little longer; whether everything that happened is sent.

        Raises what ended the stream.
        """
        try:
            async with asyncio.timeout(patience):
                await self._look.wait()
        except TimeoutError:
            return not self._look.is_set()
        self._look.clear()
        if self._failure is not None:
            raise self._failure
        await self._sink.drain()
        self._flush()
        if self._sink.full:
            self._look.set()
        return False


class WatchSource:
    """Makes watch streams; knows no HTTP."""

    def __init__(self, store: Store, lister: Lister, clock: Clock, rng: random.Random) -> None:
        self._store = store
        self._lister = lister
        self._clock = clock
        self._rng = rng
        self.views = Views()

    def timeout(self, options: ListOptions) -> float:
        """Seconds that a stream lives: as asked, else 30 to 60 minutes so that reconnects spread."""
        return options.timeout_seconds or MIN_TIMEOUT_SECONDS * (1 + self._rng.random())

    async def check(self, watch: WatchRequest) -> None:
        """Refuse, before anything is sent, to tell the state as of a revision that does not come to pass."""
        if watch.options.resource_version and watch.options.send_initial_events:
            await self._lister.wait_until_fresh(watch.options.resource_version)

    async def send(self, watch: WatchRequest, splicer: Splicer, sink: Sink) -> None:
        """Write whole lines until the stream's time is over; a refusal midway is an ERROR line."""
        deadline = self._clock.monotonic() + self.timeout(watch.options)
        try:
            revision, initial = await self._start(watch, splicer)
            for lines in initial:
                await _send(sink, watch.frame(lines))
            await self._follow(watch, splicer, sink, revision, deadline)
        except Compacted as error:
            sink.write(watch.frame(error_line(too_old(error.asked, error.oldest))))
        except (SlowWatcher, Closed):
            return

    async def _start(self, watch: WatchRequest, splicer: Splicer) -> tuple[Revision, Iterable[bytes]]:
        """The revision to go on from and the lines that come first."""
        options = watch.options
        wanted = options.resource_version
        if not options.send_initial_events and (wanted or options.match):
            return Revision(wanted or self._store.revision), ()
        listing = await self._store.list(watch.prefix)
        matches = matcher(splicer, options)
        items = [kv for kv in listing.items if watch.concerns(kv.key) and (matches is None or matches(kv))]
        last = b""
        if options.send_initial_events and options.allow_bookmarks:
            last = bookmark_line(watch, listing.revision, initial_events_end=True)
        return listing.revision, self._initial(watch, splicer, items, last)

    def _initial(
        self, watch: WatchRequest, splicer: Splicer, items: Sequence[KeyValue], last: bytes
    ) -> Iterator[bytes]:
        """Lines by the handful, made when the reader has taken those before."""
        lines: list[bytes] = []
        size = 0
        for kv in items:
            lines.append(self._state_line(watch, splicer, kv))
            size += len(lines[-1])
            if size >= CHUNK_BYTES:
                yield b"".join(lines)
                lines, size = [], 0
        if lines or last:
            yield b"".join((*lines, last))

    def _state_line(self, watch: WatchRequest, splicer: Splicer, kv: KeyValue) -> bytes:
        if watch.render is None:
            return event_line("ADDED", splicer.serve(kv.value, kv.mod_revision))
        return event_line("ADDED", encode(watch.render(splicer.read(kv))))

    async def _follow(
        self, watch: WatchRequest, splicer: Splicer, sink: Sink, revision: Revision, deadline: float
    ) -> None:
        """Changes as they come, and bookmarks in between for whoever wants them."""
        bookmarks = watch.options.allow_bookmarks
        sent = int(revision)
        while self._store.revision < revision:  # a change that is to come: whoever asks for it waits
            if self._clock.monotonic() >= deadline:
                return
            await self._clock.sleep(FUTURE_POLL_SECONDS)
        async with self._store.watch(watch.prefix, revision) as changes:
            stream = Stream(changes, self.views.view(watch, splicer), sink)
            changes.notify(stream.ready)
            stream.ready()
            while (left := deadline - self._clock.monotonic()) > 0:
                pause = min(left, BOOKMARK_INTERVAL.total_seconds()) if bookmarks else left
                complete = await stream.follow(pause)
                if complete and bookmarks and self._store.revision > sent:
                    sent = self._store.revision
                    sink.write(watch.frame(bookmark_line(watch, sent)))
            await stream.finish()


async def _send(sink: Sink, chunk: bytes) -> None:
    """The whole chunk, as its reader takes it."""
    if len(chunk) <= 2 * CHUNK_BYTES:
        sink.write(chunk)
        await sink.drain(len(chunk))
        return
    view = memoryview(chunk)
    for at in range(0, len(chunk), CHUNK_BYTES):
        sink.write(view[at : at + CHUNK_BYTES])
        await sink.drain(len(chunk))


def bookmark_line(watch: WatchRequest, revision: int, *, initial_events_end: bool = False) -> bytes:
    metadata: JsonObject = {"resourceVersion": str(revision)}
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
