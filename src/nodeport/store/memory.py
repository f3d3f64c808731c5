"""A store that lives and dies with its process: for tests, and for clusters meant to be thrown away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nodeport.store.base import Operation, Revision
from nodeport.store.held import HISTORY, WATCH_BUFFER, HeldStore
from nodeport.store.state import State


class MemoryStore(HeldStore):
    def __init__(self, *, history: int = HISTORY, watch_buffer: int = WATCH_BUFFER) -> None:
        super().__init__(State(), history, watch_buffer)

    async def commit(self, operations: Sequence[Operation]) -> Revision:
        return self.submit(operations).result()

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[Revision]:
        self._check_open()
        commit = self._state.stage(operations)
        self._state.publish(commit)
        self._watchers.publish(commit.events)
        if self._history_is_due:
            self._state.compact(Revision(self._state.revision - self._history))
        done: asyncio.Future[Revision] = asyncio.get_running_loop().create_future()
        done.set_result(commit.revision)
        return done

    async def compact(self, revision: Revision) -> None:
        self._check_open()
        self._state.compact(revision)

    async def close(self) -> None:
        self._closed = True
        self._watchers.end()
