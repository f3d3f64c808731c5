"""Makes and removes the pods that ``reconcile`` plans for one ReplicaSet at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, controller_of, labels
from nodeport.api.resources import PODS, REPLICA_SETS
from nodeport.api.selectors import label_selector_of
from nodeport.api.status import ApiError, Conflict, Forbidden, NotFound
from nodeport.client.cache import Change
from nodeport.client.events import NORMAL, WARNING, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient, TransportError
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.ownership import (
    BY_CONTROLLER,
    ORPHANS,
    adoption_patch,
    claim,
    release_patch,
)
from nodeport.controllers.pacing import Pacer
from nodeport.controllers.replicaset.reconcile import (
    ReplicaPlan,
    batches,
    is_active,
    new_pod,
    plan_replicas,
    replica_status,
)
from nodeport.kit.clock import Clock

_STALE = timedelta(milliseconds=20)
_COST_PER_POD = timedelta(microseconds=20)


class ReplicaSetController:
    """``pods`` is indexed by controller and orphans (``ownership``)."""

    def __init__(
        self,
        client: RestClient,
        *,
        replica_sets: Informer,
        pods: Informer,
        clock: Clock,
        recorder: EventRecorder,
    ) -> None:
        self._client = client
        self._replica_sets = replica_sets
        self._pods = pods
        self._clock = clock
        self._recorder = recorder
        self._guard: WriteGuard[NamespacedName] = WriteGuard(pods, clock)
        self._own_guard: WriteGuard[NamespacedName] = WriteGuard(replica_sets, clock)
        self._pacer: Pacer[NamespacedName] = Pacer()
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "replicaset", self.reconcile, clock=clock, informers=(replica_sets, pods)
        )
        replica_sets.add_index("namespace", lambda obj: [obj["metadata"]["namespace"]])
        replica_sets.subscribe(lambda change: self.loop.queue.add(NamespacedName.of(change.object)))
        pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, change: Change) -> None:
        for pod in (change.old, change.new):
            reference = controller_of(pod) if pod is not None else None
            if reference is not None and reference["kind"] == REPLICA_SETS.kind:
                key = NamespacedName(change.object["metadata"]["namespace"], reference["name"])
                self.loop.queue.add_after(key, self._pacer.pause(key))
        if change.new is not None and controller_of(change.new) is None:
            self._orphan_changed(change.new)

    def _orphan_changed(self, pod: JsonObject) -> None:
        if not labels(pod):
            return
        for replica_set in self._replica_sets.by_index("namespace", pod["metadata"]["namespace"]):
            if label_selector_of(replica_set["spec"].get("selector")).matches(labels(pod)):
                self.loop.queue.add(NamespacedName.of(replica_set))

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        replica_set = self._replica_sets.get(key)
        if replica_set is None:
            self._pacer.forget(key)
            return None
        if not (self._guard.is_caught_up(key) and self._own_guard.is_caught_up(key)):
            return _STALE
        pods = await self._claim(key, replica_set)
        self._pacer.note(key, len(pods) * _COST_PER_POD)
        plan = plan_replicas(replica_set, pods, self._clock.now())
        failure: Exception | None = None
        try:
            await self._carry_out(key, replica_set, plan)
        except (ApiError, TransportError) as error:
            failure = error
        text = "" if failure is None or isinstance(failure, Conflict) else str(failure)
        again = await self._write_status(key, replica_set, pods, text)
        if failure is not None:
            raise failure
        return again

    async def _claim(self, key: NamespacedName, replica_set: JsonObject) -> tuple[JsonObject, ...]:
        candidates = [
            *self._pods.by_index(BY_CONTROLLER, replica_set["metadata"]["uid"]),
            *self._pods.by_index(ORPHANS, key.namespace),
        ]
        selector = label_selector_of(replica_set["spec"].get("selector"))
        claimed = claim(replica_set, selector, candidates, is_claimable=is_active)
        patches = [
            *((pod, adoption_patch(REPLICA_SETS, replica_set, pod)) for pod in claimed.adopt),
            *((pod, release_patch(replica_set, pod)) for pod in claimed.release),
        ]
        for pod, patch in patches:
            answer = await self._client.patch(PODS, pod["metadata"]["name"], patch, key.namespace)
            self._guard.wrote(key, answer)
        return claimed.owned

    async def _carry_out(self, key: NamespacedName, replica_set: JsonObject, plan: ReplicaPlan) -> None:
        reference = object_reference(REPLICA_SETS, replica_set)
        for size in batches(plan.create):
            await _all(self._create(key, replica_set, reference) for _ in range(size))
        if plan.delete:
            await _all(self._delete(key, pod, reference) for pod in plan.delete)

    async def _create(self, key: NamespacedName, replica_set: JsonObject, reference: JsonObject) -> None:
        try:
            made = await self._client.create(PODS, new_pod(replica_set))
        except Forbidden as error:
            if any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                return
            self._recorder.event(reference, WARNING, "FailedCreate", f"Error creating: {error}")
            raise
        except ApiError as error:
            self._recorder.event(reference, WARNING, "FailedCreate", f"Error creating: {error}")
            raise
        self._guard.wrote(key, made)
        self._recorder.event(
            reference, NORMAL, "SuccessfulCreate", f"Created pod: {made['metadata']['name']}"
        )

    async def _delete(self, key: NamespacedName, pod: JsonObject, reference: JsonObject) -> None:
        meta = pod["metadata"]
        try:
            await self._client.delete(PODS, meta["name"], key.namespace, uid=meta["uid"])
        except (NotFound, Conflict):
            return  # gone, or another pod by now: the cache is about to tell
        except ApiError as error:
            self._recorder.event(reference, WARNING, "FailedDelete", f"Error deleting: {error}")
            raise
        self._guard.deleted(key, pod)
        self._recorder.event(reference, NORMAL, "SuccessfulDelete", f"Deleted pod: {meta['name']}")

    async def _write_status(
        self, key: NamespacedName, replica_set: JsonObject, pods: tuple[JsonObject, ...], failure: str
    ) -> timedelta | None:
        status, again = replica_status(replica_set, pods, self._clock.now(), failure)
        if status != (replica_set.get("status") or {}):
            answer = await self._client.update(
                REPLICA_SETS, {**replica_set, "status": status}, subresource="status"
            )
            self._own_guard.wrote(key, answer)
        return again


async def _all(calls: Iterable[Coroutine[None, None, None]]) -> None:
    """Do all at once; raises the first failure after the last has ended, so that what succeeded is known."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
