"""What a node's kernel must know so that its pods reach those of all other nodes. Pure.

ROUTES (flannel: host-gw): ``POD_CIDR via NODE``, for nodes that share a subnet with this one.
VXLAN: every node has a tunnel end; its MAC follows from the node's address, so that nobody has to tell it::

    10.244.2.0/24 via 10.244.2.1 dev nodeport-vxlan onlink     route
    10.244.2.1 lladdr 0a:58:c0:00:02:02                        neighbour, permanent
    0a:58:c0:00:02:02 dst 192.0.2.2                            forwarding entry

The first address of a node's pod network, which no pod gets, is that of its tunnel end: what the node itself sends to
pods elsewhere, and what it masquerades, comes from there, and so do the answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address, ip_interface, ip_network
from typing import TypeVar

from nodeport.api.meta import JsonObject
from nodeport.netlink.route import IPAddress, IPInterface, IPNetwork

LINK = "nodeport-vxlan"
DEFAULT_VNI, MOST_VNI = 78, (1 << 24) - 1
DEFAULT_PORT = 4789
"""IANA's for VXLAN."""
OVERHEAD = {4: 50, 6: 70}
"""Bytes that a tunnelled packet grows by: inner Ethernet 14, VXLAN 8, UDP 8, and the outer header of 20 or 40."""


T = TypeVar("T")


class Mode(StrEnum):
    ROUTES = "routes"
    VXLAN = "vxlan"


@dataclass(frozen=True, slots=True)
class Way:
    """How nodes reach one another's pods; with VXLAN: in which one, and on which UDP port."""

    mode: Mode = Mode.ROUTES
    vni: int = DEFAULT_VNI
    port: int = DEFAULT_PORT


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node. ``since``: when its Node was made; of two that claim the same addresses the older one has them."""

    name: str
    addresses: tuple[IPAddress, ...]
    pod_cidrs: tuple[IPNetwork, ...]
    since: str = ""

    def address(self, version: int) -> IPAddress | None:
        return next((each for each in self.addresses if each.version == version), None)


@dataclass(frozen=True, slots=True)
class Place:
    """This node as its kernel has it: ``subnets`` it is part of, and ``foreign`` routes that somebody else made."""

    address: IPAddress
    pod_cidrs: tuple[IPNetwork, ...]
    subnets: tuple[IPNetwork, ...] = ()
    foreign: frozenset[IPNetwork] = frozenset()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Pods of a node that this one cannot reach, and why."""

    node: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """``routes``: pod network -> gateway. The others are about the tunnel's link, and empty without one.

    ``barriers``: this node's own pod networks, where what no pod has is unreachable.
    """

    routes: Mapping[IPNetwork, IPAddress] = field(default_factory=dict)
    neighbours: Mapping[IPAddress, bytes] = field(default_factory=dict)
    forwarding: Mapping[bytes, IPAddress] = field(default_factory=dict)
    addresses: frozenset[IPInterface] = frozenset()
    barriers: frozenset[IPNetwork] = frozenset()
    refusals: tuple[Refusal, ...] = ()


def plan(mode: Mode, place: Place, peers: Iterable[Peer]) -> Plan:
    """What the kernel must know, and whom it cannot reach."""
    routes: dict[IPNetwork, IPAddress] = {}
    neighbours: dict[IPAddress, bytes] = {}
    forwarding: dict[bytes, IPAddress] = {}
    refusals: list[Refusal] = []
    taken = _Taken((*place.pod_cidrs, *place.subnets))
    for peer in sorted(peers, key=lambda peer: (peer.since, peer.name)):
        for cidr in peer.pod_cidrs:
            why = _objection(mode, place, peer, cidr, taken)
            if why:
                refusals.append(Refusal(peer.name, f"no way to pods {cidr} of node {peer.name}: {why}"))
                continue
            taken.add(cidr)
            end = peer.address(place.address.version if mode is Mode.VXLAN else cidr.version)
            assert end is not None
            routes[cidr] = end
            if mode is Mode.VXLAN:
                mac = tunnel_mac(end)
                routes[cidr] = gateway = tunnel_address(cidr)
                neighbours[gateway], forwarding[mac] = mac, end
    return Plan(
        routes,
        neighbours,
        forwarding,
        _own_addresses(mode, place),
        frozenset(place.pod_cidrs) - place.foreign,
        tuple(refusals),
    )


def _objection(mode: Mode, place: Place, peer: Peer, cidr: IPNetwork, taken: _Taken) -> str:
    """Why there is no way; empty when there is one."""
    version = place.address.version if mode is Mode.VXLAN else cidr.version
    end = peer.address(version)
    if end is None:
        return f"the node has no InternalIP of IPv{version}"
    if end == place.address:
        return f"its InternalIP {end} is this node's own"
    if other := taken.overlapping(cidr):
        return f"they overlap {other}, which is another node's or a subnet of this machine"
    if cidr in place.foreign:
        return "this machine has a route to them that somebody else made; it is left alone"
    if mode is Mode.ROUTES and not any(_contains(subnet, end) for subnet in place.subnets):
        mine = ", ".join(str(each) for each in place.subnets if each.version == version) or "none"
        return (
            f"its InternalIP {end} is on no subnet of this machine ({mine}), and plain routes cannot pass a router:"
            " --pod-network=vxlan can"
        )
    return ""


def _own_addresses(mode: Mode, place: Place) -> frozenset[IPInterface]:
    if mode is not Mode.VXLAN:
        return frozenset()
    return frozenset(ip_interface(tunnel_address(cidr)) for cidr in place.pod_cidrs)


def tunnel_address(cidr: IPNetwork) -> IPAddress:
    """Which address of its pod network a node's tunnel end has."""
    return cidr[min(1, cidr.num_addresses - 1)]


def tunnel_mac(address: IPAddress) -> bytes:
    """The MAC of the tunnel end of the node that has this address; locally administered."""
    if address.version == 4:
        return b"\x0a\x58" + address.packed
    return b"\x0a" + hashlib.blake2s(address.packed, digest_size=5).digest()


def tunnel_mtu(underlay: int, version: int) -> int:
    """What a packet of a pod may have; ``version``: of the nodes' addresses."""
    return underlay - OVERHEAD[version]


class _Taken:
    """Networks that are somebody's already; asking costs little for the many that are next to one another."""

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        self._others: list[IPNetwork] = [*networks]
        self._same: dict[tuple[int, int], set[IPNetwork]] = {}

    def add(self, network: IPNetwork) -> None:
        self._same.setdefault((network.version, network.prefixlen), set()).add(network)

    def overlapping(self, network: IPNetwork) -> IPNetwork | None:
        for other in self._others:
            if _overlap(other, network):
                return other
        for (version, prefix), networks in self._same.items():
            if version != network.version:
                continue
            if prefix <= network.prefixlen:
                wider = network if prefix == network.prefixlen else network.supernet(new_prefix=prefix)
                if wider in networks:
                    return wider
            else:
                found = next((each for each in networks if _overlap(each, network)), None)
                if found:
                    return found
        return None


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    if one.version != other.version:
        return False
    first, second = int(one.network_address), int(other.network_address)
    return first < second + other.num_addresses and second < first + one.num_addresses


def _contains(subnet: IPNetwork, address: IPAddress) -> bool:
    return subnet.version == address.version and address in subnet


def peers_of(nodes: Iterable[JsonObject], own_name: str) -> list[Peer]:
    """All nodes but this one that have pod networks. What is no address or network is passed over."""
    return [
        peer for node in nodes if node["metadata"]["name"] != own_name and (peer := peer_of(node)).pod_cidrs
    ]  # fmt: skip


def peer_of(node: JsonObject) -> Peer:
    spec, metadata = node.get("spec") or {}, node["metadata"]
    cidrs: Sequence[str] = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    addresses = (node.get("status") or {}).get("addresses") or ()
    internal = [each["address"] for each in addresses if each.get("type") == "InternalIP"]
    return Peer(
        name=metadata["name"],
        addresses=tuple(_parsed(internal, _address)),
        pod_cidrs=tuple(_parsed(cidrs, _network)),
        since=metadata.get("creationTimestamp") or "",
    )


def _parsed(texts: Iterable[str], parse: Callable[[str], T]) -> Iterator[T]:
    for text in texts:
        try:
            yield parse(text)
        except ValueError:
            continue


@lru_cache(maxsize=4096)
def _address(text: str) -> IPAddress:
    return ip_address(text)


@lru_cache(maxsize=4096)
def _network(text: str) -> IPNetwork:
    return ip_network(text)
