"""One pass over a Deployment: what to create, resize, delete and say; pure. An empty plan means settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.controllers.deployment import rollout
from nodeport.controllers.deployment.revisions import (
    as_revision,
    current,
    new_replica_set,
    revision_of,
)
from nodeport.controllers.deployment.rollout import Bounds, bounds_of, counted, size
from nodeport.controllers.deployment.status import deployment_status, is_complete


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """``update`` are whole ReplicaSets to write; ``scaled`` says what happened, for the event log."""

    create: JsonObject | None = None
    update: tuple[JsonObject, ...] = ()
    delete: tuple[JsonObject, ...] = ()
    scaled: tuple[str, ...] = ()
    revision: int = 0
    status: JsonObject = field(default_factory=dict)


def plan_deployment(
    deployment: JsonObject, replica_sets: Sequence[JsonObject], *, old_pods: bool, now: datetime
) -> DeploymentPlan:
    """``replica_sets``: its own; ``old_pods``: whether pods of any but the newest template still run."""
    new = current(deployment, replica_sets)
    olds = [found for found in replica_sets if found is not new]
    if is_being_deleted(deployment):
        return DeploymentPlan(status=deployment_status(deployment, new, replica_sets, now))
    bounds = bounds_of(deployment)
    recreate = (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"
    newest = max([revision_of(found) for found in olds], default=0) + 1
    if deployment["spec"].get("paused") or rollout.is_scaling(replica_sets, bounds):
        sizes = rollout.scale(new, olds, bounds, rolling=not recreate)
    elif new is None and not (recreate and (old_pods or any(map(size, olds)))):
        return _creation(deployment, olds, bounds, newest, now, recreate=recreate)
    elif recreate or new is None:
        sizes = rollout.recreate(new, olds, bounds, old_pods=old_pods)
    else:
        sizes = rollout.roll(new, olds, bounds)
    return _changes(deployment, new, olds, sizes, bounds, newest, now)


def _creation(
    deployment: JsonObject,
    olds: Sequence[JsonObject],
    bounds: Bounds,
    revision: int,
    now: datetime,
    *,
    recreate: bool,
) -> DeploymentPlan:
    replicas = rollout.initial_size(olds, bounds, recreate=recreate)
    made = new_replica_set(deployment, revision=revision, replicas=replicas, annotations=bounds.annotations())
    status = deployment_status(deployment, made, [*olds, made], now, created=True)
    scaled = (_scaling(made, 0, replicas),) if replicas else ()
    return DeploymentPlan(create=made, scaled=scaled, revision=revision, status=status)


def _changes(
    deployment: JsonObject,
    new: JsonObject | None,
    olds: Sequence[JsonObject],
    sizes: rollout.Sizes,
    bounds: Bounds,
    newest: int,
    now: datetime,
) -> DeploymentPlan:
    before = [*([new] if new is not None else []), *olds]
    after = [rollout.resized(found, sizes, bounds) for found in before]
    revision = 0
    if new is not None:
        after[0] = as_revision(after[0], deployment, newest)
        revision = revision_of(after[0])
    changed = [(old, changed) for old, changed in zip(before, after, strict=True) if changed is not old]
    status = deployment_status(deployment, after[0] if new is not None else None, after, now)
    return DeploymentPlan(
        update=tuple(written for _, written in changed),
        delete=tuple(_surplus(deployment, olds)) if is_complete(deployment, status) else (),
        scaled=tuple(
            _scaling(old, size(old), size(written)) for old, written in changed if size(old) != size(written)
        ),
        revision=revision,
        status=status,
    )


def _scaling(replica_set: JsonObject, before: int, after: int) -> str:
    way = "up" if after > before else "down"
    return f"Scaled {way} replica set {replica_set['metadata']['name']} from {before} to {after}"


def _surplus(deployment: JsonObject, olds: Sequence[JsonObject]) -> list[JsonObject]:
    """Old revisions beyond ``revisionHistoryLimit``, oldest first; only those that stand empty."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    empty = [
        old
        for old in olds
        if not size(old)
        and not counted(old, "replicas")
        and not is_being_deleted(old)
        and counted(old, "observedGeneration") >= old["metadata"].get("generation", 0)
    ]
    beyond = len(olds) - limit
    return sorted(empty, key=revision_of)[:beyond] if beyond > 0 else []
