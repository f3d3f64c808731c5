"""How many containers may start at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from nodeport.node.startplaces import StartPlaces

LONG, AT_ONCE = timedelta(hours=1), timedelta(0)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Starts:
    """Starts that each last until they are let go, and who has begun."""

    def __init__(self, places: StartPlaces) -> None:
        self.places, self.begun, self.ends = places, list[int](), list[asyncio.Event]()
        self.tasks = list[asyncio.Task[None]]()

    def add(self, count: int) -> None:
        for _ in range(count):
            self.ends.append(asyncio.Event())
            self.tasks.append(asyncio.create_task(self._start(len(self.ends) - 1)))

    async def _start(self, number: int) -> None:
        async with self.places.one():
            self.begun.append(number)
            await self.ends[number].wait()

    async def finish(self) -> None:
        for end in self.ends:
            end.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_as_many_starts_as_there_are_places_go_on_at_once_and_the_others_follow_in_order() -> None:
    starts = Starts(StartPlaces(2, LONG))
    starts.add(4)
    await settle()
    assert starts.begun == [0, 1]
    starts.ends[1].set()
    await settle()
    assert starts.begun == [0, 1, 2]
    await starts.finish()
    assert starts.begun == [0, 1, 2, 3]


async def test_a_start_that_takes_too_long_goes_on_without_its_place_and_gives_no_second_one_up() -> None:
    starts = Starts(StartPlaces(1, AT_ONCE))
    starts.add(2)
    async with asyncio.timeout(30):
        while starts.begun != [0, 1]:
            await asyncio.sleep(0)
    assert not starts.tasks[0].done()
    await starts.finish()
    later = Starts(starts.places)
    starts.places._limit = LONG
    later.add(2)
    await settle()
    assert later.begun == [0]
    await later.finish()


@pytest.mark.parametrize("waits", [False, True])
async def test_a_start_that_is_cancelled_gives_its_place_up(waits: bool) -> None:
    starts = Starts(StartPlaces(1, LONG))
    starts.add(3)
    await settle()
    starts.tasks[1 if waits else 0].cancel()
    starts.ends[0].set()
    await settle()
    assert starts.begun == ([0, 2] if waits else [0, 1])
    await starts.finish()
