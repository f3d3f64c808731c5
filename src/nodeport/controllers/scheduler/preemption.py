"""Whom a pod of a higher priority may drive away, and from which node: pure, given the picture of the cluster.

Rules: kube-scheduler's DefaultPreemption. From a node as few go as will do, the least important first, and those
whose disruption budgets forbid it only when nothing else helps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.selectors import label_selector_of
from nodeport.controllers.scheduler.filters import Filters
from nodeport.controllers.scheduler.nodes import ClusterState, NodeState
from nodeport.controllers.scheduler.podinfo import PodInfo
from nodeport.kit.clock import parse_rfc3339

_NO_HELP = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"

_Placed = tuple[NamespacedName, PodInfo]


@dataclass(frozen=True, slots=True)
class Preemption:
    """``node`` is empty when nobody's going would help; ``message`` then says why."""

    node: str
    victims: tuple[_Placed, ...] = ()
    violations: int = 0
    message: str = ""


def preempt(
    wanted: PodInfo, hopeful: Iterable[str], cluster: ClusterState, budgets: Sequence[JsonObject]
) -> Preemption:
    """``hopeful``: the nodes that refuse the pod for what other pods there are or take."""
    reasons: Counter[str] = Counter()
    found: list[Preemption] = []
    names = set(hopeful)
    for name in names:
        state = cluster.nodes[name]
        weaker = [(key, other) for key, other in state.pods.items() if other.priority < wanted.priority]
        if not weaker:
            reasons[_NO_VICTIMS] += 1
            continue
        made = _on_node(wanted, state, weaker, cluster, budgets)
        if isinstance(made, Preemption):
            found.append(made)
        else:
            reasons.update(made)
    if found:
        return min(found, key=_harm)
    count = len(cluster.nodes)
    if count > len(names):
        reasons[_NO_HELP] += count - len(names)
    return Preemption("", message=f"preemption: {explain(count, reasons)}")


def explain(count: int, reasons: Counter[str]) -> str:
    """How many nodes refuse for which reason, in the scheduler's words."""
    if not count:
        return "no nodes available to schedule pods"
    told = sorted(f"{number} {reason}" for reason, number in reasons.items())
    return f"0/{count} nodes are available: {', '.join(told)}."


def _on_node(
    wanted: PodInfo,
    state: NodeState,
    weaker: list[_Placed],
    cluster: ClusterState,
    budgets: Sequence[JsonObject],
) -> Preemption | tuple[str, ...]:
    """Take all away that may go, and let one after the other stay with whom the pod still fits."""
    ordered = sorted(weaker, key=lambda each: _importance(each[1]))
    guarded, free = _by_budgets(ordered, budgets)
    gone = dict(ordered)
    for key in gone:
        cluster.remove(key)
    try:
        if left := Filters.of(wanted, cluster).why_not(state).reasons:
            return left
        for key, other in [*guarded, *free]:
            cluster.put(key, other, state.name)
            if Filters.of(wanted, cluster).why_not(state).reasons:
                cluster.remove(key)
            else:
                del gone[key]
        violations = sum(key in gone for key, _ in guarded)
        return Preemption(state.name, tuple(gone.items()), violations)
    finally:
        for key, other in ordered:
            cluster.remove(key)
            cluster.put(key, other, state.name)


def _importance(info: PodInfo) -> tuple[int, float]:
    """Higher priorities first, then those that have run for longer."""
    return -info.priority, _started(info)


def _started(info: PodInfo) -> float:
    text = (info.pod.get("status") or {}).get("startTime")
    return parse_rfc3339(text).timestamp() if text else float("inf")


def _by_budgets(ordered: list[_Placed], budgets: Sequence[JsonObject]) -> tuple[list[_Placed], list[_Placed]]:
    """Those whose going would break a budget, and the others."""
    left = [(budget.get("status") or {}).get("disruptionsAllowed") or 0 for budget in budgets]
    guarded: list[_Placed] = []
    free: list[_Placed] = []
    for key, info in ordered:
        mine = [number for number, budget in enumerate(budgets) if _covers(budget, key, info)]
        for number in mine:
            left[number] -= 1
        (guarded if any(left[number] < 0 for number in mine) else free).append((key, info))
    return guarded, free


def _covers(budget: JsonObject, key: NamespacedName, info: PodInfo) -> bool:
    """Not a pod without labels, and not one whose going the budget has already paid for."""
    if budget["metadata"]["namespace"] != key.namespace or not info.labels:
        return False
    selector = label_selector_of((budget.get("spec") or {}).get("selector"))
    paid = (budget.get("status") or {}).get("disruptedPods") or {}
    return not selector.empty and selector.matches(info.labels) and key.name not in paid


def _harm(made: Preemption) -> tuple[int, int, int, int, float, str]:
    """What is compared first: broken budgets, the highest priority that goes, the sum of the priorities, how many
    go; then the node whose most important victims started last.
    """
    priorities = [info.priority for _, info in made.victims]
    highest = max(priorities)
    started = min(_started(info) for _, info in made.victims if info.priority == highest)
    total = sum(priority + 2**31 for priority in priorities)
    return made.violations, highest, total, len(priorities), -started, made.node
