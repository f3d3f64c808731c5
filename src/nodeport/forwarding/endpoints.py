"""Which endpoints a Service port may use on this node.

Rules (those of kube-proxy): ready endpoints, else those that serve while they terminate; topology hints narrow the
cluster-wide list when every ready endpoint carries them; the local list takes no notice of hints. Slices are united;
a condition that is null means ready, serving and not terminating; a port without a number or a name is no port.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, TypeGuard

from msgspec import Struct

from nodeport.forwarding.table import Endpoint, Family, IPAddress, NodeFacts, Protocol

PortKey = tuple[str, Protocol]
"""A Service port as its slices name it."""
Place = tuple[bytes, int]
"""An address (packed) and a port: cheap to hash and to sort."""


class Standing(Struct, frozen=True, gc=False):
    """What a slice says of an endpoint beside where it is; most say nothing that is worth a value of its own."""

    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


class Candidate(Struct, frozen=True, gc=False):
    """An endpoint with what decides about its use."""

    endpoint: Endpoint
    standing: Standing


@dataclass(frozen=True, slots=True)
class EndpointChoice:
    """``cluster`` for policy Cluster, ``local`` for policy Local; ``serving``: all that serve."""

    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    serving: tuple[Endpoint, ...] = ()


_READY: Final = Standing()
"""The standing of all that are ready and carry no hints, shared so that it can be told at a glance."""
PROTOCOLS: Final = Protocol.__members__
_FAMILIES: Final = {str(family): family for family in Family}
_IPV6: Final = Family.IPV6
"""As a name of this module: to get at an enum's member costs more than to compare it."""
_ALL_WELL: Final = {"ready": True, "serving": True, "terminating": False}
"""What slices say of most endpoints."""
_OCTETS: Final = {str(octet): bytes((octet,)) for octet in range(256)}


def parse_address(raw: str, family: Family) -> IPAddress | None:
    """The address of ``family`` that ``raw`` spells, ``None`` when it spells none."""
    packed = pack_address(raw, family)
    if packed is None:
        return None
    return IPv6Address(packed) if family is _IPV6 else IPv4Address(int.from_bytes(packed, "big"))


def pack_address(raw: str, family: Family) -> bytes | None:
    """The same as packets carry it. IPv4 is the hot path: of many addresses all but the last part is the same."""
    if family is _IPV6:
        return _ipv6(raw)
    head, _, tail = raw.rpartition(".")
    try:
        packed = _octets(head) + (_OCTETS.get(tail) or bytes((int(tail),)))
    except ValueError:
        return None
    return packed if len(packed) == 4 else None


@lru_cache(maxsize=4096)
def _octets(raw: str) -> bytes:
    """Decimal numbers up to 255, leading zeros allowed. Raises ValueError."""
    return bytes(map(int, raw.split(".")))


def _ipv6(raw: str) -> bytes | None:
    if ":" not in raw:
        return None
    try:
        address = IPv6Address(raw)
    except ValueError:
        return None
    return address.packed if address.scope_id is None else None


def candidates_by_port(
    slices: Iterable[Mapping[str, Any]], node: NodeFacts
) -> dict[PortKey, dict[Place, Candidate]]:
    """The endpoints of the node's family in all slices of one Service, by port, each address and port once."""
    ports: dict[PortKey, dict[Place, Candidate]] = {}
    for item in slices:
        if _FAMILIES.get(item.get("addressType") or "") is not node.family:
            continue
        places = [(ports.setdefault(key, {}), number) for key, number in _numbered_ports(item)]
        if places:
            _add_endpoints(places, item.get("endpoints") or (), node)
    return ports


def choose(candidates: Mapping[Place, Candidate], node: NodeFacts) -> EndpointChoice:
    """The endpoints to use out of ``candidates``, in the order of their addresses."""
    ordered = [candidates[place] for place in sorted(candidates)]
    everything = tuple([candidate.endpoint for candidate in ordered])
    if not [candidate for candidate in ordered if candidate.standing is not _READY]:
        return EndpointChoice(everything, tuple([item for item in everything if item.is_local]), everything)
    here = [candidate for candidate in ordered if candidate.endpoint.is_local]
    usable = _by_topology(_ready(ordered), node) or _last_resort(ordered)
    return EndpointChoice(
        tuple([candidate.endpoint for candidate in usable]),
        tuple([candidate.endpoint for candidate in _ready(here) or _last_resort(here)]),
        tuple([item.endpoint for item in ordered if item.standing.serving or item.standing.ready]),
    )


def _ready(candidates: Iterable[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.standing.ready]


def _last_resort(candidates: Iterable[Candidate]) -> list[Candidate]:
    return [item for item in candidates if item.standing.serving and item.standing.terminating]


def _numbered_ports(item: Mapping[str, Any]) -> Iterable[tuple[PortKey, int]]:
    for port in item.get("ports") or ():
        number, name = port.get("port"), port.get("name")
        if not is_port(number) or name is None:
            continue
        protocol = PROTOCOLS.get(port.get("protocol") or "TCP")
        if protocol is not None:
            yield (name, protocol), number


def is_port(number: object) -> TypeGuard[int]:
    """Whether a frontend or an endpoint can have it; 0 stands for none."""
    return isinstance(number, int) and 0 < number < 65536


def _add_endpoints(
    places: Sequence[tuple[dict[Place, Candidate], int]],
    endpoints: Iterable[Mapping[str, Any]],
    node: NodeFacts,
) -> None:
    """To what is known of each of the slice's ports, whose number in the slice comes with it."""
    for raw in endpoints:
        addresses = raw.get("addresses")
        packed = pack_address(addresses[0], node.family) if addresses else None
        if packed is None:  # addresses beyond the first are fungible, and deprecated
            continue
        standing = _standing(raw)
        is_local = raw.get("nodeName") == node.name
        for known, number in places:
            place = (packed, number)
            rival = known.get(place)
            if rival is None or (rival.standing.terminating and not standing.terminating):
                known[place] = Candidate(Endpoint(packed, number, is_local), standing)


def _standing(raw: Mapping[str, Any]) -> Standing:
    conditions = raw.get("conditions") or {}
    hints = raw.get("hints")
    if conditions == _ALL_WELL and not hints:
        return _READY
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving") is not False
    terminating = conditions.get("terminating") is True
    if ready and serving and not terminating and not hints:
        return _READY
    zones, nodes = _hints(hints) if hints else ((), ())
    return Standing(ready, serving, terminating, zones, nodes)


def _hints(hints: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(hint.get("name") or "" for hint in hints.get("forZones") or ()),
        tuple(hint.get("name") or "" for hint in hints.get("forNodes") or ()),
    )


def _by_topology(ready: list[Candidate], node: NodeFacts) -> list[Candidate]:
    """The ready endpoints that hints leave for this node: all of them unless every one carries hints."""
    if not ready:
        return ready
    if all(candidate.standing.nodes for candidate in ready):
        here = [candidate for candidate in ready if node.name in candidate.standing.nodes]
        if here:
            return here
    if node.zone and all(candidate.standing.zones for candidate in ready):
        near = [candidate for candidate in ready if node.zone in candidate.standing.zones]
        if near:
            return near
    return ready
