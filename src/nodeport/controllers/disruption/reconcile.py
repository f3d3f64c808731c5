"""What a PodDisruptionBudget's status must say of the pods it covers. Pure.

Rule: Kubernetes' disruption controller. ``minAvailable`` as a number counts against the pods that are there; a
percentage, and ``maxUnavailable`` in either form, against what the pods' controllers want, so that a controller that
lags costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nodeport.api.meta import JsonObject, controller_of, is_being_deleted
from nodeport.controllers.conditions import replaced
from nodeport.controllers.selection import is_finished, is_ready
from nodeport.kit.clock import parse_rfc3339, rfc3339

DELETION_TIMEOUT = timedelta(minutes=2)
"""How long an eviction that was allowed counts although its pod is still there."""
CONDITION = "DisruptionAllowed"

Scale = Callable[[JsonObject], "tuple[str, int] | None"]
"""(uid, wanted replicas) of a pod's topmost controller; None: nobody that has a scale controls it."""


class NoScale(Exception):
    """What the budget asks for cannot be counted; the text is for its condition."""


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """``status``: whole. ``again``: when an allowed eviction will have expired."""

    status: JsonObject
    again: timedelta | None = None


def plan_status(budget: JsonObject, pods: Sequence[JsonObject], scale: Scale, now: datetime) -> BudgetPlan:
    """``pods``: those that the budget selects."""
    living = [pod for pod in pods if not is_finished(pod)]
    disrupted, again = still_disrupted(budget, pods, now)
    try:
        expected, desired = wanted(budget.get("spec") or {}, living, scale)
    except NoScale as error:
        return BudgetPlan(_failed(budget, str(error), now))
    healthy = sum(
        is_ready(pod) and not is_being_deleted(pod) and pod["metadata"]["name"] not in disrupted
        for pod in living
    )
    allowed = max(healthy - desired, 0) if expected > 0 else 0
    status: JsonObject = {
        "observedGeneration": budget["metadata"].get("generation") or 0,
        "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
        "conditions": _conditions(budget, "SufficientPods" if allowed else "InsufficientPods", "", now),
    }  # fmt: skip
    if disrupted:
        status["disruptedPods"] = disrupted
    return BudgetPlan(status, again)


def wanted(spec: JsonObject, pods: Sequence[JsonObject], scale: Scale) -> tuple[int, int]:
    """(expected pods, those that must stay healthy). A budget that asks for nothing counts none, and allows nothing."""
    if (value := spec.get("maxUnavailable")) is not None:
        expected = expected_scale(pods, scale)
        return expected, max(expected - scaled(value, expected), 0)
    value = spec.get("minAvailable")
    if value is None:
        return 0, 0
    if isinstance(value, int):
        return len(pods), value
    expected = expected_scale(pods, scale)
    return expected, scaled(value, expected)


def scaled(value: int | str, total: int) -> int:
    """A number, or a percentage of ``total`` rounded up."""
    if isinstance(value, int):
        return value
    return math.ceil(int(value.removesuffix("%")) * total / 100)


def expected_scale(pods: Iterable[JsonObject], scale: Scale) -> int:
    """What all controllers of the pods want together."""
    found: dict[str, int] = {}
    for pod in pods:
        owner = scale(pod)
        if owner is not None:
            found[owner[0]] = owner[1]
        elif (reference := controller_of(pod)) is not None:
            raise NoScale(f"{reference['kind']} {reference['name']} has no scale that could be asked for")
    return sum(found.values())


def still_disrupted(
    budget: JsonObject, pods: Iterable[JsonObject], now: datetime
) -> tuple[dict[str, str], timedelta | None]:
    """Evictions that were allowed and not yet seen: name to time; and how long until the first of them expires."""
    there = {pod["metadata"]["name"]: pod for pod in pods}
    kept, soonest = {}, None
    for name, text in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
        pod = there.get(name)
        if pod is None or is_being_deleted(pod):
            continue
        left = parse_rfc3339(text) + DELETION_TIMEOUT - now
        if left > timedelta():
            kept[name] = text
            soonest = left if soonest is None else min(left, soonest)
    return kept, soonest


def _failed(budget: JsonObject, why: str, now: datetime) -> JsonObject:
    """Nothing may be evicted while nobody can say what is left; the generation stays unobserved."""
    return {
        **(budget.get("status") or {}),
        "disruptionsAllowed": 0,
        "conditions": _conditions(budget, "SyncFailed", why, now),
    }


def _conditions(budget: JsonObject, reason: str, message: str, now: datetime) -> list[JsonObject]:
    return replaced((budget.get("status") or {}).get("conditions"), {
        "type": CONDITION, "status": "True" if reason == "SufficientPods" else "False", "reason": reason,
        "message": message, "lastTransitionTime": rfc3339(now),
        "observedGeneration": budget["metadata"].get("generation") or 0,
    })  # fmt: skip
