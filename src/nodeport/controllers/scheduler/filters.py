"""Why a node cannot take a pod: pure predicates over one node, in the scheduler's words.

Rules: the default filters of kube-scheduler 1.36 in their order, without those about volumes and devices.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeport.api.meta import JsonObject
from nodeport.api.nodeaffinity import selects_node
from nodeport.api.podneeds import clash
from nodeport.api.taints import is_tolerated
from nodeport.controllers.scheduler.interpod import NOT_NEAR, PodTerms
from nodeport.controllers.scheduler.nodes import ClusterState, NodeState
from nodeport.controllers.scheduler.podinfo import PodInfo
from nodeport.controllers.scheduler.spread import UNLABELLED, HardSpread

_CORDON: JsonObject = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a node cannot take a pod; no ``reasons`` when it can. ``is_final``: whoever else left the node."""

    reasons: tuple[str, ...] = ()
    is_final: bool = False


_FITS = Misfit()


@dataclass(frozen=True, slots=True)
class Filters:
    """All that must hold of a node for one pod, with what is the same for every node worked out once."""

    wanted: PodInfo
    spread: HardSpread
    terms: PodTerms

    @classmethod
    def of(cls, wanted: PodInfo, cluster: ClusterState) -> Filters:
        return cls(wanted, HardSpread.of(wanted, cluster), PodTerms.of(wanted, cluster))

    def why_not(self, state: NodeState) -> Misfit:
        """Only the first rule that is broken tells its reasons."""
        pod = self.wanted.pod
        reason = _cordoned(pod, state) or _untolerated(pod, state) or _unselected(pod, state)
        if reason:
            return Misfit((reason,), is_final=True)
        reason = _taken_ports(self.wanted, state)
        if reason:
            return Misfit((reason,))
        if lacking := _lacking(self.wanted, state):
            return Misfit(lacking, is_final=_is_too_much(self.wanted, state))
        reason = self.spread.why_not(state) or self.terms.why_not(state)
        return Misfit((reason,), is_final=reason in (UNLABELLED, NOT_NEAR)) if reason else _FITS


def _cordoned(pod: JsonObject, state: NodeState) -> str:
    return "node(s) were unschedulable" if state.is_cordoned and not is_tolerated(pod, _CORDON) else ""


def _untolerated(pod: JsonObject, state: NodeState) -> str:
    if not state.taints:
        return ""
    is_kept_off = any(
        taint.get("effect") in ("NoSchedule", "NoExecute") and not is_tolerated(pod, taint)
        for taint in state.taints
    )
    return "node(s) had untolerated taint(s)" if is_kept_off else ""


def _unselected(pod: JsonObject, state: NodeState) -> str:
    return (
        "" if selects_node(pod["spec"], state.node) else "node(s) didn't match Pod's node affinity/selector"
    )


def _taken_ports(wanted: PodInfo, state: NodeState) -> str:
    if wanted.host_ports and any(clash(port, taken) for port in wanted.host_ports for taken in state.ports):
        return "node(s) didn't have free ports for the requested pod ports"
    return ""


def _lacking(wanted: PodInfo, state: NodeState) -> tuple[str, ...]:
    """A node has none of what it does not list."""
    there = state.allocatable
    reasons = ["Too many pods"] if (len(state.pods) + 1) * 1000 > there.get("pods", 0) else []
    reasons += [
        f"Insufficient {name}"
        for name, needed in wanted.requests.items()
        if needed and state.used.get(name, 0) + needed > there.get(name, 0)
    ]
    return tuple(reasons)


def _is_too_much(wanted: PodInfo, state: NodeState) -> bool:
    """Whether the empty node would not do either."""
    return any(needed > state.allocatable.get(name, 0) for name, needed in wanted.requests.items() if needed)
