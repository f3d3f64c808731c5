"""Work that is given up when there is no use in it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def unless(
    ended: Coroutine[Any, Any, object], work: Coroutine[Any, Any, None], seconds: float | None
) -> None:
    """Until ``work`` is done, or given up because ``ended`` is, or after ``seconds``. Raises what ``work`` raises."""
    working, ending = asyncio.ensure_future(work), asyncio.ensure_future(ended)
    try:
        await asyncio.wait({working, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, ending):
            task.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)
