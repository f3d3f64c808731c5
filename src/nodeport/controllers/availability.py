"""When a ready pod counts as available: after it has been ready for a minimum time. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from nodeport.api.meta import JsonObject
from nodeport.controllers.selection import is_ready, ready_condition
from nodeport.kit.clock import parse_rfc3339


def minimum_ready(workload: JsonObject) -> timedelta:
    return timedelta(seconds=workload["spec"].get("minReadySeconds") or 0)


def until_available(pod: JsonObject, minimum: timedelta, now: datetime) -> timedelta:
    """How long a pod that is ready has yet to wait."""
    since = ready_condition(pod).get("lastTransitionTime")
    if not minimum or not since:
        return timedelta()
    return max(timedelta(), parse_rfc3339(since) + minimum - now)


def is_available(pod: JsonObject, minimum: timedelta, now: datetime) -> bool:
    return is_ready(pod) and not until_available(pod, minimum, now)


def next_available(pods: list[JsonObject], minimum: timedelta, now: datetime) -> timedelta | None:
    """When the next of the ready ``pods`` counts; None when all do."""
    waits = (until_available(pod, minimum, now) for pod in pods if is_ready(pod))
    return min((wait for wait in waits if wait), default=None)
