"""ResourceQuotas: no write that would use more than a namespace may, and a status that tells what is used.

What is used is counted from the store each time, under a lock of the namespace that is held until the write is done: so
two writes cannot both take the last place. Namespaces without a quota, which is nearly all, cost one look into a set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from nodeport.api import quota
from nodeport.api.meta import JsonObject, name_or_base
from nodeport.api.resources import PODS, RESOURCE_QUOTAS, Resource
from nodeport.api.status import Forbidden
from nodeport.apiserver.encoding import decode, prefix_of
from nodeport.apiserver.locks import KeyLocks
from nodeport.store.base import Store

_FREE: AbstractAsyncContextManager[None] = nullcontext()


class Quotas:
    """``namespaces`` are those that have quotas; ``dirty`` those whose quotas' status may be wrong.

    Both are kept by ``QuotaKeeper``; ``changed`` tells it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks = KeyLocks()
        self.namespaces: set[str] = set()
        self.dirty: set[str] = set()
        self.changed = asyncio.Event()

    def counting(
        self, resource: Resource, new: JsonObject, old: JsonObject | None
    ) -> AbstractAsyncContextManager[None]:
        """Around the commit that makes ``new`` of ``old`` (None: of nothing). Raises 403 when there is no room."""
        namespace = new["metadata"].get("namespace") or ""
        if namespace not in self.namespaces:
            return _FREE
        return self._counting(namespace, resource, new, old)

    def note(self, namespace: str) -> None:
        """Something in the namespace changed."""
        if namespace in self.namespaces:
            self.dirty.add(namespace)
            self.changed.set()

    @asynccontextmanager
    async def _counting(
        self, namespace: str, resource: Resource, new: JsonObject, old: JsonObject | None
    ) -> AsyncIterator[None]:
        async with self._locks.holding(namespace):
            await self._check(namespace, resource, new, old)
            try:
                yield
            finally:
                self.note(namespace)

    async def _check(
        self, namespace: str, resource: Resource, new: JsonObject, old: JsonObject | None
    ) -> None:
        wanted = quota.usage_of(resource, new)
        if old is not None:
            wanted = quota.difference(wanted, quota.usage_of(resource, old))
        if not any(amount > 0 for amount in wanted.values()):
            return
        for found in await self.of(namespace):
            spec, name = found.get("spec") or {}, found["metadata"]["name"]
            hard = quota.hard_limits(spec)
            if wanted.keys().isdisjoint(hard) and resource is not PODS:
                continue
            if not quota.concerns(spec, resource, new):
                continue
            unsaid = quota.unsaid(hard, new) if resource is PODS else ""
            if unsaid:
                raise _forbidden(resource, new, f"failed quota: {name}: must specify {unsaid}")
            used = quota.used_of(spec, await self.objects(namespace, hard))
            if complaint := quota.exceeded(name, hard, used, wanted):
                raise _forbidden(resource, new, complaint)

    async def of(self, namespace: str) -> list[JsonObject]:
        """The namespace's quotas in order of name."""
        listing = await self._store.list(prefix_of(RESOURCE_QUOTAS, namespace))
        return [decode(kv.value) for kv in listing.items]

    async def objects(self, namespace: str, names: Iterable[str]) -> list[tuple[Resource, JsonObject]]:
        """What is there that uses any of ``names``."""
        found = []
        for row in quota.rows_that_use(names):
            listing = await self._store.list(prefix_of(row, namespace))
            found += [(row, decode(kv.value)) for kv in listing.items]
        return found


def _forbidden(resource: Resource, obj: JsonObject, why: str) -> Forbidden:
    name = name_or_base(obj["metadata"])
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return Forbidden(
        f'{resource.qualified_name} "{name}" is forbidden: {why}',
        details={key: value for key, value in details.items() if value},
    )
