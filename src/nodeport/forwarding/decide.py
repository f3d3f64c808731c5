"""The oracle: what the forwarding table says about a single packet.

It knows no kernel. Tests hold every proxy mode against it; ``trace`` and the dashboard ask it why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nodeport.forwarding.sources import allowed_sources
from nodeport.forwarding.table import (
    Endpoint,
    Forwarding,
    Frontend,
    IPAddress,
    Masquerade,
    NodeFacts,
    NodePort,
    Protocol,
    Route,
    ServicePortName,
    Source,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection, as it enters the node or leaves one of its processes.

    ``from_node``: sent by a process of the node itself. ``to_node``: the destination is an address of the node.
    ``interface``: the one that it came in by, where that matters.
    """

    source: IPAddress
    destination: IPAddress
    protocol: Protocol
    port: int
    from_node: bool = False
    to_node: bool = False
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One endpoint that the packet may be sent to, and whether its sender's address is replaced on the way."""

    endpoint: Endpoint
    masquerade: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """``outcomes`` are all equally likely; empty unless the verdict is FORWARD. ``name``: whose frontend was hit."""

    verdict: Verdict
    outcomes: frozenset[Outcome] = frozenset()
    name: ServicePortName | None = None


def source_of(packet: Packet, node: NodeFacts) -> Source:
    if packet.from_node:
        return Source.NODE
    if node.pod_interfaces:
        is_pod = any(_is_called(packet.interface, name) for name in node.pod_interfaces)
    else:
        is_pod = any(packet.source in network for network in node.pod_networks)
    return Source.POD if is_pod else Source.OUTSIDE


def _is_called(interface: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return interface.startswith(pattern[:-1])
    return interface == pattern


def decide(table: Iterable[tuple[ServicePortName, Forwarding]], node: NodeFacts, packet: Packet) -> Decision:
    """What happens to ``packet`` on ``node``. ``table`` is ``ForwardingTable.items()``."""
    hit = _frontend_hit(table, node, packet)
    if hit is None:
        in_service_network = any(packet.destination in network for network in node.service_networks)
        return Decision(Verdict.REJECT if in_service_network else Verdict.PASS)
    name, route = hit
    outcomes = (
        Outcome(endpoint, _masquerades(route, endpoint, packet, node)) for endpoint in route.endpoints
    )
    return Decision(route.verdict, frozenset(outcomes), name)


def _frontend_hit(
    table: Iterable[tuple[ServicePortName, Forwarding]], node: NodeFacts, packet: Packet
) -> tuple[ServicePortName, Route] | None:
    """The route of the frontend the packet is addressed to. An exact address goes before a NodePort."""
    by_port: tuple[ServicePortName, Route] | None = None
    for name, forwarding in table:
        if name.protocol is not packet.protocol:
            continue
        for frontend in forwarding.frontends:
            if not _addresses(frontend, node, packet):
                continue
            hit = (name, _route(forwarding, frontend, node, packet))
            if not isinstance(frontend, NodePort):
                return hit
            by_port = hit
    return by_port


def _route(forwarding: Forwarding, frontend: Frontend, node: NodeFacts, packet: Packet) -> Route:
    allowed = allowed_sources(forwarding, frontend, node)
    exempt = packet.from_node and isinstance(frontend, NodePort)
    if allowed is not None and not exempt and not any(packet.source in network for network in allowed):
        return Route(Verdict.DROP)
    return forwarding.routes(frontend).of(source_of(packet, node))


def _addresses(frontend: Frontend, node: NodeFacts, packet: Packet) -> bool:
    if frontend.port != packet.port:
        return False
    if not isinstance(frontend, NodePort):
        return frontend.address == packet.destination
    return packet.to_node and any(packet.destination in network for network in node.nodeport_networks)


def _masquerades(route: Route, endpoint: Endpoint, packet: Packet, node: NodeFacts) -> bool:
    """Hairpins always; otherwise as the route says. A node's own address as endpoint never leaves the node."""
    if packet.source == endpoint.address and endpoint.is_local and endpoint.address not in node.addresses:
        return True
    match route.masquerade:
        case Masquerade.NEVER:
            return False
        case Masquerade.REMOTE:
            return not endpoint.is_local
        case Masquerade.ALWAYS:
            return True
