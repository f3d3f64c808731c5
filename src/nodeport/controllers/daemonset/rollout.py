"""Which pods of an old template a DaemonSet replaces next: pure. Rules: Kubernetes 1.36."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.controllers.availability import is_available, minimum_ready
from nodeport.controllers.daemonset.reconcile import DaemonPlan, Place, has_hash, rolling_limit


def roll(daemon_set: JsonObject, found: Iterable[Place], hash_: str, now: datetime) -> DaemonPlan:
    """What to remove, or with ``maxSurge`` to make first, to get on with a rolling update."""
    if (daemon_set["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
        return DaemonPlan()
    wanted = [place for place in found if place.wanted]
    surge = rolling_limit(daemon_set, "maxSurge", len(wanted))
    if surge:
        return _surge(daemon_set, wanted, hash_, now, surge)
    unavailable = rolling_limit(daemon_set, "maxUnavailable", len(wanted))
    return _replace(daemon_set, wanted, hash_, now, unavailable)


def _replace(daemon_set: JsonObject, wanted: list[Place], hash_: str, now: datetime, most: int) -> DaemonPlan:
    """Old pods that serve nobody go at once; of the others as many as may be unavailable."""
    minimum = minimum_ready(daemon_set)
    idle: list[JsonObject] = []
    serving: list[JsonObject] = []
    unavailable = 0
    for place in wanted:
        running = place.running
        if len(running) != 1:
            unavailable += 1  # to be made, or to be cleaned up first
        elif has_hash(running[0], hash_):
            unavailable += not is_available(running[0], minimum, now)
        elif is_available(running[0], minimum, now):
            serving.append(running[0])
        else:
            idle.append(running[0])
    room = max(0, most - unavailable - len(idle))
    return DaemonPlan(delete=[*idle, *serving[:room]])


def _surge(daemon_set: JsonObject, wanted: list[Place], hash_: str, now: datetime, most: int) -> DaemonPlan:
    """A new pod beside each old one, the old one to go when the new one is available (``manage`` sees to that)."""
    minimum = minimum_ready(daemon_set)
    idle: list[str] = []
    serving: list[str] = []
    surging = 0
    for place in wanted:
        new = [pod for pod in place.running if has_hash(pod, hash_)]
        old = [pod for pod in place.running if not has_hash(pod, hash_)]
        if new:
            surging += bool(old) and not is_available(new[0], minimum, now)
        elif old and is_available(old[0], minimum, now):
            serving.append(place.node)
        elif old:
            idle.append(place.node)
    return DaemonPlan(create=[*idle, *serving[: max(0, most - surging)]])
