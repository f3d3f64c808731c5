"""Carries out what ``reconcile`` plans for one Job at a time, and lets go of pods whose Job is gone."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, controller_of
from nodeport.api.resources import JOBS, PODS
from nodeport.api.status import NotFound
from nodeport.client.cache import Change, uid
from nodeport.client.events import NORMAL, WARNING, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import MERGE_PATCH, RestClient
from nodeport.controllers import conditions
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.job.reconcile import JobPlan, new_pod, plan_job
from nodeport.controllers.job.tracking import is_tracked, tracked, untracked
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.ownership import BY_CONTROLLER
from nodeport.controllers.podcontrol import OwnerLookup, PodControl, all_of
from nodeport.controllers.replicaset.reconcile import batches
from nodeport.kit.clock import Clock

_STALE = timedelta(milliseconds=20)


class JobController:
    """``pods`` is indexed by controller and orphans (``ownership``)."""

    def __init__(
        self, client: RestClient, *, jobs: Informer, pods: Informer, clock: Clock, recorder: EventRecorder
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._pods = pods
        self._clock = clock
        self._recorder = recorder
        self._guard: WriteGuard[NamespacedName] = WriteGuard(pods, clock)
        self._own_guard: WriteGuard[NamespacedName] = WriteGuard(jobs, clock)
        self._control = PodControl(client, JOBS, pods, self._guard, recorder)
        self._lookup = OwnerLookup(JOBS, jobs)
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "job", self.reconcile, clock=clock, informers=(jobs, pods)
        )
        self.strays: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "job-strays", self.release_stray, clock=clock, informers=(jobs, pods), workers=2
        )
        jobs.subscribe(self._job_changed)
        pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.loop.run(), name="job")
            group.create_task(self.strays.run(), name="job-strays")

    def _job_changed(self, change: Change) -> None:
        self.loop.queue.add(NamespacedName.of(change.object))
        if change.new is None:
            for pod in self._pods.by_index(BY_CONTROLLER, uid(change.object)):
                self.strays.queue.add(NamespacedName.of(pod))

    def _pod_changed(self, change: Change) -> None:
        for key in self._lookup.of(change):
            self.loop.queue.add(key)
        if change.new is not None and is_tracked(change.new) and self._is_stray(change.new):
            self.strays.queue.add(NamespacedName.of(change.new))

    def _is_stray(self, pod: JsonObject) -> bool:
        reference = controller_of(pod)
        if reference is None:
            return True
        job = self._jobs.get(NamespacedName(pod["metadata"]["namespace"], reference["name"]))
        return job is None or uid(job) != reference["uid"]

    async def release_stray(self, key: NamespacedName) -> timedelta | None:
        """Nobody counts a pod without its Job: the finalizer must not keep it."""
        pod = self._pods.get(key)
        if pod is None or not is_tracked(pod) or not self._is_stray(pod):
            return None
        reference = controller_of(pod)
        if reference is not None and await self._exists(reference, key.namespace):
            return _STALE  # the cache is late
        await self._release(key, pod)
        return None

    async def _exists(self, reference: JsonObject, namespace: str) -> bool:
        try:
            live = await self._client.get(JOBS, reference["name"], namespace)
        except NotFound:
            return False
        return bool(uid(live) == reference["uid"])

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        job = self._jobs.get(key)
        if job is None:
            return None
        if not (self._guard.is_caught_up(key) and self._own_guard.is_caught_up(key)):
            return _STALE
        pods = await self._control.claim(key, job)
        plan = plan_job(job, pods, self._clock.now())
        if plan.expired:
            await self._expire(job)
            return None
        before = job.get("status") or {}
        if plan.status != before:
            changed = {**job, "status": plan.status}
            answer = await self._client.update(JOBS, changed, subresource="status")
            self._own_guard.wrote(key, answer)
            self._tell(job, before, plan.status)
        await self._carry_out(key, job, plan)
        return plan.again

    async def _carry_out(self, key: NamespacedName, job: JsonObject, plan: JobPlan) -> None:
        for pod in plan.track:
            answer = await self._client.patch(PODS, pod["metadata"]["name"], tracked(pod), key.namespace)
            self._guard.wrote(key, answer)
        if plan.track:
            return
        await all_of(self._release(key, pod) for pod in plan.release)
        await all_of(self._withdraw(key, job, pod) for pod in plan.withdraw)
        await all_of(self._control.delete(key, job, pod) for pod in plan.end)
        indexes = iter(plan.create)
        for size in batches(len(plan.create)):
            made = [new_pod(job, next(indexes)) for _ in range(size)]
            await all_of(self._control.create(key, job, pod) for pod in made)

    async def _release(self, key: NamespacedName, pod: JsonObject) -> None:
        name = pod["metadata"]["name"]
        try:
            answer = await self._client.patch(
                PODS, name, untracked(pod), key.namespace, content_type=MERGE_PATCH
            )
        except NotFound:
            return
        self._guard.wrote(key, answer)

    async def _withdraw(self, key: NamespacedName, job: JsonObject, pod: JsonObject) -> None:
        if is_tracked(pod):
            await self._release(key, pod)
        await self._control.delete(key, job, pod)

    async def _expire(self, job: JsonObject) -> None:
        meta = job["metadata"]
        try:
            await self._client.delete(
                JOBS, meta["name"], meta["namespace"], uid=meta["uid"], propagation_policy="Foreground"
            )
        except NotFound:
            return

    def _tell(self, job: JsonObject, before: JsonObject, after: JsonObject) -> None:
        reference = object_reference(JOBS, job)
        for kind, event_type, reason, text in (
            ("Complete", NORMAL, "Completed", "Job completed"),
            ("Failed", WARNING, "", ""),
            ("Suspended", NORMAL, "Suspended", "Job suspended"),
        ):
            old, new = (conditions.find(each.get("conditions"), kind) or {} for each in (before, after))
            if old.get("status") != new.get("status") == "True":
                self._recorder.event(reference, event_type, reason or new["reason"], text or new["message"])
            elif kind == "Suspended" and old.get("status") == "True" and new.get("status") == "False":
                self._recorder.event(reference, NORMAL, "Resumed", "Job resumed")
