"""One resource's stored objects, and the commit that every write ends in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from nodeport.api.meta import JsonObject
from nodeport.api.resources import NAMESPACES, Resource
from nodeport.api.status import BadRequest, Cause, Forbidden, not_found
from nodeport.apiserver.allocators.reservation import Reservation
from nodeport.apiserver.auth import User
from nodeport.apiserver.conversion import splicer_of
from nodeport.apiserver.encoding import Splicer, decode, key_of
from nodeport.apiserver.heavy import HeavyWork
from nodeport.apiserver.locks import KeyLocks
from nodeport.apiserver.quotas import Quotas
from nodeport.apiserver.routes import Target
from nodeport.apiserver.strategies.base import Strategy
from nodeport.kit.clock import Clock
from nodeport.store.base import Expect, KeyValue, Operation, PreconditionFailed, Revision, Store, Undecided

RETRY_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the resource table with what the server hangs on it."""

    resource: Resource
    strategy: Strategy
    splicer: Splicer


@dataclass(frozen=True, slots=True)
class OpenNamespace:
    """A namespace that was found open for ``name`` of ``resource``; a commit that carries ``expectation`` fails
    when it changed since."""

    resource: Resource
    namespace: str
    name: str
    expectation: Expect


class Admission(Protocol):
    """Refuses with 403 what a user may not write, by the object's content. ``user`` None: the server itself."""

    async def create(self, user: User | None, target: Target, obj: JsonObject) -> None: ...

    async def update(self, user: User | None, target: Target, new: JsonObject, old: JsonObject) -> None: ...

    async def delete(self, user: User | None, target: Target, old: JsonObject) -> None: ...

    async def may_create(self, user: User | None, resource: Resource, namespace: str, name: str) -> None: ...


class Registry:
    """Where the verbs find entries, objects and the way to commit."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rng: random.Random,
        strategies: Iterable[Strategy],
        admission: Admission,
    ) -> None:
        self.store = store
        self.admission = admission
        self.clock = clock
        self.rng = rng
        self._entries: Mapping[str, Entry] = {
            strategy.resource.qualified_name: Entry(
                strategy.resource, strategy, splicer_of(strategy.resource)
            )
            for strategy in strategies
        }
        self.locks = KeyLocks()
        self.quotas = Quotas(store)
        self.heavy = HeavyWork()
        self._commits: set[asyncio.Future[Revision]] = set()

    def entry(self, resource: Resource) -> Entry:
        return self._entries[resource.qualified_name]

    async def find(self, resource: Resource, namespace: str, name: str) -> KeyValue:
        """The stored object; 404 when there is none."""
        found = await self.store.get(key_of(resource, namespace, name))
        if found is None:
            raise not_found(resource, name)
        return found

    async def require_open_namespace(self, resource: Resource, namespace: str, name: str) -> OpenNamespace:
        """Refuse to create in a namespace that does not exist or is going away."""
        found = await self.store.get(key_of(NAMESPACES, "", namespace))
        if found is None:
            raise not_found(NAMESPACES, namespace)
        if not is_terminating(found):
            return OpenNamespace(resource, namespace, name, Expect(found.key, found.mod_revision))
        details = {"name": name, "group": resource.group, "kind": resource.plural}
        raise Forbidden(
            f'{resource.qualified_name} "{name}" is forbidden: unable to create new content in namespace '
            f"{namespace} because it is being terminated",
            details={key: value for key, value in details.items() if value},
            causes=[
                Cause(
                    "NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace"
                )
            ],
        )

    async def pause(self, attempt: int) -> None:
        """Wait a moment before trying again: what was in the way may not be readable yet."""
        await self.clock.sleep(RETRY_SECONDS * (attempt + 1))

    async def commit(
        self, operations: Sequence[Operation], reservation: Reservation, within: OpenNamespace | None = None
    ) -> Revision:
        """Commit object and reservation together, and settle the reservation by the outcome.

        ``within``: only if that namespace is still open in the very same moment. A caller that is cancelled meanwhile
        does not undo what may already be on disk: the commit runs to its end.
        """
        reservation.hand_over()
        wanted = [*operations, *reservation.operations]
        try:
            done = self.store.submit([*wanted, within.expectation] if within else wanted)
        except (Undecided, PreconditionFailed):
            done = asyncio.create_task(self._commit_within(wanted, within))
            self._commits.add(done)
            done.add_done_callback(self._commits.discard)
        except BaseException:
            reservation.release()
            raise
        if done.done():  # before anybody hears of the commit, as the order of callbacks sees to otherwise
            _settle(reservation, done)
        else:
            done.add_done_callback(partial(_settle, reservation))
        return await asyncio.shield(done)

    async def _commit_within(self, operations: Sequence[Operation], within: OpenNamespace | None) -> Revision:
        """A namespace that only changed is looked at again; one that is going away refuses."""
        while within is not None:
            try:
                return await self.store.commit([*operations, within.expectation])
            except PreconditionFailed as error:
                if error.key != within.expectation.key:
                    raise
            within = await self.require_open_namespace(within.resource, within.namespace, within.name)
        return await self.store.commit(operations)


def _settle(reservation: Reservation, done: asyncio.Future[Revision]) -> None:
    if done.cancelled() or done.exception() is not None:
        reservation.release()
    else:
        reservation.commit()


def is_terminating(namespace: KeyValue) -> bool:
    """Decodes the stored namespace only when it may be."""
    if b'"phase":"Terminating"' not in namespace.value:
        return False
    return bool((decode(namespace.value).get("status") or {}).get("phase") == "Terminating")


def check_identity(obj: JsonObject, resource: Resource, namespace: str, name: str) -> None:
    """Name and namespace in a body must be those of the URL; a missing namespace is filled in."""
    metadata = obj.setdefault("metadata", {})
    check_namespace(metadata, resource, namespace)
    found = metadata.get("name") or ""
    if name and not found:
        raise BadRequest(
            f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )
    if name and found != name:
        raise BadRequest(f"the name of the object ({found}) does not match the name on the URL ({name})")


def check_namespace(metadata: JsonObject, resource: Resource, namespace: str) -> None:
    found = metadata.get("namespace") or ""
    if not resource.namespaced:
        metadata.pop("namespace", None)
    elif not found:
        metadata["namespace"] = namespace
    elif found != namespace:
        raise BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
