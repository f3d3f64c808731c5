"""All streams that are open, so that a server that stops does not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class OpenStreams:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def count(self) -> int:
        return len(self._tasks)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """The calling task serves a stream as long as this lasts."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    def close(self) -> None:
        """Every stream ends by cancellation, which closes both of its sides."""
        for task in self._tasks:
            task.cancel()
