"""Makes the victims of a preemption go."""

from __future__ import annotations

from contextlib import suppress

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import PODS
from nodeport.api.status import Conflict, NotFound
from nodeport.client.cache import uid
from nodeport.client.events import NORMAL, EventRecorder, object_reference
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, RestClient
from nodeport.controllers.scheduler.preemption import Preemption
from nodeport.kit.clock import Clock, rfc3339

_WHY = "default-scheduler: preempting to accommodate a higher priority pod"


async def drive_away(
    client: RestClient, recorder: EventRecorder, clock: Clock, made: Preemption, preemptor: JsonObject
) -> None:
    """Tell each victim why, and delete it with its own grace period. One that has gone already is none."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": _WHY,
        "lastProbeTime": None,
        "lastTransitionTime": rfc3339(clock.now()),
    }
    for key, info in made.victims:
        with suppress(NotFound, Conflict):
            await _delete(client, key, uid(info.pod), condition)
            text = f"Preempted by pod {uid(preemptor)} on node {made.node}"
            recorder.event(object_reference(PODS, info.pod), NORMAL, "Preempted", text)


async def _delete(client: RestClient, key: NamespacedName, identity: str, condition: JsonObject) -> None:
    patch = {"metadata": {"uid": identity}, "status": {"conditions": [condition]}}
    await client.patch(
        PODS, key.name, patch, key.namespace, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
    )
    await client.delete(PODS, key.name, key.namespace, uid=identity)
