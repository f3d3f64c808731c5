"""Watches nodes, the Service and its slice, and writes what the plan says."""

from __future__ import annotations

from nodeport.api import clusterdns
from nodeport.api.meta import NamespacedName
from nodeport.api.resources import ENDPOINT_SLICES
from nodeport.client.cache import Change, uid
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.clusterdns.reconcile import MANAGER, is_as_wanted, wanted_slice
from nodeport.controllers.loop import ReconcileLoop
from nodeport.kit.clock import Clock

KEY = NamespacedName(clusterdns.NAMESPACE, clusterdns.SERVICE)
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


class ClusterDnsController:
    """There is one key: the Service's name, which is the slice's as well."""

    def __init__(
        self, client: RestClient, *, services: Informer, slices: Informer, nodes: Informer, clock: Clock
    ) -> None:
        self._client = client
        self._services, self._slices, self._nodes = services, slices, nodes
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "cluster-dns", self.reconcile, clock=clock, informers=(services, slices, nodes), workers=1
        )
        services.subscribe(self._own_changed)
        slices.subscribe(self._own_changed)
        nodes.subscribe(lambda change: self.loop.queue.add(KEY))

    async def run(self) -> None:
        await self.loop.run()

    def _own_changed(self, change: Change) -> None:
        if NamespacedName.of(change.object) == KEY:
            self.loop.queue.add(KEY)

    async def reconcile(self, key: NamespacedName) -> None:
        """What a stale cache makes it write is refused as a conflict, and tried again."""
        wanted = wanted_slice(self._services.get(key), self._nodes.list())
        found = self._slices.get(key)
        if wanted is None:
            if found is not None and (found["metadata"].get("labels") or {}).get(_MANAGED_BY) == MANAGER:
                await self._client.delete(ENDPOINT_SLICES, key.name, key.namespace, uid=uid(found))
        elif found is None:
            await self._client.create(ENDPOINT_SLICES, wanted)
        elif not is_as_wanted(found, wanted):
            metadata = {
                **found["metadata"],
                "labels": {**(found["metadata"].get("labels") or {}), **wanted["metadata"]["labels"]},
            }
            await self._client.update(ENDPOINT_SLICES, {**found, **wanted, "metadata": metadata})
