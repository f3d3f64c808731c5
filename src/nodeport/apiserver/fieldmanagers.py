"""Managed fields of every kind: the scopes in which they are kept, and what each way of writing makes of them.

A write that the server makes for itself has a manager too: ``WriteOptions`` names it by default.
"""

from __future__ import annotations

from datetime import datetime

from nodeport.api.managedfields.entries import (
    Entries,
    Owned,
    Owners,
    Unreadable,
    decode,
    encode,
    equal_but_for_time,
    is_reset,
    updater,
)
from nodeport.api.managedfields.scale import SCALE_VERSION, from_scale, to_scale
from nodeport.api.managedfields.types import type_of
from nodeport.api.managedfields.updates import NewFields, Scope, created, updated
from nodeport.api.meta import JsonObject
from nodeport.apiserver.strategies.base import Strategy
from nodeport.kit.clock import rfc3339

SCALE_SCHEMA = "io.k8s.api.autoscaling.v1.Scale"


class FieldManagers:
    """Compiles each kind when it is first written."""

    def __init__(self) -> None:
        self._scopes: dict[tuple[str, str], Scope] = {}
        self._new: dict[str, NewFields] = {}

    def scope(self, strategy: Strategy, subresource: str = "") -> Scope:
        """How ``strategy``'s kind is written through ``subresource``."""
        resource = strategy.resource
        found = self._scopes.get((resource.qualified_name, subresource))
        if found is None:
            if subresource == "scale":
                found = Scope.of(type_of(SCALE_SCHEMA), SCALE_VERSION, subresource)
            else:
                resets = strategy.reset_fields(subresource)
                found = Scope.of(type_of(resource.schema), resource.api_version, subresource, resets)
            self._scopes[resource.qualified_name, subresource] = found
        return found

    def created(
        self, strategy: Strategy, obj: JsonObject, sent: Entries | None, manager: str, now: datetime
    ) -> Entries:
        """The entries of a new object, whose own ``managedFields`` (``sent``) have been taken out."""
        new = self._new.get(strategy.resource.qualified_name)
        if new is None:
            new = self._new[strategy.resource.qualified_name] = NewFields(self.scope(strategy))
        scope = new.scope
        owner = updater(manager, scope.api_version)
        if sent is None:
            return encode({owner: Owned(new.of(obj), scope.api_version, rfc3339(now))})
        return encode(created(scope, obj, owner, rfc3339(now), owners_before({}, sent, "")))

    def updated(
        self,
        strategy: Strategy,
        subresource: str,
        old: JsonObject,
        new: JsonObject,
        sent: Entries | None,
        manager: str,
        now: datetime,
    ) -> Entries:
        """The entries after ``new``, whose own ``managedFields`` (``sent``) have been taken out, replaces ``old``."""
        scope = self.scope(strategy, subresource)
        before = owners_before(old, sent, subresource)
        owner = updater(manager, scope.api_version, subresource)
        return encode(updated(scope, old, new, before, owner, rfc3339(now)))

    def scaled(
        self,
        strategy: Strategy,
        old: tuple[JsonObject, JsonObject],
        new_scale: JsonObject,
        manager: str,
        now: datetime,
    ) -> Entries:
        """The entries of an object after its Scale was written. ``old``: the object and its Scale."""
        obj, old_scale = old
        owners = decode(obj["metadata"].get("managedFields"))
        scope = self.scope(strategy, "scale")
        owner = updater(manager, scope.api_version, "scale")
        after = updated(scope, old_scale, new_scale, to_scale(owners), owner, rfc3339(now))
        return encode(from_scale(owners, after, strategy.resource.api_version))


def owners_before(old: JsonObject, sent: Entries | None, subresource: str) -> Owners:
    """Whose fields are whose before a write: as the client says, unless it says nothing or nonsense.

    Through a subresource nobody says so.
    """
    current = (old.get("metadata") or {}).get("managedFields")
    if subresource or sent is None or sent == current:
        return decode(current)
    if is_reset(sent):
        return {}
    try:
        return decode(sent, trusted=False) or decode(current)
    except Unreadable:
        return decode(current)


def put_entries(obj: JsonObject, entries: Entries) -> None:
    """Give the object its ``managedFields``; none at all when there are no managers."""
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def is_unchanged(new: JsonObject, old: JsonObject) -> bool:
    """Whether a write would change nothing. That the same manager did it again, later, is no change."""
    if new == old:
        return True
    ours, theirs = (obj["metadata"].get("managedFields") for obj in (new, old))
    if ours == theirs or not equal_but_for_time(ours, theirs):
        return False
    put_entries(new, theirs or [])
    if new == old:
        return True
    put_entries(new, ours or [])
    return False
