"""A store that lives and dies with its process: for tests, and for clusters meant to be thrown away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nodeport.store.base import Closed, KeyValue, Listing, Operation, Revision, Watch
from nodeport.store.state import State
from nodeport.store.watchers import Watchers

HISTORY = 10_000
"""Revisions of history that stay readable at least."""

WATCH_BUFFER = 10_000
"""Unread events after which a watcher counts as too slow."""


class MemoryStore:
    """``history``: revisions kept at least; a quarter more may be held before the oldest are dropped."""

    def __init__(self, *, history: int = HISTORY, watch_buffer: int = WATCH_BUFFER) -> None:
        self._state = State()
        self._history = history
        self._closed = False
        self._watchers = Watchers(self._state, buffer=watch_buffer, is_closed=lambda: self._closed)

    @property
    def revision(self) -> Revision:
        return self._state.revision

    @property
    def compacted_revision(self) -> Revision:
        return self._state.compacted_revision

    async def get(self, key: str, *, revision: Revision | None = None) -> KeyValue | None:
        self._check_open()
        return self._state.get(key, revision)

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: Revision | None = None
    ) -> Listing:
        self._check_open()
        return self._state.list_prefix(prefix, start_after, limit, revision)

    async def commit(self, operations: Sequence[Operation]) -> Revision:
        return self.submit(operations).result()

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[Revision]:
        self._check_open()
        commit = self._state.stage(operations)
        self._state.publish(commit)
        self._watchers.publish(commit.events)
        if self._state.history > self._history + self._history // 4:
            self._state.compact(Revision(self._state.revision - self._history))
        done: asyncio.Future[Revision] = asyncio.get_running_loop().create_future()
        done.set_result(commit.revision)
        return done

    def watch(self, prefix: str, after: Revision) -> Watch:
        return self._watchers.watch(prefix, after)

    async def compact(self, revision: Revision) -> None:
        self._check_open()
        self._state.compact(revision)

    async def close(self) -> None:
        self._closed = True
        self._watchers.end()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the store is closed")
