"""What a pod's status says, from what is known of its containers. Pure.

Rule source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.kit.clock import parse_rfc3339, rfc3339
from nodeport.node.resizing import ResizeState
from nodeport.node.runtime import ContainerExit

CRASH_LOOP_FIRST = timedelta(seconds=10)
CRASH_LOOP_MOST = timedelta(seconds=300)
CRASH_LOOP_FORGET = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a container as its status shows it."""

    attempt: int
    container_id: str
    started_at: datetime
    exit: ContainerExit | None = None


@dataclass(frozen=True, slots=True)
class ContainerView:
    """All that is known of one container. ``waiting``: (reason, message) of why there is no new run yet;
    ``hooking``: its postStart hook runs, until then it counts as being created; ``anew``: it has another run to come,
    however the last one ended. ``spec`` has the resources that it has, ``allocated`` is what it is to have."""

    spec: Mapping[str, Any]
    current: Run | None = None
    previous: Run | None = None
    waiting: tuple[str, str] | None = None
    started: bool = False
    ready: bool = False
    hooking: bool = False
    anew: bool = False
    image: str = ""
    image_id: str = ""
    allocated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        return self.current is not None and self.current.exit is None

    @property
    def exit_code(self) -> int | None:
        """None unless the current run has ended."""
        return self.current.exit.code if self.current and self.current.exit else None


@dataclass(frozen=True, slots=True)
class PodView:
    """``host_ips``, ``pod_ips``: the primary one first; the latter are empty until there is a sandbox.
    ``sandboxed``: the pod's namespaces exist. ``final``: nothing will be started again (the pod is going).
    ``lost``: the last statuses of ephemeral containers that are no more. ``resize``: what is true of one."""

    pod: JsonObject
    host_ips: Sequence[str]
    pod_ips: Sequence[str]
    started_at: datetime
    containers: Sequence[ContainerView]
    init_containers: Sequence[ContainerView] = ()
    sandboxed: bool = True
    starting_over: bool = False
    final: bool = False
    failure: tuple[str, str] | None = field(default=None)
    disruption: str = ""
    ephemeral_containers: Sequence[ContainerView] = ()
    lost: Sequence[JsonObject] = ()
    resize: ResizeState = field(default_factory=ResizeState)


def restarts(container: Mapping[str, Any], pod_policy: str, exit_code: int, *, initial: bool = False) -> bool:
    """Whether a container that ended so is started again: by its own rules, its own policy, or the pod's.

    ``initial``: an init container. One that succeeded is done whatever the pod's policy, unless it is a sidecar.
    """
    if _action(container, exit_code):
        return True
    own = container.get("restartPolicy")
    policy = own or ("OnFailure" if initial and pod_policy == "Always" else pod_policy)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def restarts_all(container: Mapping[str, Any], exit_code: int) -> bool:
    """Whether a container that ended so has the whole pod begin anew, by its own rules."""
    return _action(container, exit_code) == "RestartAllContainers"


def _action(container: Mapping[str, Any], exit_code: int) -> str:
    """Of the first of the container's rules that matches; empty when none does."""
    rules = container.get("restartPolicyRules") or ()
    return next((rule["action"] for rule in rules if _matches(rule.get("exitCodes") or {}, exit_code)), "")


def _matches(codes: Mapping[str, Any], exit_code: int) -> bool:
    listed = exit_code in (codes.get("values") or ())
    return not listed if codes.get("operator") == "NotIn" else listed


def crash_delay(restart: int) -> timedelta:
    """How long after its end a container is started for the ``restart``-th time in a row (from 1): 0, 10 s, 20 s …"""
    if restart <= 1:
        return timedelta(0)
    doublings: int = min(restart - 2, 10)
    return min(CRASH_LOOP_FIRST * (1 << doublings), CRASH_LOOP_MOST)


def is_restartable_init(container: Mapping[str, Any]) -> bool:
    """A sidecar: an init container that goes on running."""
    return container.get("restartPolicy") == "Always"


def initialized(view: PodView) -> bool:
    """Once a container of the pod has run its init containers are done, whatever becomes of its sidecars."""
    if any(one.current is not None and not one.anew for one in view.containers):
        return True
    return all(
        one.started if is_restartable_init(one.spec) else one.exit_code == 0 and not one.anew
        for one in view.init_containers
    )  # fmt: skip


def phase(view: PodView) -> str:
    """Pending, Running, Succeeded or Failed."""
    if view.failure and not any(one.is_running for one in (*view.init_containers, *view.containers)):
        return "Failed"
    policy = view.pod["spec"].get("restartPolicy") or "Always"
    if not initialized(view):
        failed = any(
            (one.exit_code or 0) != 0 and not one.anew
            and not restarts(one.spec, policy, one.exit_code or 0, initial=True)
            for one in view.init_containers
        )  # fmt: skip
        if failed or (view.final and view.init_containers):
            return "Failed"
        return "Running" if any(one.anew for one in view.containers) else "Pending"
    never_ran = [one for one in view.containers if one.current is None]
    if never_ran and not view.final:
        return "Pending"
    if any(one.is_running for one in view.containers):
        return "Running"
    again = (
        one.anew or (one.exit_code is not None and restarts(one.spec, policy, one.exit_code))
        for one in view.containers
    )  # fmt: skip
    if not view.final and any(again):
        return "Running"
    return "Succeeded" if all(one.exit_code == 0 for one in view.containers) else "Failed"


def status(view: PodView, now: datetime) -> JsonObject:
    """The node's part of the pod's status, as a strategic merge patch of ``status``."""
    found: JsonObject = {
        "phase": phase(view),
        "hostIP": view.host_ips[0],
        "hostIPs": [{"ip": each} for each in view.host_ips],
        "startTime": rfc3339(view.started_at),
        "observedGeneration": view.pod["metadata"].get("generation"),
    }
    if not _is_rejected(view):
        found |= _container_statuses(view)
    if view.pod_ips:
        found |= {"podIP": view.pod_ips[0], "podIPs": [{"ip": each} for each in view.pod_ips]}
    if view.failure and found["phase"] == "Failed":
        found["reason"], found["message"] = view.failure
    found["conditions"] = conditions(view, found["phase"], now)
    return {key: value for key, value in found.items() if value is not None}


def _is_rejected(view: PodView) -> bool:
    """The node refused the pod: there are no containers to tell of, and the reason is what kubectl is to show."""
    every = (*view.init_containers, *view.containers)
    return view.failure is not None and all(one.current is None and not one.waiting for one in every)


def _container_statuses(view: PodView) -> JsonObject:
    found: JsonObject = {"containerStatuses": [container_status(one, view) for one in view.containers]}
    if view.init_containers:
        found["initContainerStatuses"] = [
            container_status(one, view, initial=True) for one in view.init_containers
        ]
    if view.ephemeral_containers or view.lost:
        found["ephemeralContainerStatuses"] = [
            *view.lost, *(_ephemeral_status(one, view) for one in view.ephemeral_containers)
        ]  # fmt: skip
    return found


def container_status(one: ContainerView, view: PodView, *, initial: bool = False) -> JsonObject:
    """``initial``: an init container, which counts as ready once it has succeeded."""
    last = one.previous
    if one.waiting:
        state: JsonObject = {"waiting": _without_empty({"reason": one.waiting[0], "message": one.waiting[1]})}
        if one.current and one.current.exit:
            last = one.current
    elif one.current is None or (one.hooking and one.is_running):
        waits_for_init = bool(view.init_containers) and not initialized(view)
        state = {"waiting": {"reason": "PodInitializing" if waits_for_init else "ContainerCreating"}}
    elif one.current.exit is None:
        state = {"running": {"startedAt": rfc3339(one.current.started_at)}}
    else:
        state = {"terminated": terminated(one.current, one.current.exit)}
    found: JsonObject = {
        "name": one.spec["name"],
        "image": one.image or one.spec.get("image") or "",
        "imageID": one.image_id if one.current else "",
        "ready": one.ready or (initial and one.exit_code == 0 and not is_restartable_init(one.spec)),
        "started": one.is_running and one.started and not one.hooking,
        "restartCount": one.current.attempt if one.current else 0,
        "state": state,
        "lastState": {"terminated": terminated(last, last.exit)} if last and last.exit else {},
    }
    if one.current:
        found["containerID"] = one.current.container_id
    if one.is_running:
        found["resources"] = one.spec.get("resources") or {}
    if requests := one.allocated.get("requests"):
        found["allocatedResources"] = requests
    return found


def _ephemeral_status(one: ContainerView, view: PodView) -> JsonObject:
    """Nobody asks whether it is ready or has started."""
    found = container_status(one, view)
    del found["started"]
    return {**found, "ready": False}


def terminated(run: Run, ended: ContainerExit) -> JsonObject:
    reason = ended.reason or ("Completed" if ended.code == 0 else "Error")
    found = {
        "exitCode": ended.code, "reason": reason, "message": ended.message, "containerID": run.container_id,
        "startedAt": rfc3339(run.started_at), "finishedAt": rfc3339(ended.finished_at),
    }  # fmt: skip
    return {key: value for key, value in found.items() if value != ""}


def conditions(view: PodView, pod_phase: str, now: datetime) -> list[JsonObject]:
    """The node's conditions; a transition time is kept while the condition keeps its status."""
    over = pod_phase in ("Succeeded", "Failed")
    sidecars = [one for one in view.init_containers if is_restartable_init(one.spec)]
    unready = [one.spec["name"] for one in (*sidecars, *view.containers) if not one.ready]
    not_initialized = (
        [] if initialized(view) else [one.spec["name"] for one in view.init_containers if one.exit_code != 0]
    )
    if over:
        why = ("PodCompleted", "") if pod_phase == "Succeeded" else ("PodFailed", "")
        ready_why = why
    else:
        ready_why = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    all_ready = not unready and not over
    gates_open, gates_why = _readiness_gates(view.pod)
    wanted = [
        ("PodReadyToStartContainers", view.sandboxed, ("", "")),
        ("Initialized", not not_initialized,
         ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(not_initialized)}]")),
        ("ContainersReady", all_ready, ready_why),
        ("Ready", all_ready and gates_open, ready_why if not all_ready else gates_why),
        ("PodScheduled", True, ("", "")),
    ]  # fmt: skip
    before = {item["type"]: item for item in (view.pod.get("status") or {}).get("conditions") or ()}
    generation = view.pod["metadata"].get("generation")
    found = [_condition(kind, holds, why, before.get(kind), now, generation) for kind, holds, why in wanted]
    if view.starting_over or "AllContainersRestarting" in before:
        known = before.get("AllContainersRestarting")
        found.append(
            _condition("AllContainersRestarting", view.starting_over, ("", ""), known, now, generation)
        )
    if view.disruption:
        disrupted = _condition(
            "DisruptionTarget", True, ("", ""), before.get("DisruptionTarget"), now, generation
        )
        found.append({**disrupted, "reason": "TerminationByKubelet", "message": view.disruption})
    for kind, (reason, message) in view.resize.conditions():
        told = _condition(kind, True, ("", ""), before.get(kind), now, generation)
        found.append({**told, **_without_empty({"reason": reason, "message": message})})
    return found


def _readiness_gates(pod: JsonObject) -> tuple[bool, tuple[str, str]]:
    held = {item["type"]: item.get("status") for item in (pod.get("status") or {}).get("conditions") or ()}
    missing = [
        gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()
        if held.get(gate["conditionType"]) != "True"
    ]  # fmt: skip
    words = ", ".join(
        f'the status of pod readiness gate "{kind}" is not "True", but {held[kind]}'
        if kind in held
        else f'corresponding condition of pod readiness gate "{kind}" does not exist.'
        for kind in missing
    )
    return not missing, ("ReadinessGatesNotReady", words)


def _condition(
    kind: str,
    holds: bool,
    why: tuple[str, str],
    before: JsonObject | None,
    now: datetime,
    generation: int | None,
) -> JsonObject:
    value = "True" if holds else "False"
    same = before is not None and before.get("status") == value and before.get("lastTransitionTime")
    found: JsonObject = {
        "type": kind,
        "status": value,
        "observedGeneration": generation,
        "lastProbeTime": None,
        "lastTransitionTime": before["lastTransitionTime"] if same and before else rfc3339(now),
        "reason": None if holds else why[0] or None,
        "message": None if holds else why[1] or None,
    }
    keep = ("lastProbeTime", "reason", "message") if before else ("lastProbeTime",)
    return {key: value for key, value in found.items() if value is not None or key in keep}


def started_at(pod: JsonObject, now: datetime) -> datetime:
    """When the pod's node first acknowledged it."""
    text = (pod.get("status") or {}).get("startTime")
    return parse_rfc3339(text) if text else now


def _without_empty(found: JsonObject) -> JsonObject:
    return {key: value for key, value in found.items() if value}
