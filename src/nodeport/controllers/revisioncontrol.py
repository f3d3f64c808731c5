"""Keeps the ControllerRevisions of one kind's objects as ``history`` says."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nodeport.api.meta import JsonObject, NamespacedName, controller_of
from nodeport.api.resources import CONTROLLER_REVISIONS, Resource
from nodeport.api.status import AlreadyExists, Conflict, NotFound
from nodeport.api.workloads import pod_selector
from nodeport.client.cache import uid
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.history import (
    HASH_LABEL,
    equal_revision,
    new_revision,
    next_number,
    revision_data,
    surplus,
)
from nodeport.controllers.ownership import (
    BY_CONTROLLER,
    ORPHANS,
    adoption_patch,
    claim,
)
from nodeport.controllers.templates import settled
from nodeport.kit.clock import Clock

_ATTEMPTS = 8


class RevisionControl:
    """``revisions`` is indexed by controller and orphans (``ownership``)."""

    def __init__(
        self,
        client: RestClient,
        resource: Resource,
        revisions: Informer,
        clock: Clock,
        *,
        hash_label: str = HASH_LABEL,
    ) -> None:
        self._client = client
        self._resource = resource
        self._revisions = revisions
        self._hash_label = hash_label
        self._guard: WriteGuard[NamespacedName] = WriteGuard(revisions, clock)

    def is_caught_up(self, key: NamespacedName) -> bool:
        return self._guard.is_caught_up(key)

    async def of(self, key: NamespacedName, owner: JsonObject) -> list[JsonObject]:
        """The owner's revisions, with those adopted that an earlier owner of its kind left behind."""
        candidates = [
            *self._revisions.by_index(BY_CONTROLLER, uid(owner)),
            *self._revisions.by_index(ORPHANS, key.namespace),
        ]
        claimed = claim(owner, pod_selector(owner), candidates)
        for found in claimed.adopt:
            patch = adoption_patch(self._resource, owner, found)
            name = found["metadata"]["name"]
            answer = await self._client.patch(CONTROLLER_REVISIONS, name, patch, key.namespace)
            self._guard.wrote(key, answer)
        return list(claimed.owned)

    async def current(
        self, key: NamespacedName, owner: JsonObject, revisions: Sequence[JsonObject]
    ) -> tuple[JsonObject, int]:
        """The revision of the present template, made or made the newest where need be, and the number of
        collisions that its name has met so far.
        """
        collisions = (owner.get("status") or {}).get("collisionCount") or 0
        found, number = equal_revision(owner, revisions), next_number(revisions)
        if found is None:
            return await self._create(key, owner, number, collisions)
        if (found.get("revision") or 0) < number - 1:
            found = await self._client.update(CONTROLLER_REVISIONS, {**found, "revision": number})
            self._guard.wrote(key, found)
        return found, collisions

    async def _create(
        self, key: NamespacedName, owner: JsonObject, number: int, collisions: int
    ) -> tuple[JsonObject, int]:
        for count in range(collisions, collisions + _ATTEMPTS):
            made = new_revision(
                self._resource, owner, number=number, collisions=count, hash_label=self._hash_label
            )
            try:
                answer = await self._client.create(CONTROLLER_REVISIONS, made)
            except AlreadyExists:
                answer = await self._client.get(CONTROLLER_REVISIONS, made["metadata"]["name"], key.namespace)
                if not _is_same(owner, answer):
                    continue
            self._guard.wrote(key, answer)
            return answer, count
        raise Conflict(f"no free name for a revision of {self._resource.singular} {key}")

    async def truncate(
        self, key: NamespacedName, owner: JsonObject, revisions: Sequence[JsonObject], live: Collection[str]
    ) -> None:
        for old in surplus(owner, revisions, live):
            meta = old["metadata"]
            try:
                await self._client.delete(CONTROLLER_REVISIONS, meta["name"], key.namespace, uid=meta["uid"])
            except NotFound:
                continue
            self._guard.deleted(key, old)


def _is_same(owner: JsonObject, revision: JsonObject) -> bool:
    """Whether a revision of the wanted name is ours, or free to be adopted next time, and the cache was late."""
    reference = controller_of(revision)
    is_free = reference is None or bool(reference["uid"] == uid(owner))
    return is_free and bool(settled(revision.get("data")) == settled(revision_data(owner)))
