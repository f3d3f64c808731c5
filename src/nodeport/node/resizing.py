"""A running pod that is to have other amounts of cpu and memory: whether it may, and what must be done. Pure.

Rule source: https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/
Reasons and texts are a kubelet's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity
from nodeport.api.quota import pod_amounts

PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
INFEASIBLE, DEFERRED, ERROR = "Infeasible", "Deferred", "Error"
RESIZED = ("cpu", "memory")
Amounts = Mapping[str, Fraction]
Reason = tuple[str, str]
"""(reason, message) of a condition."""


@dataclass(slots=True)
class Allocations:
    """What the pods of a node have been given, by uid; ``waiting`` are called when one leaves."""

    capacity: Mapping[str, str]
    waiting: dict[str, Any] = field(default_factory=dict)
    _held: dict[str, Amounts] = field(default_factory=dict)

    def hold(self, uid: str, amounts: Amounts) -> None:
        self._held[uid] = {name: amounts.get(name, Fraction()) for name in RESIZED}

    def release(self, uid: str) -> None:
        self.waiting.pop(uid, None)
        if self._held.pop(uid, None) is not None:
            for wake in list(self.waiting.values()):
                wake()

    def refusal(self, uid: str, wanted: Amounts) -> Reason | None:
        """Why the pod cannot have so much: ever, or as long as the others have what they have. None: it can."""
        for name in reversed(RESIZED):
            asked, there = wanted.get(name, Fraction()), parse_quantity(self.capacity.get(name, "0"))
            if asked > there:
                told = f"requested: {_whole(name, asked)}, capacity: {_whole(name, there)}"
                return INFEASIBLE, f"Node didn't have enough capacity: {name}, {told}"
        for name in RESIZED:
            asked, there = wanted.get(name, Fraction()), parse_quantity(self.capacity.get(name, "0"))
            used = sum((held[name] for other, held in self._held.items() if other != uid), Fraction())
            if asked and asked + used > there:
                amounts = (_whole(name, each) for each in (asked, used, there))
                told = ", ".join(map("{}: {}".format, ("requested", "used", "capacity"), amounts))
                return DEFERRED, f"Node didn't have enough resource: {name}, {told}"
        return None


def _whole(name: str, amount: Fraction) -> int:
    """Thousandths of a CPU, or bytes."""
    return -int(-amount * 1000 // 1) if name == "cpu" else int(amount)


def requested(spec: JsonObject) -> Amounts:
    return pod_amounts(spec, "requests")


def resources_of(container: Mapping[str, Any]) -> JsonObject:
    found: JsonObject = container.get("resources") or {}
    return found


def changes(before: JsonObject, wanted: JsonObject) -> frozenset[str]:
    """Which of cpu and memory are asked for or limited otherwise."""
    return frozenset(
        name
        for name in RESIZED
        if any(_amount(before, kind, name) != _amount(wanted, kind, name) for kind in ("requests", "limits"))
    )


def _amount(resources: JsonObject, kind: str, name: str) -> Fraction | None:
    text = (resources.get(kind) or {}).get(name)
    return None if text is None else parse_quantity(str(text))


def restarts(container: Mapping[str, Any], changed: frozenset[str]) -> bool:
    """Whether the container has to be started anew for that."""
    return any(
        policy.get("resourceName") in changed and policy.get("restartPolicy") == "RestartContainer"
        for policy in container.get("resizePolicy") or ()
    )


def memory_limit(resources: JsonObject) -> int:
    """Bytes; 0: none."""
    return int(_amount(resources, "limits", "memory") or 0)


def too_little(limit: int, usage: int) -> str:
    """Why a container cannot be held to ``limit`` now; empty when it can. Bytes both."""
    if limit and usage >= limit:
        return f"attempting to set container memory limit ({limit}) below current usage ({usage})"
    return ""


def told(head: str, pod: JsonObject, error: str = "") -> str:
    """The message of an event about a resize."""
    spec = pod["spec"]
    containers = [
        {"name": each["name"], "resources": resources_of(each)}
        for each in (*(spec.get("initContainers") or ()), *spec["containers"])
        if each in spec["containers"] or each.get("restartPolicy") == "Always"
    ]
    found: JsonObject = {"containers": containers, "generation": pod["metadata"].get("generation") or 0}
    if error:
        found["error"] = error
    return f"Pod resize {head}: {json.dumps(found, separators=(',', ':'))}"


@dataclass(slots=True)
class ResizeState:
    """``pending``: why it waits; ``in_progress``: what is wrong with it, if anything; each None when it is not so."""

    pending: Reason | None = None
    in_progress: Reason | None = None

    def conditions(self) -> Iterable[tuple[str, Reason]]:
        """Those that are true."""
        if self.pending is not None:
            yield PENDING, self.pending
        if self.in_progress is not None:
            yield IN_PROGRESS, self.in_progress
