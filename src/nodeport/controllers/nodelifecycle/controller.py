"""Watches every node's Lease and acts when one is no longer renewed.

Silence is measured with our own clock from the last change we saw, so that clocks of machines need not agree;
after a restart every node gets the whole grace period anew.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
from nodeport.api.resources import NODES, PODS
from nodeport.api.status import Conflict, NotFound
from nodeport.client.cache import Change, uid
from nodeport.client.events import NORMAL, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import MERGE_PATCH, STRATEGIC_MERGE_PATCH, RestClient
from nodeport.controllers import conditions
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.nodelifecycle.reconcile import (
    evict_at,
    ready_status,
    unknown_conditions,
    wanted_taints,
)
from nodeport.controllers.selection import BY_NODE, is_finished, is_ready
from nodeport.kit.clock import Clock, rfc3339

LEASE_NAMESPACE = "kube-node-lease"

_STALE = timedelta(milliseconds=50)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Heartbeat:
    """``signs`` are what changes when a node is alive; ``seen`` our monotonic time of the last change."""

    signs: tuple[object, ...]
    seen: float


class NodeLifecycleController:
    """``leases`` are those of ``LEASE_NAMESPACE``; ``pods`` is indexed by node (``BY_NODE``). Keys are node
    names.
    """

    def __init__(
        self,
        client: RestClient,
        *,
        nodes: Informer,
        leases: Informer,
        pods: Informer,
        clock: Clock,
        grace: timedelta,
        recorder: EventRecorder,
    ) -> None:
        self._client = client
        self._nodes = nodes
        self._leases = leases
        self._pods = pods
        self._clock = clock
        self._grace = grace
        self._recorder = recorder
        self._heartbeats: dict[str, _Heartbeat] = {}
        self._guard: WriteGuard[str] = WriteGuard(nodes, clock)
        self.loop: ReconcileLoop[str] = ReconcileLoop(
            "nodelifecycle", self.reconcile, clock=clock, informers=(nodes, leases, pods)
        )
        nodes.subscribe(self._node_changed)
        leases.subscribe(self._lease_changed)
        pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        self._heartbeats.clear()
        for informer in (self._nodes, self._leases, self._pods):
            await informer.wait_until_synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.loop.run())
            group.create_task(self._look_at_all())

    async def _look_at_all(self) -> None:
        """Silence makes no events: look as often as to notice it in time."""
        while True:
            for node in self._nodes.list():
                self.loop.queue.add(node["metadata"]["name"])
            await self._clock.sleep(min(self._grace / 8, timedelta(seconds=5)).total_seconds())

    def _node_changed(self, change: Change) -> None:
        self.loop.queue.add(change.object["metadata"]["name"])

    def _lease_changed(self, change: Change) -> None:
        """Only a node that was given up needs a look at once when it renews."""
        name = change.object["metadata"]["name"]
        node = self._nodes.get(NamespacedName("", name))
        if node is not None and ready_status(node) == "Unknown":
            self.loop.queue.add(name)

    def _pod_changed(self, change: Change) -> None:
        pod = change.new
        name = pod["spec"].get("nodeName") if pod is not None else None
        node = self._nodes.get(NamespacedName("", name)) if name else None
        if node is not None and (ready_status(node) == "Unknown" or (node.get("spec") or {}).get("taints")):
            self.loop.queue.add(str(name))

    async def reconcile(self, key: str) -> timedelta | None:
        node = self._nodes.get(NamespacedName("", key))
        if node is None:
            self._heartbeats.pop(key, None)
            return None
        if not self._guard.is_caught_up(key):
            return _STALE
        now = self._clock.now()
        if self._is_silent(key, node):
            changed = unknown_conditions(node, now)
            if changed:
                return await self._give_up(key, node, changed)
        taints = wanted_taints(node, now)
        if taints != ((node.get("spec") or {}).get("taints") or []):
            await self._taint(key, node, taints)
            return _STALE
        if ready_status(node) == "Unknown":
            await self._mark_pods_not_ready(key, now)
        return await self._evict(key, taints, now)

    def _is_silent(self, key: str, node: JsonObject) -> bool:
        lease = self._leases.get(NamespacedName(LEASE_NAMESPACE, key))
        ready = conditions.find((node.get("status") or {}).get("conditions"), "Ready") or {}
        renewed = ((lease or {}).get("spec") or {}).get("renewTime")
        signs = (uid(node), renewed, ready.get("lastHeartbeatTime"), ready.get("status"))
        now = self._clock.monotonic()
        heartbeat = self._heartbeats.get(key)
        if heartbeat is None or heartbeat.signs != signs:
            self._heartbeats[key] = _Heartbeat(signs, now)
            return False
        return now - heartbeat.seen > self._grace.total_seconds()

    async def _give_up(self, key: str, node: JsonObject, changed: list[JsonObject]) -> timedelta:
        _log.warning("node %s fell silent", key)
        patch = {"metadata": {"uid": uid(node)}, "status": {"conditions": changed}}
        answer = await self._client.patch(
            NODES, key, patch, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
        )
        self._guard.wrote(key, answer)
        self._tell(node, "NodeNotReady", f"Node {key} status is now: NodeNotReady")
        return _STALE

    def _tell(self, node: JsonObject, reason: str, text: str) -> None:
        self._recorder.event(object_reference(NODES, node), NORMAL, reason, text)

    async def _taint(self, key: str, node: JsonObject, taints: list[JsonObject]) -> None:
        meta = node["metadata"]
        patch = {
            "metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
            "spec": {"taints": taints or None},
        }
        self._guard.wrote(key, await self._client.patch(NODES, key, patch, content_type=MERGE_PATCH))

    async def _mark_pods_not_ready(self, key: str, now: datetime) -> None:
        """Nobody on a failed node says so, and endpoints must not lead there."""
        for pod in self._pods.by_index(BY_NODE, key):
            if not is_ready(pod):
                continue
            condition = {
                "type": "Ready",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": rfc3339(now),
                "reason": "NodeNotReady",
                "message": f"Node {key} is not ready",
            }
            name = NamespacedName.of(pod)
            patch = {"metadata": {"uid": uid(pod)}, "status": {"conditions": [condition]}}
            try:
                await self._client.patch(
                    PODS, name.name, patch, name.namespace,
                    content_type=STRATEGIC_MERGE_PATCH, subresource="status",
                )  # fmt: skip
            except (NotFound, Conflict):
                continue

    async def _evict(self, key: str, taints: list[JsonObject], now: datetime) -> timedelta | None:
        """Delete the pods whose patience is over; how long until the next one's is."""
        waits: list[timedelta] = []
        for pod in self._pods.by_index(BY_NODE, key):
            due = evict_at(pod, taints) if not (is_being_deleted(pod) or is_finished(pod)) else None
            if due is None:
                continue
            if due > now:
                waits.append(due - now)
                continue
            name = NamespacedName.of(pod)
            text = f"Marking for deletion Pod {name}"
            self._recorder.event(object_reference(PODS, pod), NORMAL, "TaintManagerEviction", text)
            try:
                await self._client.delete(PODS, name.name, name.namespace, uid=uid(pod))
            except (NotFound, Conflict):
                continue
        return min(waits, default=None)
