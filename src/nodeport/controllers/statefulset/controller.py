"""Carries out what ``reconcile`` plans for one StatefulSet at a time."""

from __future__ import annotations

from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import PODS, STATEFUL_SETS
from nodeport.client.cache import Change
from nodeport.client.events import EventRecorder
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.history import POD_HASH_LABEL
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.podcontrol import OwnerLookup, PodControl, Texts, all_of
from nodeport.controllers.revisioncontrol import RevisionControl
from nodeport.controllers.statefulset.reconcile import (
    StatefulPlan,
    Versions,
    identity_patch,
    ordinal_of,
    plan_stateful,
    stateful_status,
)
from nodeport.kit.clock import Clock

_STALE = timedelta(milliseconds=20)
_TEXTS = Texts(
    created="create Pod {pod} in StatefulSet {owner} successful",
    deleted="delete Pod {pod} in StatefulSet {owner} successful",
    not_created="create Pod {pod} in StatefulSet {owner} failed error: {error}",
    not_deleted="delete Pod {pod} in StatefulSet {owner} failed error: {error}",
)


class StatefulSetController:
    """``pods`` and ``revisions`` are indexed by controller and orphans (``ownership``)."""

    def __init__(
        self,
        client: RestClient,
        *,
        stateful_sets: Informer,
        pods: Informer,
        revisions: Informer,
        clock: Clock,
        recorder: EventRecorder,
    ) -> None:
        self._client = client
        self._stateful_sets = stateful_sets
        self._clock = clock
        self._guard: WriteGuard[NamespacedName] = WriteGuard(pods, clock)
        self._own_guard: WriteGuard[NamespacedName] = WriteGuard(stateful_sets, clock)
        self._control = PodControl(client, STATEFUL_SETS, pods, self._guard, recorder, texts=_TEXTS)
        self._history = RevisionControl(client, STATEFUL_SETS, revisions, clock)
        self._lookup = OwnerLookup(STATEFUL_SETS, stateful_sets)
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "statefulset", self.reconcile, clock=clock, informers=(stateful_sets, pods, revisions)
        )
        stateful_sets.subscribe(lambda change: self.loop.queue.add(NamespacedName.of(change.object)))
        pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, change: Change) -> None:
        for key in self._lookup.of(change):
            self.loop.queue.add(key)

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        found = self._stateful_sets.get(key)
        if found is None:
            return None
        guards = (self._guard, self._own_guard, self._history)
        if not all(guard.is_caught_up(key) for guard in guards):
            return _STALE
        pods = await self._control.claim(
            key, found, is_claimable=lambda pod: ordinal_of(found, pod) is not None
        )
        revisions = await self._history.of(key, found)
        update, collisions = await self._history.current(key, found, revisions)
        versions = Versions(_current(found, revisions) or update, update)
        now = self._clock.now()
        await self._carry_out(key, found, plan_stateful(found, pods, versions, now))
        status, again = stateful_status(found, pods, versions, collisions, now)
        if status != (found.get("status") or {}):
            changed = {**found, "status": status}
            answer = await self._client.update(STATEFUL_SETS, changed, subresource="status")
            self._own_guard.wrote(key, answer)
        live = {versions.current_name, versions.update_name}
        live |= {(pod["metadata"].get("labels") or {}).get(POD_HASH_LABEL, "") for pod in pods}
        await self._history.truncate(key, found, revisions, live)
        return again

    async def _carry_out(self, key: NamespacedName, found: JsonObject, plan: StatefulPlan) -> None:
        for pod in plan.relabel:
            patch = identity_patch(pod)
            answer = await self._client.patch(PODS, pod["metadata"]["name"], patch, key.namespace)
            self._guard.wrote(key, answer)
        await all_of(self._control.create(key, found, pod) for pod in plan.create)
        await all_of(self._control.delete(key, found, pod) for pod in plan.delete)


def _current(found: JsonObject, revisions: list[JsonObject]) -> JsonObject | None:
    """The revision that the status says pods had before the update under way."""
    name = (found.get("status") or {}).get("currentRevision")
    return next((each for each in revisions if each["metadata"]["name"] == name), None)
