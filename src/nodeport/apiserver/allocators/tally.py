"""What an allocator has done, for its metrics; ``scope`` is ``static`` for numbers asked for, else ``dynamic``."""

from __future__ import annotations

from bisect import bisect_left
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


class Durations:
    """How long allocations took, as a Prometheus histogram."""

    BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
    __slots__ = ("_counts", "_seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(self.BOUNDS) + 1)
        self._seconds = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self.BOUNDS, seconds)] += 1
        self._seconds += seconds

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """``labels`` ends in a comma."""
        total = 0
        for bound, count in zip((*map(str, self.BOUNDS), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels}le="{bound}"}} {total}'
        shown = labels.rstrip(",")
        yield f"{name}_sum{{{shown}}} {self._seconds:.6f}"
        yield f"{name}_count{{{shown}}} {total}"
