"""Work on large objects, beside the event loop: megabytes of small fields take Python a second.

The interpreter still runs one thread at a time, but hands over every few milliseconds: others wait that long, not for
the whole of it. One piece of heavy work at a time, so that many of them do not add up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
HEAVY_BYTES = 128 * 1024


class HeavyWork:
    """``run`` calls a function that looks at nothing but its arguments."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, size: int, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Here and now when ``size`` bytes are few, else in a thread. A caller that is cancelled is not waited for."""
        if size < HEAVY_BYTES:
            return function(*args, **options)
        async with self._turn:
            return await asyncio.to_thread(function, *args, **options)
