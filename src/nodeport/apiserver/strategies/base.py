"""What every kind may do its own way, and what most kinds do."""

from __future__ import annotations

import random
from datetime import datetime

import msgspec

from nodeport.api import schema
from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.apiserver.allocators.reservation import Reservation
from nodeport.kit.names import generate_name
from nodeport.store.base import Store


class WriteContext(msgspec.Struct, frozen=True):
    """What a strategy may know of a write."""

    now: datetime
    dry_run: bool = False


class Strategy:
    """The behaviour of a kind without peculiarities; others override."""

    unconditional_update = True
    """PUT without a resourceVersion overwrites whatever is there."""
    default_propagation = ""
    """The propagation policy of a DELETE that names none; empty: dependents are removed in the background."""
    default_propagation_warning = ""
    """What a client that left the choice to ``default_propagation`` is told."""
    is_collected = True
    """Whether the garbage collector follows this kind; if not, no propagation policy leaves it a note."""

    status_resets: tuple[str, ...] = ()
    """Paths of metadata that a write of the status leaves alone (``metadata.labels``)."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.has_status = resource.subresource("status") is not None

    async def admit(self, obj: JsonObject, store: Store) -> None:
        """Fill in what other objects decide about a new one."""

    def prepare_create(self, obj: JsonObject, context: WriteContext) -> None:
        """After defaulting and allocation, before validation. Whoever has /status starts with an empty one."""
        if self.has_status:
            obj["status"] = self.initial_status(obj)

    def initial_status(self, obj: JsonObject) -> JsonObject:
        return {}

    def prepare_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        """The main resource writes everything but status."""
        if self.has_status:
            restore(new, old, "status")

    def prepare_status_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        """/status writes status and metadata; the rest is restored."""
        for field in {*new, *old} - {"metadata", "status", "kind", "apiVersion"}:
            restore(new, old, field)

    def prepare_way(self, way: str, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        """A subresource but /status that writes the object, by its name."""

    async def admit_way(self, way: str, obj: JsonObject, store: Store) -> None:
        """What other objects decide about a write through such a subresource."""

    def counts_generation(self, way: str) -> bool:
        """Whether what is written this way may be a new generation; "" is the object itself."""
        return not way

    def reset_fields(self, subresource: str) -> tuple[str, ...]:
        """What a write by this way leaves as it is, so that by this way it becomes nobody's: dotted paths."""
        if subresource == "status":
            fields = schema.schema_of(self.resource.schema).get("properties") or {}
            return (*(name for name in fields if name not in ("metadata", "status")), *self.status_resets)
        return ("status",) if self.has_status else ()

    def complete(self, obj: JsonObject) -> None:
        """What reading an object does beside defaulting, before anybody's fields are told apart."""

    def generation_changes(self, new: JsonObject, old: JsonObject) -> bool:
        """Whether ``metadata.generation`` counts this change: anything outside metadata and status."""
        skipped = {"metadata", "status", "kind", "apiVersion"}
        return any(new.get(field) != old.get(field) for field in {*new, *old} - skipped)

    def generate_name(self, base: str, rng: random.Random) -> str:
        """What becomes of ``metadata.generateName``."""
        return generate_name(base, rng)

    def note_taken(self, guard: str) -> None:
        """The store says that a number which looked free is somebody's."""

    def begin_create(self, obj: JsonObject, context: WriteContext) -> Reservation:
        """Numbers that the new object needs; fills them in."""
        return Reservation()

    def begin_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> Reservation:
        return Reservation()

    def begin_delete(self, obj: JsonObject) -> Reservation:
        """What leaves with the object."""
        return Reservation()

    def check_delete(self, obj: JsonObject) -> None:
        """Raise when the object may not be deleted at all."""

    def begin_graceful_delete(self, obj: JsonObject, asked: int | None) -> int:
        """Seconds that the object may live on after the request; 0: it goes now."""
        return 0

    def mark_deleted(self, obj: JsonObject) -> None:
        """Further changes in the write that sets ``deletionTimestamp``."""

    def holds_back(self, obj: JsonObject) -> bool:
        """Whether something beside ``metadata.finalizers`` keeps an object that is being deleted."""
        return False


def restore(new: JsonObject, old: JsonObject, field: str) -> None:
    """Give ``new`` the value that ``old`` has, absence included."""
    if field in old:
        new[field] = old[field]
    else:
        new.pop(field, None)
