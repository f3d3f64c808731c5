"""``/healthz`` and ``/livez`` of the proxy, as kube-proxy answers them on port 10256.

Healthy means that no change has waited too long for the kernel. ``/healthz`` answers 503 also for a node to which load
balancers should send nothing any more: it is being deleted, or tainted by the cluster autoscaler for that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.forwarding.table import Family
from nodeport.proxy.http import NOT_FOUND, Handler, Request, Response

LEAVING_TAINT: Final = "ToBeDeletedByClusterAutoscaler"
FAMILY_NAMES: Final = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}
_JSON: Final = "application/json"
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FamilyHealth:
    """``last_updated``: when the kernel last had everything we knew."""

    healthy: bool
    last_updated: datetime


@dataclass(frozen=True, slots=True)
class Health:
    families: Mapping[Family, FamilyHealth]
    node_eligible: bool
    now: datetime

    @property
    def healthy(self) -> bool:
        return all(family.healthy for family in self.families.values())


def waiting(now: datetime) -> Health:
    """Of a proxy that cannot begin yet: alive, and nothing for load balancers to send to."""
    return Health({}, node_eligible=False, now=now)


def is_eligible(node: JsonObject | None) -> bool:
    """Whether load balancers should send traffic to this node."""
    if node is None or is_being_deleted(node):
        return False
    taints = (node.get("spec") or {}).get("taints") or ()
    return all(taint.get("key") != LEAVING_TAINT for taint in taints)


def health_handler(read: Callable[[], Health], counted: Callable[[str, int], None]) -> Handler:
    """``counted`` is told of every answer: ``healthz`` or ``livez``, and its status."""

    def answer(request: Request) -> Response:
        name = request.path.removeprefix("/")
        if name not in ("healthz", "livez"):
            return NOT_FOUND
        response = respond(read(), with_node=name == "healthz")
        counted(name, response.status.value)
        return response

    return answer


def respond(health: Health, *, with_node: bool) -> Response:
    """The time of the last update is the present while all is well: kube-proxy's heritage from when it always wrote."""
    good = health.healthy and (health.node_eligible or not with_node)
    updated = max((family.last_updated for family in health.families.values()), default=_NEVER)
    body: dict[str, Any] = {
        "lastUpdated": _go_time(health.now if good else updated),
        "currentTime": _go_time(health.now),
    }
    if with_node:
        body["nodeEligible"] = health.node_eligible
    body["healthy"] = health.healthy
    body["status"] = {
        FAMILY_NAMES[family]: {"lastUpdated": _go_time(found.last_updated), "healthy": found.healthy}
        for family, found in sorted(health.families.items())
    }
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return Response(status, json.dumps(body, separators=(",", ":")).encode(), _JSON)


def _go_time(moment: datetime) -> str:
    """RFC 3339 with as many decimals as are not zero, as Go marshals a time."""
    whole = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0")
    return f"{whole.rstrip('0').rstrip('.')}Z"
