"""Who gets which address: subnets of a local cluster and its nodes, addresses of pods. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

FABRICS = IPv4Network("172.30.0.0/16")
FABRIC_PREFIX = 22
FIRST_NODE = 11
"""The first node's offset in the fabric; before it there is room for the host (.1) and for virtual addresses."""
FABRIC_RESERVED_END = 256
"""Offsets kept free at the end: clients and virtual addresses of tests and users."""
POD_NETWORKS = tuple(IPv4Network(f"10.{second}.0.0/16") for second in (*range(244, 256), *range(200, 244)))


class AddressesExhausted(Exception):
    """Nothing is left to give; the text names the range."""


def free_subnet(candidates: Iterable[IPv4Network], taken: Iterable[IPv4Network], what: str) -> IPv4Network:
    """The first candidate that overlaps nothing taken (the default route does not count)."""
    busy = [network for network in taken if network.prefixlen]
    tried = list(candidates)
    for candidate in tried:
        if not any(candidate.overlaps(network) for network in busy):
            return candidate
    raise AddressesExhausted(
        f"no free {what}: all of {tried[0]} to {tried[-1]} overlap routes or addresses of this host"
    )


def free_fabric(taken: Iterable[IPv4Network]) -> IPv4Network:
    return free_subnet(FABRICS.subnets(new_prefix=FABRIC_PREFIX), taken, "subnet for the nodes")


def free_pod_network(taken: Iterable[IPv4Network]) -> IPv4Network:
    return free_subnet(POD_NETWORKS, taken, "subnet for the pods")


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node of a local cluster."""

    name: str
    address: IPv4Address
    pod_cidr: IPv4Network


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """The addresses of a local cluster, all derived from its name, two networks and the number of nodes."""

    name: str
    fabric: IPv4Network
    pods: IPv4Network
    size: int

    @property
    def host(self) -> IPv4Address:
        """The host's own address on the fabric: where pods and nodes find the API server."""
        return self.fabric[1]

    @property
    def nodes(self) -> tuple[NodePlan, ...]:
        return tuple(self.node(number) for number in range(1, self.size + 1))

    def node(self, number: int) -> NodePlan:
        """``number`` counts from 1; 10.244.NUMBER.0/24 are its pods."""
        if not 1 <= number <= most_nodes():
            raise AddressesExhausted(f"node {number}: a cluster has at most {most_nodes()} nodes")
        pod_cidr = IPv4Network((int(self.pods.network_address) + number * 256, 24))
        return NodePlan(f"node-{number}", self.fabric[FIRST_NODE - 1 + number], pod_cidr)


def most_nodes() -> int:
    """Limited by the /24s of a pod network, the first of which stays unused."""
    return 255


@dataclass(slots=True)
class PodAddresses:
    """The pod addresses of one node; a released one is used again as late as possible."""

    cidr: IPv4Network
    _held: dict[IPv4Address, str] = field(default_factory=dict)
    _next: int = 0

    def take(self, owner: str) -> IPv4Address:
        """The address that the pod ``owner`` (its uid) holds, else a free one. Network, gateway and broadcast are
        never given."""
        for address, holder in self._held.items():
            if holder == owner:
                return address
        usable = range(2, self.cidr.num_addresses - 1)
        start = self._next
        for step in itertools.islice(itertools.count(start), len(usable)):
            address = self.cidr[usable[step % len(usable)]]
            if address not in self._held:
                self._held[address] = owner
                self._next = (step + 1) % len(usable)
                return address
        raise AddressesExhausted(f"no free pod address in {self.cidr}: all {len(usable)} are taken")

    def adopt(self, address: IPv4Address, owner: str) -> bool:
        """Mark the address that a pod has; False when it is none of this node's, or another pod holds it."""
        if address not in self.cidr or self._held.setdefault(address, owner) != owner:
            return False
        self._next = max(self._next, int(address) - int(self.cidr[2]) + 1)
        return True

    def release_all(self, owner: str) -> None:
        for address in [address for address, holder in self._held.items() if holder == owner]:
            del self._held[address]

    def release(self, address: IPv4Address, owner: str) -> None:
        if self._held.get(address) == owner:
            del self._held[address]
