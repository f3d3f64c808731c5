"""Whether a pod that was sent to this node can be here beside the pods that are. Pure.

The scheduler asks the same before it sends a pod; what names its node itself comes without having been asked. Rule
source: a kubelet's predicates, whose reasons and texts these are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from nodeport.api.meta import JsonObject
from nodeport.api.nodeaffinity import selects_node
from nodeport.api.podneeds import HostPort, Resources, amount, clash, host_ports_of, requests_of
from nodeport.api.taints import is_tolerated

Refusal = tuple[str, str]
"""(reason, message) of the pod's status."""
_ORDER = ("cpu", "memory", "ephemeral-storage")
_THOUSANDTHS = "cpu"
"""The resource that texts tell in thousandths; all others are told whole."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one pod of the node has."""

    requests: Resources
    host_ports: tuple[HostPort, ...]

    @classmethod
    def by(cls, spec: JsonObject) -> Taken:
        return cls(requests_of({"spec": spec}), host_ports_of({"spec": spec}))


@dataclass(slots=True)
class Tenants:
    """The pods that a node has taken, by uid, until they have ended. ``capacity``: what it has for pods."""

    capacity: Mapping[str, str]
    _held: dict[str, Taken] = field(default_factory=dict)

    def __contains__(self, uid: str) -> bool:
        return uid in self._held

    def take(self, uid: str, spec: JsonObject) -> None:
        """Count the pod among them, or anew when its ``spec`` has changed."""
        self._held[uid] = Taken.by(spec)

    def release(self, uid: str) -> None:
        self._held.pop(uid, None)

    def refusal(self, pod: JsonObject, node: JsonObject | None) -> Refusal | None:
        """Why the pod, which is none of them yet, cannot be here; None: it can. ``node`` None: not known yet."""
        others = self._held.values()
        wanted = Taken.by(pod["spec"])
        return (
            _lacking(wanted.requests, others, self.capacity)
            or _elsewhere(pod, node)
            or _taken_ports(wanted, others)
            or _tainted(pod, node)
        )


def _lacking(wanted: Resources, others: Collection[Taken], capacity: Mapping[str, str]) -> Refusal | None:
    """Of what the node does not list it may have enough: that is not its own to give."""
    most = int(capacity.get("pods", "0"))
    if len(others) + 1 > most:
        return _out_of("pods", 1, len(others), most)
    for name in [*_ORDER, *sorted(wanted.keys() - set(_ORDER))]:
        asked = wanted.get(name, 0)
        if not asked or name not in capacity:
            continue
        there, used = amount(capacity[name]), sum(each.requests.get(name, 0) for each in others)
        if asked + used > there:
            told = (
                (asked, used, there)
                if name == _THOUSANDTHS
                else (-(-each // 1000) for each in (asked, used, there))
            )
            return _out_of(name, *told)
    return None


def _out_of(name: str, asked: int, used: int, there: int) -> Refusal:
    told = f"requested: {asked}, used: {used}, capacity: {there}"
    return f"OutOf{name}", f"Node didn't have enough resource: {name}, {told}"


def _elsewhere(pod: JsonObject, node: JsonObject | None) -> Refusal | None:
    """A pod that has been here before stays, whatever the node's labels have become."""
    has_started = bool((pod.get("status") or {}).get("startTime"))
    if node is None or has_started or selects_node(pod["spec"], node):
        return None
    return _failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")


def _taken_ports(wanted: Taken, others: Collection[Taken]) -> Refusal | None:
    taken = (port for other in others for port in other.host_ports)
    if wanted.host_ports and any(clash(port, one) for one in taken for port in wanted.host_ports):
        return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    return None


def _tainted(pod: JsonObject, node: JsonObject | None) -> Refusal | None:
    taints = ((node or {}).get("spec") or {}).get("taints") or ()
    if all(taint.get("effect") != "NoExecute" or is_tolerated(pod, taint) for taint in taints):
        return None
    return _failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")


def _failed(predicate: str, why: str) -> Refusal:
    return predicate, f"Predicate {predicate} failed: {why}"
