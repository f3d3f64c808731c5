"""Keeps the quotas' status like what is used, and knows which namespaces have quotas."""

from __future__ import annotations

import asyncio

from nodeport.api import quota
from nodeport.api.meta import JsonObject
from nodeport.api.resources import RESOURCE_QUOTAS
from nodeport.api.status import ApiError, NotFound
from nodeport.apiserver.encoding import prefix_of
from nodeport.apiserver.options import WriteOptions
from nodeport.apiserver.quotas import Quotas
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.routes import Target
from nodeport.apiserver.writes import Writer
from nodeport.kit.logs import get_logger
from nodeport.store.base import Compacted, SlowWatcher, StoreError

RETRY_SECONDS = 1.0
_log = get_logger("nodeport.apiserver.quota")


class QuotaKeeper:
    """``load`` before the first request, ``run`` until cancelled."""

    def __init__(self, registry: Registry, writer: Writer, quotas: Quotas) -> None:
        self._registry = registry
        self._writer = writer
        self._quotas = quotas

    async def load(self) -> int:
        """Look which namespaces have quotas; the revision of the answer."""
        prefix = prefix_of(RESOURCE_QUOTAS)
        listing = await self._registry.store.list(prefix)
        self._quotas.namespaces = {_namespace(prefix, kv.key) for kv in listing.items}
        for namespace in self._quotas.namespaces:
            self._quotas.note(namespace)
        return listing.revision

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="quota-namespaces")
            group.create_task(self._count(), name="quota-status")

    async def _follow(self) -> None:
        store, prefix = self._registry.store, prefix_of(RESOURCE_QUOTAS)
        while True:
            revision = await self.load()
            try:
                async with store.watch(prefix, revision) as batches:  # type: ignore[arg-type]
                    async for batch in batches:
                        for namespace in {_namespace(prefix, event.key) for event in batch}:
                            await self._look(namespace)
                return  # the store is closed
            except (SlowWatcher, Compacted):
                _log.warning("quotas changed faster than they could be read: read anew")

    async def _look(self, namespace: str) -> None:
        if await self._quotas.of(namespace):
            self._quotas.namespaces.add(namespace)
            self._quotas.note(namespace)
        else:
            self._quotas.namespaces.discard(namespace)

    async def _count(self) -> None:
        while True:
            await self._quotas.changed.wait()
            self._quotas.changed.clear()
            while self._quotas.dirty:
                namespace = self._quotas.dirty.pop()
                try:
                    await self._write(namespace)
                except (ApiError, StoreError) as error:
                    _log.warning("the quotas of namespace %s could not be counted: %s", namespace, error)
                    await self._registry.clock.sleep(RETRY_SECONDS)
                    self._quotas.note(namespace)

    async def _write(self, namespace: str) -> None:
        for found in await self._quotas.of(namespace):
            spec = found.get("spec") or {}
            objects = await self._quotas.objects(namespace, spec.get("hard") or {})
            wanted = quota.status_of(spec, quota.used_of(spec, objects))
            if (found.get("status") or {}) == wanted:
                continue

            def change(old: JsonObject, wanted: JsonObject = wanted) -> JsonObject:
                return {**old, "metadata": {**old["metadata"], "resourceVersion": ""}, "status": wanted}

            target = Target(RESOURCE_QUOTAS, namespace, found["metadata"]["name"], "status")
            try:
                await self._writer.change(target, change, WriteOptions())
            except NotFound:
                continue


def _namespace(prefix: str, key: str) -> str:
    return key[len(prefix) :].partition("/")[0]
