"""Deletes what is in a namespace that is being deleted, then lets it go."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
from nodeport.api.resources import NAMESPACES, PODS, RESOURCES, Resource
from nodeport.api.status import MethodNotAllowed, NotFound
from nodeport.client.cache import Change
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.loop import ReconcileLoop
from nodeport.kit.clock import Clock

FINALIZER = "kubernetes"

CONTENT: tuple[Resource, ...] = tuple(
    row for row in RESOURCES if row.namespaced and {"list", "delete"} <= set(row.verbs)
)

_WAIT = timedelta(seconds=1)


class NamespaceController:
    """Asks the API itself what is left: a cache that is a moment old must not end a namespace too early."""

    def __init__(self, client: RestClient, *, namespaces: Informer, pods: Informer, clock: Clock) -> None:
        self._client = client
        self._namespaces = namespaces
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "namespace",
            self.reconcile,
            clock=clock,
            informers=(namespaces,),
            retry_maximum=timedelta(seconds=10),
        )
        namespaces.subscribe(self._namespace_changed)
        pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _namespace_changed(self, change: Change) -> None:
        if change.new is not None and is_being_deleted(change.new):
            self.loop.queue.add(NamespacedName.of(change.new))

    def _pod_changed(self, change: Change) -> None:
        """Pods take their time to end; the last one lets the namespace go at once."""
        if change.new is not None:
            return
        namespace = self._namespaces.get(NamespacedName("", change.object["metadata"]["namespace"]))
        if namespace is not None and is_being_deleted(namespace):
            self.loop.queue.add_after(NamespacedName.of(namespace), timedelta(milliseconds=20))

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        namespace = self._namespaces.get(key)
        if namespace is None or not is_being_deleted(namespace):
            return None
        finalizers = (namespace.get("spec") or {}).get("finalizers") or []
        if FINALIZER not in finalizers:
            return None
        left = await asyncio.gather(*(self._empty(row, key.name) for row in CONTENT))
        if any(left):
            return _WAIT
        await self._finalize(namespace, finalizers)
        return None

    async def _empty(self, resource: Resource, namespace: str) -> bool:
        """Delete all there is; whether something is left, on its way out or held by a finalizer."""
        listed = await self._client.list(resource, namespace, limit=1)
        if not listed.get("items"):
            return False
        try:
            await self._client.delete_collection(resource, namespace)
        except (MethodNotAllowed, NotFound):
            await self._delete_each(resource, namespace)
        if resource is PODS:
            return True  # their own end tells when to look again
        left = await self._client.list(resource, namespace, limit=1)
        return bool(left.get("items"))

    async def _delete_each(self, resource: Resource, namespace: str) -> None:
        listed = await self._client.list_all(resource, namespace)
        for obj in listed["items"]:
            try:
                await self._client.delete(resource, obj["metadata"]["name"], namespace)
            except NotFound:
                continue

    async def _finalize(self, namespace: JsonObject, finalizers: list[str]) -> None:
        left = [found for found in finalizers if found != FINALIZER]
        spec = {**(namespace.get("spec") or {}), "finalizers": left}
        try:
            await self._client.update(NAMESPACES, {**namespace, "spec": spec}, subresource="finalize")
        except NotFound:
            return
