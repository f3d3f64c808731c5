"""What a ServiceCIDR needs: its finalizer, its condition, or to be let go (pure).

Rules and texts: pkg/controller/servicecidrs of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.controllers.conditions import find
from nodeport.kit.clock import parse_rfc3339, rfc3339

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
READY = "Ready"
GRACE = timedelta(seconds=10)
"""A ServiceCIDR lives so long after its deletion was asked for: until every allocator has heard of it."""
MANAGED_BY, MANAGER = "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io"
BLOCKED = (
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
)


@dataclass(frozen=True, slots=True)
class CidrPlan:
    """None: nothing to write. ``finalizers`` and ``conditions`` are the new lists; ``again``: when to look next."""

    finalizers: list[str] | None = None
    conditions: list[JsonObject] | None = None
    again: timedelta | None = None


def plan_cidr(
    cidr: JsonObject, everyone: Sequence[JsonObject], addresses: Iterable[JsonObject], now: datetime
) -> CidrPlan:
    """``everyone``: all ServiceCIDRs, ``cidr`` among them; ``addresses``: all IPAddresses."""
    finalizers = list(cidr["metadata"].get("finalizers") or ())
    if not is_being_deleted(cidr):
        added = None if FINALIZER in finalizers else [*finalizers, FINALIZER]
        ready = _condition("True", "", "Kubernetes Service CIDR is ready")
        return CidrPlan(finalizers=added, conditions=_with(cidr, ready, now))
    if not may_go(cidr, everyone, addresses):
        return CidrPlan(conditions=_with(cidr, _condition("False", "Terminating", BLOCKED), now))
    left = GRACE - (now - parse_rfc3339(cidr["metadata"]["deletionTimestamp"]))
    if left > timedelta():
        return CidrPlan(again=left)
    if FINALIZER not in finalizers:
        return CidrPlan()
    return CidrPlan(finalizers=[each for each in finalizers if each != FINALIZER])


def may_go(cidr: JsonObject, everyone: Sequence[JsonObject], addresses: Iterable[JsonObject]) -> bool:
    """Whether no address would be left without a ServiceCIDR that contains it."""
    name = cidr["metadata"]["name"]
    others = [each for each in everyone if each["metadata"]["name"] != name]
    if all(any(_covers(other, network) for other in others) for network in networks_of(cidr)):
        return True
    return not any(
        contains(cidr, address) and not any(contains(other, address) for other in others)
        for address in map(managed_address, addresses)
        if address is not None
    )


def networks_of(cidr: JsonObject) -> list[IPv4Network | IPv6Network]:
    return [ip_network(text) for text in (cidr.get("spec") or {}).get("cidrs") or []]


def _covers(cidr: JsonObject, inner: IPv4Network | IPv6Network) -> bool:
    return any(
        outer.version == inner.version and outer.prefixlen <= inner.prefixlen and outer.overlaps(inner)
        for outer in networks_of(cidr)
    )


def managed_address(obj: JsonObject) -> IPv4Address | IPv6Address | None:
    """The address of an IPAddress that a Service has; None for those that others keep."""
    labels = obj["metadata"].get("labels") or {}
    return ip_address(obj["metadata"]["name"]) if labels.get(MANAGED_BY) == MANAGER else None


def contains(cidr: JsonObject, address: IPv4Address | IPv6Address) -> bool:
    """Network and broadcast address belong to no ServiceCIDR: they are never given out."""
    for network in networks_of(cidr):
        if address in network and address != network.network_address:
            return address.version == 6 or address != network.broadcast_address
    return False


def _condition(status: str, reason: str, message: str) -> JsonObject:
    return {"type": READY, "status": status, "reason": reason, "message": message}


def _with(cidr: JsonObject, wanted: JsonObject, now: datetime) -> list[JsonObject] | None:
    """The conditions with ``wanted`` among them; None when it is there."""
    before: list[JsonObject] = (cidr.get("status") or {}).get("conditions") or []
    old = find(before, READY)
    if old is not None and all((old.get(field) or "") == value for field, value in wanted.items()):
        return None
    same = old is not None and old.get("status") == wanted["status"]
    moment = old.get("lastTransitionTime") if same and old is not None else None
    others = [each for each in before if each.get("type") != READY]
    return [*others, {**wanted, "lastTransitionTime": moment or rfc3339(now)}]
