from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nodeport.kit.giveup import unless

FOR_EVER = 3600.0


async def never() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    return None


async def test_it_ends_with_the_work() -> None:
    await unless(never(), at_once(), None)


async def test_what_the_work_raises_is_raised() -> None:
    async def broken() -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        await unless(never(), broken(), None)


@pytest.mark.parametrize(("ended", "seconds"), [(at_once, FOR_EVER), (never, 0.0)])
async def test_work_that_is_given_up_is_cancelled_and_has_cleaned_up(
    ended: Callable[[], Coroutine[Any, Any, None]], seconds: float
) -> None:
    steps = []

    async def work() -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    await unless(ended(), work(), seconds)
    assert steps == ["cleaned up"]


async def test_whoever_is_cancelled_leaves_no_task_behind() -> None:
    waiting = asyncio.create_task(unless(never(), never(), None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
