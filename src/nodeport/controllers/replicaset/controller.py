"""Makes and removes the pods that ``reconcile`` plans for one ReplicaSet or ReplicationController at a time."""

from __future__ import annotations

from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import Resource
from nodeport.api.status import ApiError, Conflict
from nodeport.client.cache import Change
from nodeport.client.events import EventRecorder
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient, TransportError
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.pacing import Pacer
from nodeport.controllers.podcontrol import OwnerLookup, PodControl, all_of, pod_from_template
from nodeport.controllers.replicaset.reconcile import ReplicaPlan, batches, plan_replicas, replica_status
from nodeport.kit.clock import Clock

_STALE = timedelta(milliseconds=20)
_COST_PER_POD = timedelta(microseconds=20)


class ReplicaSetController:
    """For the kind that ``owners`` follows: ReplicaSets, or ReplicationControllers, which differ by their
    selector only. ``pods`` is indexed by controller and orphans (``ownership``).
    """

    def __init__(
        self,
        client: RestClient,
        *,
        owners: Informer,
        pods: Informer,
        clock: Clock,
        recorder: EventRecorder,
    ) -> None:
        self._client = client
        self._resource: Resource = owners.resource
        self._owners = owners
        self._clock = clock
        self._guard: WriteGuard[NamespacedName] = WriteGuard(pods, clock)
        self._own_guard: WriteGuard[NamespacedName] = WriteGuard(owners, clock)
        self._control = PodControl(client, self._resource, pods, self._guard, recorder)
        self._lookup = OwnerLookup(self._resource, owners)
        self._pacer: Pacer[NamespacedName] = Pacer()
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            self._resource.singular, self.reconcile, clock=clock, informers=(owners, pods)
        )
        owners.subscribe(lambda change: self.loop.queue.add(NamespacedName.of(change.object)))
        pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, change: Change) -> None:
        for key in self._lookup.of(change):
            self.loop.queue.add_after(key, self._pacer.pause(key))

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        owner = self._owners.get(key)
        if owner is None:
            self._pacer.forget(key)
            return None
        if not (self._guard.is_caught_up(key) and self._own_guard.is_caught_up(key)):
            return _STALE
        pods = await self._control.claim(key, owner)
        self._pacer.note(key, len(pods) * _COST_PER_POD)
        plan = plan_replicas(owner, pods, self._clock.now())
        failure: Exception | None = None
        try:
            await self._carry_out(key, owner, plan)
        except (ApiError, TransportError) as error:
            failure = error
        text = "" if failure is None or isinstance(failure, Conflict) else str(failure)
        again = await self._write_status(key, owner, pods, text)
        if failure is not None:
            raise failure
        return again

    async def _carry_out(self, key: NamespacedName, owner: JsonObject, plan: ReplicaPlan) -> None:
        for size in batches(plan.create):
            new = pod_from_template(self._resource, owner)
            await all_of(self._control.create(key, owner, new) for _ in range(size))
        if plan.delete:
            await all_of(self._control.delete(key, owner, pod) for pod in plan.delete)

    async def _write_status(
        self, key: NamespacedName, owner: JsonObject, pods: tuple[JsonObject, ...], failure: str
    ) -> timedelta | None:
        status, again = replica_status(owner, pods, self._clock.now(), failure)
        if status != (owner.get("status") or {}):
            answer = await self._client.update(
                self._resource, {**owner, "status": status}, subresource="status"
            )
            self._own_guard.wrote(key, answer)
        return again
