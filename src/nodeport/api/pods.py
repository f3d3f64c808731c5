"""Rules on whole pods that more than one room applies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodeport.api.quantity import parse_quantity

_COMPUTE = ("cpu", "memory")


def qos_class(pod: Mapping[str, Any]) -> str:
    """``Guaranteed``, ``Burstable`` or ``BestEffort``, by the CPU and memory of all containers.

    Rule: guaranteed when every container has limits for both, equal to its requests; best effort when none asks.
    """
    spec = pod.get("spec") or {}
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    asks = False
    guaranteed = True
    for container in containers:
        resources = container.get("resources") or {}
        limits, requests = _positive(resources.get("limits")), _positive(resources.get("requests"))
        asks = asks or bool(limits or requests)
        guaranteed = guaranteed and len(limits) == len(_COMPUTE) and {**limits, **requests} == limits
    if not asks:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _positive(amounts: Mapping[str, Any] | None) -> dict[str, Any]:
    found = {name: parse_quantity(amount) for name, amount in (amounts or {}).items() if name in _COMPUTE}
    return {name: amount for name, amount in found.items() if amount > 0}
