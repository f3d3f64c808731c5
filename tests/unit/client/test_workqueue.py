"""The work queue: one key, one pair of hands, and nothing that was added gets lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from nodeport.client.workqueue import Ranked, WorkQueue


class SteppedClock:
    """Time that moves only when told to."""

    def __init__(self) -> None:
        self.time = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        await settle()
        self.time += seconds
        for due, woken in self._sleepers:
            if due <= self.time and not woken.done():
                woken.set_result(None)
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def taken(queue: WorkQueue[str]) -> list[str]:
    """What can be had now, marked done at once."""
    keys = []
    while len(queue):
        keys.append(await queue.get())
        queue.done(keys[-1])
    return keys


async def test_a_key_added_twice_is_handed_out_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert await taken(queue) == ["a", "b"]


async def test_a_key_added_while_in_hand_comes_again_after_done() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert await taken(queue) == ["a"]


async def test_a_delayed_key_waits_for_its_time_and_the_shortest_delay_counts() -> None:
    clock = SteppedClock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add_after("a", timedelta(seconds=10))
    queue.add_after("a", timedelta(seconds=3))
    getting = asyncio.create_task(queue.get())
    await clock.advance(2)
    assert not getting.done()
    await clock.advance(1)
    assert await getting == "a"
    queue.done("a")
    await clock.advance(20)
    assert await taken(queue) == []


async def test_a_sleeping_taker_learns_of_an_earlier_deadline() -> None:
    clock = SteppedClock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add_after("late", timedelta(seconds=60))
    getting = asyncio.create_task(queue.get())
    await settle()
    queue.add_after("soon", timedelta(seconds=1))
    await clock.advance(1)
    assert await getting == "soon"


async def test_repeated_failures_wait_twice_as_long_each_up_to_the_maximum() -> None:
    clock = SteppedClock()
    queue: WorkQueue[str] = WorkQueue(clock, initial=timedelta(seconds=1), maximum=timedelta(seconds=5))
    waited = []
    for _ in range(5):
        queue.add_rate_limited("a")
        started = clock.time
        getting = asyncio.create_task(queue.get())
        while not getting.done():
            await clock.advance(0.5)
        queue.done(getting.result())
        waited.append(clock.time - started)
    assert waited == [1, 2, 4, 5, 5]
    queue.forget("a")
    assert queue.failures("a") == 0


async def test_a_cancelled_taker_does_not_take_the_wake_up_with_it() -> None:
    queue: WorkQueue[str] = WorkQueue()
    takers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await settle()
    queue.add("a")
    takers[0].cancel()
    takers[1].cancel() if takers[1].cancelling() else None
    done, pending = await asyncio.wait(takers, timeout=1, return_when=asyncio.ALL_COMPLETED)
    results = [task.result() for task in done if not task.cancelled()]
    for task in pending:
        task.cancel()
    assert results == ["a"] or len(queue) == 1


async def test_many_takers_share_the_keys_without_loss() -> None:
    queue: WorkQueue[int] = WorkQueue()
    seen: list[int] = []

    async def take() -> None:
        while True:
            key = await queue.get()
            await asyncio.sleep(0)
            seen.append(key)
            queue.done(key)

    takers = [asyncio.create_task(take()) for _ in range(5)]
    for number in range(200):
        queue.add(number)
        if number % 7 == 0:
            await asyncio.sleep(0)
    while not queue.idle:
        await asyncio.sleep(0)
    for task in takers:
        task.cancel()
    assert sorted(seen) == list(range(200))


@pytest.mark.parametrize("delay", [timedelta(), timedelta(seconds=-1)])
async def test_no_delay_is_now(delay: timedelta) -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", delay)
    assert await taken(queue) == ["a"]


async def test_ranked_keys_come_out_by_rank_and_within_one_as_they_went_in() -> None:
    ranks = {"low": -1, "first": 0, "second": 0, "high": 5}
    queue: WorkQueue[str] = WorkQueue(ready=Ranked(lambda key: ranks[key]))
    for key in ("low", "first", "second", "high", "first"):
        queue.add(key)
    assert [await queue.get() for _ in ranks] == ["high", "first", "second", "low"]
    queue.add("low")
    queue.done("low")
    assert len(queue) == 1
