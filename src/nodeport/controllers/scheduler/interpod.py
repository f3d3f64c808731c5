"""Pods that want or shun other pods: what that forbids, and what it is worth. Pure.

Rules: kube-scheduler's InterPodAffinity. A term speaks of domains, the nodes with one value of a label; a node
without the label is in none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from nodeport.controllers.scheduler.nodes import ClusterState, Group, NodeState
from nodeport.controllers.scheduler.podinfo import PodInfo, Term

NOT_NEAR = "node(s) didn't match pod affinity rules"

Domain = tuple[str, str]
"""A label of nodes and its value."""

_REQUIRED_WEIGHT = 1
"""What a placed pod's required affinity for the new one is worth when nodes are compared."""


@dataclass(frozen=True, slots=True)
class PodTerms:
    """What must hold between one pod and those that are placed."""

    wanted: PodInfo
    near: frozenset[Domain]
    """Where a pod is that all terms of the pod's affinity are about."""
    far: frozenset[Domain]
    """Where the pod's anti-affinity forbids it."""
    guarded: frozenset[Domain]
    """Where the anti-affinity of a placed pod forbids it."""
    may_be_first: bool

    @classmethod
    def of(cls, wanted: PodInfo, cluster: ClusterState) -> PodTerms:
        near: set[Domain] = set()
        far: set[Domain] = set()
        guarded: set[Domain] = set()
        own = cluster.namespace_labels(wanted.namespace)
        looks = bool(wanted.affinity or wanted.anti_affinity)
        for group in cluster.groups():
            if not (looks or group.sample.anti_affinity):
                continue
            guarding = [term for term in group.sample.anti_affinity if term.is_about(wanted, own)]
            guarded.update(_domains(guarding, group, cluster))
            there = cluster.namespace_labels(group.sample.namespace)
            if wanted.affinity and all(term.is_about(group.sample, there) for term in wanted.affinity):
                near.update(_domains(wanted.affinity, group, cluster))
            shunned = [term for term in wanted.anti_affinity if term.is_about(group.sample, there)]
            far.update(_domains(shunned, group, cluster))
        is_own = all(term.is_about(wanted, own) for term in wanted.affinity)
        return cls(wanted, frozenset(near), frozenset(far), frozenset(guarded), is_own and not near)

    def why_not(self, state: NodeState) -> str:
        if not self._is_near(state):
            return NOT_NEAR
        if any(
            (term.topology, state.labels.get(term.topology)) in self.far for term in self.wanted.anti_affinity
        ):
            return "node(s) didn't match pod anti-affinity rules"
        if any(state.labels.get(label) == value for label, value in self.guarded):
            return "node(s) didn't satisfy existing pods anti-affinity rules"
        return ""

    def _is_near(self, state: NodeState) -> bool:
        """The first of a group of pods that want each other may go to any node that has the labels."""
        for term in self.wanted.affinity:
            value = state.labels.get(term.topology)
            if value is None or not ((term.topology, value) in self.near or self.may_be_first):
                return False
        return True


def _domains(terms: list[Term] | tuple[Term, ...], group: Group, cluster: ClusterState) -> Iterator[Domain]:
    if not terms:
        return
    for state, _ in cluster.located(group):
        for term in terms:
            value = state.labels.get(term.topology)
            if value is not None:
                yield term.topology, value


def preferences(wanted: PodInfo, cluster: ClusterState) -> Counter[Domain]:
    """What each domain is worth: what the pod likes and dislikes of those placed, and they of it."""
    worth: Counter[Domain] = Counter()
    own = cluster.namespace_labels(wanted.namespace)
    for group in cluster.groups():
        other = group.sample
        if not (other.has_terms or wanted.liked or wanted.disliked):
            continue
        there = cluster.namespace_labels(other.namespace)
        weights: Counter[str] = Counter()
        for terms, sign in ((wanted.liked, 1), (wanted.disliked, -1)):
            for term in terms:
                weights[term.topology] += sign * term.weight * term.is_about(other, there)
        for terms, sign in ((other.liked, 1), (other.disliked, -1)):
            for term in terms:
                weights[term.topology] += sign * term.weight * term.is_about(wanted, own)
        for term in other.affinity:
            weights[term.topology] += _REQUIRED_WEIGHT * term.is_about(wanted, own)
        _add(worth, weights, group, cluster)
    return worth


def _add(worth: Counter[Domain], weights: Counter[str], group: Group, cluster: ClusterState) -> None:
    telling = {label: weight for label, weight in weights.items() if weight}
    if not telling:
        return
    for state, count in cluster.located(group):
        for label, weight in telling.items():
            value = state.labels.get(label)
            if value is not None:
                worth[label, value] += weight * count
