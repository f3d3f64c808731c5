"""Pods: graceful deletion, quality of service, and what admission fills in."""

from __future__ import annotations

import random
from dataclasses import dataclass

from nodeport.api import schema
from nodeport.api.meta import JsonObject
from nodeport.api.pods import qos_class
from nodeport.api.resources import PODS
from nodeport.api.validation.podsubresources import (
    EPHEMERAL_CONTAINERS,
    RESIZE,
    keep_but_ephemeral_containers,
    keep_but_resources,
)
from nodeport.apiserver.strategies.base import Strategy, WriteContext, restore
from nodeport.apiserver.strategies.podadmission import admit_pod, fit_limit_ranges
from nodeport.store.base import Store

DEFAULT_GRACE_SECONDS = 30
EVICTION_SECONDS = 300
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
DEFAULT_ACCOUNT = "default"
_METADATA_OF_STATUS = ("labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp")
"""What no subresource writes."""
_WRITTEN = {EPHEMERAL_CONTAINERS: ("ephemeralContainers",), RESIZE: ("containers", "initContainers")}
_GATED: JsonObject = {
    "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
    "lastProbeTime": None, "lastTransitionTime": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tolerated:
    """How many seconds pods that say nothing stay on a node that failed, by the taint it gets."""

    not_ready: int = EVICTION_SECONDS
    unreachable: int = EVICTION_SECONDS


class PodStrategy(Strategy):
    status_resets = ("metadata.deletionTimestamp", "metadata.ownerReferences")

    def __init__(self, rng: random.Random, tolerated: Tolerated = Tolerated()) -> None:
        super().__init__(PODS)
        self._rng = rng
        self._tolerated = ((NOT_READY, tolerated.not_ready), (UNREACHABLE, tolerated.unreachable))

    def begin_create_defaults(self, obj: JsonObject) -> None:
        """What the admission plugins ServiceAccount and DefaultTolerationSeconds fill in."""
        spec = obj.setdefault("spec", {})
        spec["serviceAccountName"] = (
            spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT_ACCOUNT
        )
        spec["serviceAccount"] = spec["serviceAccountName"]
        tolerations = spec.get("tolerations") or []
        for taint, seconds in self._tolerated:
            if not any(_tolerates(each, taint) for each in tolerations):
                added = {"key": taint, "operator": "Exists", "effect": "NoExecute"}
                tolerations.append({**added, "tolerationSeconds": seconds})
        spec["tolerations"] = tolerations

    def complete(self, obj: JsonObject) -> None:
        """``podIP`` is the first of ``podIPs``; whoever writes only one of them, or both unlike, means ``podIP``."""
        status = obj.get("status") or {}
        address, listed = status.get("podIP"), status.get("podIPs")
        if address and (not listed or listed[0].get("ip") != address):
            status["podIPs"] = [{"ip": address}]
        elif listed and not address:
            status["podIP"] = listed[0].get("ip") or ""

    async def admit(self, obj: JsonObject, store: Store) -> None:
        await admit_pod(obj, store, self._rng)

    def prepare_create(self, obj: JsonObject, context: WriteContext) -> None:
        self.begin_create_defaults(obj)
        super().prepare_create(obj, context)

    def initial_status(self, obj: JsonObject) -> JsonObject:
        status: JsonObject = {"phase": "Pending", "qosClass": qos_class(obj)}
        if obj["spec"].get("schedulingGates"):
            status["conditions"] = [dict(_GATED)]
        return status

    def prepare_status_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        super().prepare_status_update(new, old, context)
        restore(new["metadata"], old["metadata"], "ownerReferences")
        status = new.setdefault("status", {})
        if kept := (old.get("status") or {}).get("qosClass"):
            status.setdefault("qosClass", kept)

    async def admit_way(self, way: str, obj: JsonObject, store: Store) -> None:
        if way == RESIZE:
            await fit_limit_ranges(obj, store)

    def prepare_way(self, way: str, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        if way == EPHEMERAL_CONTAINERS:
            keep_but_ephemeral_containers(new, old)
        elif way == RESIZE:
            keep_but_resources(new, old)
        else:
            return
        restore(new, old, "status")
        for field in _METADATA_OF_STATUS:
            restore(new["metadata"], old["metadata"], field)

    def counts_generation(self, way: str) -> bool:
        return way in ("", EPHEMERAL_CONTAINERS, RESIZE)

    def reset_fields(self, subresource: str) -> tuple[str, ...]:
        written = _WRITTEN.get(subresource)
        if written is None:
            return super().reset_fields(subresource)
        spec = schema.schema_of("io.k8s.api.core.v1.PodSpec")["properties"]
        kept = (f"spec.{field}" for field in spec if field not in written)
        return ("status", *(f"metadata.{field}" for field in _METADATA_OF_STATUS), *kept)

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
