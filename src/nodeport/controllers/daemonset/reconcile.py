"""On which nodes a DaemonSet's pods belong, which to make and remove, and what its status says: pure.

Rules: the DaemonSet controller of Kubernetes 1.36. The controller decides on the node; each pod then requires it, and
the scheduler places it there when there is room.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nodeport.api.meta import JsonObject, is_being_deleted, labels
from nodeport.api.nodeaffinity import bound_to, node_of, selects_node
from nodeport.api.resources import DAEMON_SETS
from nodeport.api.taints import is_tolerated
from nodeport.controllers.availability import is_available, minimum_ready, next_available
from nodeport.controllers.history import POD_HASH_LABEL
from nodeport.controllers.podcontrol import pod_from_template
from nodeport.controllers.selection import is_finished, is_ready
from nodeport.kit.clock import parse_rfc3339

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
GENERATION_LABEL = "pod-template-generation"

_LEAST_LIFE = timedelta(seconds=1)
_TOLERATED = (
    ("not-ready", "NoExecute"), ("unreachable", "NoExecute"), ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"), ("pid-pressure", "NoSchedule"), ("unschedulable", "NoSchedule"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """One node: whether a pod of the set is to be made there, whether one that is there may stay, and the pods that
    are there or on their way. ``pods`` without those that are finished, oldest first."""

    node: str
    wanted: bool
    tolerated: bool
    pods: tuple[JsonObject, ...] = ()

    @property
    def running(self) -> list[JsonObject]:
        return [pod for pod in self.pods if not is_being_deleted(pod)]


@dataclass(slots=True)
class DaemonPlan:
    """Names of the nodes to make a pod for, and pods to remove."""

    create: list[str] = field(default_factory=list)
    delete: list[JsonObject] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.create or self.delete)


def tolerations(spec: JsonObject) -> list[JsonObject]:
    """Those of the template's pod ``spec``, and those that every daemon has: it stays where others have to leave."""
    wanted = [*_TOLERATED, *([("network-unavailable", "NoSchedule")] if spec.get("hostNetwork") else [])]
    added = [
        {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
        for name, effect in wanted
    ]
    kept = [each for each in spec.get("tolerations") or [] if each not in added]
    return [*kept, *added]


def belongs(daemon_set: JsonObject, node: JsonObject) -> tuple[bool, bool]:
    """Whether a pod is to be made on ``node``, and whether one that is there may stay."""
    spec = daemon_set["spec"]["template"]["spec"]
    name = spec.get("nodeName")
    if (name and name != node["metadata"]["name"]) or not selects_node(spec, node):
        return False, False
    pod = {"spec": {"tolerations": tolerations(spec)}}
    taints = [taint for taint in (node.get("spec") or {}).get("taints") or () if not is_tolerated(pod, taint)]
    effects = {taint.get("effect") for taint in taints}
    return not effects & {"NoSchedule", "NoExecute"}, "NoExecute" not in effects


def places(
    daemon_set: JsonObject, nodes: Iterable[JsonObject], pods: Iterable[JsonObject]
) -> tuple[list[Place], list[JsonObject]]:
    """Every node in name order, and the pods to remove whatever else: finished ones, and those whose node is gone
    before they got there."""
    on: dict[str, list[JsonObject]] = {}
    ended = []
    for pod in pods:
        if is_finished(pod):
            ended += [] if is_being_deleted(pod) else [pod]
        else:
            on.setdefault(node_of(pod), []).append(pod)
    found = []
    for node in sorted(nodes, key=lambda each: str(each["metadata"]["name"])):
        name = node["metadata"]["name"]
        here = tuple(sorted(on.pop(name, ()), key=_age))
        found.append(Place(name, *belongs(daemon_set, node), here))
    lost = [pod for there in on.values() for pod in there]
    ended += [pod for pod in lost if not pod["spec"].get("nodeName") and not is_being_deleted(pod)]
    return found, ended


def replaceable(ended: Iterable[JsonObject], now: datetime) -> tuple[list[JsonObject], timedelta | None]:
    """Those of the ``ended`` pods that lived for a second, and when the next will have: a pod that fails at once is
    not to be made a hundred times a second."""
    waits = [(pod, _LEAST_LIFE - (now - _made(pod, now))) for pod in ended]
    later = min((wait for _, wait in waits if wait > timedelta()), default=None)
    return [pod for pod, wait in waits if wait <= timedelta()], later


def _made(pod: JsonObject, now: datetime) -> datetime:
    since = pod["metadata"].get("creationTimestamp")
    return parse_rfc3339(since) if since else now - _LEAST_LIFE


def _age(pod: JsonObject) -> tuple[bool, str, str]:
    """Pods that have a node first, then the oldest."""
    meta = pod["metadata"]
    return not pod["spec"].get("nodeName"), meta.get("creationTimestamp") or "", meta["name"]


def manage(daemon_set: JsonObject, found: Iterable[Place], hash_: str, now: datetime) -> DaemonPlan:
    """A pod where one is missing; none where none may be; of several on a node, one of each revision at most."""
    plan = DaemonPlan()
    surges = bool(rolling_limit(daemon_set, "maxSurge", 100))
    for place in found:
        if not place.tolerated:
            plan.delete += place.running
        elif not place.pods:
            plan.create += [place.node] if place.wanted else []
        elif surges:
            plan.delete += _surplus_of_each(daemon_set, place, hash_, now)
        else:
            plan.delete += place.running[1:]
    return plan


def _surplus_of_each(daemon_set: JsonObject, place: Place, hash_: str, now: datetime) -> list[JsonObject]:
    new = [pod for pod in place.running if has_hash(pod, hash_)]
    old = [pod for pod in place.running if not has_hash(pod, hash_)]
    extra = [*new[1:], *old[1:]]
    if new and old:
        replaced = is_available(new[0], minimum_ready(daemon_set), now)
        if replaced or not is_ready(old[0]):
            extra.append(old[0])
    return extra


def has_hash(pod: JsonObject, hash_: str) -> bool:
    return labels(pod).get(POD_HASH_LABEL) == hash_


def rolling_limit(daemon_set: JsonObject, name: str, total: int) -> int:
    """``maxUnavailable`` or ``maxSurge`` of ``total``, rounded up; 0 unless the strategy is a rolling update."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return 0
    limit = (strategy.get("rollingUpdate") or {}).get(name) or 0
    if isinstance(limit, str):
        return -(-total * int(limit.removesuffix("%")) // 100)
    return int(limit)


def new_pod(daemon_set: JsonObject, node: str, hash_: str) -> JsonObject:
    pod = pod_from_template(DAEMON_SETS, daemon_set)
    metadata = pod["metadata"]
    added = {POD_HASH_LABEL: hash_}
    if generation := (daemon_set["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION):
        added[GENERATION_LABEL] = generation
    metadata["labels"] = {**(metadata.get("labels") or {}), **added}
    spec = {**pod["spec"], "tolerations": tolerations(pod["spec"])}
    pod["spec"] = bound_to(spec, node)
    return pod


# --- status


def daemon_status(
    daemon_set: JsonObject, found: Sequence[Place], hash_: str, collisions: int, now: datetime
) -> tuple[JsonObject, timedelta | None]:
    """The status to show, and when a pod that is ready now will count as available."""
    minimum = minimum_ready(daemon_set)
    wanted = [place for place in found if place.wanted]
    first = [place.pods[0] for place in wanted if place.pods]
    available = sum(is_available(pod, minimum, now) for pod in first)
    status: JsonObject = {
        "currentNumberScheduled": len(first),
        "numberMisscheduled": sum(bool(place.pods) for place in found if not place.wanted),
        "desiredNumberScheduled": len(wanted),
        "numberReady": sum(is_ready(pod) for pod in first),
        "observedGeneration": daemon_set["metadata"].get("generation", 0),
    }
    counts: Mapping[str, int] = {
        "updatedNumberScheduled": sum(any(has_hash(p, hash_) for p in place.pods) for place in wanted),
        "numberAvailable": available,
        "numberUnavailable": len(wanted) - available,
        "collisionCount": collisions,
    }
    status.update((name, count) for name, count in counts.items() if count)
    return status, next_available(first, minimum, now)
