"""Who gets which address: subnets of a local cluster and its nodes, addresses of pods. Pure.

What has an address of each IP family has them in the order of the cluster's families, the primary one first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from nodeport.api.podcidrs import share

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

FABRIC_PREFIX = 22
FABRICS: Final[dict[int, tuple[IPNetwork, ...]]] = {
    4: tuple(IPv4Network("172.30.0.0/16").subnets(new_prefix=FABRIC_PREFIX)),
    6: tuple(IPv6Network(f"fd00:172:30:{third:x}::/64") for third in range(0x100)),
}
"""By IP version; those of IPv6 are unique local addresses (RFC 4193)."""
FIRST_NODE = 11
"""The first node's offset in the fabric; before it there is room for the host (.1) and for virtual addresses."""
FABRIC_RESERVED_END = 256
"""Offsets kept free at the end: clients and virtual addresses of tests and users."""
_POD_SECONDS = (*range(244, 256), *range(200, 244))
POD_NETWORKS: Final[dict[int, tuple[IPNetwork, ...]]] = {
    4: tuple(IPv4Network(f"10.{second}.0.0/16") for second in _POD_SECONDS),
    6: tuple(IPv6Network(f"fd00:10:{second}::/56") for second in _POD_SECONDS),
}
_MOST_PODS_TRIED = 1 << 16
"""A /64 is never full: it is only searched as far as an IPv4 network would be."""


class AddressesExhausted(Exception):
    """Nothing is left to give; the text names the range."""


def free_subnet(candidates: Sequence[IPNetwork], taken: Iterable[IPNetwork], what: str) -> IPNetwork:
    """The first candidate that overlaps nothing taken (the default route does not count)."""
    busy = [network for network in taken if network.prefixlen]
    for candidate in candidates:
        if not any(overlap(candidate, network) for network in busy):
            return candidate
    raise AddressesExhausted(
        f"no free {what}: all of {candidates[0]} to {candidates[-1]} overlap routes or addresses of this host"
    )


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    """Networks of different families never do."""
    match one, other:
        case (IPv4Network(), IPv4Network()) | (IPv6Network(), IPv6Network()):
            return one.overlaps(other)
    return False


def free_fabric(taken: Iterable[IPNetwork], version: int = 4) -> IPNetwork:
    return free_subnet(FABRICS[version], taken, "subnet for the nodes")


def free_pod_network(taken: Iterable[IPNetwork], version: int = 4) -> IPNetwork:
    return free_subnet(POD_NETWORKS[version], taken, "subnet for the pods")


def in_order(networks: Iterable[IPNetwork], versions: Sequence[int]) -> tuple[IPNetwork, ...]:
    """The networks by the order of the families."""
    return tuple(sorted(networks, key=lambda network: versions.index(network.version)))


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node of a local cluster: an address and a pod network of each of the cluster's families."""

    name: str
    addresses: tuple[IPAddress, ...]
    pod_cidrs: tuple[IPNetwork, ...]

    @property
    def address(self) -> IPAddress:
        """That of the primary family."""
        return self.addresses[0]


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """The addresses of a local cluster, all derived from its name, networks and the number of nodes.

    ``fabrics`` and ``pods``: a network of each family, in one order.
    """

    name: str
    fabrics: tuple[IPNetwork, ...]
    pods: tuple[IPNetwork, ...]
    size: int

    def __post_init__(self) -> None:
        if not self.fabrics or [each.version for each in self.fabrics] != [
            each.version for each in self.pods
        ]:
            raise ValueError(
                f"cluster {self.name}: {self.fabrics} and {self.pods} are not of the same families"
            )

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions, the primary one first."""
        return tuple(fabric.version for fabric in self.fabrics)

    @property
    def hosts(self) -> tuple[IPAddress, ...]:
        """The host's own addresses on the fabric: where pods and nodes find the API server."""
        return tuple(fabric[1] for fabric in self.fabrics)

    @property
    def host(self) -> IPAddress:
        """That of the primary family."""
        return self.hosts[0]

    @property
    def nodes(self) -> tuple[NodePlan, ...]:
        return tuple(self.node(number) for number in range(1, self.size + 1))

    def node(self, number: int) -> NodePlan:
        """``number`` counts from 1; 10.244.NUMBER.0/24 and fd00:10:244:NUMBER::/64 are its pods."""
        if not 1 <= number <= most_nodes():
            raise AddressesExhausted(f"node {number}: a cluster has at most {most_nodes()} nodes")
        addresses = tuple(fabric[FIRST_NODE - 1 + number] for fabric in self.fabrics)
        return NodePlan(f"node-{number}", addresses, tuple(share(network, number) for network in self.pods))


def most_nodes() -> int:
    """Limited by the /24s of a pod network, the first of which stays unused."""
    return 255


@dataclass(slots=True)
class FamilyAddresses:
    """The pod addresses of one family of one node; a released one is used again as late as possible."""

    cidr: IPNetwork
    _held: dict[IPAddress, str] = field(default_factory=dict)
    _by_owner: dict[str, IPAddress] = field(default_factory=dict)
    _next: int = 0

    @property
    def _size(self) -> int:
        """How many there are, from the third of the network on."""
        return min(self.cidr.num_addresses - 3, _MOST_PODS_TRIED)

    def take(self, owner: str) -> IPAddress:
        """The address that the pod ``owner`` (its uid) holds, else a free one. Network, gateway and broadcast are
        never given."""
        if owner in self._by_owner:
            return self._by_owner[owner]
        for step in itertools.islice(itertools.count(self._next), max(0, self._size)):
            address = self.cidr[2 + step % self._size]
            if address not in self._held:
                self._hold(address, owner)
                self._next = (step + 1) % self._size
                return address
        raise AddressesExhausted(f"no free pod address in {self.cidr}: all {self._size} are taken")

    def may_hold(self, address: IPAddress, owner: str) -> bool:
        """False when another pod holds it, or this one another."""
        return self._held.get(address, owner) == owner and self._by_owner.get(owner, address) == address

    def adopt(self, address: IPAddress, owner: str) -> None:
        """Mark an address that the pod may hold, and has."""
        self._hold(address, owner)
        self._next = max(self._next, int(address) - int(self.cidr[2]) + 1)

    def _hold(self, address: IPAddress, owner: str) -> None:
        self._held[address], self._by_owner[owner] = owner, address

    def release(self, owner: str) -> None:
        if (address := self._by_owner.pop(owner, None)) is not None:
            del self._held[address]


class PodAddresses:
    """The pod addresses of one node: each pod has one of each of its networks, or none at all."""

    def __init__(self, cidrs: Iterable[IPNetwork]) -> None:
        self._families = [FamilyAddresses(cidr) for cidr in cidrs]

    def take(self, owner: str) -> tuple[IPAddress, ...]:
        """Those of the pod ``owner`` (its uid), in the order of the networks. Raises AddressesExhausted; then the pod
        holds none."""
        try:
            return tuple(family.take(owner) for family in self._families)
        except AddressesExhausted:
            self.release(owner)
            raise

    def adopt(self, addresses: Iterable[IPAddress], owner: str) -> bool:
        """Mark the addresses that a pod has; False, and nothing is marked, when one of them is none of this node's, or
        another pod's."""
        found = [(self._family_of(address), address) for address in addresses]
        if any(family is None or not family.may_hold(address, owner) for family, address in found):
            return False
        for family, address in found:
            if family is not None:
                family.adopt(address, owner)
        return True

    def _family_of(self, address: IPAddress) -> FamilyAddresses | None:
        return next((family for family in self._families if address in family.cidr), None)

    def release(self, owner: str) -> None:
        for family in self._families:
            family.release(owner)
