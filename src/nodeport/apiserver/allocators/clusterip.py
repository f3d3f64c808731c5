"""ClusterIPs out of any number of ServiceCIDRs, of both families.

An IPAddress object in the store owns an address; what is here is only a fast view of those objects.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from time import perf_counter

from nodeport.apiserver.allocators.bands import (
    AlreadyAllocated,
    Full,
    NotReady,
    OutOfRange,
    band_offset,
    take_random,
)
from nodeport.apiserver.allocators.tally import DYNAMIC, STATIC, Durations, Tally
from nodeport.kit.bitmap import bits

_METRICS = (
    ("allocated_ips", "gauge"), ("available_ips", "gauge"), ("allocation_total", "counter"),
    ("allocation_errors_total", "counter"), ("allocation_duration_seconds", "histogram"),
)  # fmt: skip
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def contains(network: Network, address: Address) -> bool:
    """Whether ``address`` can be given out of ``network``: the network address, and in IPv4 the broadcast address, are
    nobody's."""
    if network.version != address.version:
        return False
    index = int(address) - int(network.network_address)
    return 0 < index < _end(network)


def _end(network: Network) -> int:
    return network.num_addresses - (network.version == 4)


class AddressRange:
    """One network: its bands and which of its addresses are taken. Bits are offsets from the network address."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.ready = True
        self.base = int(network.network_address)
        self.end = _end(network)
        self.dynamic = 1 + band_offset(network.num_addresses, divisor=16, maximum=256)
        self.taken = bits(network.num_addresses)
        self.tally = Tally()
        self.durations = Durations()

    @property
    def size(self) -> int:
        """How many addresses can be given out."""
        return max(0, self.end - 1)

    def index(self, number: int) -> int | None:
        """Where an address, as a number, is; None when it is not one to be given out here."""
        index = number - self.base
        return index if 0 < index < self.end else None


class ClusterIPAllocator:
    """The fast view of which addresses are taken. Ranges may overlap; an address taken is taken in all of them.

    Belongs to one event loop; every method is atomic.
    """

    def __init__(self, rng: random.Random, networks: Iterable[Network] = ()) -> None:
        self._rng = rng
        self._taken: dict[int, set[int]] = {4: set(), 6: set()}
        self._doubtful: set[Address] = set()
        self._ranges: dict[int, dict[Network, AddressRange]] = {4: {}, 6: {}}
        self.configure(dict.fromkeys(networks, True))

    def configure(self, networks: Mapping[Network, bool]) -> None:
        """The networks that there are, in order of preference, and whether each is ready; others are forgotten."""
        for version, ranges in self._ranges.items():
            wanted = {network: ready for network, ready in networks.items() if network.version == version}
            kept = {network: ranges.get(network) or self._filled(network) for network in wanted}
            for network, ready in wanted.items():
                kept[network].ready = ready
            self._ranges[version] = kept

    def _filled(self, network: Network) -> AddressRange:
        made = AddressRange(network)
        for number in self._taken[network.version]:
            index = made.index(number)
            if index is not None:
                made.taken.set(index)
        return made

    @property
    def ranges(self) -> Iterator[AddressRange]:
        for ranges in self._ranges.values():
            yield from ranges.values()

    def holds(self, address: Address) -> bool:
        """Whether any range, ready or not, could have given this address out."""
        return any(each.index(int(address)) is not None for each in self._ranges[address.version].values())

    def is_taken(self, address: Address) -> bool:
        return int(address) in self._taken[address.version]

    def taken_beside(self, known: set[Address]) -> Iterator[Address]:
        """What is taken beside the addresses ``known``."""
        if sum(map(len, self._taken.values())) > len(known):
            for version, numbers in self._taken.items():
                made = IPv4Address if version == 4 else IPv6Address
                yield from (address for number in numbers if (address := made(number)) not in known)

    def mark(self, address: Address) -> bool:
        """Note that an address is taken, in range or not; False when it was noted already."""
        return self._mark(address.version, int(address))

    def _mark(self, version: int, number: int) -> bool:
        taken = self._taken[version]
        if number in taken:
            return False
        taken.add(number)
        for each in self._ranges[version].values():
            index = each.index(number)
            if index is not None:
                each.taken.set(index)
        return True

    def free(self, address: Address) -> None:
        """Give an address back; one that is not taken changes nothing."""
        number = int(address)
        self._taken[address.version].discard(number)
        for each in self._ranges[address.version].values():
            index = each.index(number)
            if index is not None:
                each.taken.clear(index)

    def doubt(self, address: Address) -> None:
        """The object that owned the address was removed by hand: it stays taken until ``settle``."""
        self._doubtful.add(address)

    def settle(self, address: Address, *, in_use: bool) -> bool:
        """Decide about an address in doubt, keeping or freeing it; False when it was not in doubt."""
        if address not in self._doubtful:
            return False
        self._doubtful.discard(address)
        if not in_use:
            self.free(address)
        return True

    def claim(self, address: Address) -> None:
        """Take exactly ``address``. Raises ``OutOfRange`` or ``AlreadyAllocated``."""
        began = perf_counter()
        chosen = self._ready_range(address)
        if chosen is None:
            raise OutOfRange("the provided network does not match the current range")
        if not self.mark(address):
            chosen.tally.errors[STATIC] += 1
            raise AlreadyAllocated("provided IP is already allocated")
        chosen.tally.allocations[STATIC] += 1
        chosen.durations.observe(perf_counter() - began)

    def _ready_range(self, address: Address) -> AddressRange | None:
        number = int(address)
        for each in self._ranges[address.version].values():
            if each.ready and each.index(number) is not None:
                return each
        return None

    def check(self, address: Address) -> None:
        """What a dry run looks at: only whether the address is in range. Raises ``OutOfRange`` or ``NotReady``."""
        if self._ready_range(address) is not None:
            return
        ready = self._any_ready(address.version)
        raise OutOfRange(
            f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {ready.network}"
        )

    def pretend_any(self, version: int) -> Address:
        """What a dry run answers: a network address, so that nobody takes it for a real one. Raises ``NotReady``."""
        return self._any_ready(version).network.network_address

    def _any_ready(self, version: int) -> AddressRange:
        found = next((each for each in self._ranges[version].values() if each.ready), None)
        if found is None:
            raise NotReady
        return found

    def claim_any(self, version: int = 4) -> Address:
        """Take a random free address of the first range that has one. Raises ``Full``."""
        began = perf_counter()
        for each in self._ranges[version].values():
            if not each.ready or each.taken.count >= each.size:
                continue
            try:
                index = take_random(each.taken, 1, each.dynamic, each.end, self._rng)
            except Full:
                each.tally.errors[DYNAMIC] += 1
                continue
            each.tally.allocations[DYNAMIC] += 1
            number = each.base + index
            self._mark(version, number)
            each.durations.observe(perf_counter() - began)
            return IPv4Address(number) if version == 4 else IPv6Address(number)
        raise Full

    def metrics(self) -> Iterator[str]:
        """Samples for every range, ready or not."""
        prefix = "kube_apiserver_clusterip_allocator"
        for name, kind in _METRICS:
            yield f"# TYPE {prefix}_{name} {kind}"
        for each in self.ranges:
            labels = f'cidr="{each.network}"'
            used = each.taken.count
            yield f"{prefix}_allocated_ips{{{labels}}} {used}"
            yield f"{prefix}_available_ips{{{labels}}} {max(0, each.size - used)}"
            yield from each.tally.lines(prefix, f"{labels},")
            yield from each.durations.lines(f"{prefix}_allocation_duration_seconds", f"{labels},")
