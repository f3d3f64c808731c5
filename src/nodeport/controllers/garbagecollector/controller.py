"""Follows owner references through every resource and carries out what ``reconcile`` says.

An owner that the caches do not show is asked for live before anything is deleted because of its absence:
caches of different resources are not equally new.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, owner_references
from nodeport.api.resources import Resource, by_kind
from nodeport.api.status import NotFound
from nodeport.client.cache import Change, uid
from nodeport.client.events import WARNING, EventRecorder, object_reference
from nodeport.client.informer import Handler, Informer
from nodeport.client.rest import MERGE_PATCH, RestClient
from nodeport.controllers.garbagecollector.reconcile import (
    FOREGROUND,
    ORPHAN,
    Fate,
    OwnerState,
    blocking,
    is_orphaning,
    is_waiting_for_dependents,
    judge,
    policy_of,
    unblocking,
    without_finalizer,
    without_references,
)
from nodeport.controllers.loop import ReconcileLoop
from nodeport.kit.clock import Clock

BY_OWNER = "owner"

_REMEMBERED = 10_000
_WAIT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class _Key:
    resource: Resource
    name: NamespacedName

    def __str__(self) -> str:
        return f"{self.resource.qualified_name} {self.name}"


class GarbageCollector:
    """``informers``: every resource that can own or be owned."""

    def __init__(
        self,
        client: RestClient,
        informers: Mapping[Resource, Informer],
        *,
        clock: Clock,
        recorder: EventRecorder,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._informers = informers
        self._absent: OrderedDict[str, None] = OrderedDict()
        self.loop: ReconcileLoop[_Key] = ReconcileLoop(
            "garbagecollector", self.reconcile, clock=clock, informers=informers.values(), workers=16
        )
        for resource, informer in informers.items():
            informer.add_index(BY_OWNER, lambda obj: [ref["uid"] for ref in owner_references(obj)])
            informer.subscribe(self._handler(resource))

    async def run(self) -> None:
        await self.loop.run()

    def _handler(self, resource: Resource) -> Handler:
        def handle(change: Change) -> None:
            if change.new is None:
                self._gone(change.object)
            elif change.old is None or _matters(change.old, change.new):
                if owner_references(change.new):
                    self.loop.queue.add(_Key(resource, NamespacedName.of(change.new)))
                if is_waiting_for_dependents(change.new) or is_orphaning(change.new):
                    self.loop.queue.add(_Key(resource, NamespacedName.of(change.new)))

        return handle

    def _gone(self, obj: JsonObject) -> None:
        """Its dependents lost an owner; an owner of its own may have waited for it."""
        self._remember_absent(uid(obj))
        for resource, dependent in self._dependents(uid(obj)):
            self.loop.queue.add(_Key(resource, NamespacedName.of(dependent)))
        for reference in owner_references(obj):
            owner = by_kind(reference["apiVersion"], reference["kind"])
            if owner is not None and owner in self._informers:
                name = _owner_name(owner, obj, reference)
                cached = self._informers[owner].get(name)
                if cached is not None and is_waiting_for_dependents(cached):
                    self.loop.queue.add(_Key(owner, name))

    def _dependents(self, owner_uid: str) -> list[tuple[Resource, JsonObject]]:
        return [
            (resource, obj)
            for resource, informer in self._informers.items()
            for obj in informer.by_index(BY_OWNER, owner_uid)
        ]

    async def reconcile(self, key: _Key) -> timedelta | None:
        obj = self._informers[key.resource].get(key.name)
        if obj is None:
            return None
        if is_orphaning(obj):
            await self._orphan(key, obj)
        elif is_waiting_for_dependents(obj):
            return await self._finish_foreground(key, obj)
        else:
            await self._judge(key, obj)
        return None

    async def _judge(self, key: _Key, obj: JsonObject) -> None:
        owners = [(ref, await self._state_of(key, obj, ref)) for ref in owner_references(obj)]
        dependents = self._dependents(uid(obj))
        verdict = judge(obj, owners, has_dependents=bool(dependents))
        match verdict.fate:
            case Fate.KEEP:
                return
            case Fate.DROP_REFERENCES:
                await self._patch(key, without_references(obj, verdict.gone))
            case Fate.DELETE:
                await self._delete(key, obj, policy_of(obj))
            case Fate.DELETE_FOREGROUND:
                await self._delete_foreground(key, obj, dependents)

    async def _delete_foreground(
        self, key: _Key, obj: JsonObject, dependents: list[tuple[Resource, JsonObject]]
    ) -> None:
        """A dependent that is waiting itself may wait for ``obj``: such a circle is cut first."""
        patch = unblocking(obj) if any(is_waiting_for_dependents(found) for _, found in dependents) else None
        if patch is not None:
            answer = await self._patch(key, patch)
            if answer is None:
                return
            obj = answer
        await self._delete(key, obj, "Foreground")

    async def _state_of(self, key: _Key, obj: JsonObject, reference: JsonObject) -> OwnerState:
        resource = by_kind(reference["apiVersion"], reference["kind"])
        if resource is None or resource not in self._informers:
            return OwnerState.PRESENT  # of a kind we cannot judge: leave what it owns alone
        if resource.namespaced and not key.resource.namespaced:
            self._tell_invalid(key, obj, reference)
            return OwnerState.UNRESOLVABLE
        name = _owner_name(resource, obj, reference)
        cached = self._informers[resource].get(name)
        if cached is not None and uid(cached) == reference["uid"]:
            return OwnerState.WAITING if is_waiting_for_dependents(cached) else OwnerState.PRESENT
        if reference["uid"] in self._absent:
            return OwnerState.ABSENT
        live = await self._live(resource, name)
        if live is not None and uid(live) == reference["uid"]:
            return OwnerState.WAITING if is_waiting_for_dependents(live) else OwnerState.PRESENT
        if any(uid(other) == reference["uid"] for other in self._informers[resource].list()):
            self._tell_invalid(key, obj, reference)  # it lives in another namespace: absent from here
        else:
            self._remember_absent(reference["uid"])
        return OwnerState.ABSENT

    async def _live(self, resource: Resource, name: NamespacedName) -> JsonObject | None:
        try:
            return await self._client.get(resource, name.name, name.namespace)
        except NotFound:
            return None

    def _tell_invalid(self, key: _Key, obj: JsonObject, reference: JsonObject) -> None:
        shown = ", ".join(
            f"{word}: {text}"
            for word, text in (
                ("namespace", key.name.namespace), ("name", reference["name"]), ("uid", reference["uid"]),
            )
            if text
        )  # fmt: skip
        text = (
            f"ownerRef [{reference['apiVersion']}/{reference['kind']}, {shown}] does not exist in namespace "
            f'"{key.name.namespace}"'
        )
        target = object_reference(key.resource, obj)
        self._recorder.event(target, WARNING, "OwnerRefInvalidNamespace", text)

    def _remember_absent(self, gone: str) -> None:
        """A uid never comes back."""
        self._absent[gone] = None
        while len(self._absent) > _REMEMBERED:
            self._absent.popitem(last=False)

    async def _finish_foreground(self, key: _Key, owner: JsonObject) -> timedelta | None:
        dependents = self._dependents(uid(owner))
        for resource, dependent in dependents:
            self.loop.queue.add(_Key(resource, NamespacedName.of(dependent)))
        if blocking(owner, (dependent for _, dependent in dependents)):
            return _WAIT
        await self._patch(key, without_finalizer(owner, FOREGROUND))
        return None

    async def _orphan(self, key: _Key, owner: JsonObject) -> None:
        for resource, dependent in self._dependents(uid(owner)):
            patch = without_references(dependent, [uid(owner)])
            await self._patch(_Key(resource, NamespacedName.of(dependent)), patch)
        await self._patch(key, without_finalizer(owner, ORPHAN))

    async def _patch(self, key: _Key, patch: JsonObject) -> JsonObject | None:
        try:
            return await self._client.patch(
                key.resource, key.name.name, patch, key.name.namespace, content_type=MERGE_PATCH
            )
        except NotFound:
            return None

    async def _delete(self, key: _Key, obj: JsonObject, policy: str) -> None:
        """Only as it was judged: an owner that lets it live may have taken its reference away meanwhile. A conflict
        brings the key back.
        """
        version = obj["metadata"]["resourceVersion"]
        try:
            await self._client.delete(
                key.resource, key.name.name, key.name.namespace, uid=uid(obj), resource_version=version,
                propagation_policy=policy,
            )  # fmt: skip
        except NotFound:
            return


def _owner_name(resource: Resource, dependent: JsonObject, reference: JsonObject) -> NamespacedName:
    """Owners live in their dependents' namespace, or in none."""
    namespace = (dependent["metadata"].get("namespace") or "") if resource.namespaced else ""
    return NamespacedName(namespace, reference["name"])


def _matters(old: JsonObject, new: JsonObject) -> bool:
    before, after = old["metadata"], new["metadata"]
    return any(
        before.get(field) != after.get(field)
        for field in ("ownerReferences", "deletionTimestamp", "finalizers")
    )
