"""What every controller of pods does with them: claim, make, remove, and tell about it in events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass

from nodeport.api.meta import JsonObject, NamespacedName, controller_of, is_being_deleted, labels
from nodeport.api.resources import PODS, Resource
from nodeport.api.status import ApiError, Conflict, Forbidden, NotFound
from nodeport.api.workloads import pod_selector
from nodeport.client.cache import Change, uid
from nodeport.client.events import NORMAL, WARNING, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient, TransportError
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.ownership import (
    BY_CONTROLLER,
    ORPHANS,
    adoption_patch,
    claim,
    controller_reference,
    release_patch,
)
from nodeport.controllers.selection import is_finished

BY_NAMESPACE = "namespace"


def is_active(pod: JsonObject) -> bool:
    return not is_finished(pod) and not is_being_deleted(pod)


def pod_from_template(resource: Resource, owner: JsonObject) -> JsonObject:
    """A pod of ``owner``'s template with a name yet to be generated; shares the template's spec."""
    template = owner["spec"]["template"]
    asked = template.get("metadata") or {}
    metadata: JsonObject = {
        "generateName": f"{owner['metadata']['name']}-",
        "namespace": owner["metadata"]["namespace"],
        "ownerReferences": [controller_reference(resource, owner)],
    }
    for field in ("labels", "annotations", "finalizers"):
        if asked.get(field):
            metadata[field] = asked[field]
    return {"metadata": metadata, "spec": template["spec"]}


async def all_of(calls: Iterable[Coroutine[None, None, None]]) -> None:
    """Do all at once; raises the first failure after the last has ended, so that what succeeded is known."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


@dataclass(frozen=True, slots=True)
class Texts:
    """What the events say, in the words of the kind's own controller: ``{pod}``, ``{owner}``, ``{error}``."""

    created: str = "Created pod: {pod}"
    deleted: str = "Deleted pod: {pod}"
    not_created: str = "Error creating: {error}"
    not_deleted: str = "Error deleting: {error}"


class PodControl:
    """``resource`` is the kind of the owners; ``pods`` is indexed by controller and orphans (``ownership``)."""

    def __init__(
        self,
        client: RestClient,
        resource: Resource,
        pods: Informer,
        guard: WriteGuard[NamespacedName],
        recorder: EventRecorder,
        *,
        texts: Texts = Texts(),  # frozen
    ) -> None:
        self._client = client
        self._resource = resource
        self._texts = texts
        self._pods = pods
        self._guard = guard
        self._recorder = recorder
        self._doubtful: set[NamespacedName] = set()

    async def claim(
        self,
        key: NamespacedName,
        owner: JsonObject,
        *,
        is_claimable: Callable[[JsonObject], bool] = is_active,
    ) -> tuple[JsonObject, ...]:
        """The pods of ``owner``, with those adopted that match and nobody owns, without those released.

        Raises Conflict while the cache may not show a pod that was made.
        """
        if key in self._doubtful:
            await self._settle_doubt(key, owner)
        candidates = [
            *self._pods.by_index(BY_CONTROLLER, uid(owner)),
            *self._pods.by_index(ORPHANS, key.namespace),
        ]
        claimed = claim(owner, pod_selector(owner), candidates, is_claimable=is_claimable)
        adopt = claimed.adopt if not claimed.adopt or await self._may_adopt(owner) else ()
        patches = [
            *((pod, adoption_patch(self._resource, owner, pod)) for pod in adopt),
            *((pod, release_patch(owner, pod)) for pod in claimed.release),
        ]
        for pod, patch in patches:
            answer = await self._client.patch(PODS, pod["metadata"]["name"], patch, key.namespace)
            self._guard.wrote(key, answer)
        refused = {uid(pod) for pod in claimed.adopt} - {uid(pod) for pod in adopt}
        return tuple(pod for pod in claimed.owned if uid(pod) not in refused)

    async def _may_adopt(self, owner: JsonObject) -> bool:
        """Asked live: an owner just deleted with ``orphan`` must not take back what it let go."""
        meta = owner["metadata"]
        try:
            live = await self._client.get(self._resource, meta["name"], meta["namespace"])
        except NotFound:
            return False
        return uid(live) == uid(owner) and not is_being_deleted(live)

    async def create(self, key: NamespacedName, owner: JsonObject, pod: JsonObject) -> None:
        """Raises what the API says; a namespace that is going away is no failure."""
        name = pod["metadata"].get("name") or ""
        try:
            made = await self._client.create(PODS, pod)
        except TransportError:
            self._doubtful.add(key)
            raise
        except ApiError as error:
            if error.code >= 500:
                self._doubtful.add(key)
            if isinstance(error, Forbidden) and any(c.reason == "NamespaceTerminating" for c in error.causes):
                return
            self._tell(owner, WARNING, "FailedCreate", self._texts.not_created, name, error)
            raise
        self._guard.wrote(key, made)
        self._tell(owner, NORMAL, "SuccessfulCreate", self._texts.created, made["metadata"]["name"])

    async def _settle_doubt(self, key: NamespacedName, owner: JsonObject) -> None:
        """An answer got lost, so the pod may have been made all the same: one more would be one too many."""
        listed = await self._client.list(PODS, key.namespace)
        for pod in listed["items"]:
            reference = controller_of(pod)
            cached = self._pods.get(NamespacedName.of(pod))
            if reference and reference["uid"] == uid(owner) and (cached is None or uid(cached) != uid(pod)):
                raise Conflict(f"the cache does not show pod {pod['metadata']['name']} yet")
        self._doubtful.discard(key)

    async def delete(self, key: NamespacedName, owner: JsonObject, pod: JsonObject) -> None:
        meta = pod["metadata"]
        try:
            await self._client.delete(PODS, meta["name"], key.namespace, uid=meta["uid"])
        except (NotFound, Conflict):
            return  # gone, or another pod by now: the cache is about to tell
        except ApiError as error:
            self._tell(owner, WARNING, "FailedDelete", self._texts.not_deleted, meta["name"], error)
            raise
        self._guard.deleted(key, pod)
        self._tell(owner, NORMAL, "SuccessfulDelete", self._texts.deleted, meta["name"])

    def _tell(
        self, owner: JsonObject, kind: str, reason: str, text: str, pod: str, error: object = ""
    ) -> None:
        reference = object_reference(self._resource, owner)
        told = text.format(pod=pod, owner=owner["metadata"]["name"], error=error)
        self._recorder.event(reference, kind, reason, told)


class OwnerLookup:
    """Which owners of one kind a pod's change concerns: its controller, or whoever may adopt it."""

    def __init__(self, resource: Resource, owners: Informer) -> None:
        self._resource = resource
        self._owners = owners
        owners.add_index(BY_NAMESPACE, lambda obj: [obj["metadata"]["namespace"]])

    def of(self, change: Change) -> set[NamespacedName]:
        namespace = change.object["metadata"]["namespace"]
        found = {
            NamespacedName(namespace, reference["name"])
            for pod in (change.old, change.new)
            if pod is not None and (reference := controller_of(pod)) is not None
            if reference["kind"] == self._resource.kind
        }
        if change.new is not None and controller_of(change.new) is None and labels(change.new):
            has = labels(change.new)
            for owner in self._owners.by_index(BY_NAMESPACE, namespace):
                if pod_selector(owner).matches(has):
                    found.add(NamespacedName.of(owner))
        return found
