"""Node ports: one number space for all protocols."""

from __future__ import annotations

import random
from collections.abc import Iterable

from nodeport.apiserver.allocators.bands import AlreadyAllocated, OutOfRange, band_offset, take_random
from nodeport.kit.bitmap import Bitmap

GUARDS = "/allocations/nodeports/"


def guard(port: int) -> str:
    """The key that owns ``port``."""
    return f"{GUARDS}{port}"


class NodePortAllocator:
    """The fast view of which ports of ``ports`` are taken. Belongs to one event loop; every method is atomic."""

    def __init__(self, ports: range, rng: random.Random) -> None:
        self.ports = ports
        self._rng = rng
        self._taken = Bitmap(len(ports))
        self._static = band_offset(len(ports), divisor=32, maximum=128)

    @property
    def allocated(self) -> int:
        return self._taken.count

    def load(self, ports: Iterable[int]) -> None:
        """Mark what the store says is taken; ports outside of the range (from before it was changed) are ignored."""
        for port in ports:
            if port in self.ports:
                self._taken.set(port - self.ports.start)

    def claim(self, port: int) -> None:
        """Take exactly ``port``. Raises ``OutOfRange`` or ``AlreadyAllocated``."""
        if port not in self.ports:
            raise OutOfRange(
                "provided port is not in the valid range. The range of valid ports is "
                f"{self.ports.start}-{self.ports.stop - 1}"
            )
        if not self._taken.set(port - self.ports.start):
            raise AlreadyAllocated("provided port is already allocated")

    def is_taken(self, port: int) -> bool:
        return port in self.ports and self._taken.test(port - self.ports.start)

    def claim_any(self) -> int:
        """Take a random free port. Raises ``Full``."""
        return self.ports.start + take_random(self._taken, 0, self._static, len(self.ports), self._rng)

    def free(self, port: int) -> None:
        """Give a port back; one that is not taken stays free."""
        if port in self.ports:
            self._taken.clear(port - self.ports.start)
