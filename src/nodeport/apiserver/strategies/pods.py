"""Pods: graceful deletion, quality of service, and what admission fills in."""

from __future__ import annotations

import random
from collections.abc import Iterator

from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity
from nodeport.api.resources import PODS
from nodeport.apiserver.strategies.base import Strategy, WriteContext, restore
from nodeport.apiserver.strategies.podadmission import admit_pod
from nodeport.store.base import Store

DEFAULT_GRACE_SECONDS = 30
EVICTION_SECONDS = 300
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
DEFAULT_ACCOUNT = "default"
_MANAGED = ("cpu", "memory")
_GATED: JsonObject = {
    "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
    "lastProbeTime": None, "lastTransitionTime": None,
}  # fmt: skip


class PodStrategy(Strategy):
    status_resets = ("metadata.deletionTimestamp", "metadata.ownerReferences")

    def __init__(self, rng: random.Random) -> None:
        super().__init__(PODS)
        self._rng = rng

    def begin_create_defaults(self, obj: JsonObject) -> None:
        """What the admission plugins ServiceAccount and DefaultTolerationSeconds fill in."""
        spec = obj.setdefault("spec", {})
        spec["serviceAccountName"] = (
            spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT_ACCOUNT
        )
        spec["serviceAccount"] = spec["serviceAccountName"]
        tolerations = spec.get("tolerations") or []
        for taint in (NOT_READY, UNREACHABLE):
            if not any(_tolerates(each, taint) for each in tolerations):
                tolerations.append(
                    {
                        "key": taint, "operator": "Exists", "effect": "NoExecute",
                        "tolerationSeconds": EVICTION_SECONDS,
                    }
                )  # fmt: skip
        spec["tolerations"] = tolerations

    async def admit(self, obj: JsonObject, store: Store) -> None:
        await admit_pod(obj, store, self._rng)

    def prepare_create(self, obj: JsonObject, context: WriteContext) -> None:
        self.begin_create_defaults(obj)
        super().prepare_create(obj, context)

    def initial_status(self, obj: JsonObject) -> JsonObject:
        status: JsonObject = {"phase": "Pending", "qosClass": quality_of_service(obj)}
        if obj["spec"].get("schedulingGates"):
            status["conditions"] = [dict(_GATED)]
        return status

    def prepare_status_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        super().prepare_status_update(new, old, context)
        restore(new["metadata"], old["metadata"], "ownerReferences")
        status = new.setdefault("status", {})
        if kept := (old.get("status") or {}).get("qosClass"):
            status.setdefault("qosClass", kept)

    def begin_graceful_delete(self, obj: JsonObject, asked: int | None) -> int:
        """Unscheduled and finished pods go at once; the rest when the node says so, or after the grace period."""
        spec = obj.get("spec") or {}
        seconds = (
            asked if asked is not None else spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
        )
        if not spec.get("nodeName") or (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        return 1 if seconds < 0 else int(seconds)


def _tolerates(toleration: JsonObject, taint: str) -> bool:
    return toleration.get("key") in (None, "", taint) and toleration.get("effect") in (None, "", "NoExecute")


def quality_of_service(pod: JsonObject) -> str:
    """Guaranteed, Burstable or BestEffort, by the requests and limits of cpu and memory."""
    spec = pod.get("spec") or {}
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    found = [_resources(container) for container in containers]
    if not any(requests or limits for requests, limits in found):
        return "BestEffort"
    guaranteed = all(
        len(limits) == len(_MANAGED)
        and all(requests.get(name, limits[name]) == limits[name] for name in limits)
        for requests, limits in found
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _resources(container: JsonObject) -> tuple[dict[str, object], dict[str, object]]:
    resources = container.get("resources") or {}
    return dict(_positive(resources.get("requests") or {})), dict(_positive(resources.get("limits") or {}))


def _positive(quantities: JsonObject) -> Iterator[tuple[str, object]]:
    for name in _MANAGED:
        if name in quantities:
            amount = parse_quantity(str(quantities[name]))
            if amount > 0:
                yield name, amount
