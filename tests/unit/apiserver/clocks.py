"""Time for tests of servers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class HandClock:
    """Time that passes when a test says so; whoever sleeps is woken when their time has come."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        entry = (self.passed + seconds, event)
        self._sleepers.append(entry)
        try:
            await event.wait()
        finally:
            self._sleepers.remove(entry)

    def advance(self, interval: timedelta) -> None:
        self.passed += interval.total_seconds()
        for due, event in self._sleepers:
            if due <= self.passed:
                event.set()
