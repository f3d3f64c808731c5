"""Which pods a ReplicaSet or ReplicationController makes or removes, and what its status says: pure.

Order of deletion and batch sizes: the ReplicaSet controller of Kubernetes 1.36.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nodeport.api.meta import JsonObject, is_being_deleted, labels
from nodeport.controllers import conditions
from nodeport.controllers.availability import until_available
from nodeport.controllers.podcontrol import is_active
from nodeport.controllers.selection import is_ready, ready_condition
from nodeport.kit.clock import parse_rfc3339, rfc3339

MAX_BURST = 500
"""At most so many pods are made or removed before their arrival in the cache is awaited."""

FIRST_BATCH = 1
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """``create`` pods to make and the pods to ``delete``; one of them is always empty."""

    create: int = 0
    delete: tuple[JsonObject, ...] = ()


def plan_replicas(replica_set: JsonObject, pods: Iterable[JsonObject], now: datetime) -> ReplicaPlan:
    """``pods`` are the ReplicaSet's own; those finished or on their way out count for nothing."""
    if is_being_deleted(replica_set):
        return ReplicaPlan()
    active = [pod for pod in pods if is_active(pod)]
    wanted = replica_set["spec"].get("replicas", 1)
    missing = min(wanted - len(active), MAX_BURST)
    if missing >= 0:
        return ReplicaPlan(create=missing)
    return ReplicaPlan(delete=tuple(_worst_first(active, now)[: min(-missing, MAX_BURST)]))


def batches(count: int) -> Iterator[int]:
    """1, 2, 4, …: a template that the API refuses costs one refusal, not five hundred."""
    size = FIRST_BATCH
    while count > 0:
        yield min(size, count)
        count -= size
        size *= 2


# --- deletion


def _worst_first(pods: Sequence[JsonObject], now: datetime) -> list[JsonObject]:
    """Least worth keeping first: unassigned, pending, not ready, cheap to delete, crowded together, young."""
    crowd = Counter(pod["spec"].get("nodeName") or "" for pod in pods)
    return sorted(pods, key=lambda pod: _worth(pod, crowd, now))


def _worth(pod: JsonObject, crowd: Mapping[str, int], now: datetime) -> tuple[float, ...]:
    node = pod["spec"].get("nodeName") or ""
    phase = (pod.get("status") or {}).get("phase") or "Pending"
    ready = is_ready(pod)
    return (
        1 if node else 0,
        {"Pending": 0, "Unknown": 1}.get(phase, 2),
        1 if ready else 0,
        _deletion_cost(pod),
        -crowd[node],
        _age_bucket(ready_condition(pod).get("lastTransitionTime"), now) if ready else 0,
        -_restarts(pod),
        _age_bucket(pod["metadata"].get("creationTimestamp"), now),
    )


def _deletion_cost(pod: JsonObject) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0")
    try:
        return int(text)
    except ValueError:
        return 0


def _age_bucket(since: str | None, now: datetime) -> float:
    """Ages are compared by powers of ten, as Kubernetes has it since 1.21: equal ones are left to chance."""
    if not since:
        return 0
    age = (now - parse_rfc3339(since)).total_seconds()
    return math.floor(math.log10(age)) + 1 if age >= 1 else 0


def _restarts(pod: JsonObject) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return max((status.get("restartCount") or 0 for status in statuses), default=0)


# --- status


def replica_status(
    replica_set: JsonObject, pods: Iterable[JsonObject], now: datetime, failure: str
) -> tuple[JsonObject, timedelta | None]:
    """The status to show, and when a pod that is ready now will count as available; ``failure`` empty for
    none.
    """
    active = [pod for pod in pods if is_active(pod)]
    template_labels = (replica_set["spec"]["template"].get("metadata") or {}).get("labels") or {}
    minimum = timedelta(seconds=replica_set["spec"].get("minReadySeconds") or 0)
    ready = [pod for pod in active if is_ready(pod)]
    waits = [until_available(pod, minimum, now) for pod in ready]
    status: JsonObject = {"replicas": len(active)}
    counts = {
        "fullyLabeledReplicas": sum(template_labels.items() <= labels(pod).items() for pod in active),
        "readyReplicas": len(ready),
        "availableReplicas": sum(not wait for wait in waits),
    }
    status.update((name, count) for name, count in counts.items() if count)
    status["observedGeneration"] = replica_set["metadata"].get("generation", 0)
    listed = _failure_condition(replica_set, len(active), failure, now)
    if listed:
        status["conditions"] = listed
    return status, min((wait for wait in waits if wait), default=None)


def _failure_condition(replica_set: JsonObject, count: int, failure: str, now: datetime) -> list[JsonObject]:
    before = (replica_set.get("status") or {}).get("conditions")
    if not failure:
        return conditions.removed(before, "ReplicaFailure")
    missing = replica_set["spec"].get("replicas", 1) - count
    condition = {
        "type": "ReplicaFailure",
        "status": "True",
        "lastTransitionTime": rfc3339(now),
        "reason": "FailedCreate" if missing > 0 else "FailedDelete",
        "message": failure,
    }
    return conditions.replaced(before, condition)
