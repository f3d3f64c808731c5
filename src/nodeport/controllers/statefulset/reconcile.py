"""Which pods a StatefulSet makes or removes next, and what its status says: pure.

Rules: the StatefulSet controller of Kubernetes 1.36. In order (``OrderedReady``) a pass takes one step at a time and
waits until every pod before is available; in parallel it waits for nobody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nodeport.api.meta import JsonObject, is_being_deleted, labels
from nodeport.api.resources import STATEFUL_SETS
from nodeport.controllers.availability import is_available, minimum_ready, next_available
from nodeport.controllers.history import POD_HASH_LABEL, with_template
from nodeport.controllers.podcontrol import pod_from_template
from nodeport.controllers.selection import is_finished, is_ready

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"


@dataclass(frozen=True, slots=True)
class Versions:
    """The ControllerRevisions that pods are made of before and after the update under way; equal when there is
    none."""

    current: JsonObject
    update: JsonObject

    @property
    def current_name(self) -> str:
        return str(self.current["metadata"]["name"])

    @property
    def update_name(self) -> str:
        return str(self.update["metadata"]["name"])


@dataclass(slots=True)
class StatefulPlan:
    """Pods to make, to remove, and to give the labels of their identity."""

    create: list[JsonObject] = field(default_factory=list)
    delete: list[JsonObject] = field(default_factory=list)
    relabel: list[JsonObject] = field(default_factory=list)


def ordinal_of(stateful_set: JsonObject, pod: JsonObject) -> int | None:
    """The number in the pod's name; None for a pod whose name is none of this set's."""
    parent, dash, number = pod["metadata"]["name"].rpartition("-")
    if not dash or parent != stateful_set["metadata"]["name"]:
        return None
    is_plain = number.isascii() and number.isdecimal() and str(int(number)) == number
    return int(number) if is_plain else None


def ordinals(stateful_set: JsonObject) -> range:
    spec = stateful_set["spec"]
    start = (spec.get("ordinals") or {}).get("start") or 0
    return range(start, start + spec.get("replicas", 1))


def plan_stateful(
    stateful_set: JsonObject, pods: Iterable[JsonObject], versions: Versions, now: datetime
) -> StatefulPlan:
    """``pods``: the set's own."""
    plan = StatefulPlan()
    if is_being_deleted(stateful_set):
        return plan
    by_ordinal = {number: pod for pod in pods if (number := ordinal_of(stateful_set, pod)) is not None}
    world = _World(stateful_set, by_ordinal, versions, now)
    plan.relabel = [pod for pod in by_ordinal.values() if _lacks_identity(pod)]
    if _fill(world, plan) and _shrink(world, plan):
        _update(world, plan)
    return plan


@dataclass(frozen=True, slots=True)
class _World:
    stateful_set: JsonObject
    pods: Mapping[int, JsonObject]
    versions: Versions
    now: datetime

    @property
    def is_ordered(self) -> bool:
        return bool(self.stateful_set["spec"].get("podManagementPolicy") != "Parallel")

    def is_available(self, pod: JsonObject) -> bool:
        minimum = minimum_ready(self.stateful_set)
        return not is_being_deleted(pod) and is_available(pod, minimum, self.now)


def _fill(world: _World, plan: StatefulPlan) -> bool:
    """Make what is missing; whether the pass may go on."""
    for ordinal in ordinals(world.stateful_set):
        pod = world.pods.get(ordinal)
        if pod is None:
            plan.create.append(new_pod(world.stateful_set, ordinal, world.versions))
        elif is_finished(pod) and not is_being_deleted(pod):
            plan.delete.append(pod)  # its name has to be free before the next can have it
        elif world.is_available(pod):
            continue
        if world.is_ordered:
            return False
    return True


def _shrink(world: _World, plan: StatefulPlan) -> bool:
    """Remove what is too much, highest number first; whether the pass may go on."""
    wanted = ordinals(world.stateful_set)
    condemned = [pod for number, pod in sorted(world.pods.items(), reverse=True) if number not in wanted]
    unhealthy = [pod for pod in condemned if is_being_deleted(pod) or not is_ready(pod)]
    for pod in condemned:
        is_first = bool(unhealthy) and pod is unhealthy[-1]
        if is_being_deleted(pod):
            if world.is_ordered:
                return False
            continue
        if world.is_ordered and pod in unhealthy and not is_first:
            return False  # a pod with a lower number is to recover first
        plan.delete.append(pod)
        if world.is_ordered:
            return False
    return True


def _update(world: _World, plan: StatefulPlan) -> None:
    """Remove pods of other revisions, highest number first, so that ``_fill`` makes them anew."""
    strategy = world.stateful_set["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return
    rolling = strategy.get("rollingUpdate") or {}
    wanted = ordinals(world.stateful_set)
    room = _most_unavailable(rolling.get("maxUnavailable"), len(wanted))
    old: list[JsonObject] = []
    for ordinal in reversed(wanted):
        pod = world.pods.get(ordinal)
        if pod is None or pod in plan.delete:
            room -= 1
        elif not _is_updated(world, pod) and not is_being_deleted(pod):
            if ordinal >= wanted.start + (rolling.get("partition") or 0):
                old.append(pod)
        elif not world.is_available(pod):
            room -= 1
    plan.delete += old[: max(0, room)]


def _is_updated(world: _World, pod: JsonObject) -> bool:
    return labels(pod).get(POD_HASH_LABEL) == world.versions.update_name


def _most_unavailable(limit: int | str | None, replicas: int) -> int:
    """A percentage is rounded down; never less than one."""
    if isinstance(limit, str):
        return max(1, math.floor(replicas * int(limit.removesuffix("%")) / 100))
    return max(1, limit or 1)


# --- pods


def new_pod(stateful_set: JsonObject, ordinal: int, versions: Versions) -> JsonObject:
    """Below the partition, a pod of the revision from before the update."""
    revision = versions.current if _keeps_current(stateful_set, ordinal) else versions.update
    pod = pod_from_template(STATEFUL_SETS, with_template(stateful_set, revision))
    name = f"{stateful_set['metadata']['name']}-{ordinal}"
    metadata = pod["metadata"]
    del metadata["generateName"]
    metadata["name"] = name
    identity = {POD_NAME_LABEL: name, POD_INDEX_LABEL: str(ordinal)}
    hashed = {POD_HASH_LABEL: revision["metadata"]["name"]}
    metadata["labels"] = {**(metadata.get("labels") or {}), **identity, **hashed}
    service = stateful_set["spec"].get("serviceName") or ""
    pod["spec"] = {**pod["spec"], "hostname": name, **({"subdomain": service} if service else {})}
    return pod


def _keeps_current(stateful_set: JsonObject, ordinal: int) -> bool:
    strategy = stateful_set["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return False
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    return ordinal < ordinals(stateful_set).start + partition


def identity_patch(pod: JsonObject) -> JsonObject:
    name = pod["metadata"]["name"]
    added = {POD_NAME_LABEL: name, POD_INDEX_LABEL: name.rpartition("-")[2]}
    return {"metadata": {"uid": pod["metadata"]["uid"], "labels": added}}


def _lacks_identity(pod: JsonObject) -> bool:
    return labels(pod).get(POD_NAME_LABEL) != pod["metadata"]["name"] and not is_being_deleted(pod)


# --- status


def stateful_status(
    stateful_set: JsonObject, pods: Sequence[JsonObject], versions: Versions, collisions: int, now: datetime
) -> tuple[JsonObject, timedelta | None]:
    """The status to show, and when a pod that is ready now will count as available."""
    minimum = minimum_ready(stateful_set)
    members = [pod for pod in pods if ordinal_of(stateful_set, pod) is not None]
    ready = [pod for pod in members if is_ready(pod)]
    status: JsonObject = {
        "observedGeneration": stateful_set["metadata"].get("generation", 0),
        "replicas": len(members),
        "availableReplicas": sum(is_available(pod, minimum, now) for pod in ready),
        "currentRevision": versions.current_name,
        "updateRevision": versions.update_name,
        "collisionCount": collisions,
    }
    counts = {
        "readyReplicas": len(ready),
        "currentReplicas": _of_revision(members, versions.current_name),
        "updatedReplicas": _of_revision(members, versions.update_name),
    }
    if _has_updated(stateful_set, len(members), counts):
        counts["currentReplicas"] = counts["updatedReplicas"]
        status["currentRevision"] = versions.update_name
    status.update(dict(_positive(counts)))
    return status, next_available(members, minimum, now)


def _positive(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    return ((name, count) for name, count in counts.items() if count)


def _of_revision(pods: Iterable[JsonObject], name: str) -> int:
    return sum(labels(pod).get(POD_HASH_LABEL) == name and not is_being_deleted(pod) for pod in pods)


def _has_updated(stateful_set: JsonObject, replicas: int, counts: Mapping[str, int]) -> bool:
    wanted = len(ordinals(stateful_set))
    is_rolling = (stateful_set["spec"].get("updateStrategy") or {}).get("type") != "OnDelete"
    return is_rolling and {replicas, counts["readyReplicas"], counts["updatedReplicas"]} == {wanted}
