"""Packets that would notice: who could ask what of a forwarding table, and what the oracle answers.

``verify`` looks here for a packet that fares differently in the kernel. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from nodeport.forwarding.decide import Packet, decide, source_of
from nodeport.forwarding.table import (
    Forwarding,
    Frontend,
    IPAddress,
    NodeFacts,
    NodePort,
    Protocol,
    Route,
    Routes,
    ServicePortName,
    Source,
    Verdict,
)

STRANGERS: Final = {
    4: ("203.0.113.7", "198.18.0.7", "192.88.99.7"),
    6: ("2001:db8:ffff::7", "2001:2::7", "64:ff9b:1::7"),
}
"""Addresses of documentation and benchmarks: somebody who is neither a pod nor a node."""
LOOPBACK: Final = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}
_UNUSED_PORT: Final = 9
"""The discard service: what a packet asks for that no Service offers."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a packet; ``destination`` is where it was translated to, if it was."""

    verdict: Verdict
    destination: tuple[IPAddress, int] | None = None
    masquerade: bool = False

    def __str__(self) -> str:
        if self.destination is None:
            return _VERDICTS[self.verdict]
        address, port = self.destination
        sender = "the node's address" if self.masquerade else "its own address"
        return f"reaches {_at(address, port)} with {sender}"


_VERDICTS: Final = {
    Verdict.FORWARD: "is forwarded",
    Verdict.REJECT: "is refused",
    Verdict.DROP: "is dropped",
    Verdict.PASS: "passes untouched",
}


class Questions:
    """Packets for the Service ports of ``forwardings`` on ``node``, and what must become of them."""

    def __init__(self, forwardings: Iterable[tuple[ServicePortName, Forwarding]], node: NodeFacts) -> None:
        self.node = node
        self.forwardings = dict(forwardings)
        self._by_place: dict[tuple[IPAddress | None, int, Protocol], list[ServicePortName]] = {}
        for name, forwarding in self.forwardings.items():
            for frontend in forwarding.frontends:
                place = (_address_of(frontend), frontend.port, name.protocol)
                self._by_place.setdefault(place, []).append(name)
        self._version = int(node.family)
        self._outsider, someone = self._find_strangers()
        self._pods = [_last_host(network) for network in node.pod_networks]
        if node.pod_interfaces:
            self._pods = [someone]

    def fates(self, packet: Packet) -> frozenset[Fate]:
        """The oracle's answer, by looking at the Service ports that the packet can mean."""
        places = (packet.destination, None)
        names = [name for place in places for name in self._at(place, packet)]
        concerned = ((name, self.forwardings[name]) for name in names)
        decision = decide(concerned, self.node, packet)
        outcomes = [Fate(Verdict.FORWARD, item.endpoint.place, item.masquerade) for item in decision.outcomes]
        return frozenset(outcomes or [Fate(decision.verdict)])

    def _at(self, place: IPAddress | None, packet: Packet) -> list[ServicePortName]:
        return self._by_place.get((place, packet.port, packet.protocol), [])

    def whose(self, packet: Packet) -> ServicePortName | None:
        found = [*self._at(packet.destination, packet), *self._at(None, packet)]
        return found[0] if found else None

    def about(self, name: ServicePortName) -> Iterator[Packet]:
        """Everybody who is somebody, to every frontend of one Service port."""
        forwarding = self.forwardings[name]
        senders = [*self._senders(), *_endpoints_of(forwarding, local_only=True), *_ranges_of(forwarding)]
        for frontend in forwarding.frontends:
            for address in self._destinations(frontend):
                yield from self._packets(senders, address, name.protocol, frontend.port)

    def of_address(self, address: IPAddress) -> Iterator[Packet]:
        """``address`` as a destination, as an endpoint's, and as a sender's."""
        for known, port, protocol in list(self._by_place):
            if known == address:
                yield from self._packets(self._senders(), address, protocol, port)
        yield from self._packets(self._senders(), address, Protocol.TCP, _UNUSED_PORT)
        for name, forwarding in self.forwardings.items():
            if address in _endpoints_of(forwarding):
                yield from self.about(name)
        yield from self.by_sender(address)

    def by_sender(self, address: IPAddress) -> Iterator[Packet]:
        for sample in self.samples():
            if not sample.from_node:
                yield self._packet(address, sample.destination, sample.protocol, sample.port)

    def to(self, address: IPAddress, protocol: Protocol, port: int) -> Iterator[Packet]:
        """Everybody who is somebody, to a place that may be nobody's."""
        yield from self._packets(self._senders(), address, protocol, port)

    def to_port(self, protocol: Protocol, port: int) -> Iterator[Packet]:
        """Likewise to a port of the node's own addresses, and of any address that has such a port."""
        for address in self._own_addresses():
            yield from self.to(address, protocol, port)
        for known, number, kind in list(self._by_place):
            if known is not None and (number, kind) == (port, protocol):
                yield from self.to(known, protocol, port)

    def ports(self) -> set[tuple[Protocol, int]]:
        """Every port that is asked for anywhere."""
        return {(protocol, port) for _, port, protocol in self._by_place}

    def samples(self) -> Iterator[Packet]:
        """A Service port of each kind, and what belongs to no Service."""
        for network in self.node.service_networks:
            yield from self._packets(self._senders(), _last_host(network), Protocol.TCP, _UNUSED_PORT)
            yield from self._packets(self._senders(), _last_host(network), Protocol.UDP, _UNUSED_PORT)
        for address in (*self._own_addresses(), self._outsider):
            yield from self._packets(self._senders(), address, Protocol.TCP, _UNUSED_PORT)
        seen: set[object] = set()
        for name, forwarding in self.forwardings.items():
            shape = _shape(name, forwarding)
            if shape not in seen:
                seen.add(shape)
                yield from self.about(name)

    def words(self, packet: Packet) -> str:
        """Who sends what to whom."""
        who = {Source.POD: "a pod", Source.NODE: "the node", Source.OUTSIDE: "outside"}
        name = self.whose(packet)
        target = f"{_at(packet.destination, packet.port)}/{packet.protocol.name}"
        owner = f" ({name})" if name else ""
        return f"{packet.source} ({who[source_of(packet, self.node)]}) to {target}{owner}"

    def _senders(self) -> list[IPAddress | None]:
        """``None`` is the node itself."""
        return [self._outsider, None, *self._pods]

    def _packets(
        self, senders: Iterable[IPAddress | None], address: IPAddress, protocol: Protocol, port: int
    ) -> Iterator[Packet]:
        for sender in dict.fromkeys(senders):
            yield self._packet(sender, address, protocol, port)

    def _packet(self, sender: IPAddress | None, address: IPAddress, protocol: Protocol, port: int) -> Packet:
        own = self._own_addresses()
        from_node = sender is None or sender in own
        source = own[0] if sender is None else sender
        comes_by = "" if from_node or sender == self._outsider else self._pod_interface
        return Packet(source, address, protocol, port, from_node, address in own, comes_by)

    @property
    def _pod_interface(self) -> str:
        """One by which pods send, where that is how they are told."""
        return self.node.pod_interfaces[0].replace("*", "0") if self.node.pod_interfaces else ""

    def _own_addresses(self) -> tuple[IPAddress, ...]:
        return (*self.node.addresses, LOOPBACK[self._version])

    def _destinations(self, frontend: Frontend) -> tuple[IPAddress, ...]:
        return self._own_addresses() if isinstance(frontend, NodePort) else (frontend.address,)

    def _find_strangers(self) -> list[IPAddress]:
        """Two addresses that mean nothing to this node."""
        node = self.node
        taken = (*node.pod_networks, *node.service_networks)
        known = {address for address, _, _ in self._by_place}
        every = [ip_address(raw) for raw in STRANGERS[self._version]]
        free = [
            address
            for address in every
            if address not in known and not any(address in network for network in taken)
        ]
        return (free + every)[:2]


def _at(address: IPAddress, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _address_of(frontend: Frontend) -> IPAddress | None:
    return None if isinstance(frontend, NodePort) else frontend.address


def _last_host(network: object) -> IPAddress:
    """An address that nobody was likely given: allocators begin at the other end."""
    last = int(network.broadcast_address)  # type: ignore[attr-defined]
    kind = type(network.broadcast_address)  # type: ignore[attr-defined]
    size = int(network.num_addresses)  # type: ignore[attr-defined]
    address: IPAddress = kind(last - 1 if size > 2 else last)
    return address


def _routes_of(forwarding: Forwarding) -> Iterator[Route]:
    for routes in (forwarding.internal, forwarding.external):
        yield from (routes.pod, routes.node, routes.outside)


def _endpoints_of(forwarding: Forwarding, *, local_only: bool = False) -> list[IPAddress]:
    found: dict[IPAddress, None] = {}
    for route in _routes_of(forwarding):
        for endpoint in route.endpoints:
            if endpoint.is_local or not local_only:
                found[endpoint.address] = None
    return list(found)


def _ranges_of(forwarding: Forwarding) -> Iterator[IPAddress]:
    """Just inside and just outside of what may ask."""
    for ranges in (forwarding.source_ranges, forwarding.nodeport_source_ranges):
        for network in ranges or ():
            first = int(network.network_address)
            yield network.network_address
            yield network.broadcast_address
            if first:
                yield type(network.network_address)(first - 1)


def _shape(name: ServicePortName, forwarding: Forwarding) -> tuple[object, ...]:
    """What decides which rules a Service port needs; those of one shape differ in elements only."""
    return (
        name.protocol,
        frozenset(type(frontend) for frontend in forwarding.frontends),
        _routes_shape(forwarding.internal),
        _routes_shape(forwarding.external),
        forwarding.affinity,
        forwarding.source_ranges is None,
        forwarding.nodeport_source_ranges is None,
    )


def _routes_shape(routes: Routes) -> tuple[object, ...]:
    return tuple(
        (
            route.verdict,
            len(route.endpoints),
            route.masquerade,
            any(item.is_local for item in route.endpoints),
        )
        for route in (routes.pod, routes.node, routes.outside)
    )


def answers(fates: Iterable[Fate]) -> str:
    """Fates in words, in a stable order."""
    return " or ".join(sorted(str(fate) for fate in fates)) or "has no end"
