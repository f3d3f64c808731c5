"""What a Deployment says about itself: counts and conditions that ``kubectl rollout status`` reads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from nodeport.api.meta import JsonObject
from nodeport.controllers import conditions
from nodeport.controllers.deployment.rollout import bounds_of, counted, size
from nodeport.kit.clock import parse_rfc3339, rfc3339

PROGRESSING = "Progressing"
_NO_DEADLINE = 2147483647


def deployment_status(
    deployment: JsonObject,
    new: JsonObject | None,
    replica_sets: Sequence[JsonObject],
    now: datetime,
    *,
    created: bool = False,
) -> JsonObject:
    """``replica_sets`` include ``new``; ``created``: that one was made in this pass."""
    before = deployment.get("status") or {}
    available = sum(counted(found, "availableReplicas") for found in replica_sets)
    counts = {
        "replicas": sum(counted(found, "replicas") for found in replica_sets),
        "updatedReplicas": counted(new, "replicas") if new is not None else 0,
        "readyReplicas": sum(counted(found, "readyReplicas") for found in replica_sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(map(size, replica_sets)) - available),
        "collisionCount": before.get("collisionCount") or 0,
    }
    status: JsonObject = {name: count for name, count in counts.items() if count}
    status["observedGeneration"] = deployment["metadata"].get("generation", 0)
    listed = conditions.replaced(before.get("conditions"), _availability(deployment, available, now))
    progress = _progress(deployment, status, new, now, created=created)
    if progress is not None:
        listed = _with_progress(listed, progress)
    failure = next(filter(None, (_failure(found) for found in replica_sets)), None)
    listed = conditions.removed(listed, "ReplicaFailure")
    status["conditions"] = [*listed, failure] if failure is not None else listed
    return status


def is_complete(deployment: JsonObject, status: JsonObject) -> bool:
    """Every replica is of the newest template and available, and no other is left."""
    wanted = deployment["spec"].get("replicas", 1)
    fields = ("updatedReplicas", "replicas", "availableReplicas")
    return all((status.get(field) or 0) == wanted for field in fields) and (
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )


def until_deadline(deployment: JsonObject, status: JsonObject, now: datetime) -> timedelta | None:
    """When to look whether the rollout is stuck; None when it cannot be."""
    limit = _deadline(deployment)
    progress = conditions.find(status.get("conditions"), PROGRESSING)
    if limit is None or progress is None or is_complete(deployment, status):
        return None
    if progress.get("reason") in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        return None
    due = parse_rfc3339(progress["lastUpdateTime"]) + limit - now
    return max(due, timedelta()) + timedelta(seconds=1)


def _deadline(deployment: JsonObject) -> timedelta | None:
    seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
    return None if seconds is None or seconds >= _NO_DEADLINE else timedelta(seconds=seconds)


def _condition(kind: str, status: str, reason: str, message: str, now: datetime) -> JsonObject:
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": rfc3339(now),
        "lastTransitionTime": rfc3339(now),
        "reason": reason,
        "message": message,
    }


def _availability(deployment: JsonObject, available: int, now: datetime) -> JsonObject:
    bounds = bounds_of(deployment)
    if available >= bounds.minimum_available:
        text = "Deployment has minimum availability."
        return _condition("Available", "True", "MinimumReplicasAvailable", text, now)
    text = "Deployment does not have minimum availability."
    return _condition("Available", "False", "MinimumReplicasUnavailable", text, now)


def _progress(
    deployment: JsonObject, status: JsonObject, new: JsonObject | None, now: datetime, *, created: bool
) -> JsonObject | None:
    """The Progressing condition to set; None leaves it as it is."""
    before = deployment.get("status") or {}
    found = conditions.find(before.get("conditions"), PROGRESSING)
    limit = _deadline(deployment)
    if limit is None:
        return None
    if deployment["spec"].get("paused") or (found or {}).get("reason") == "DeploymentPaused":
        return _pause(deployment, found, now)
    name = new["metadata"]["name"] if new is not None else deployment["metadata"]["name"]
    if created:
        text = f'Created new replica set "{name}"'
        return _condition(PROGRESSING, "True", "NewReplicaSetCreated", text, now)
    is_settled = (found or {}).get("reason") == "NewReplicaSetAvailable"
    if is_settled and (status.get("replicas") or 0) == (status.get("updatedReplicas") or 0):
        return None  # availability may come and go later; the rollout is over
    if is_complete(deployment, status):
        text = f'ReplicaSet "{name}" has successfully progressed.'
        return _condition(PROGRESSING, "True", "NewReplicaSetAvailable", text, now)
    if _moved(before, status) or found is None or is_settled:
        text = f'ReplicaSet "{name}" is progressing.'
        return _condition(PROGRESSING, "True", "ReplicaSetUpdated", text, now)
    if parse_rfc3339(found["lastUpdateTime"]) + limit < now:
        text = f'ReplicaSet "{name}" has timed out progressing.'
        return _condition(PROGRESSING, "False", "ProgressDeadlineExceeded", text, now)
    return None


def _pause(deployment: JsonObject, found: JsonObject | None, now: datetime) -> JsonObject | None:
    if not deployment["spec"].get("paused"):
        return _condition(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now)
    if (found or {}).get("reason") == "DeploymentPaused":
        return None
    return _condition(PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused", now)


def _moved(before: JsonObject, after: JsonObject) -> bool:
    def old_count(status: JsonObject) -> int:
        return (status.get("replicas") or 0) - (status.get("updatedReplicas") or 0)

    grown = any(
        (after.get(field) or 0) > (before.get(field) or 0)
        for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return grown or old_count(after) < old_count(before)


def _with_progress(listed: list[JsonObject], progress: JsonObject) -> list[JsonObject]:
    """Progress counts from its last sign, so its update time moves although status and reason may not."""
    old = conditions.find(listed, PROGRESSING)
    if old is not None and old["status"] == progress["status"]:
        same_moment = old.get("reason") == progress["reason"] == "ProgressDeadlineExceeded"
        if same_moment:
            return listed
        progress = {
            **progress,
            "lastTransitionTime": old.get("lastTransitionTime", progress["lastTransitionTime"]),
        }
    return [*conditions.removed(listed, PROGRESSING), progress]


def _failure(replica_set: JsonObject) -> JsonObject | None:
    """A ReplicaSet that cannot make its pods is the Deployment's failure as well."""
    status = replica_set.get("status") or {}
    found = conditions.find(status.get("conditions"), "ReplicaFailure")
    if found is None:
        return None
    return {**found, "lastUpdateTime": found.get("lastTransitionTime")}
