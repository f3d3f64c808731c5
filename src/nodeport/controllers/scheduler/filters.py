"""Why a node cannot take a pod: pure predicates, in the scheduler's words.

Rules: the default filters of kube-scheduler 1.36, without volumes, preferences of pods for pods, and
preemption.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodeport.api.meta import JsonObject, labels
from nodeport.api.selectors import label_selector_of
from nodeport.controllers.nodeaffinity import selects_node
from nodeport.controllers.scheduler.nodes import (
    ClusterState,
    HostPort,
    NodeState,
    Wanted,
    required_terms,
)
from nodeport.controllers.taints import is_tolerated

HOSTNAME_LABEL = "kubernetes.io/hostname"


def why_not(wanted: Wanted, state: NodeState, cluster: ClusterState) -> str:
    """Empty when the node fits."""
    pod, node = wanted.pod, state.node
    return (
        _unschedulable(pod, node)
        or _unready(node)
        or _untolerated(pod, node)
        or _unselected(pod, node)
        or _taken_ports(wanted, state)
        or _lacking(wanted, state)
        or _repelled(wanted, state, cluster)
    )


def _unschedulable(pod: JsonObject, node: JsonObject) -> str:
    taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    is_cordoned = (node.get("spec") or {}).get("unschedulable")
    return "node(s) were unschedulable" if is_cordoned and not is_tolerated(pod, taint) else ""


def _unready(node: JsonObject) -> str:
    """A node that is not ready is tainted soon; until then this keeps pods away."""
    for condition in (node.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            return "" if condition.get("status") == "True" else "node(s) were not ready"
    return "node(s) were not ready"


def _untolerated(pod: JsonObject, node: JsonObject) -> str:
    for taint in (node.get("spec") or {}).get("taints") or ():
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not is_tolerated(pod, taint):
            return f"node(s) had untolerated taint(s) {{{taint['key']}: {taint.get('value') or ''}}}"
    return ""


# --- labels


def _unselected(pod: JsonObject, node: JsonObject) -> str:
    return "" if selects_node(pod["spec"], node) else "node(s) didn't match Pod's node affinity/selector"


# --- room


def _taken_ports(wanted: Wanted, state: NodeState) -> str:
    for port in wanted.host_ports:
        if any(count and _clash(port, taken) for taken, count in state.ports.items()):
            return "node(s) didn't have free ports for the requested pod ports"
    return ""


def _clash(one: HostPort, other: HostPort) -> bool:
    return one[1:] == other[1:] and (one[0] == other[0] or "0.0.0.0" in (one[0], other[0]))


def _lacking(wanted: Wanted, state: NodeState) -> str:
    room = state.allocatable("pods")
    if room is not None and (len(state.pods) + 1) * 1000 > room:
        return "Too many pods"
    for name, amount in wanted.requests.items():
        there = state.allocatable(name)
        if there is not None and amount and state.used[name] + amount > there:
            return f"Insufficient {name}"
    return ""


# --- other pods


def _repelled(wanted: Wanted, state: NodeState, cluster: ClusterState) -> str:
    pod = wanted.pod
    for term in wanted.anti_affinity:
        if any(_is_meant(term, pod, other) for other in _pods_in_domain(term, state, cluster)):
            return "node(s) didn't match pod anti-affinity rules"
    for other_state, other in cluster.guarding_pods():
        for term in required_terms(other, "podAntiAffinity"):
            if _same_domain(term, other_state, state) and _is_meant(term, other, pod):
                return "node(s) didn't satisfy existing pods anti-affinity rules"
    for term in wanted.affinity:
        domain = _pods_in_domain(term, state, cluster)
        is_first = not any(_is_meant(term, pod, other) for _, other in cluster.all_pods())
        if not any(_is_meant(term, pod, other) for other in domain) and not (
            is_first and _is_meant(term, pod, pod)
        ):
            return "node(s) didn't match pod affinity rules"
    return ""


def _pods_in_domain(term: JsonObject, state: NodeState, cluster: ClusterState) -> Iterable[JsonObject]:
    return (pod for other, pod in cluster.all_pods() if _same_domain(term, other, state))


def _same_domain(term: JsonObject, one: NodeState, other: NodeState) -> bool:
    key = term.get("topologyKey") or HOSTNAME_LABEL
    value = labels(one.node).get(key)
    return value is not None and value == labels(other.node).get(key)


def _is_meant(term: JsonObject, pod: JsonObject, other: JsonObject) -> bool:
    """Whether ``pod``'s term is about ``other``."""
    namespaces = term.get("namespaces") or [pod["metadata"]["namespace"]]
    selector = term.get("labelSelector")
    if other["metadata"]["namespace"] not in namespaces or selector is None:
        return False
    return label_selector_of(selector).matches(labels(other))
