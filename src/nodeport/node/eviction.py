"""Whom a node ends because of disk space: pods beyond their own limits, and, when the node has little left, the ones
that use the most beyond what they asked for. Pure.

Rule source: https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.quantity import format_quantity, is_quantity, parse_quantity

REASON = "Evicted"
STORAGE = "ephemeral-storage"
IMMEDIATE_GRACE = timedelta(seconds=1)
"""What an evicted pod has from SIGTERM to SIGKILL."""
SIGNALS = ("nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree")
CRITICAL_PRIORITY = 2_000_000_000
UNDER_PRESSURE = "The node had condition: [DiskPressure]. "
_WORDS = {"available": STORAGE, "inodesFree": "inodes"}


@dataclass(frozen=True, slots=True)
class PodUsage:
    """Bytes on disk: of what each container wrote and of its logs; of each volume."""

    containers: Mapping[str, int] = field(default_factory=dict)
    volumes: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.containers.values()) + sum(self.volumes.values())


def is_limited(pod: JsonObject) -> bool:
    """Whether the pod has any limit that its usage must be known for."""
    return bool(_volume_limits(pod)) or any(_storage(each, "limits") for each in _containers(pod))


def excess(pod: JsonObject, usage: PodUsage) -> str | None:
    """What of its own limits a pod is beyond, in a kubelet's words; None: it keeps to them."""
    return next(_excesses(pod, usage), None)


def _excesses(pod: JsonObject, usage: PodUsage) -> Iterator[str]:
    for name, limit in _volume_limits(pod).items():
        if usage.volumes.get(name, 0) > parse_quantity(limit):
            yield f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '
    limits = [_amount(limit) for each in _containers(pod) if (limit := _storage(each, "limits"))]
    whole = _pod_limit(pod)
    if limits and usage.total > whole:
        shown = format_quantity(whole, binary=True)
        yield f"Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
    for each in _containers(pod):
        limit = _storage(each, "limits")
        if limit and usage.containers.get(each["name"], 0) > _amount(limit):
            yield f'Container {each["name"]} exceeded its local ephemeral storage limit "{limit}". '


def _pod_limit(pod: JsonObject) -> Fraction:
    """The sum of the containers' limits, or what the greediest init container has, if that is more."""
    spec = pod["spec"]
    lasting = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    passing = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") != "Always"]
    together = sum((_amount(_storage(one, "limits")) for one in (*spec["containers"], *lasting)), Fraction())
    alone = max((_amount(_storage(one, "limits")) for one in passing), default=Fraction())
    return max(together, alone)


def _containers(pod: JsonObject) -> Iterator[Mapping[str, Any]]:
    yield from pod["spec"].get("initContainers") or ()
    yield from pod["spec"]["containers"]


def _storage(container: Mapping[str, Any], kind: str) -> str:
    return str(((container.get("resources") or {}).get(kind) or {}).get(STORAGE) or "")


def _amount(text: str) -> Fraction:
    return parse_quantity(text) if text else Fraction()


def _volume_limits(pod: JsonObject) -> dict[str, str]:
    """Of volumes on disk: what is in memory has its limit from the kernel."""
    found = {}
    for volume in pod["spec"].get("volumes") or ():
        empty = volume.get("emptyDir") or {}
        limit = str(empty.get("sizeLimit") or "")
        if limit and empty.get("medium") != "Memory" and parse_quantity(limit) > 0:
            found[volume["name"]] = limit
    return found


# --- the node


class BadThreshold(ValueError):
    """The message has the text and what is allowed."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """``share``: of the whole, else ``amount``: bytes or inodes. ``text``: as it was written."""

    signal: str
    text: str
    share: Fraction | None = None
    amount: Fraction = Fraction()

    def is_met(self, level: Level) -> bool:
        least = level.capacity * self.share if self.share is not None else self.amount
        return level.available < least

    @property
    def resource(self) -> str:
        return _WORDS[self.signal.partition(".")[2]]


@dataclass(frozen=True, slots=True)
class Level:
    """What is left, of how much."""

    available: int
    capacity: int


def parse_thresholds(text: str) -> tuple[Threshold, ...]:
    """A kubelet's ``--eviction-hard``: ``nodefs.available<10%,imagefs.inodesFree<5%``. Raises BadThreshold."""
    found = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, mark, least = part.partition("<")
        if name not in SIGNALS or not mark:
            raise BadThreshold(f"{part!r}: must be SIGNAL<AMOUNT with SIGNAL one of {', '.join(SIGNALS)}")
        found[name] = _threshold(name, least)
    return tuple(found.values())


def _threshold(name: str, least: str) -> Threshold:
    number = least.removesuffix("%")
    if least.endswith("%") and is_quantity(number) and 0 <= parse_quantity(number) <= 100:
        return Threshold(name, least, share=parse_quantity(number) / 100)
    if is_quantity(least) and parse_quantity(least) >= 0:
        return Threshold(name, least, amount=parse_quantity(least))
    raise BadThreshold(f"{name}<{least}: the amount must be a quantity such as 1Gi or a share such as 10%")


def met(thresholds: Sequence[Threshold], levels: Mapping[str, Level]) -> Threshold | None:
    """The first that what is left falls below."""
    return next(
        (each for each in thresholds if each.signal in levels and each.is_met(levels[each.signal])), None
    )


def victim(pods: Mapping[str, tuple[JsonObject, PodUsage]]) -> str | None:
    """The uid of the pod to end first: one beyond its request, of low priority, that uses much. Critical ones stay."""
    ranked = sorted(
        (
            not usage.total > _requested(pod),
            pod["spec"].get("priority") or 0,
            _requested(pod) - usage.total,
            uid,
        )
        for uid, (pod, usage) in pods.items()
        if not is_critical(pod)
    )
    return ranked[0][-1] if ranked else None


def is_critical(pod: JsonObject) -> bool:
    return int(pod["spec"].get("priority") or 0) >= CRITICAL_PRIORITY


def _requested(pod: JsonObject) -> Fraction:
    return sum((_amount(_storage(each, "requests")) for each in pod["spec"]["containers"]), Fraction())


def node_message(threshold: Threshold, level: Level, pod: JsonObject, usage: PodUsage) -> str:
    """Why a pod is ended for the node's sake, in a kubelet's words."""
    is_bytes = threshold.resource == STORAGE
    left = _shown(level.available) if is_bytes else str(level.available)
    least = threshold.amount if threshold.share is None else level.capacity * threshold.share
    bound = _shown(int(least)) if is_bytes else str(int(least))
    words = f"The node was low on resource: {threshold.resource}. Threshold quantity: {bound}, available: {left}. "
    for each in pod["spec"]["containers"] if is_bytes else ():
        used, asked = usage.containers.get(each["name"], 0), _amount(_storage(each, "requests"))
        if used > asked:
            request = format_quantity(asked, binary=True)
            words += f"Container {each['name']} was using {_shown(used)}, request is {request}, has larger "
            words += f"consumption of {threshold.resource}. "
    return words


def _shown(number: int) -> str:
    """In Ki, as a kubelet tells sizes it measured."""
    return f"{number // 1024}Ki"
