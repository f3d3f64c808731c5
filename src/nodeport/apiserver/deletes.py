"""delete and deletecollection: graceful, held back by finalizers, or at once."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.api.status import ApiError, NotFound, conflict
from nodeport.apiserver.allocators.reservation import Reservation
from nodeport.apiserver.encoding import decode, encode, key_of
from nodeport.apiserver.errors import success
from nodeport.apiserver.listing import Lister
from nodeport.apiserver.options import DeleteOptions, ListOptions
from nodeport.apiserver.preconditions import check_preconditions
from nodeport.apiserver.registry import Entry, Registry
from nodeport.apiserver.routes import Target
from nodeport.apiserver.writes import Writer, is_finished
from nodeport.kit.clock import bounded_seconds, parse_rfc3339, rfc3339
from nodeport.store.base import KeyValue, PreconditionFailed, Put

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
ATTEMPTS = 10
COLLECTION_WORKERS = 32
"""Deletions of one collection under way at a time: they share their commits' fsyncs."""


class Deleter:
    def __init__(self, registry: Registry, writer: Writer, lister: Lister) -> None:
        self._registry = registry
        self._writer = writer
        self._lister = lister

    async def delete(self, target: Target, options: DeleteOptions) -> bytes:
        """The served answer: the object while it lives on or where its kind says so, else a Status."""
        entry = self._registry.entry(target.resource)
        async with self._registry.locks.holding(key_of(target.resource, target.namespace, target.name)):
            for attempt in range(ATTEMPTS):
                kv = await self._registry.find(target.resource, target.namespace, target.name)
                try:
                    return await self._delete_once(entry, kv, target, options)
                except PreconditionFailed:
                    await self._registry.pause(attempt)
        raise conflict(target.resource, target.name)

    async def _delete_once(self, entry: Entry, kv: KeyValue, target: Target, options: DeleteOptions) -> bytes:
        resource = entry.resource
        old = entry.splicer.read(kv)
        await self._registry.admission.delete(options.user, target, old)
        check_preconditions(resource, old, options)
        entry.strategy.check_delete(old)
        new = copy.deepcopy(old)
        if entry.strategy.is_collected:
            policy = options.propagation_policy or default_propagation(entry, new)
            set_propagation_finalizers(new, policy)
        self._mark(entry, new, options.grace_period_seconds)
        if is_finished(entry, new):
            gone = await self._writer.remove(entry, kv, new, [], dry_run=options.dry_run)
            return gone.body if resource.returns_deleted else encode(_gone_status(resource, new))
        if new == old:
            return entry.splicer.serve(kv.value, kv.mod_revision)
        if resource.has_generation and not old["metadata"].get("deletionTimestamp"):
            new["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1
        stored = entry.splicer.store(new)
        if options.dry_run:
            return entry.splicer.serve(stored, kv.mod_revision)
        revision = await self._registry.commit([Put(kv.key, stored, expect=kv.mod_revision)], Reservation())
        return entry.splicer.serve(stored, revision)

    def _mark(self, entry: Entry, obj: JsonObject, asked: int | None) -> None:
        """Set or shorten the deletion's time; a deletion that has begun can only get shorter."""
        metadata = obj["metadata"]
        if not metadata.get("deletionTimestamp"):
            grace = entry.strategy.begin_graceful_delete(obj, asked)
            set_deletion(metadata, self._registry.clock.now() + bounded_seconds(grace), grace)
            entry.strategy.mark_deleted(obj)
            return
        left = metadata.get("deletionGracePeriodSeconds") or 0
        if asked is None or asked >= left:
            return
        shorter = max(asked, 0)
        begun = parse_rfc3339(metadata["deletionTimestamp"]) - bounded_seconds(left)
        set_deletion(metadata, begun + bounded_seconds(shorter), shorter)

    async def delete_collection(
        self, target: Target, list_options: ListOptions, options: DeleteOptions
    ) -> bytes:
        """Delete what the selectors choose, several at once; answers with the list as it was found.

        A refusal is told after the rest is done.
        """
        entry = self._registry.entry(target.resource)
        page = await self._lister.page(target.resource, target.namespace, entry.splicer, list_options)
        left = iter(page.items)
        workers = min(COLLECTION_WORKERS, len(page.items))
        outcomes = await asyncio.gather(
            *(self._delete_from(left, target.resource, options) for _ in range(workers)),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        return entry.splicer.serve_list(page.items, page.metadata())

    async def _delete_from(
        self, left: Iterator[KeyValue], resource: Resource, options: DeleteOptions
    ) -> ApiError | None:
        """One worker: take the next until none is left; the first refusal."""
        refusal: ApiError | None = None
        for kv in left:
            metadata = decode(kv.value)["metadata"]
            one = Target(resource, metadata.get("namespace") or "", metadata["name"])
            try:
                await self.delete(one, options)
            except NotFound:
                continue
            except ApiError as error:
                refusal = refusal or error
        return refusal


def set_deletion(metadata: JsonObject, when: datetime, grace_seconds: int) -> None:
    metadata["deletionTimestamp"] = rfc3339(when)
    metadata["deletionGracePeriodSeconds"] = grace_seconds


def default_propagation(entry: Entry, obj: JsonObject) -> str:
    """The kind's own policy, unless an earlier deletion of the object has left a note about another."""
    finalizers = obj["metadata"].get("finalizers") or []
    return "" if FOREGROUND in finalizers or ORPHAN in finalizers else entry.strategy.default_propagation


def set_propagation_finalizers(obj: JsonObject, policy: str) -> None:
    """Foreground and Orphan leave a note for the garbage collector; Background withdraws such notes."""
    if not policy:
        return
    metadata = obj["metadata"]
    kept = [name for name in metadata.get("finalizers") or [] if name not in (FOREGROUND, ORPHAN)]
    if policy == "Foreground":
        kept.append(FOREGROUND)
    elif policy == "Orphan":
        kept.append(ORPHAN)
    if kept:
        metadata["finalizers"] = kept
    else:
        metadata.pop("finalizers", None)


def _gone_status(resource: Resource, obj: JsonObject) -> JsonObject:
    details = {
        "name": obj["metadata"]["name"], "group": resource.group, "kind": resource.plural,
        "uid": obj["metadata"]["uid"],
    }  # fmt: skip
    return success({key: value for key, value in details.items() if value})
