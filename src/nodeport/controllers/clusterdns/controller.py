"""Watches nodes, the Service and its slices, and writes what the plan says."""

from __future__ import annotations

from collections.abc import Collection

from nodeport.api import clusterdns
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import ENDPOINT_SLICES
from nodeport.client.cache import Change, uid
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.clusterdns.reconcile import MANAGER, SLICES, is_as_wanted, wanted_slices
from nodeport.controllers.loop import ReconcileLoop
from nodeport.kit.clock import Clock

KEY = NamespacedName(clusterdns.NAMESPACE, clusterdns.SERVICE)
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


class ClusterDnsController:
    """There is one key: the Service's name."""

    def __init__(
        self, client: RestClient, *, services: Informer, slices: Informer, nodes: Informer, clock: Clock
    ) -> None:
        self._client = client
        self._services, self._slices, self._nodes = services, slices, nodes
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "cluster-dns", self.reconcile, clock=clock, informers=(services, slices, nodes), workers=1
        )
        services.subscribe(lambda change: self._changed(change, (KEY.name,)))
        slices.subscribe(lambda change: self._changed(change, SLICES.values()))
        nodes.subscribe(lambda change: self.loop.queue.add(KEY))

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, change: Change, names: Collection[str]) -> None:
        changed = NamespacedName.of(change.object)
        if changed.namespace == KEY.namespace and changed.name in names:
            self.loop.queue.add(KEY)

    async def reconcile(self, key: NamespacedName) -> None:
        """What a stale cache makes it write is refused as a conflict, and tried again."""
        wanted = wanted_slices(self._services.get(key), self._nodes.list())
        for name in SLICES.values():
            await self._make(NamespacedName(key.namespace, name), wanted.get(name))

    async def _make(self, key: NamespacedName, wanted: JsonObject | None) -> None:
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
