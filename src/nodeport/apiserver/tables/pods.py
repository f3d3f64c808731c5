"""Pods: the one word that sums up a pod's state is worked out from all of its containers."""

from __future__ import annotations

from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    Cells,
    Column,
    Printer,
    age,
    name_of,
    since,
    wide,
)

NODE_LOST = "NodeLost"


def _pod(obj: JsonObject, now: datetime) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    statuses = status.get("containerStatuses") or []
    sidecars = _sidecars(spec, status)
    total = len(spec.get("containers") or []) + len(_sidecar_names(spec))
    ready = sum(1 for each in (*statuses, *sidecars) if each.get("ready"))
    addresses = [each.get("ip", "") for each in status.get("podIPs") or []]
    return [
        name_of(obj), f"{ready}/{total}", pod_status(obj), restarts(obj, now), age(obj, now),
        (addresses[0] if addresses else status.get("podIP")) or NONE, spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE, _gates(spec, status),
    ]  # fmt: skip


def _sidecar_names(spec: JsonObject) -> set[str]:
    return {
        each["name"] for each in spec.get("initContainers") or [] if each.get("restartPolicy") == "Always"
    }


def _sidecars(spec: JsonObject, status: JsonObject) -> list[JsonObject]:
    names = _sidecar_names(spec)
    return [each for each in status.get("initContainerStatuses") or [] if each.get("name") in names]


def pod_status(pod: JsonObject) -> str:
    """kubectl's STATUS: the reason that matters most."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    shown = status.get("reason") or status.get("phase") or ""
    if _condition(status, "PodScheduled").get("reason") == "SchedulingGated":
        shown = "SchedulingGated"
    shown = _initializing(spec, status) or _containers_status(status, shown)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == NODE_LOST:
            return "Unknown"
        if status.get("phase") not in ("Succeeded", "Failed"):
            return "Terminating"
    return shown


def _condition(status: JsonObject, kind: str) -> JsonObject:
    return next((each for each in status.get("conditions") or [] if each.get("type") == kind), {})


def _initializing(spec: JsonObject, status: JsonObject) -> str:
    """``Init:...`` while an init container holds the pod up, else empty."""
    sidecars = _sidecar_names(spec)
    containers = spec.get("initContainers") or []
    for index, each in enumerate(status.get("initContainerStatuses") or []):
        state = each.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended and not ended.get("exitCode"):
            continue
        if each.get("name") in sidecars and each.get("started"):
            continue
        if ended:
            return f"Init:{ended.get('reason') or _ending(ended)}"
        if waiting and waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(containers)}"
    return ""


def _ending(ended: JsonObject) -> str:
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _containers_status(status: JsonObject, shown: str) -> str:
    """The first container's trouble wins over the others'; a completed one beside a running one is no end."""
    running = False
    for each in reversed(status.get("containerStatuses") or []):
        state = each.get("state") or {}
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            shown = waiting["reason"]
        elif ended:
            shown = ended.get("reason") or _ending(ended)
        elif each.get("ready") and state.get("running") is not None:
            running = True
    if shown == "Completed" and running:
        return "Running" if _condition(status, "Ready").get("status") == "True" else "NotReady"
    return shown


def restarts(pod: JsonObject, now: datetime) -> str:
    """How often containers were restarted, and when last."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    counted = [*_sidecars(spec, status), *(status.get("containerStatuses") or [])]
    if _initializing(spec, status):
        counted = list(status.get("initContainerStatuses") or [])
    total = sum(each.get("restartCount") or 0 for each in counted)
    ends = [((each.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for each in counted]
    last = max((moment for moment in ends if moment), default=None)
    return f"{total} ({since(last, now)} ago)" if total and last else str(total)


def _gates(spec: JsonObject, status: JsonObject) -> str:
    gates = [each.get("conditionType") for each in spec.get("readinessGates") or []]
    if not gates:
        return NONE
    good = sum(1 for gate in gates if _condition(status, str(gate)).get("status") == "True")
    return f"{good}/{len(gates)}"


POD = Printer(
    (
        NAME, Column("Ready"), Column("Status"), Column("Restarts"), AGE, wide("IP"), wide("Node"),
        wide("Nominated Node"), wide("Readiness Gates"),
    ),
    _pod,
)  # fmt: skip
