"""Removes pods whose node no longer exists: nobody is left to end them."""

from __future__ import annotations

import logging
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
from nodeport.api.resources import NODES, PODS
from nodeport.api.status import Conflict, NotFound
from nodeport.client.cache import Change, uid
from nodeport.client.informer import Informer
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, RestClient
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.selection import BY_NODE, is_finished
from nodeport.kit.clock import Clock

QUARANTINE = timedelta(seconds=40)
"""A node may be registered again by an agent that restarts; Kubernetes waits as long."""

_log = logging.getLogger(__name__)


class PodGarbageCollector:
    """``pods`` is indexed by node (``BY_NODE``). Keys are node names."""

    def __init__(
        self,
        client: RestClient,
        *,
        pods: Informer,
        nodes: Informer,
        clock: Clock,
        quarantine: timedelta = QUARANTINE,
    ) -> None:
        self._client = client
        self._pods = pods
        self._nodes = nodes
        self._clock = clock
        self._quarantine = quarantine
        self._missing_since: dict[str, float] = {}
        self.loop: ReconcileLoop[str] = ReconcileLoop(
            "podgc", self.reconcile, clock=clock, informers=(pods, nodes), workers=2
        )
        pods.subscribe(self._pod_changed)
        nodes.subscribe(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, change: Change) -> None:
        if change.new is not None:
            node = change.new["spec"].get("nodeName")
            if node and self._nodes.get(NamespacedName("", node)) is None:
                self.loop.queue.add(node)

    def _node_changed(self, change: Change) -> None:
        if change.new is None or change.old is None:
            self.loop.queue.add(change.object["metadata"]["name"])

    async def reconcile(self, key: str) -> timedelta | None:
        pods = self._pods.by_index(BY_NODE, key)
        if not pods or self._nodes.get(NamespacedName("", key)) is not None:
            self._missing_since.pop(key, None)
            return None
        since = self._missing_since.setdefault(key, self._clock.monotonic())
        left = self._quarantine - timedelta(seconds=self._clock.monotonic() - since)
        if left > timedelta():
            return left
        if await self._exists(key):
            return self._quarantine
        for pod in pods:
            await self._remove(pod)
        return None

    async def _exists(self, node: str) -> bool:
        try:
            await self._client.get(NODES, node)
        except NotFound:
            return False
        return True

    async def _remove(self, pod: JsonObject) -> None:
        key = NamespacedName.of(pod)
        _log.info("pod %s: its node %s is gone", key, pod["spec"]["nodeName"])
        try:
            if not is_finished(pod) and not is_being_deleted(pod):
                await self._fail(key)
            await self._client.delete(PODS, key.name, key.namespace, uid=uid(pod), grace_period_seconds=0)
        except (NotFound, Conflict):
            return

    async def _fail(self, key: NamespacedName) -> None:
        """So that its controller makes another and its owner learns why."""
        patch = {"status": {"phase": "Failed"}}
        await self._client.patch(
            PODS, key.name, patch, key.namespace, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
        )
