"""When the change happened that a slice is written for: followers measure programming latency from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.controllers.selection import ready_condition


@dataclass(slots=True)
class _Seen:
    service: str = ""
    pods: dict[str, str] = field(default_factory=dict)


class TriggerTimes:
    """Remembers, per Service, the times already accounted for."""

    def __init__(self) -> None:
        self._seen: dict[NamespacedName, _Seen] = {}

    def oldest_new(self, key: NamespacedName, service: JsonObject, pods: Iterable[JsonObject]) -> str:
        """The oldest time that is new since the last call, as RFC 3339; empty when nothing dated changed. For a
        Service not seen before it is its creation.
        """
        before = self._seen.get(key)
        created = service["metadata"].get("creationTimestamp") or ""
        pod_times = {pod["metadata"]["name"]: _ready_since(pod) for pod in pods}
        self._seen[key] = _Seen(created, pod_times)
        if before is None:
            return created
        new = [time for pod, time in pod_times.items() if time > before.pods.get(pod, "")]
        if created > before.service:
            new.append(created)
        return min(new, default="")

    def forget(self, key: NamespacedName) -> None:
        self._seen.pop(key, None)


def _ready_since(pod: JsonObject) -> str:
    return ready_condition(pod).get("lastTransitionTime") or ""
