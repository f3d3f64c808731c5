"""Carries out what ``reconcile`` and ``rollout`` plan for one DaemonSet at a time."""

from __future__ import annotations

from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted, labels
from nodeport.api.resources import DAEMON_SETS
from nodeport.client.cache import Change
from nodeport.client.events import WARNING, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.daemonset.reconcile import (
    DaemonPlan,
    daemon_status,
    manage,
    new_pod,
    places,
    replaceable,
)
from nodeport.controllers.daemonset.rollout import roll
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.history import POD_HASH_LABEL
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.podcontrol import OwnerLookup, PodControl, all_of
from nodeport.controllers.replicaset.reconcile import batches
from nodeport.controllers.revisioncontrol import RevisionControl
from nodeport.kit.clock import Clock

_STALE = timedelta(milliseconds=20)
_MAX_BURST = 250
"""At most so many pods are made or removed before their arrival in the cache is awaited."""


class DaemonSetController:
    """``pods`` and ``revisions`` are indexed by controller and orphans (``ownership``)."""

    def __init__(
        self,
        client: RestClient,
        *,
        daemon_sets: Informer,
        pods: Informer,
        nodes: Informer,
        revisions: Informer,
        clock: Clock,
        recorder: EventRecorder,
    ) -> None:
        self._client = client
        self._daemon_sets = daemon_sets
        self._nodes = nodes
        self._clock = clock
        self._recorder = recorder
        self._guard: WriteGuard[NamespacedName] = WriteGuard(pods, clock)
        self._own_guard: WriteGuard[NamespacedName] = WriteGuard(daemon_sets, clock)
        self._control = PodControl(client, DAEMON_SETS, pods, self._guard, recorder)
        self._history = RevisionControl(client, DAEMON_SETS, revisions, clock, hash_label=POD_HASH_LABEL)
        self._lookup = OwnerLookup(DAEMON_SETS, daemon_sets)
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "daemonset", self.reconcile, clock=clock, informers=(daemon_sets, pods, nodes, revisions)
        )
        daemon_sets.subscribe(lambda change: self.loop.queue.add(NamespacedName.of(change.object)))
        pods.subscribe(self._pod_changed)
        nodes.subscribe(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, change: Change) -> None:
        for key in self._lookup.of(change):
            self.loop.queue.add(key)

    def _node_changed(self, change: Change) -> None:
        if change.old is None or change.new is None or _facts(change.old) != _facts(change.new):
            for found in self._daemon_sets.list():
                self.loop.queue.add(NamespacedName.of(found))

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        found = self._daemon_sets.get(key)
        if found is None:
            return None
        guards = (self._guard, self._own_guard, self._history)
        if not all(guard.is_caught_up(key) for guard in guards):
            return _STALE
        pods = await self._control.claim(key, found)
        revisions = await self._history.of(key, found)
        revision, collisions = await self._history.current(key, found, revisions)
        hash_ = labels(revision)[POD_HASH_LABEL]
        if is_being_deleted(found):
            return None
        now = self._clock.now()
        where, ended = places(found, self._nodes.list(), pods)
        ended, later = replaceable(ended, now)
        self._tell_of(found, ended)
        plan = manage(found, where, hash_, now)
        plan.delete += ended
        await self._carry_out(key, found, plan if plan else roll(found, where, hash_, now), hash_)
        status, again = daemon_status(found, where, hash_, collisions, now)
        if status != (found.get("status") or {}):
            changed = {**found, "status": status}
            answer = await self._client.update(DAEMON_SETS, changed, subresource="status")
            self._own_guard.wrote(key, answer)
        live = {f"{key.name}-{labels(pod).get(POD_HASH_LABEL, '')}" for pod in pods}
        await self._history.truncate(key, found, revisions, live | {revision["metadata"]["name"]})
        return min((wait for wait in (again, later) if wait), default=None)

    async def _carry_out(self, key: NamespacedName, found: JsonObject, plan: DaemonPlan, hash_: str) -> None:
        create = iter(plan.create[:_MAX_BURST])
        for size in batches(min(len(plan.create), _MAX_BURST)):
            made = [new_pod(found, next(create), hash_) for _ in range(size)]
            await all_of(self._control.create(key, found, pod) for pod in made)
        await all_of(self._control.delete(key, found, pod) for pod in plan.delete[:_MAX_BURST])

    def _tell_of(self, found: JsonObject, ended: list[JsonObject]) -> None:
        reference = object_reference(DAEMON_SETS, found)
        for pod in ended:
            phase = (pod.get("status") or {}).get("phase") or ""
            if phase in ("Failed", "Succeeded"):
                name, node = NamespacedName.of(pod), pod["spec"].get("nodeName") or ""
                text = f"Found {phase.lower()} daemon pod {name} on node {node}, will try to kill it"
                self._recorder.event(reference, WARNING, f"{phase}DaemonPod", text)


def _facts(node: JsonObject) -> tuple[object, ...]:
    """All of a node that decides whether a daemon belongs there."""
    return labels(node), (node.get("spec") or {}).get("taints")
