"""Which endpoints a Service port may use on this node.

Rules (those of kube-proxy): ready endpoints, else those that serve while they terminate; topology hints narrow the
cluster-wide list when every ready endpoint carries them; the local list takes no notice of hints. Slices are united;
a condition that is null means ready, serving and not terminating; a port without a number or a name is no port.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from nodeport.forwarding.table import Endpoint, NodeFacts, Protocol

PortKey = tuple[str, Protocol]
"""A Service port as its slices name it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint with what decides about its use."""

    endpoint: Endpoint
    ready: bool
    serving: bool
    terminating: bool
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def is_last_resort(self) -> bool:
        return self.serving and self.terminating


@dataclass(frozen=True, slots=True)
class EndpointChoice:
    """``cluster`` for policy Cluster, ``local`` for policy Local; ``serving``: (address, port) of all that serve."""

    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    serving: frozenset[tuple[IPv4Address, int]] = frozenset()


def candidates_by_port(
    slices: Iterable[Mapping[str, Any]], node: NodeFacts
) -> dict[PortKey, dict[tuple[IPv4Address, int], Candidate]]:
    """The IPv4 endpoints of all slices of one Service, by port, each (address, port) once."""
    ports: dict[PortKey, dict[tuple[IPv4Address, int], Candidate]] = {}
    for item in slices:
        if item.get("addressType") != "IPv4":
            continue
        numbered = list(_numbered_ports(item.get("ports") or ()))
        if not numbered:
            continue
        for raw in item.get("endpoints") or ():
            _add_endpoint(ports, raw, numbered, node)
    return ports


def choose(candidates: Iterable[Candidate], node: NodeFacts) -> EndpointChoice:
    """The endpoints to use out of ``candidates``, in the order of their addresses."""
    ordered = sorted(candidates, key=_by_address)
    ready = [candidate for candidate in ordered if candidate.ready]
    usable = [candidate for candidate in _by_topology(ready, node) if candidate.ready]
    if not usable:
        usable = [candidate for candidate in ordered if candidate.is_last_resort]
    here = [candidate for candidate in ordered if candidate.endpoint.is_local]
    local = [candidate for candidate in here if candidate.ready]
    if not local:
        local = [candidate for candidate in here if candidate.is_last_resort]
    return EndpointChoice(
        tuple([candidate.endpoint for candidate in usable]),
        tuple([candidate.endpoint for candidate in local]),
        frozenset(
            [(item.endpoint.address, item.endpoint.port) for item in ordered if item.serving or item.ready]
        ),
    )


def _numbered_ports(ports: Iterable[Mapping[str, Any]]) -> Iterable[tuple[PortKey, int]]:
    for port in ports:
        number, name = port.get("port"), port.get("name")
        if not number or name is None:
            continue
        protocol = port.get("protocol") or "TCP"
        if protocol in Protocol.__members__:
            yield (name, Protocol[protocol]), number


def _add_endpoint(
    ports: dict[PortKey, dict[tuple[IPv4Address, int], Candidate]],
    raw: Mapping[str, Any],
    numbered: Iterable[tuple[PortKey, int]],
    node: NodeFacts,
) -> None:
    try:
        address = IPv4Address(raw["addresses"][0])  # the others are fungible, and deprecated
    except (KeyError, IndexError, AddressValueError):
        return
    conditions = raw.get("conditions") or {}
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    terminating = conditions.get("terminating") is True
    hints = raw.get("hints") or {}
    zones = tuple(hint["name"] for hint in hints.get("forZones") or ())
    nodes = tuple(hint["name"] for hint in hints.get("forNodes") or ())
    is_local = bool(node.name) and raw.get("nodeName") == node.name
    for key, number in numbered:
        candidate = Candidate(
            Endpoint(address, number, is_local), ready, serving is not False, terminating, zones, nodes
        )
        known = ports.setdefault(key, {})
        rival = known.get((address, number))
        if rival is None or (rival.terminating and not terminating):
            known[address, number] = candidate


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


def _by_address(candidate: Candidate) -> tuple[int, int]:
    return (int(candidate.endpoint.address), candidate.endpoint.port)
