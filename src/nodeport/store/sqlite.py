"""A durable store in one SQLite file.

The whole current state and the recent history live in memory, so reads never touch the disk. One thread owns the
only connection; while it writes, commits queue up, and it takes all of them with its next fsync. A commit is checked
and numbered when it is submitted, and visible only when it is on disk; when the disk refuses, its whole batch and
everything numbered after it fail with ``Unavailable`` and the state is again what the disk holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import msgspec

from nodeport.store.base import Event, Operation, Revision, StoreError, Unavailable, Undecided
from nodeport.store.held import HISTORY, WATCH_BUFFER, HeldStore
from nodeport.store.sqlite_file import MAX_OPERATIONS, Compaction, SqliteFile, Synchronous, Write
from nodeport.store.state import Commit, State

_log = logging.getLogger(__name__)


class _Queued(msgspec.Struct, frozen=True):
    """A write and whom to tell; nobody when the store compacts of its own accord."""

    write: Write
    done: asyncio.Future[Revision] | None


class SqliteStore(HeldStore):
    """Made by ``open``; an async context manager that closes. Belongs to the event loop that opened it."""

    def __init__(
        self, file: SqliteFile, state: State, thread: ThreadPoolExecutor, history: int, buffer: int
    ) -> None:
        super().__init__(state, history, buffer)
        self._file = file
        self._thread = thread
        self._compacting = False
        self._queue: list[_Queued] = []
        self._wanted = asyncio.Event()
        self._settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writer = asyncio.create_task(self._write_batches(), name="store-writer")

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        synchronous: Synchronous = "FULL",
        history: int = HISTORY,
        watch_buffer: int = WATCH_BUFFER,
    ) -> SqliteStore:
        """Open or create ``path`` (mode 0600); its directory must exist.

        ``synchronous="OFF"`` survives the death of the process, not that of the machine. Raises ``Unavailable`` when
        another store has the file open, or when it is no store of ours.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-writer")
        file = SqliteFile(path, synchronous=synchronous)
        state = State()
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(thread, file.open)
            await loop.run_in_executor(thread, file.load, state)
        except BaseException:
            thread.submit(file.close)
            thread.shutdown(wait=True)
            raise
        return cls(file, state, thread, history, watch_buffer)

    async def __aenter__(self) -> SqliteStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def commit(self, operations: Sequence[Operation]) -> Revision:
        while True:
            try:
                return await self.submit(operations)
            except Undecided:
                await asyncio.shield(self._settled)

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[Revision]:
        if len(operations) > MAX_OPERATIONS:
            raise ValueError(f"a commit takes at most {MAX_OPERATIONS} operations")
        self._check_open()
        return self._write(self._state.stage(operations))

    async def compact(self, revision: Revision) -> None:
        self._check_open()
        self._state.check_compaction(revision)
        await self._write(Compaction(revision))

    async def close(self) -> None:
        """Finish what was submitted, end all watches, release the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._wanted.set()
        try:
            await self._writer
        finally:
            self._watchers.end()
            self._settle()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
            self._thread.shutdown(wait=False)

    # Writing

    def _write(self, write: Write) -> asyncio.Future[Revision]:
        done: asyncio.Future[Revision] = asyncio.get_running_loop().create_future()
        self._queue.append(_Queued(write, done))
        self._wanted.set()
        return done

    async def _write_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._queue:
                batch, self._queue = self._queue, []
                try:
                    await loop.run_in_executor(
                        self._thread, self._file.write, [queued.write for queued in batch]
                    )
                except Exception as error:
                    self._refuse(batch, error)
                else:
                    self._publish(batch)
                self._settle()
            if self._closed:
                return

    def _publish(self, batch: Sequence[_Queued]) -> None:
        self._trouble = ""
        events: list[Event] = []
        for queued in batch:
            match queued.write:
                case Commit() as commit:
                    self._state.publish(commit)
                    events.extend(commit.events)
                case Compaction(revision=revision):
                    self._state.compact(Revision(revision))
                    self._compacting = False
            if queued.done is not None and not queued.done.done():
                queued.done.set_result(Revision(queued.write.revision))
        if events:
            self._watchers.publish(events)
        self._compact_when_due()

    def _compact_when_due(self) -> None:
        if not self._compacting and self._history_is_due:
            self._compacting = True
            self._queue.append(_Queued(Compaction(self._state.revision - self._history), None))

    def _refuse(self, batch: Sequence[_Queued], error: Exception) -> None:
        """Nothing of ``batch`` happened, so nothing that was numbered after it can."""
        refused, self._queue = [*batch, *self._queue], []
        self._state.discard_staged()
        self._compacting = False
        why = getattr(error, "why", "") or type(error).__name__
        level = logging.DEBUG if why == self._trouble else logging.ERROR  # it is said once
        self._trouble = why
        _log.log(
            level, "%d writes refused: %s", len(refused), error, exc_info=not isinstance(error, StoreError)
        )
        for queued in refused:
            if queued.done is not None and not queued.done.done():
                failure = Unavailable(str(error), self._trouble)
                failure.__cause__ = error
                queued.done.set_exception(failure)

    def _settle(self) -> None:
        settled, self._settled = self._settled, asyncio.get_running_loop().create_future()
        settled.set_result(None)

    def _check_open(self) -> None:
        super()._check_open()
        if self._writer.done():
            raise Unavailable("the store's writer has failed") from self._writer.exception()
