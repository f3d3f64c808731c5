"""Node ports: one number space for all protocols."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator

from nodeport.apiserver.allocators.bands import AlreadyAllocated, Full, OutOfRange, band_offset, take_random
from nodeport.apiserver.allocators.tally import DYNAMIC, STATIC, Tally
from nodeport.kit.bitmap import Bitmap

GUARDS = "/allocations/nodeports/"


def guard(port: int) -> str:
    """The key that owns ``port``."""
    return f"{GUARDS}{port}"


def port_of(guard: str) -> int:
    """The port that a key below ``GUARDS`` owns."""
    return int(guard.removeprefix(GUARDS))


class NodePortAllocator:
    """The fast view of which ports of ``ports`` are taken. Belongs to one event loop; every method is atomic."""

    def __init__(self, ports: range, rng: random.Random) -> None:
        self.ports = ports
        self._rng = rng
        self._taken = Bitmap(len(ports))
        self._static = band_offset(len(ports), divisor=32, maximum=128)
        self.tally = Tally()

    @property
    def allocated(self) -> int:
        return self._taken.count

    @property
    def shown_range(self) -> str:
        """``30000-32767``"""
        return f"{self.ports.start}-{self.ports.stop - 1}"

    def load(self, ports: Iterable[int]) -> None:
        """Mark what the store says is taken; ports outside of the range (from before it was changed) are ignored."""
        for port in ports:
            if port in self.ports:
                self._taken.set(port - self.ports.start)

    def claim(self, port: int) -> None:
        """Take exactly ``port``. Raises ``OutOfRange`` or ``AlreadyAllocated``."""
        if port not in self.ports:
            self.tally.errors[STATIC] += 1
            raise OutOfRange(
                f"provided port is not in the valid range. The range of valid ports is {self.shown_range}"
            )
        if not self._taken.set(port - self.ports.start):
            self.tally.errors[STATIC] += 1
            raise AlreadyAllocated("provided port is already allocated")
        self.tally.allocations[STATIC] += 1

    def is_taken(self, port: int) -> bool:
        return port in self.ports and self._taken.test(port - self.ports.start)

    def claim_any(self) -> int:
        """Take a random free port. Raises ``Full``."""
        try:
            index = take_random(self._taken, 0, self._static, len(self.ports), self._rng)
        except Full:
            self.tally.errors[DYNAMIC] += 1
            raise
        self.tally.allocations[DYNAMIC] += 1
        return self.ports.start + index

    def free(self, port: int) -> None:
        """Give a port back; one that is not taken stays free."""
        if port in self.ports:
            self._taken.clear(port - self.ports.start)

    def taken_beside(self, known: Collection[int]) -> Iterator[int]:
        """What is taken beside the ports ``known``."""
        if self.allocated > sum(port in self.ports for port in known):
            yield from (port for port in self.ports if self.is_taken(port) and port not in known)

    def metrics(self) -> Iterator[str]:
        prefix = "kube_apiserver_nodeport_allocator"
        for name, kind in (("allocated_ports", "gauge"), ("available_ports", "gauge"), ("allocation_total", "counter"),
                           ("allocation_errors_total", "counter")):  # fmt: skip
            yield f"# TYPE {prefix}_{name} {kind}"
        yield f"{prefix}_allocated_ports {self.allocated}"
        yield f"{prefix}_available_ports {len(self.ports) - self.allocated}"
        yield from self.tally.lines(prefix)
