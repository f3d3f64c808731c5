"""Which of the nodes that fit is best: pure, a number up to 100 a rule, weighted and added.

Rules and weights: the default score plugins of kube-scheduler 1.36, without those about volumes, devices and images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nodeport.api.nodeaffinity import term_selects
from nodeport.api.selectors import LabelSelector
from nodeport.api.taints import is_tolerated
from nodeport.controllers.scheduler.interpod import preferences
from nodeport.controllers.scheduler.nodes import ClusterState, NodeState
from nodeport.controllers.scheduler.podinfo import PREFERRED, PodInfo
from nodeport.controllers.scheduler.spread import soft_skews

MOST = 100

Scores = list[int]
"""In the order of the nodes that were asked about."""


def score(
    wanted: PodInfo, fitting: list[NodeState], cluster: ClusterState, services: LabelSelector | None
) -> Scores:
    """The more the better. ``services``: what the Services of a pod without controller select together."""
    weighted = [
        (3, tolerance(wanted, fitting)),
        (2, affinity(wanted, fitting)),
        (2, spreading(wanted, fitting, cluster, services)),
        (2, company(wanted, fitting, cluster)),
        (1, [room(wanted, state) for state in fitting]),
        (1, [balance(wanted, state) for state in fitting]),
    ]
    return [sum(weight * scores[index] for weight, scores in weighted) for index in range(len(fitting))]


def tolerance(wanted: PodInfo, fitting: list[NodeState]) -> Scores:
    """Fewer untolerated ``PreferNoSchedule`` taints are better."""

    def unwelcome(state: NodeState) -> int:
        if not state.taints:
            return 0
        soft = (taint for taint in state.taints if taint.get("effect") == "PreferNoSchedule")
        return sum(not is_tolerated(wanted.pod, taint) for taint in soft)

    return [MOST - share for share in _shares(map(unwelcome, fitting))]


def affinity(wanted: PodInfo, fitting: list[NodeState]) -> Scores:
    """The weights of the preferences of the pod's node affinity that a node answers to."""
    preferred = ((wanted.pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(PREFERRED) or ()

    if not preferred:
        return [0] * len(fitting)

    def worth(state: NodeState) -> int:
        return sum(each["weight"] for each in preferred if term_selects(each["preference"], state.node))

    return _shares(map(worth, fitting))


def _shares(values: Iterable[int]) -> Scores:
    """Of the greatest, in hundredths."""
    found = list(values)
    most = max(found, default=0)
    return [MOST * value // most for value in found] if most else found


def spreading(
    wanted: PodInfo, fitting: list[NodeState], cluster: ClusterState, services: LabelSelector | None
) -> Scores:
    crowding: Callable[[NodeState], int | None] = soft_skews(wanted, fitting, cluster, services)
    found = [crowding(state) for state in fitting]
    known = [value for value in found if value is not None]
    least, most = min(known, default=0), max(known, default=0)

    def scored(value: int | None) -> int:
        if value is None:
            return 0
        return MOST * (most + least - value) // most if most else MOST

    return [scored(value) for value in found]


def company(wanted: PodInfo, fitting: list[NodeState], cluster: ClusterState) -> Scores:
    """What pods want of one another, from the least wanted node to the most."""
    worth = preferences(wanted, cluster)
    if not worth:
        return [0] * len(fitting)
    found = [
        sum(value for (label, domain), value in worth.items() if state.labels.get(label) == domain)
        for state in fitting
    ]
    least, most = min(0, *found), max(0, *found)
    return [MOST * (value - least) // (most - least) if most > least else 0 for value in found]


def room(wanted: PodInfo, state: NodeState) -> int:
    """How much of the node's processors and memory would still be free."""
    free = []
    for name in ("cpu", "memory"):
        there = state.allocatable.get(name, 0)
        if there:
            left = there - state.assumed[name] - wanted.assumed.get(name, 0)
            free.append(max(0, left) * MOST // there)
    return sum(free) // len(free) if free else 0


def balance(wanted: PodInfo, state: NodeState) -> int:
    """How evenly processors and memory would be used; of no matter to a pod that requests neither."""
    if not (wanted.requests.get("cpu") or wanted.requests.get("memory")):
        return 0
    used = []
    for name in ("cpu", "memory"):
        there = state.allocatable.get(name, 0)
        if there:
            used.append(min(1.0, (state.used[name] + wanted.requests.get(name, 0)) / there))
    return int(MOST * (1 - abs(used[0] - used[1]) / 2)) if len(used) == 2 else MOST
