"""Keys to look at again: each at most once in the queue, never in two hands at the same time."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from nodeport.kit.clock import Clock, SystemClock

__all__ = ["Ranked", "WorkQueue"]

K = TypeVar("K", bound=Hashable)


class Ready(Protocol[K]):
    """In which order keys come out. A deque: as they went in."""

    def append(self, key: K, /) -> None: ...
    def popleft(self) -> K: ...
    def __len__(self) -> int: ...


class Ranked(Generic[K]):
    """Keys of a higher rank first, those of one rank as they went in. ``rank`` is asked when a key goes in."""

    def __init__(self, rank: Callable[[K], int]) -> None:
        self._rank = rank
        self._heap: list[tuple[int, int, K]] = []
        self._serial = 0

    def append(self, key: K, /) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (-self._rank(key), self._serial, key))

    def popleft(self) -> K:
        return heapq.heappop(self._heap)[2]

    def __len__(self) -> int:
        return len(self._heap)


class WorkQueue(Generic[K]):
    """Whoever ``get``s a key says ``done`` when finished with it; a key added meanwhile comes again, once.

    ``add_rate_limited`` waits ``initial`` after a key's first failure, twice as long after each further one,
    never more than ``maximum``; ``forget`` ends the count.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        initial: timedelta = timedelta(milliseconds=5),
        maximum: timedelta = timedelta(seconds=60),
        ready: Ready[K] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._initial = initial
        self._maximum = maximum
        self._ready: Ready[K] = deque() if ready is None else ready
        self._waiting: set[K] = set()
        self._held: dict[K, float] = {}
        self._due: dict[K, float] = {}
        self._timers: list[tuple[float, int, K]] = []
        self._serial = 0
        self._failures: dict[K, int] = {}
        self._sleepers: set[asyncio.Future[None]] = set()
        self.adds = 0
        self.retries = 0

    def __len__(self) -> int:
        """Keys that could be taken now."""
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Whether nothing is queued, delayed or in hand."""
        return not (self._waiting or self._held or self._due)

    def ages(self) -> list[float]:
        """For how many seconds each key that somebody has in hand has been there."""
        now = self._clock.monotonic()
        return [now - since for since in self._held.values()]

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    def add(self, key: K) -> None:
        if key in self._waiting:
            return
        self._waiting.add(key)
        self.adds += 1
        if key not in self._held:
            self._ready.append(key)
            self._wake(1)

    def add_after(self, key: K, delay: timedelta) -> None:
        """Add the key later; of several delays for one key the shortest counts."""
        if delay <= timedelta():
            self.add(key)
            return
        due = self._clock.monotonic() + delay.total_seconds()
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        self._serial += 1
        heapq.heappush(self._timers, (due, self._serial, key))
        if self._timers[0][2] == key:
            self._wake(len(self._sleepers))

    def add_rate_limited(self, key: K) -> None:
        self.retries += 1
        failed = self._failures.get(key, 0)
        self._failures[key] = failed + 1
        self.add_after(key, min(self._initial * 2 ** min(failed, 32), self._maximum))

    def forget(self, key: K) -> None:
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key, when there is one. Several may wait."""
        while True:
            self._release_due()
            if self._ready:
                key = self._ready.popleft()
                self._waiting.discard(key)
                self._held[key] = self._clock.monotonic()
                return key
            await self._wait()

    def done(self, key: K) -> None:
        self._held.pop(key, None)
        if key in self._waiting:
            self._ready.append(key)
            self._wake(1)

    def _release_due(self) -> None:
        now = self._clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    async def _wait(self) -> None:
        """Until a key was added or the first delayed one is due."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.add(woken)
        timer: asyncio.Task[None] | None = None
        try:
            if self._timers:
                delay = max(0.0, self._timers[0][0] - self._clock.monotonic())
                timer = asyncio.create_task(self._clock.sleep(delay))
            await asyncio.wait({woken, timer} if timer else {woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sleepers.discard(woken)
            if timer is not None:
                timer.cancel()
            if woken.done() and self._ready:
                self._wake(1)  # the wake-up may have met a taker that was just cancelled: pass it on

    def _wake(self, count: int) -> None:
        for _ in range(count):
            if not self._sleepers:
                return
            woken = self._sleepers.pop()
            if not woken.done():
                woken.set_result(None)
