"""Who watches a store: one bounded queue of event batches for each watcher.

A batch is filtered once for each distinct prefix and shared by its watchers, so that a hundred watchers of one prefix
cost a hundred appends and no copies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from nodeport.store.base import Closed, Event, Revision, SlowWatcher
from nodeport.store.state import State

Batch = Sequence[Event]

MERGED_EVENTS = 1_000
"""Batches that wait are handed over together up to about this many events."""


class Watch:
    """One watcher: entering takes its place in the log, leaving gives it up. For one consumer."""

    def __init__(self, hub: Watchers, prefix: str, after: Revision) -> None:
        self._hub = hub
        self._prefix = prefix
        self._after = after
        self._owed: Batch = ()
        self._batches: deque[Batch] = deque()
        self._unread = 0
        self._ended = False
        self._slow = False
        self._waiter: asyncio.Future[None] | None = None
        self._ready: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        self._owed = self._hub.enter(self, self._prefix, self._after)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ready = None
        self._hub.leave(self, self._prefix)
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        while True:
            try:
                batch = self.take()
            except Closed:
                raise StopAsyncIteration from None
            if batch:
                return batch
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def take(self) -> Batch:
        if self._owed:
            owed, self._owed = self._owed, ()
            return owed
        batches = self._batches
        if not batches:
            if self._slow:
                raise SlowWatcher(
                    f"the watcher of {self._prefix!r} fell more than {self._hub.buffer} events behind"
                )
            if self._ended:
                raise Closed("the store is closed")
            return ()
        batch = batches.popleft()
        if batches and len(batch) < MERGED_EVENTS:
            batch = list(batch)
            while batches and len(batch) < MERGED_EVENTS:
                batch += batches.popleft()
        self._unread -= len(batch)
        return batch

    def notify(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def offer(self, batch: Batch) -> None:
        if self._slow:
            return
        self._unread += len(batch)
        if self._unread > self._hub.buffer and self._batches:
            self._slow = True
            self._batches.clear()
        else:
            self._batches.append(batch)
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._ready is not None:
            self._ready()


class Watchers:
    """Every watch of one store. ``buffer``: how many unread events a watcher may hold before it is dropped."""

    def __init__(self, state: State, *, buffer: int, is_closed: Callable[[], bool]) -> None:
        self.buffer = buffer
        self._state = state
        self._is_closed = is_closed
        self._by_prefix: dict[str, set[Watch]] = {}
        self._prefixes: dict[str, list[str]] = {}

    def watch(self, prefix: str, after: Revision) -> Watch:
        return Watch(self, prefix, after)

    def enter(self, watch: Watch, prefix: str, after: Revision) -> Batch:
        """Register ``watch``; returns the history that it is owed."""
        if self._is_closed():
            raise Closed("the store is closed")
        self._state.check_readable(after)
        if prefix not in self._by_prefix:
            self._by_prefix[prefix] = set()
            self._prefixes.setdefault(_head(prefix), []).append(prefix)
        self._by_prefix[prefix].add(watch)
        return self._state.events_after(after, prefix)

    def leave(self, watch: Watch, prefix: str) -> None:
        watches = self._by_prefix.get(prefix, set())
        watches.discard(watch)
        if not watches and self._by_prefix.pop(prefix, None) is not None:
            prefixes = self._prefixes[_head(prefix)]
            prefixes.remove(prefix)
            if not prefixes:
                del self._prefixes[_head(prefix)]

    def publish(self, events: Batch) -> None:
        """Offer each watcher what is below its prefix; only prefixes with an event's head are looked at."""
        by_head: dict[str, list[Event]] = {}
        for event in events:
            by_head.setdefault(_head(event.key), []).append(event)
        for head, below in by_head.items():
            if head:
                self._offer(below, self._prefixes.get(head, ()))
        self._offer(events, self._prefixes.get("", ()))

    def _offer(self, events: Batch, prefixes: Iterable[str]) -> None:
        for prefix in prefixes:
            batch = [event for event in events if event.key.startswith(prefix)]
            if batch:
                for watch in self._by_prefix[prefix]:
                    watch.offer(batch)

    def end(self) -> None:
        for watches in self._by_prefix.values():
            for watch in watches:
                watch.end()


def _head(key: str) -> str:
    """``/registry/services/`` of ``/registry/services/default/web``; empty for what ends before its third slash."""
    end = key.find("/", key.find("/", 1) + 1)
    return key[: end + 1] if end > 0 else ""
