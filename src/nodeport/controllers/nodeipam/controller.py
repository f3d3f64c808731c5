"""Gives each node that has no pod networks its share of the cluster's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
from nodeport.api.podcidrs import IPNetwork
from nodeport.api.resources import NODES
from nodeport.client.cache import Change
from nodeport.client.events import NORMAL, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, RestClient
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.nodeipam.reconcile import free_share, networks_of, patch_for
from nodeport.kit.clock import Clock

NOT_AVAILABLE = "CIDRNotAvailable"
RETRY = timedelta(seconds=10)


class NodeIpamController:
    """``cluster_cidrs``: the cluster's pod networks, one of each family, the primary one first."""

    def __init__(
        self, client: RestClient, *, nodes: Informer, cluster_cidrs: Sequence[IPNetwork], clock: Clock,
        recorder: EventRecorder,
    ) -> None:  # fmt: skip
        self._client, self._nodes, self._recorder = client, nodes, recorder
        self._cluster_cidrs = tuple(cluster_cidrs)
        self._given: dict[str, tuple[IPNetwork, ...]] = {}
        """By the UID of a node; the informer may have yet to tell."""
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "node-ipam", self.reconcile, clock=clock, informers=(nodes,), workers=1
        )
        nodes.subscribe(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, change: Change) -> None:
        if change.new is None:
            self._given.pop(change.object["metadata"]["uid"], None)
            for node in self._nodes.list():  # what it had may be what another waits for
                if not networks_of(node):
                    self.loop.queue.add(NamespacedName.of(node))
        elif not networks_of(change.new):
            self.loop.queue.add(NamespacedName.of(change.new))

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        """One node at a time, so that no share is given twice."""
        node = self._nodes.get(key)
        if node is None or is_being_deleted(node) or networks_of(node):
            return None
        uid = node["metadata"]["uid"]
        found = self._given.get(uid) or free_share(self._cluster_cidrs, self._taken())
        if found is None:
            message = f"Node {key.name} status is now: {NOT_AVAILABLE}"
            self._recorder.event(object_reference(NODES, node), NORMAL, NOT_AVAILABLE, message)
            return RETRY
        await self._give(node, found)
        self._given[uid] = found
        return None

    async def _give(self, node: JsonObject, cidrs: tuple[IPNetwork, ...]) -> None:
        """To this very node, not to another of its name."""
        metadata = {"uid": node["metadata"]["uid"]}
        patch = {"metadata": metadata, **patch_for(cidrs)}
        await self._client.patch(NODES, node["metadata"]["name"], patch, content_type=STRATEGIC_MERGE_PATCH)

    def _taken(self) -> list[IPNetwork]:
        known = [network for node in self._nodes.list() for network in networks_of(node)]
        return known + [network for cidrs in self._given.values() for network in cidrs]
