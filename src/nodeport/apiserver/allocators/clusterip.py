"""ClusterIPs of one IPv4 range."""

from __future__ import annotations

import random
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from nodeport.apiserver.allocators.bands import AlreadyAllocated, OutOfRange, band_offset, take_random
from nodeport.kit.bitmap import Bitmap

GUARDS = "/allocations/clusterips/"


def guard(address: IPv4Address) -> str:
    """The key that owns ``address``."""
    return f"{GUARDS}{address}"


class ClusterIPAllocator:
    """The fast view of which addresses are taken; network and broadcast address are nobody's.

    Belongs to one event loop; every method is atomic.
    """

    def __init__(self, network: IPv4Network, rng: random.Random) -> None:
        self.network = network
        self._rng = rng
        self._base = int(network.network_address)
        self._taken = Bitmap(network.num_addresses)
        self._end = network.num_addresses - 1
        static = band_offset(network.num_addresses, divisor=16, maximum=256)
        self._dynamic = 1 + static

    @property
    def allocated(self) -> int:
        return self._taken.count

    def load(self, addresses: Iterable[str]) -> None:
        """Mark what the store says is taken; addresses of another range are ignored."""
        for text in addresses:
            try:
                index = self._index(IPv4Address(text))
            except (AddressValueError, OutOfRange):
                continue
            self._taken.set(index)

    def claim(self, address: IPv4Address) -> None:
        """Take exactly ``address``. Raises ``OutOfRange`` or ``AlreadyAllocated``."""
        if not self._taken.set(self._index(address)):
            raise AlreadyAllocated("provided IP is already allocated")

    def check(self, address: IPv4Address) -> None:
        """Raise ``OutOfRange`` for an address that could never be claimed."""
        self._index(address)

    def claim_any(self) -> IPv4Address:
        """Take a random free address. Raises ``Full``."""
        return IPv4Address(self._base + take_random(self._taken, 1, self._dynamic, self._end, self._rng))

    def free(self, address: IPv4Address) -> None:
        """Give an address back; one that is not taken, or of another range, changes nothing."""
        index = int(address) - self._base
        if 0 < index < self._end:
            self._taken.clear(index)

    def _index(self, address: IPv4Address) -> int:
        index = int(address) - self._base
        if not 0 < index < self._end:
            raise OutOfRange("the provided network does not match the current range")
        return index
