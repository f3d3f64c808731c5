"""create, update and patch: the same pipeline for every kind.

Order of work, because it decides which error a user sees first: decode, default, whose fields are whose, metadata,
namespace, allocation, preparation by the strategy, validation, warnings, commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from nodeport.api.defaulting import apply_defaults
from nodeport.api.managedfields.entries import Entries
from nodeport.api.meta import JsonObject, deep_copy, name_or_base
from nodeport.api.resources import GroupVersionKind, Resource
from nodeport.api.status import (
    AlreadyExists,
    FieldError,
    PlainError,
    already_exists,
    conflict,
    go_quoted,
    invalid,
    invalid_object,
    not_found,
)
from nodeport.api.validation import (
    validate_create,
    validate_status_update,
    validate_update,
    validate_way,
    warnings,
)
from nodeport.apiserver.allocators.reservation import Reservation
from nodeport.apiserver.encoding import key_of
from nodeport.apiserver.fieldmanagers import FieldManagers, is_unchanged, put_entries
from nodeport.apiserver.options import WriteOptions
from nodeport.apiserver.preconditions import check_uid
from nodeport.apiserver.registry import Entry, OpenNamespace, Registry, check_identity
from nodeport.apiserver.routes import Target
from nodeport.apiserver.strategies.base import Strategy, WriteContext
from nodeport.kit.clock import rfc3339
from nodeport.kit.names import random_uid
from nodeport.store.base import Delete, KeyValue, Operation, PreconditionFailed, Put

NAME_ATTEMPTS = 8
CONFLICT_ATTEMPTS = 10
_SERVER_OWNED = (
    "uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds",
)  # fmt: skip
_ENDS = ("deletionTimestamp", "deletionGracePeriodSeconds")
MUST_BE_SPECIFIED = "must be specified for an update"

Change = Callable[[JsonObject], JsonObject]
"""Makes the wanted object from the current one, which it must leave alone."""

Own = Callable[[JsonObject, JsonObject, Entries | None], Entries]
"""The managers after a write: of the current object, the wanted one, and what the client sent as ``managedFields``."""


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a write: the served bytes and what to say with them."""

    body: bytes
    created: bool = False
    warnings: list[str] = field(default_factory=list)


class Writer:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.managers = FieldManagers()

    async def create(
        self, target: Target, obj: JsonObject, options: WriteOptions, owned: Entries | None = None
    ) -> Written:
        """POST, or PUT to a missing name where the kind allows that. ``owned``: the managers of what was applied."""
        entry = self._registry.entry(target.resource)
        check_identity(obj, target.resource, target.namespace, target.name)
        metadata = obj["metadata"]
        base = "" if metadata.get("name") else metadata.get("generateName") or ""
        within: OpenNamespace | None = None
        if target.resource.namespaced:
            shown = name_or_base(metadata)
            within = await self._registry.require_open_namespace(target.resource, target.namespace, shown)
        apply_defaults(target.resource, obj)
        entry.strategy.complete(obj)
        now = self._registry.clock.now()
        sent = metadata.pop("managedFields", None)
        forget_deletion(metadata)
        if owned is None:
            owned = await self._registry.heavy.run(
                options.size, self.managers.created, entry.strategy, obj, sent, options.field_manager, now
            )
        await self._registry.admission.create(options.user, target, obj)
        await entry.strategy.admit(obj, self._registry.store)
        begin_metadata(target.resource, metadata, now)
        put_entries(obj, owned)
        for attempt in range(NAME_ATTEMPTS if base else 1):
            if base:
                metadata["name"] = entry.strategy.generate_name(base, self._registry.rng)
            try:
                candidate = deep_copy(obj) if base and attempt < NAME_ATTEMPTS - 1 else obj
                context = WriteContext(now, options.dry_run)
                return await self._create_free(entry, candidate, options, context, within)
            except AlreadyExists:
                if not base:
                    raise
        raise AlreadyExists(
            f'{target.resource.qualified_name} "{metadata["name"]}" already exists, the server was not able to '
            "generate a unique name for the object",
            retry_after_seconds=1,
        )

    async def _create_free(
        self,
        entry: Entry,
        obj: JsonObject,
        options: WriteOptions,
        context: WriteContext,
        within: OpenNamespace | None,
    ) -> Written:
        """Again with other numbers when one that looked free turns out to be somebody's."""
        for _ in range(CONFLICT_ATTEMPTS):
            try:
                return await self._create_once(entry, obj, options, context, within)
            except PreconditionFailed as error:
                entry.strategy.note_taken(error.key)
        raise conflict(entry.resource, obj["metadata"].get("name") or "")

    async def _create_once(
        self,
        entry: Entry,
        obj: JsonObject,
        options: WriteOptions,
        context: WriteContext,
        within: OpenNamespace | None,
    ) -> Written:
        resource, strategy = entry.resource, entry.strategy
        metadata = obj["metadata"]
        name = metadata.get("name") or ""
        with strategy.begin_create(obj, context) as reservation:
            strategy.prepare_create(obj, context)
            if errors := await self._registry.heavy.run(options.size, validate_create, resource, obj):
                raise invalid_object(resource, name, errors)
            warned = await self._registry.heavy.run(options.size, warnings, resource, obj, None)
            key = key_of(resource, metadata.get("namespace") or "", name)
            given = metadata.pop("resourceVersion", "")
            stored = entry.splicer.store(obj)
            async with self._registry.quotas.counting(resource, obj, None):
                if given and not options.dry_run and asked_revision(given):
                    raise PlainError("resourceVersion should not be set on objects to be created")
                if options.dry_run:
                    if await self._registry.store.get(key) is not None:
                        raise await self._already_there(entry, key, name)
                    return Written(
                        entry.splicer.serve_without_revision(stored), created=True, warnings=warned
                    )
                try:
                    revision = await self._registry.commit([Put(key, stored, expect=0)], reservation, within)
                except PreconditionFailed as error:
                    if error.key != key:
                        raise
                    raise await self._already_there(entry, key, name) from error
            return Written(entry.splicer.serve(stored, revision), created=True, warnings=warned)

    async def _already_there(self, entry: Entry, key: str, name: str) -> AlreadyExists:
        """Whoever waits for the name learns that it will be free."""
        found = await self._registry.store.get(key)
        ending = found is not None and "deletionTimestamp" in entry.splicer.read(found)["metadata"]
        return already_exists(entry.resource, name, ending=ending)

    async def update(self, target: Target, obj: JsonObject, options: WriteOptions) -> Written:
        """PUT of the object or of its status."""
        resource = target.resource
        check_identity(obj, resource, target.namespace, target.name)
        apply_defaults(resource, obj)
        asked = asked_revision(obj["metadata"].get("resourceVersion"))
        current = await self._registry.store.get(key_of(resource, target.namespace, target.name))
        uid = obj["metadata"].get("uid") or ""
        if current is None:
            check_uid(target, "", uid)
            if not resource.upsert or target.subresource or asked:
                raise not_found(resource, target.name)
            await self._registry.admission.may_create(options.user, resource, target.namespace, target.name)
            return await self.create(target, obj, options)
        if not asked and not self._registry.entry(resource).strategy.unconditional_update:
            error = invalid("metadata.resourceVersion", 0, MUST_BE_SPECIFIED)
            named = GroupVersionKind(resource.group, resource.version, resource.plural)
            raise invalid_object(named, target.name, [error])

        def replaced(old: JsonObject) -> JsonObject:
            check_uid(target, old["metadata"]["uid"], uid)
            new: JsonObject = deep_copy(obj)
            return new

        return await self.change(target, replaced, options)

    async def change(
        self, target: Target, make: Change, options: WriteOptions, own: Own | None = None
    ) -> Written:
        """Replace the current object by what ``make`` makes of it, again if someone else was faster.

        Whoever names a resourceVersion gets 409 instead of another attempt. ``own`` says whose fields are whose then;
        by default who writes takes what was changed.
        """
        key = key_of(target.resource, target.namespace, target.name)
        async with self._registry.locks.holding(key):
            return await self._change(target, make, options, own or self._updated(target, options))

    def _updated(self, target: Target, options: WriteOptions) -> Own:
        strategy, clock = self._registry.entry(target.resource).strategy, self._registry.clock

        def own(old: JsonObject, new: JsonObject, sent: Entries | None) -> Entries:
            manager, now = options.field_manager, clock.now()
            return self.managers.updated(strategy, target.subresource, old, new, sent, manager, now)

        return own

    async def _change(self, target: Target, make: Change, options: WriteOptions, own: Own) -> Written:
        entry = self._registry.entry(target.resource)
        for attempt in range(CONFLICT_ATTEMPTS):
            kv = await self._registry.find(target.resource, target.namespace, target.name)
            old = entry.splicer.read(kv)
            size, run = max(options.size, len(kv.value)), self._registry.heavy.run
            new = await run(size, make, old)
            asked = asked_revision(new["metadata"].get("resourceVersion"))
            if asked and asked != kv.mod_revision:
                raise conflict(target.resource, target.name)
            if new is old:
                return Written(entry.splicer.serve(kv.value, kv.mod_revision))
            entry.strategy.complete(new)
            sent = new["metadata"].pop("managedFields", None)
            put_entries(new, await run(size, own, old, new, sent))
            try:
                return await self._change_once(target, entry, kv, old, new, options)
            except PreconditionFailed as error:
                if error.key != kv.key:
                    entry.strategy.note_taken(error.key)
            await self._registry.pause(attempt)
        raise conflict(target.resource, target.name)

    async def _change_once(
        self,
        target: Target,
        entry: Entry,
        kv: KeyValue,
        old: JsonObject,
        new: JsonObject,
        options: WriteOptions,
    ) -> Written:
        resource, strategy = entry.resource, entry.strategy
        context = WriteContext(self._registry.clock.now(), options.dry_run)
        carry_metadata(new, old)
        await self._registry.admission.update(options.user, target, new, old)
        whole = not target.subresource
        if not whole:
            await strategy.admit_way(target.subresource, new, self._registry.store)
        with strategy.begin_update(new, old, context) if whole else Reservation() as claim:
            size = max(options.size, len(kv.value))
            errors = await self._registry.heavy.run(
                size, self._prepare, target.subresource, strategy, new, old, context
            )
            counts = resource.has_generation and strategy.counts_generation(target.subresource)
            if counts and strategy.generation_changes(new, old):
                new["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1
            if errors:
                raise invalid_object(resource, target.name, errors)
            warned = await self._registry.heavy.run(size, warnings, resource, new, old) if whole else []
            new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
            if is_finished(entry, new):
                return await self.remove(entry, kv, new, warned, dry_run=options.dry_run)
            if is_unchanged(new, old):
                return Written(entry.splicer.serve(kv.value, kv.mod_revision), warnings=warned)
            stored = entry.splicer.store(new)
            async with self._registry.quotas.counting(resource, new, old):
                if options.dry_run:
                    return Written(entry.splicer.serve(stored, kv.mod_revision), warnings=warned)
                revision = await self._registry.commit([Put(kv.key, stored, expect=kv.mod_revision)], claim)
            return Written(entry.splicer.serve(stored, revision), warnings=warned)

    @staticmethod
    def _prepare(
        subresource: str, strategy: Strategy, new: JsonObject, old: JsonObject, context: WriteContext
    ) -> list[FieldError]:
        """Keep what this way in may not write, then validate."""
        match subresource:
            case "":
                strategy.prepare_update(new, old, context)
                return validate_update(strategy.resource, new, old)
            case "status":
                strategy.prepare_status_update(new, old, context)
                return validate_status_update(strategy.resource, new, old)
            case way:
                strategy.prepare_way(way, new, old, context)
                return validate_way(strategy.resource, way, new, old)

    async def remove(
        self, entry: Entry, kv: KeyValue, last: JsonObject, warned: list[str], *, dry_run: bool = False
    ) -> Written:
        """Take the object out of the store; ``last`` is how it is shown a last time."""
        stored = entry.splicer.store(last)
        if dry_run:
            return Written(entry.splicer.serve(stored, kv.mod_revision), warnings=warned)
        operations: list[Operation] = [Delete(kv.key, expect=kv.mod_revision)]
        with entry.strategy.begin_delete(entry.splicer.read(kv)) as reservation:
            revision = await self._registry.commit(operations, reservation)
        self._registry.quotas.note(last["metadata"].get("namespace") or "")
        return Written(entry.splicer.serve(stored, revision), warnings=warned)


def forget_deletion(metadata: JsonObject) -> None:
    """A new object lives, whatever it says; what it says becomes nobody's field."""
    for field_name in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        metadata.pop(field_name, None)


def begin_metadata(resource: Resource, metadata: JsonObject, now: datetime) -> None:
    """What the server alone decides about a new object's metadata."""
    for field_name in ("selfLink", "generation"):
        metadata.pop(field_name, None)
    metadata["uid"] = random_uid()
    metadata["creationTimestamp"] = rfc3339(now)
    if resource.has_generation:
        metadata["generation"] = 1


def carry_metadata(new: JsonObject, old: JsonObject) -> None:
    """Keep what no update may change; what a client left out it did not mean to remove.

    Another uid, and a deletion where there is none, are left for validation to find.
    """
    kept, found = old["metadata"], new["metadata"]
    uid = found.get("uid") or kept["uid"]
    found.pop("selfLink", None)
    for field_name in _SERVER_OWNED:
        if field_name in kept:
            found[field_name] = kept[field_name]
        elif field_name not in _ENDS:
            found.pop(field_name, None)
    found["uid"] = uid


def asked_revision(text: str | None) -> int:
    """The revision that an object names; 0: none. 500 as from Kubernetes for what is no number."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise PlainError(f"strconv.ParseUint: parsing {go_quoted(text)}: invalid syntax")
    if len(text.lstrip("0")) > 20 or int(text) >= 1 << 64:
        raise PlainError(f"strconv.ParseUint: parsing {go_quoted(text)}: value out of range")
    return int(text)


def is_finished(entry: Entry, obj: JsonObject) -> bool:
    """Whether an object that is being deleted has nothing left to wait for."""
    metadata = obj["metadata"]
    return (
        bool(metadata.get("deletionTimestamp"))
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
        and not entry.strategy.holds_back(obj)
    )
