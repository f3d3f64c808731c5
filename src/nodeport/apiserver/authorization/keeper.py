"""Keeps the roles in memory like those in the store, the default ones in order, and aggregated ones complete."""

from __future__ import annotations

import asyncio
import copy

from nodeport.api.meta import JsonObject
from nodeport.api.rbac import aggregated_rules, is_aggregated
from nodeport.api.resources import CLUSTER_ROLES, Resource
from nodeport.api.status import ApiError, NotFound
from nodeport.apiserver.authorization.policy import RETIRED, defaults, is_default, mended
from nodeport.apiserver.authorization.rbac import KINDS, RbacIndex
from nodeport.apiserver.encoding import prefix_of
from nodeport.apiserver.options import WriteOptions
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.routes import Target
from nodeport.apiserver.writes import Writer
from nodeport.kit.logs import get_logger
from nodeport.store.base import Compacted, Delete, Event, SlowWatcher, StoreError

RETRY_SECONDS = 1.0
LEVELS = 8
"""How deep aggregated roles may be gathered from aggregated ones before serving begins; the rest follows."""
_log = get_logger("nodeport.apiserver.authorization")


class RbacKeeper:
    """``load`` before the first request, ``ensure`` once objects can be written, ``run`` until cancelled."""

    def __init__(self, registry: Registry, writer: Writer, index: RbacIndex) -> None:
        self._registry = registry
        self._writer = writer
        self._index = index
        self._changed = asyncio.Event()

    async def load(self) -> None:
        for resource in KINDS:
            await self._read(resource)

    async def ensure(self) -> None:
        """Create the default roles and bindings that are missing, give back what was taken from the others, and take
        away those that are defaults no more."""
        for resource, name in RETIRED:
            await self._retire(resource, name)
        await asyncio.gather(*(self._ensure(resource, wanted) for resource, wanted in defaults()))
        await self.load()
        for _ in range(LEVELS):
            if not await self._aggregate():
                break
            await self._read(CLUSTER_ROLES)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for resource in KINDS:
                group.create_task(self._follow(resource), name=f"rbac-{resource.plural}")
            group.create_task(self._keep_aggregated(), name="rbac-aggregation")

    async def _ensure(self, resource: Resource, wanted: JsonObject) -> None:
        metadata = wanted["metadata"]
        namespace, name = metadata.get("namespace") or "", metadata["name"]
        try:
            kv = await self._registry.find(resource, namespace, name)
        except NotFound:
            obj = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(wanted)}
            await self._writer.create(Target(resource, namespace), obj, WriteOptions())
            return
        if mended(self._registry.entry(resource).splicer.read(kv), wanted) is not None:
            await self._writer.change(
                Target(resource, namespace, name), lambda old: mended(old, wanted) or old, WriteOptions()
            )

    async def _retire(self, resource: Resource, name: str) -> None:
        """What somebody made under that name himself stays."""
        try:
            kv = await self._registry.find(resource, "", name)
        except NotFound:
            return
        if is_default(self._registry.entry(resource).splicer.read(kv)):
            await self._registry.store.commit([Delete(kv.key)])

    async def _read(self, resource: Resource) -> int:
        listing = await self._registry.store.list(prefix_of(resource))
        splicer = self._registry.entry(resource).splicer
        self._index.replace(resource, [splicer.read(kv) for kv in listing.items])
        self._changed.set()
        return listing.revision

    async def _follow(self, resource: Resource) -> None:
        store = self._registry.store
        prefix = prefix_of(resource)
        while True:
            revision = await self._read(resource)
            try:
                async with store.watch(prefix, revision) as batches:  # type: ignore[arg-type]
                    async for batch in batches:
                        for event in batch:
                            self._apply(resource, prefix, event)
                return  # the store is closed
            except (SlowWatcher, Compacted):
                _log.warning("%s changed faster than they could be read: read anew", resource.plural)

    def _apply(self, resource: Resource, prefix: str, event: Event) -> None:
        if event.current is not None:
            self._index.put(resource, self._registry.entry(resource).splicer.read(event.current))
        else:
            namespace, _, name = event.key[len(prefix) :].rpartition("/")
            self._index.remove(resource, (namespace, name))
        if resource is CLUSTER_ROLES:
            self._changed.set()

    async def _keep_aggregated(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._aggregate()
            except (ApiError, StoreError) as error:
                _log.warning("aggregated roles could not be written: %s", error)
                await self._registry.clock.sleep(RETRY_SECONDS)
                self._changed.set()

    async def _aggregate(self) -> bool:
        """Write the rules that gathered roles lack; whether there were any. Roles gathered from these come next."""
        roles, wrote = self._index.cluster_roles(), False
        for role in roles:
            if not is_aggregated(role):
                continue
            rules = aggregated_rules(role, roles)
            if rules == (role.get("rules") or []):
                continue

            def change(old: JsonObject, rules: list[JsonObject] = rules) -> JsonObject:
                return {**old, "rules": rules, "metadata": dict(old["metadata"])}

            wrote = True
            target = Target(CLUSTER_ROLES, "", role["metadata"]["name"])
            try:
                await self._writer.change(target, change, WriteOptions())
            except NotFound:
                continue
        return wrote
