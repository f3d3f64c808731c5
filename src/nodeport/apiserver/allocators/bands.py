"""Static and dynamic bands: automatic numbers come from the dynamic band first, so that numbers chosen by hand from the
static band seldom collide with them (KEP-3070, KEP-3668)."""

from __future__ import annotations

import random

from nodeport.kit.bitmap import Bits


class AllocationError(Exception):
    """Base of what allocators raise; the text is what clients see."""


class AlreadyAllocated(AllocationError):
    pass


class OutOfRange(AllocationError):
    pass


class NotReady(AllocationError):
    def __init__(self) -> None:
        super().__init__("allocator not ready")


class Full(AllocationError):
    def __init__(self) -> None:
        super().__init__("range is full")


def band_offset(size: int, *, divisor: int, maximum: int) -> int:
    """How many numbers at the beginning are the static band: 0 for ranges of up to 16."""
    return 0 if size <= 16 else min(max(16, size // divisor), maximum)


def take_random(bitmap: Bits, first: int, dynamic: int, end: int, rng: random.Random) -> int:
    """Take a free index: from a random start in the dynamic band ``dynamic`` .. ``end``-1 with wrap-around, then in the
    static band ``first`` .. ``dynamic``-1 the same way. Raises ``Full``."""
    for low, high in ((dynamic, end), (first, dynamic)):
        if low >= high:
            continue
        start = rng.randrange(low, high)
        found = bitmap.first_free(start, high)
        if found is None:
            found = bitmap.first_free(low, start)
        if found is not None:
            bitmap.set(found)
            return found
    raise Full
