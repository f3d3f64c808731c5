"""What a node's silence means: conditions, taints, and which pods must go. Pure.

Rules: the node lifecycle and taint eviction controllers of Kubernetes 1.36, for one zone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from nodeport.api.meta import JsonObject
from nodeport.api.taints import tolerates
from nodeport.controllers import conditions
from nodeport.kit.clock import bounded_seconds, parse_rfc3339, rfc3339

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"

DEFAULT_TOLERATION = timedelta(seconds=300)
"""What admission gives pods that say nothing about the two taints of a failed node."""

_WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_PRESSURES = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure", "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
}  # fmt: skip
_OURS = (NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_PRESSURES.values())


def ready_status(node: JsonObject) -> str:
    """True, False or Unknown; Unknown for a node that never said."""
    found = conditions.find((node.get("status") or {}).get("conditions"), "Ready")
    return str((found or {}).get("status") or "Unknown")


def unknown_conditions(node: JsonObject, now: datetime) -> list[JsonObject]:
    """The conditions to patch in for a node that fell silent; empty when they say so already."""
    listed = (node.get("status") or {}).get("conditions")
    changed = []
    for kind in _WATCHED:
        found = conditions.find(listed, kind)
        if (found is None and kind != "Ready") or (found or {}).get("status") == "Unknown":
            continue
        changed.append(
            {
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusUnknown" if found else "NodeStatusNeverUpdated",
                "message": "Kubelet stopped posting node status."
                if found
                else "Kubelet never posted node status.",
                "lastHeartbeatTime": (found or {}).get("lastHeartbeatTime")
                or node["metadata"].get("creationTimestamp"),
                "lastTransitionTime": rfc3339(now),
            }
        )
    return changed


def wanted_taints(node: JsonObject, now: datetime) -> list[JsonObject]:
    """The node's taints with ours as its condition asks; those of others stay, old ones keep their time."""
    before = (node.get("spec") or {}).get("taints") or []
    wanted: list[tuple[str, str]] = []
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.append((UNSCHEDULABLE, "NoSchedule"))
    listed = (node.get("status") or {}).get("conditions")
    for kind, taint in _PRESSURES.items():
        if (conditions.find(listed, kind) or {}).get("status") == "True":
            wanted.append((taint, "NoSchedule"))
    failure = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(ready_status(node))
    if failure is not None:
        wanted += [(failure, "NoSchedule"), (failure, "NoExecute")]
    taints = [taint for taint in before if not _is_ours(taint) or _name(taint) in wanted]
    there = {_name(taint) for taint in taints}
    for key, effect in wanted:
        if (key, effect) not in there:
            taints.append({"key": key, "effect": effect, "timeAdded": rfc3339(now)})
    return taints


def _name(taint: JsonObject) -> tuple[str, str]:
    return taint["key"], taint.get("effect") or ""


def _is_ours(taint: JsonObject) -> bool:
    return taint["key"] in _OURS and taint.get("effect") in ("NoSchedule", "NoExecute")


def evict_at(pod: JsonObject, taints: Iterable[JsonObject]) -> datetime | None:
    """When the node's NoExecute taints drive the pod away; None for never. The past means now."""
    times = [_bearable_until(pod, taint) for taint in taints if taint.get("effect") == "NoExecute"]
    return min((time for time in times if time is not None), default=None)


def _bearable_until(pod: JsonObject, taint: JsonObject) -> datetime | None:
    added = parse_rfc3339(taint["timeAdded"]) if taint.get("timeAdded") else datetime.min.replace(tzinfo=UTC)
    matching = [found for found in pod["spec"].get("tolerations") or () if tolerates(found, taint)]
    if not matching:
        return added + DEFAULT_TOLERATION if taint["key"] in (NOT_READY, UNREACHABLE) else added
    limits = [found["tolerationSeconds"] for found in matching if found.get("tolerationSeconds") is not None]
    return added + bounded_seconds(max(0, min(limits))) if limits else None
