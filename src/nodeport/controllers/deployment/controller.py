"""Carries out what ``reconcile`` plans for one Deployment at a time."""

from __future__ import annotations

from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, controller_of
from nodeport.api.resources import DEPLOYMENTS, REPLICA_SETS
from nodeport.api.selectors import label_selector_of
from nodeport.api.status import AlreadyExists, ApiError, Forbidden, NotFound
from nodeport.client.cache import Change
from nodeport.client.events import NORMAL, WARNING, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import MERGE_PATCH, RestClient
from nodeport.controllers.deployment.reconcile import DeploymentPlan, plan_deployment
from nodeport.controllers.deployment.revisions import REVISION, current, has_template
from nodeport.controllers.deployment.status import until_deadline
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.ownership import (
    BY_CONTROLLER,
    ORPHANS,
    adoption_patch,
    claim,
    release_patch,
)
from nodeport.controllers.selection import is_finished
from nodeport.kit.clock import Clock

_STALE = timedelta(milliseconds=20)


class DeploymentController:
    """``replica_sets`` and ``pods`` are indexed by controller, ``replica_sets`` also by orphans
    (``ownership``).
    """

    def __init__(
        self,
        client: RestClient,
        *,
        deployments: Informer,
        replica_sets: Informer,
        pods: Informer,
        clock: Clock,
        recorder: EventRecorder,
    ) -> None:
        self._client = client
        self._deployments = deployments
        self._replica_sets = replica_sets
        self._pods = pods
        self._clock = clock
        self._recorder = recorder
        self._guard: WriteGuard[NamespacedName] = WriteGuard(replica_sets, clock)
        self._own_guard: WriteGuard[NamespacedName] = WriteGuard(deployments, clock)
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "deployment", self.reconcile, clock=clock, informers=(deployments, replica_sets, pods)
        )
        deployments.add_index("namespace", lambda obj: [obj["metadata"]["namespace"]])
        deployments.subscribe(lambda change: self.loop.queue.add(NamespacedName.of(change.object)))
        replica_sets.subscribe(self._replica_set_changed)
        pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _replica_set_changed(self, change: Change) -> None:
        for found in (change.old, change.new):
            reference = controller_of(found) if found is not None else None
            if reference is not None and reference["kind"] == DEPLOYMENTS.kind:
                self.loop.queue.add(NamespacedName(change.object["metadata"]["namespace"], reference["name"]))
        if change.new is not None and controller_of(change.new) is None:
            for deployment in self._deployments.by_index("namespace", change.new["metadata"]["namespace"]):
                self.loop.queue.add(NamespacedName.of(deployment))

    def _pod_changed(self, change: Change) -> None:
        """A Recreate rollout waits for the last old pod to go."""
        if change.new is not None or change.old is None:
            return
        reference = controller_of(change.old)
        if reference is None:
            return
        namespace = change.old["metadata"]["namespace"]
        replica_set = self._replica_sets.get(NamespacedName(namespace, reference["name"]))
        owner = controller_of(replica_set) if replica_set is not None else None
        if owner is not None and owner["kind"] == DEPLOYMENTS.kind:
            self.loop.queue.add(NamespacedName(namespace, owner["name"]))

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        deployment = self._deployments.get(key)
        if deployment is None:
            return None
        if not (self._guard.is_caught_up(key) and self._own_guard.is_caught_up(key)):
            return _STALE
        selector = label_selector_of(deployment["spec"].get("selector"))
        if selector.empty:
            text = "This deployment is selecting all pods. A non-empty selector is required."
            self._recorder.event(object_reference(DEPLOYMENTS, deployment), WARNING, "SelectingAll", text)
            return None
        candidates = [
            *self._replica_sets.by_index(BY_CONTROLLER, deployment["metadata"]["uid"]),
            *self._replica_sets.by_index(ORPHANS, key.namespace),
        ]
        claimed = claim(deployment, selector, candidates)
        for found in claimed.adopt:
            await self._patch(key, found, adoption_patch(DEPLOYMENTS, deployment, found))
        for found in claimed.release:
            await self._patch(key, found, release_patch(deployment, found))
        if claimed.adopt or claimed.release:
            return _STALE
        now = self._clock.now()
        old_pods = self._old_pods_run(deployment, claimed.owned)
        plan = plan_deployment(deployment, claimed.owned, old_pods=old_pods, now=now)
        await self._carry_out(key, deployment, plan)
        return until_deadline(deployment, plan.status, now)

    def _old_pods_run(self, deployment: JsonObject, replica_sets: tuple[JsonObject, ...]) -> bool:
        new = current(deployment, replica_sets)
        return any(
            not is_finished(pod)
            for found in replica_sets
            if found is not new
            for pod in self._pods.by_index(BY_CONTROLLER, found["metadata"]["uid"])
        )

    async def _patch(self, key: NamespacedName, found: JsonObject, patch: JsonObject) -> None:
        answer = await self._client.patch(REPLICA_SETS, found["metadata"]["name"], patch, key.namespace)
        self._guard.wrote(key, answer)

    async def _carry_out(self, key: NamespacedName, deployment: JsonObject, plan: DeploymentPlan) -> None:
        reference = object_reference(DEPLOYMENTS, deployment)
        if plan.create is not None and not await self._create(key, deployment, plan.create, reference):
            return
        for changed in plan.update:
            self._guard.wrote(key, await self._client.update(REPLICA_SETS, changed))
        for text in plan.scaled:
            self._recorder.event(reference, NORMAL, "ScalingReplicaSet", text)
        for old in plan.delete:
            await self._delete(key, old)
        noted = (deployment["metadata"].get("annotations") or {}).get(REVISION)
        if plan.revision and noted != str(plan.revision):
            patch = {"metadata": {"annotations": {REVISION: str(plan.revision)}}}
            deployment = await self._client.patch(
                DEPLOYMENTS, key.name, patch, key.namespace, content_type=MERGE_PATCH
            )
            self._own_guard.wrote(key, deployment)
        if plan.status != (deployment.get("status") or {}):
            await self._write_status(key, deployment, plan.status)

    async def _write_status(self, key: NamespacedName, deployment: JsonObject, status: JsonObject) -> None:
        answer = await self._client.update(
            DEPLOYMENTS, {**deployment, "status": status}, subresource="status"
        )
        self._own_guard.wrote(key, answer)

    async def _create(
        self, key: NamespacedName, deployment: JsonObject, made: JsonObject, reference: JsonObject
    ) -> bool:
        """Whether the pass may go on."""
        try:
            self._guard.wrote(key, await self._client.create(REPLICA_SETS, made))
        except AlreadyExists:
            await self._note_collision(key, deployment, made)
            return False
        except ApiError as error:
            if isinstance(error, Forbidden) and any(c.reason == "NamespaceTerminating" for c in error.causes):
                return False
            text = f'Failed to create new replica set "{made["metadata"]["name"]}": {error}'
            self._recorder.event(reference, WARNING, "ReplicaSetCreateError", text)
            raise
        return True

    async def _note_collision(self, key: NamespacedName, deployment: JsonObject, made: JsonObject) -> None:
        """Another ReplicaSet has the name: ours that the cache does not show yet, or the hash of another
        template.
        """
        found = await self._client.get(REPLICA_SETS, made["metadata"]["name"], key.namespace)
        owner = controller_of(found)
        is_ours = owner is not None and owner["uid"] == deployment["metadata"]["uid"]
        if is_ours and has_template(found, deployment["spec"]["template"]):
            self._guard.wrote(key, found)
            self.loop.queue.add_after(key, _STALE)
            return
        status = dict(deployment.get("status") or {})
        status["collisionCount"] = (status.get("collisionCount") or 0) + 1
        await self._write_status(key, deployment, status)

    async def _delete(self, key: NamespacedName, old: JsonObject) -> None:
        meta = old["metadata"]
        try:
            await self._client.delete(REPLICA_SETS, meta["name"], key.namespace, uid=meta["uid"])
        except NotFound:
            return
        self._guard.deleted(key, old)
