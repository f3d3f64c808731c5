"""Deletes what is in a namespace that is being deleted, then lets it go."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
from nodeport.api.resources import NAMESPACES, PODS, RESOURCES, Resource
from nodeport.api.status import ApiError, MethodNotAllowed, NotFound
from nodeport.client.cache import Change
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.namespace.reconcile import Remaining, deletion_conditions, remaining_of
from nodeport.kit.clock import Clock

FINALIZER = "kubernetes"

CONTENT: tuple[Resource, ...] = tuple(
    row for row in RESOURCES if row.namespaced and not row.stored_as and {"list", "delete"} <= set(row.verbs)
)

_WAIT = timedelta(seconds=1)


class NamespaceController:
    """Asks the API itself what is left: a cache that is a moment old must not end a namespace too early."""

    def __init__(self, client: RestClient, *, namespaces: Informer, pods: Informer, clock: Clock) -> None:
        self._client = client
        self._namespaces = namespaces
        self._clock = clock
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
        left = await self._empty_all(key.name)
        if all(each.is_nothing for each in left):
            await self._finalize(namespace, finalizers)
            return None
        await self._tell(namespace, left)
        return _WAIT

    async def _empty_all(self, namespace: str) -> list[Remaining]:
        """Pods first, so that whatever they still need is there while they end."""
        pods = await self._empty(PODS, namespace)
        if not pods.is_nothing:
            return [pods]
        return await asyncio.gather(*(self._empty(row, namespace) for row in CONTENT if row is not PODS))

    async def _empty(self, resource: Resource, namespace: str) -> Remaining:
        """Delete all there is; what is left is on its way out or held by a finalizer."""
        listed = await self._client.list(resource, namespace, limit=1)
        if not listed.get("items"):
            return Remaining(resource)
        try:
            await self._delete_all(resource, namespace)
        except ApiError as error:
            return Remaining(resource, failure=str(error))
        left = await self._client.list_all(resource, namespace)
        return remaining_of(resource, left["items"])

    async def _delete_all(self, resource: Resource, namespace: str) -> None:
        """In the background: no kind's default may orphan what has to go with the namespace."""
        try:
            await self._client.delete_collection(resource, namespace, propagation_policy="Background")
        except (MethodNotAllowed, NotFound):
            await self._delete_each(resource, namespace)

    async def _delete_each(self, resource: Resource, namespace: str) -> None:
        listed = await self._client.list_all(resource, namespace)
        for obj in listed["items"]:
            with suppress(NotFound):
                await self._client.delete(
                    resource, obj["metadata"]["name"], namespace, propagation_policy="Background"
                )

    async def _tell(self, namespace: JsonObject, left: list[Remaining]) -> None:
        status = namespace.get("status") or {}
        before = status.get("conditions") or []
        told = deletion_conditions(before, left, self._clock.now())
        if told != before:
            changed = {**namespace, "status": {**status, "conditions": told}}
            await self._client.update(NAMESPACES, changed, subresource="status")

    async def _finalize(self, namespace: JsonObject, finalizers: list[str]) -> None:
        left = [found for found in finalizers if found != FINALIZER]
        spec = {**(namespace.get("spec") or {}), "finalizers": left}
        try:
            await self._client.update(NAMESPACES, {**namespace, "spec": spec}, subresource="finalize")
        except NotFound:
            return
