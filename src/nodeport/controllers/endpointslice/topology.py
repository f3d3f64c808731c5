"""Topology mode Auto: each zone is given endpoints in proportion to the CPU of its ready nodes: pure.

Rules: topology aware hints as the EndpointSlice controller of Kubernetes 1.36 computes them. An endpoint is for
its own zone first; zones with more than their share give some to those with less. A zone may be overloaded by a
fifth at most; where that cannot be had, there are no hints at all and an event says why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from nodeport.api.meta import JsonObject, NamespacedName, labels
from nodeport.api.quantity import is_quantity, parse_quantity

ZONE_LABEL = "topology.kubernetes.io/zone"

ENABLED, DISABLED = "TopologyAwareHintsEnabled", "TopologyAwareHintsDisabled"
INSUFFICIENT_NODES = (
    "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
)
NO_ZONE = "One or more endpoints do not have a zone specified"
_TOO_FEW = "Insufficient number of endpoints"
_OVERLOAD = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
_HAS_BEEN = "Topology Aware Hints has been"

_LEAST_SHARE = 1 / (1 + 0.2)
_FEWEST_ZONES = 2
_HALF = 0.5
_EXCLUDED = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")

Shares = Mapping[str, float]
"""Per zone its part of the CPU of all ready nodes."""


class NoHints(Exception):
    """There cannot be hints; the text says why."""


class HintEvent(NamedTuple):
    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ZoneHints:
    """How many endpoints each zone got; ``complaint`` is why there are none."""

    zones: Mapping[str, int]
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Allocation:
    """How many endpoints a zone must have, may have and should have."""

    minimum: int
    maximum: int
    desired: float


def zone_of(node: JsonObject) -> str:
    """The node's zone; empty when it has none."""
    return labels(node).get(ZONE_LABEL, "")


def facts_of(node: JsonObject | None) -> tuple[str | None, bool, object]:
    """What endpoints go by: the node's zone, None for no node; whether it is ready; its CPU."""
    if node is None:
        return None, False, None
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    return zone_of(node), is_node_ready(node), allocatable.get("cpu")


def is_node_ready(node: JsonObject) -> bool:
    for condition in (node.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            return bool(condition.get("status") == "True")
    return False


def cpu_shares(nodes: Iterable[JsonObject]) -> Shares | None:
    """None when a ready node lacks a zone or CPU, or when there are fewer than two zones."""
    by_zone: dict[str, Fraction] = {}
    for node in nodes:
        if not is_node_ready(node) or any(label in labels(node) for label in _EXCLUDED):
            continue
        zone, cpu = zone_of(node), _cpu(node)
        if not zone or not cpu:
            return None
        by_zone[zone] = by_zone.get(zone, Fraction()) + cpu
    if len(by_zone) < _FEWEST_ZONES:
        return None
    millis = {zone: math.ceil(cpu * 1000) for zone, cpu in by_zone.items()}
    total = math.ceil(sum(by_zone.values()) * 1000)
    return {zone: amount / total for zone, amount in sorted(millis.items())}


def _cpu(node: JsonObject) -> Fraction:
    text = str(((node.get("status") or {}).get("allocatable") or {}).get("cpu") or "")
    return parse_quantity(text) if is_quantity(text) else Fraction()


def allocate(shares: Shares | None, endpoints: int) -> dict[str, Allocation]:
    """Per zone its allocation of that many ready endpoints. Raises ``NoHints``."""
    if shares is None:
        raise NoHints(INSUFFICIENT_NODES)
    counts = f"({endpoints} endpoints, {len(shares)} zones)"
    if len(shares) > endpoints:
        raise NoHints(f"{_TOO_FEW} {counts}")
    minimums = {zone: math.ceil(share * endpoints * _LEAST_SHARE) for zone, share in shares.items()}
    spare = endpoints - sum(minimums.values())
    if spare < 0:
        raise NoHints(f"{_OVERLOAD} {counts}")
    return {
        zone: Allocation(minimum, minimum + spare, max(shares[zone] * endpoints, float(minimum)))
        for zone, minimum in minimums.items()
    }


def fitting_zones(
    hinted: Iterable[list[str]], counts: Mapping[str, int], allocations: Mapping[str, Allocation]
) -> Counter[str] | None:
    """What an untouched slice gives to each zone, beside the ``counts`` of others; ``hinted`` has, for each of
    its ready endpoints, the zones that it is hinted for. None when the slice must be hinted anew.
    """
    found: Counter[str] = Counter()
    for zones in hinted:
        if not zones or any(zone not in allocations for zone in zones):
            return None
        found.update(zones)
    if any(counts.get(zone, 0) + number > allocations[zone].maximum for zone, number in found.items()):
        return None
    return found


def redistribution(
    allocations: Mapping[str, Allocation], counts: Mapping[str, int]
) -> tuple[Counter[str], Counter[str]]:
    """How many endpoints each zone gives away, and how many each receives; never less than half of one."""
    surplus = {zone: counts.get(zone, 0) - wanted.desired for zone, wanted in allocations.items()}
    lack = {zone: -amount for zone, amount in surplus.items()}
    giving: Counter[str] = Counter()
    receiving: Counter[str] = Counter()
    while True:
        giver, gives = _most(surplus)
        receiver, receives = _most(lack)
        if min(gives, receives) < _HALF or max(gives, receives) < 1:
            return giving, receiving
        giving[giver] += 1
        surplus[giver] -= 1
        receiving[receiver] += 1
        lack[receiver] -= 1


def _most(zones: Mapping[str, float]) -> tuple[str, float]:
    return max(((zone, amount) for zone, amount in zones.items() if amount > 0), key=lambda z: z[1],
               default=("", 0.0))  # fmt: skip


def is_overloaded(zones: Mapping[str, int], shares: Shares | None) -> bool:
    """Whether some zone has fewer endpoints than it must have by now."""
    if not zones:
        return False
    if shares is None:
        return True
    total = float(sum(zones.values()))
    return any(
        zones.get(zone, -1) < math.ceil(total * share * _LEAST_SHARE) for zone, share in shares.items()
    )


class TopologyMemory:
    """Which Services have zone hints, so that a change is told once and nodes that come or go are noticed."""

    def __init__(self) -> None:
        self._zones: dict[NamespacedName, dict[str, Mapping[str, int]]] = {}
        self._hinted: set[NamespacedName] = set()
        self._in_vain: set[NamespacedName] = set()

    def __bool__(self) -> bool:
        return bool(self._zones or self._in_vain)

    def note(self, key: NamespacedName, outcomes: Mapping[str, ZoneHints | None]) -> Iterator[HintEvent]:
        """``outcomes``: ``SlicePlan.zone_hints``; what is to be told of them."""
        for gone in self._zones.get(key, {}).keys() - outcomes.keys():
            self._forget_family(key, gone)
        self._in_vain.discard(key)
        for family, outcome in outcomes.items():
            event = self._note_family(key, family, outcome)
            if event is not None:
                yield event._replace(message=f"{event.message}, addressType: {family}")

    def _note_family(self, key: NamespacedName, family: str, outcome: ZoneHints | None) -> HintEvent | None:
        was_hinted = key in self._hinted
        if outcome is not None and not outcome.complaint:
            self._zones.setdefault(key, {})[family] = outcome.zones
            self._hinted.add(key)
            return None if was_hinted else HintEvent("Normal", ENABLED, f"{_HAS_BEEN} enabled")
        self._forget_family(key, family)
        if outcome is not None:
            self._in_vain.add(key)
            return HintEvent("Warning", DISABLED, outcome.complaint)
        return HintEvent("Warning", DISABLED, f"{_HAS_BEEN} disabled") if was_hinted else None

    def unsuited(self, shares: Shares | None) -> list[NamespacedName]:
        """The Services whose hints no longer fit the nodes, and those that asked in vain when nodes were others."""
        overloaded = (
            key
            for key, families in self._zones.items()
            if any(is_overloaded(zones, shares) for zones in families.values())
        )
        return [*overloaded, *(() if shares is None else self._in_vain)]

    def forget(self, key: NamespacedName) -> None:
        self._zones.pop(key, None)
        self._hinted.discard(key)
        self._in_vain.discard(key)

    def _forget_family(self, key: NamespacedName, family: str) -> None:
        families = self._zones.get(key, {})
        families.pop(family, None)
        if not families:
            self._zones.pop(key, None)
        self._hinted.discard(key)
