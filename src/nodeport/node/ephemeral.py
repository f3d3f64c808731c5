"""Ephemeral containers: what they need of the one that they look into, and what is left of them. Pure.

Rule source: https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.kit.clock import rfc3339
from nodeport.node import admission
from nodeport.node.containers import Keeper
from nodeport.node.environment import ConfigError

LOST = 137


def pids_to_share(container: Mapping[str, Any], keepers: Iterable[Keeper]) -> str:
    """The PID namespace of the container that is the target, as a path; empty: one of its own.

    Raises ConfigError when the target does not run, and for what a pod's other containers are refused.
    """
    if not (name := container.get("targetContainerName") or ""):
        return ""
    target = next((keeper for keeper in keepers if keeper.name == name), None)
    if target is None or target.current is None or not target.is_running or not target.current.pid:
        raise ConfigError(f"unable to find target container {name}")
    return f"/proc/{target.current.pid}/ns/pid"


def check(container: Mapping[str, Any]) -> None:
    """Raises ConfigError for what a node refuses in any container: this one was not there when the pod was admitted."""
    if refused := admission.container_refusal(container, f"spec.ephemeralContainers[{container['name']}]"):
        raise ConfigError(refused[1])


def lost(known: JsonObject, now: datetime) -> JsonObject:
    """The last status of a container of which nothing is left: as it ended, or that nobody saw its end."""
    if (known.get("state") or {}).get("terminated"):
        return known
    ended = {
        "exitCode": LOST, "reason": "ContainerStatusUnknown", "finishedAt": rfc3339(now), "startedAt": rfc3339(now),
        "message": "The container could not be located when the pod was terminated",
        "containerID": known.get("containerID") or "",
    }  # fmt: skip
    return {**known, "state": {"terminated": ended}}
