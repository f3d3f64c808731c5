"""How many containers of a machine start at once: all at once would take far longer, and hold up everything else."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta

PLACES_PER_CPU = 2
FEWEST_PLACES = 4
PLACE_LIMIT = timedelta(seconds=10)


class StartPlaces:
    """First come, first served. A start that takes longer than ``limit`` goes on, but keeps no other from beginning."""

    def __init__(self, places: int, limit: timedelta = PLACE_LIMIT) -> None:
        self._free = asyncio.Semaphore(places)
        self._limit = limit

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Waits for a place and has it until the end of the block, or of the limit."""
        await self._free.acquire()
        with contextlib.ExitStack() as held:
            held.callback(self._free.release)
            overdue = asyncio.get_running_loop().call_later(self._limit.total_seconds(), held.close)
            held.callback(overdue.cancel)
            yield


def of_machine() -> StartPlaces:
    return StartPlaces(max(FEWEST_PLACES, PLACES_PER_CPU * len(os.sched_getaffinity(0))))
