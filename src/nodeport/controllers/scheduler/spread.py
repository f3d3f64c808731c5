"""``topologySpreadConstraints``: pods of a kind in equal numbers over the domains of a label. Pure.

Rules: kube-scheduler's PodTopologySpread, with its own constraints for pods that state none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nodeport.api.meta import JsonObject
from nodeport.api.nodeaffinity import selects_node
from nodeport.api.selectors import EVERYTHING, LabelSelector
from nodeport.api.taints import is_tolerated
from nodeport.controllers.scheduler.nodes import HOSTNAME_LABEL, ZONE_LABEL, ClusterState, NodeState
from nodeport.controllers.scheduler.podinfo import PodInfo, narrowed_selector

_UNEVEN = "node(s) didn't match pod topology spread constraints"
UNLABELLED = f"{_UNEVEN} (missing required label)"


@dataclass(frozen=True, slots=True)
class Constraint:
    """``kin``: count the pods of this controller, whatever ``selector`` says."""

    topology: str
    skew: int
    selector: LabelSelector
    domains: int = 1
    honours_affinity: bool = True
    honours_taints: bool = False
    kin: str = ""

    @classmethod
    def of(cls, stated: JsonObject, wanted: PodInfo) -> Constraint:
        return cls(
            topology=stated["topologyKey"],
            skew=stated["maxSkew"],
            selector=narrowed_selector(
                stated.get("labelSelector"), wanted.labels, stated.get("matchLabelKeys") or ()
            ),
            domains=stated.get("minDomains") or 1,
            honours_affinity=stated.get("nodeAffinityPolicy") != "Ignore",
            honours_taints=stated.get("nodeTaintsPolicy") == "Honor",
        )

    def counts(self, wanted: PodInfo, other: PodInfo) -> bool:
        """Of the same namespace, and not leaving."""
        if other.leaving or other.namespace != wanted.namespace:
            return False
        return other.kin == self.kin if self.kin else self.selector.matches(other.labels)

    def includes(self, wanted: PodInfo, state: NodeState) -> bool:
        """Whether the node's pods count: not, unless told so, on nodes that could never take the pod."""
        pod = wanted.pod
        if self.honours_affinity and not selects_node(pod["spec"], state.node):
            return False
        return not self.honours_taints or all(
            is_tolerated(pod, taint)
            for taint in state.taints
            if taint.get("effect") in ("NoSchedule", "NoExecute")
        )


def _stated(wanted: PodInfo, action: str) -> list[Constraint]:
    stated = wanted.pod["spec"].get("topologySpreadConstraints") or ()
    return [Constraint.of(each, wanted) for each in stated if each.get("whenUnsatisfiable") == action]


def _pods_on(constraint: Constraint, wanted: PodInfo, cluster: ClusterState) -> Counter[str]:
    """How many pods of those that count each node has."""
    found: Counter[str] = Counter()
    for group in cluster.groups():
        if constraint.counts(wanted, group.sample):
            found.update(group.nodes)
    return found


@dataclass(frozen=True, slots=True)
class HardSpread:
    """Of ``DoNotSchedule``: each constraint, the pods in each domain, the fewest in any."""

    rules: tuple[tuple[Constraint, Mapping[str, int], int], ...]
    """The last number already counts the pod itself, if the constraint selects it, on the other side."""

    @classmethod
    def of(cls, wanted: PodInfo, cluster: ClusterState) -> HardSpread:
        constraints = _stated(wanted, "DoNotSchedule")
        if not constraints:
            return cls(())
        labelled = [
            state
            for state in cluster.nodes.values()
            if all(constraint.topology in state.labels for constraint in constraints)
        ]
        rules = []
        for constraint in constraints:
            found = _pods_on(constraint, wanted, cluster)
            domains: Counter[str] = Counter()
            for state in labelled:
                if constraint.includes(wanted, state):
                    domains[state.labels[constraint.topology]] += found[state.name]
            fewest = min(domains.values(), default=0) if len(domains) >= constraint.domains else 0
            itself = int(constraint.selector.matches(wanted.labels))
            rules.append((constraint, domains, fewest - itself))
        return cls(tuple(rules))

    def why_not(self, state: NodeState) -> str:
        for constraint, domains, fewest in self.rules:
            value = state.labels.get(constraint.topology)
            if value is None:
                return UNLABELLED
            if domains.get(value, 0) - fewest > constraint.skew:
                return _UNEVEN
        return ""


def soft_constraints(wanted: PodInfo, services: LabelSelector | None) -> tuple[list[Constraint], bool]:
    """Those that only make a node less liked, and whether a node must have all their labels to be scored.

    A pod that states none is spread over hosts and zones with those of its controller, or with those that the same
    ``services`` select.
    """
    if wanted.pod["spec"].get("topologySpreadConstraints"):
        return _stated(wanted, "ScheduleAnyway"), True
    if not wanted.kin and services is None:
        return [], False
    selector = services or EVERYTHING
    return [
        Constraint(HOSTNAME_LABEL, 3, selector, kin=wanted.kin),
        Constraint(ZONE_LABEL, 5, selector, kin=wanted.kin),
    ], False


def soft_skews(
    wanted: PodInfo, fitting: list[NodeState], cluster: ClusterState, services: LabelSelector | None
) -> Callable[[NodeState], int | None]:
    """How crowded with its like a node would be for the pod; None for a node that lacks a label."""
    constraints, needs_all = soft_constraints(wanted, services)
    topologies = [constraint.topology for constraint in constraints]

    def is_scored(state: NodeState) -> bool:
        return not needs_all or all(label in state.labels for label in topologies)

    scored = [state for state in fitting if is_scored(state)]
    weighed = [_domain_weights(each, wanted, scored, cluster, is_scored) for each in constraints]

    def crowding(state: NodeState) -> int | None:
        if not is_scored(state):
            return None
        total = 0.0
        for constraint, (counts, weight) in zip(constraints, weighed, strict=True):
            value = _domain(constraint, state)
            if value is not None:
                total += counts[value] * weight + constraint.skew - 1
        return round(total)

    return crowding


def _domain(constraint: Constraint, state: NodeState) -> str | None:
    """A host is a node, whatever its label says."""
    value = state.labels.get(constraint.topology)
    return state.name if value is not None and constraint.topology == HOSTNAME_LABEL else value


def _domain_weights(
    constraint: Constraint,
    wanted: PodInfo,
    scored: list[NodeState],
    cluster: ClusterState,
    is_scored: Callable[[NodeState], bool],
) -> tuple[Counter[str], float]:
    """The pods in each domain, and what one of them weighs: the more domains, the more."""
    candidates = {_domain(constraint, state) for state in scored}
    found = _pods_on(constraint, wanted, cluster)
    counts: Counter[str] = Counter()
    for name, count in found.items():
        state = cluster.nodes.get(name)
        if state is None or not is_scored(state) or not constraint.includes(wanted, state):
            continue
        value = _domain(constraint, state)
        if value is not None and value in candidates:
            counts[value] += count
    return counts, math.log(len(candidates) + 2)
