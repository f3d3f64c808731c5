"""What must be done so that each node port's guard has the Service that names the port (pure).

Rules and texts: pkg/registry/core/service/portallocator/controller of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import SERVICES
from nodeport.apiserver.allocators.claims import ports_of
from nodeport.apiserver.allocators.findings import Finding

RUNS_BEFORE_CLEANUP = 3
"""A port that no Service names is freed when this many runs have found it so: its Service may be on its way."""


@dataclass(slots=True)
class PortPlan:
    """``create``: guards to write, by port, with their owners. ``free``: ports whose guards go. ``leaks``: in how many
    runs each port without an owner was found so far."""

    create: dict[int, NamespacedName] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    leaks: dict[int, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def plan_ports(
    services: Iterable[JsonObject], guarded: set[int], ports: range, leaks: Mapping[int, int]
) -> PortPlan:
    """``guarded``: the ports that have a guard; ``ports``: the range; ``leaks``: those of the run before."""
    plan = PortPlan()
    owners: dict[int, NamespacedName] = {}
    for service in services:
        for port in sorted(ports_of(service)):
            _check(service, port, owners, guarded, ports, plan)
    for port in sorted(guarded - owners.keys()):
        runs = leaks.get(port, 0) + 1
        if runs >= RUNS_BEFORE_CLEANUP:
            plan.free.append(port)
        else:
            plan.leaks[port] = runs
    return plan


def _check(
    service: JsonObject,
    port: int,
    owners: dict[int, NamespacedName],
    guarded: set[int],
    ports: range,
    plan: PortPlan,
) -> None:
    taken = owners.setdefault(port, NamespacedName.of(service)) != NamespacedName.of(service)
    if port not in ports:
        shown = f"{ports.start}-{ports.stop - 1}"
        text = f"Port {port} is not within the port range {shown}; please recreate service"
        plan.findings.append(_finding(service, "PortOutOfRange", text, "outOfRange"))
    elif taken:
        text = f"Port {port} was assigned to multiple services; please recreate service"
        plan.findings.append(_finding(service, "PortAlreadyAllocated", text, "duplicate"))
    elif port not in guarded:
        plan.create[port] = NamespacedName.of(service)
        text = f"Port {port} is not allocated; repairing"
        plan.findings.append(_finding(service, "PortNotAllocated", text, "repair"))


def _finding(service: JsonObject, reason: str, message: str, kind: str) -> Finding:
    return Finding(SERVICES, service, reason, "PortAllocation", message, kind)
