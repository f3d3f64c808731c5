"""Which endpoints a Service port may use on this node.

Rules (those of kube-proxy): ready endpoints, else those that serve while they terminate; topology hints narrow the
cluster-wide list when every ready endpoint carries them; the local list takes no notice of hints. Slices are united;
a condition that is null means ready, serving and not terminating; a port without a number or a name is no port.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeGuard

from nodeport.forwarding.table import Endpoint, Family, IPAddress, NodeFacts, Protocol

PortKey = tuple[str, Protocol]
"""A Service port as its slices name it."""
Place = tuple[int, int]
"""An address (as an integer) and a port: cheap to hash and to sort."""


@dataclass(slots=True)
class Candidate:
    """An endpoint with what decides about its use."""

    endpoint: Endpoint
    ready: bool
    serving: bool
    terminating: bool
    zones: Sequence[str]
    nodes: Sequence[str]

    @property
    def is_last_resort(self) -> bool:
        return self.serving and self.terminating


@dataclass(frozen=True, slots=True)
class EndpointChoice:
    """``cluster`` for policy Cluster, ``local`` for policy Local; ``serving``: (address, port) of all that serve."""

    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    serving: tuple[tuple[IPAddress, int], ...] = ()


def parse_address(raw: str, family: Family) -> IPAddress | None:
    """The address of ``family`` that ``raw`` spells, ``None`` when it spells none. IPv4 is the hot path."""
    if family is Family.IPV6:
        return _ipv6(raw)
    try:
        packed = bytes(map(int, raw.split(".")))
    except ValueError:
        return None
    return IPv4Address(int.from_bytes(packed, "big")) if len(packed) == 4 else None


def _ipv6(raw: str) -> IPv6Address | None:
    if ":" not in raw:
        return None
    try:
        address = IPv6Address(raw)
    except ValueError:
        return None
    return address if address.scope_id is None else None


def candidates_by_port(
    slices: Iterable[Mapping[str, Any]], node: NodeFacts
) -> dict[PortKey, dict[Place, Candidate]]:
    """The endpoints of the node's family in all slices of one Service, by port, each address and port once."""
    ports: dict[PortKey, dict[Place, Candidate]] = {}
    family = str(node.family)
    for item in slices:
        if item.get("addressType") != family:
            continue
        numbered = list(_numbered_ports(item.get("ports") or ()))
        if not numbered:
            continue
        places = [(ports.setdefault(key, {}), number) for key, number in numbered]
        for raw in item.get("endpoints") or ():
            _add_endpoint(places, raw, node)
    return ports


def choose(candidates: Mapping[Place, Candidate], node: NodeFacts) -> EndpointChoice:
    """The endpoints to use out of ``candidates``, in the order of their addresses."""
    ordered = [candidates[place] for place in sorted(candidates)]
    ready = [candidate for candidate in ordered if candidate.ready]
    usable = _by_topology(ready, node) or [candidate for candidate in ordered if candidate.is_last_resort]
    here = [candidate for candidate in ordered if candidate.endpoint.is_local]
    local = [candidate for candidate in here if candidate.ready]
    if not local:
        local = [candidate for candidate in here if candidate.is_last_resort]
    return EndpointChoice(
        tuple([candidate.endpoint for candidate in usable]),
        tuple([candidate.endpoint for candidate in local]),
        tuple(
            [(item.endpoint.address, item.endpoint.port) for item in ordered if item.serving or item.ready]
        ),
    )


def _numbered_ports(ports: Iterable[Mapping[str, Any]]) -> Iterable[tuple[PortKey, int]]:
    for port in ports:
        number, name = port.get("port"), port.get("name")
        if not is_port(number) or name is None:
            continue
        protocol = port.get("protocol") or "TCP"
        if protocol in Protocol.__members__:
            yield (name, Protocol[protocol]), number


def is_port(number: object) -> TypeGuard[int]:
    """Whether a frontend or an endpoint can have it; 0 stands for none."""
    return isinstance(number, int) and 0 < number < 65536


def _add_endpoint(
    places: Iterable[tuple[dict[Place, Candidate], int]], raw: Mapping[str, Any], node: NodeFacts
) -> None:
    addresses = raw.get("addresses")
    address = (
        parse_address(addresses[0], node.family) if addresses else None
    )  # the others are fungible, and deprecated
    if address is None:
        return
    conditions = raw.get("conditions") or {}
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving") is not False
    terminating = conditions.get("terminating") is True
    zones, nodes = _hints(raw["hints"]) if raw.get("hints") else ((), ())
    is_local = raw.get("nodeName") == node.name
    for known, number in places:
        place = (int(address), number)
        rival = known.get(place)
        if rival is None or (rival.terminating and not terminating):
            endpoint = Endpoint(address, number, is_local)
            known[place] = Candidate(endpoint, ready, serving, terminating, zones, nodes)


def _hints(hints: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[str]]:
    return (
        tuple(hint.get("name") or "" for hint in hints.get("forZones") or ()),
        tuple(hint.get("name") or "" for hint in hints.get("forNodes") or ()),
    )


def _by_topology(ready: list[Candidate], node: NodeFacts) -> list[Candidate]:
    """The ready endpoints that hints leave for this node: all of them unless every one carries hints."""
    if not ready:
        return ready
    if ready[0].nodes and all(candidate.nodes for candidate in ready):
        here = [candidate for candidate in ready if node.name in candidate.nodes]
        if here:
            return here
    if node.zone and ready[0].zones and all(candidate.zones for candidate in ready):
        near = [candidate for candidate in ready if node.zone in candidate.zones]
        if near:
            return near
    return ready
