"""What an allocator has done, for its metrics; ``scope`` is ``static`` for numbers asked for, else ``dynamic``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

STATIC, DYNAMIC = "static", "dynamic"


class Tally:
    __slots__ = ("allocations", "errors")

    def __init__(self) -> None:
        self.allocations: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def lines(self, prefix: str, labels: str = "") -> Iterator[str]:
        """Samples of ``PREFIX_allocation_total`` and ``PREFIX_allocation_errors_total``; ``labels`` ends in a comma."""
        for scope, number in sorted(self.allocations.items()):
            yield f'{prefix}_allocation_total{{{labels}scope="{scope}"}} {number}'
        for scope, number in sorted(self.errors.items()):
            yield f'{prefix}_allocation_errors_total{{{labels}scope="{scope}"}} {number}'
