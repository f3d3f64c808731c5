"""How many replicas each ReplicaSet of a Deployment should have next: pure.

Rules: the deployment controller of Kubernetes 1.36. Sizes are spec sizes unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nodeport.api.meta import JsonObject
from nodeport.controllers.deployment.revisions import DESIRED_REPLICAS, MAX_REPLICAS, by_age

Sizes = dict[str, int]
"""Wanted replicas by ReplicaSet name; one that is not in it stays as it is."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """``surge`` pods more than ``replicas`` may exist, ``unavailable`` fewer may be available."""

    replicas: int
    surge: int
    unavailable: int

    @property
    def maximum(self) -> int:
        return self.replicas + self.surge if self.replicas else 0

    @property
    def minimum_available(self) -> int:
        return max(0, self.replicas - self.unavailable)

    def annotations(self) -> dict[str, str]:
        """What a ReplicaSet of this Deployment notes about it, to tell scaling from rolling out."""
        return {DESIRED_REPLICAS: str(self.replicas), MAX_REPLICAS: str(self.replicas + self.surge)}


def bounds_of(deployment: JsonObject) -> Bounds:
    spec = deployment["spec"]
    replicas = spec.get("replicas", 1)
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Bounds(replicas, 0, replicas)
    rolling = strategy.get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", "25%"), replicas, round_up=True)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), replicas, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1  # both rounded to nothing: without this the rollout could not move
    return Bounds(replicas, surge, min(unavailable, replicas))


def _share(value: int | str, of: int, *, round_up: bool) -> int:
    if isinstance(value, int):
        return value
    exact = int(value.rstrip("%")) * of / 100
    return math.ceil(exact) if round_up else math.floor(exact)


def size(replica_set: JsonObject) -> int:
    return int(replica_set["spec"].get("replicas", 1))


def counted(replica_set: JsonObject, field: str) -> int:
    """A count from the status: ``availableReplicas``."""
    return int((replica_set.get("status") or {}).get(field) or 0)


def _name(replica_set: JsonObject) -> str:
    return str(replica_set["metadata"]["name"])


def is_scaling(replica_sets: Iterable[JsonObject], bounds: Bounds) -> bool:
    """Whether the Deployment's replicas changed since its ReplicaSets were last sized."""
    return any(
        (found["metadata"].get("annotations") or {}).get(DESIRED_REPLICAS) != str(bounds.replicas)
        for found in replica_sets
        if size(found)
    )


# --- rolling out


def initial_size(olds: Sequence[JsonObject], bounds: Bounds, *, recreate: bool) -> int:
    """How many replicas the new ReplicaSet begins with."""
    return bounds.replicas if recreate else _grown(0, sum(map(size, olds)), bounds)


def _grown(new: int, total: int, bounds: Bounds) -> int:
    room = bounds.replicas + bounds.surge - total
    return new + max(0, min(room, bounds.replicas - new))


def roll(new: JsonObject, olds: Sequence[JsonObject], bounds: Bounds) -> Sizes:
    """One step of a rolling update: grow the new one, else shrink old ones, unhealthy replicas first."""
    total = size(new) + sum(map(size, olds))
    grown = bounds.replicas if size(new) > bounds.replicas else _grown(size(new), total, bounds)
    if grown != size(new):
        return {_name(new): grown}
    return _shrink(new, olds, bounds)


def _shrink(new: JsonObject, olds: Sequence[JsonObject], bounds: Bounds) -> Sizes:
    sizes = {_name(old): size(old) for old in sorted(olds, key=by_age) if size(old)}
    before = dict(sizes)
    unavailable_new = size(new) - counted(new, "availableReplicas")
    spare = size(new) + sum(sizes.values()) - bounds.minimum_available - unavailable_new
    if spare <= 0:
        return {}
    available = {_name(old): counted(old, "availableReplicas") for old in olds}
    for name in sizes:
        # what is not available serves nobody: taking it away costs nothing
        gone = max(0, min(spare, sizes[name] - available[name]))
        sizes[name] -= gone
        spare -= gone
    serving = counted(new, "availableReplicas") + sum(available.values())
    excess = serving - bounds.minimum_available
    for name in sizes:
        gone = max(0, min(excess, sizes[name]))
        sizes[name] -= gone
        excess -= gone
    return {name: wanted for name, wanted in sizes.items() if wanted != before[name]}


def recreate(new: JsonObject | None, olds: Sequence[JsonObject], bounds: Bounds, *, old_pods: bool) -> Sizes:
    """Everything old goes before anything new comes; ``old_pods``: some of the old still run."""
    down = {_name(old): 0 for old in olds if size(old)}
    if down or old_pods or new is None:
        return down
    return {_name(new): bounds.replicas} if size(new) != bounds.replicas else {}


# --- scaling


def scale(new: JsonObject | None, olds: Sequence[JsonObject], bounds: Bounds, *, rolling: bool) -> Sizes:
    """Spread a changed number of replicas: in the middle of a rollout each ReplicaSet gets its share."""
    everything = [*olds, *([new] if new is not None else [])]
    active = [found for found in everything if size(found)]
    if len(active) <= 1:
        target = active[0] if active else (new or max(olds, key=by_age, default=None))
        return {_name(target): bounds.replicas} if target is not None else {}
    if new is not None and _is_saturated(new, bounds):
        return {_name(old): 0 for old in olds if size(old)} | {_name(new): size(new)}
    return _spread(active, bounds) if rolling else {}


def _is_saturated(new: JsonObject, bounds: Bounds) -> bool:
    noted = (new["metadata"].get("annotations") or {}).get(DESIRED_REPLICAS, "")
    return (
        size(new) == bounds.replicas
        and noted == str(bounds.replicas)
        and counted(new, "availableReplicas") == bounds.replicas
    )


def _spread(active: Sequence[JsonObject], bounds: Bounds) -> Sizes:
    change = bounds.maximum - sum(map(size, active))
    # largest first; of equal ones the newest gains first and the oldest loses first
    ordered = sorted(active, key=by_age, reverse=change > 0)
    ordered.sort(key=size, reverse=True)
    sizes: Sizes = {}
    left = change
    for found in ordered:
        gain = _proportion(found, bounds) if left else 0
        gain = min(gain, left) if change > 0 else max(gain, left)
        gain = max(gain, 0) if change > 0 else min(gain, 0)
        sizes[_name(found)] = size(found) + gain
        left -= gain
    first = _name(ordered[0])
    sizes[first] = max(0, sizes[first] + left)
    return sizes


def _proportion(found: JsonObject, bounds: Bounds) -> int:
    """By how much this one's size changes when the whole grows from what it noted to what is wanted."""
    noted = (found["metadata"].get("annotations") or {}).get(MAX_REPLICAS, "")
    whole = int(noted) if noted.isdecimal() and int(noted) else size(found)
    if not bounds.replicas:
        return -size(found)
    exact = size(found) * (bounds.replicas + bounds.surge) / whole
    return math.floor(exact + 0.5) - size(found)


def resized(replica_set: JsonObject, sizes: Mapping[str, int], bounds: Bounds) -> JsonObject:
    """The ReplicaSet with its wanted size and the notes about it; the same object when nothing differs."""
    wanted = sizes.get(_name(replica_set))
    if wanted is None:
        return replica_set
    before = replica_set["metadata"].get("annotations") or {}
    notes = {**before, **bounds.annotations()}
    if wanted == size(replica_set) and notes == before:
        return replica_set
    return {
        **replica_set,
        "metadata": {**replica_set["metadata"], "annotations": notes},
        "spec": {**replica_set["spec"], "replicas": wanted},
    }
