"""What a write that is no apply makes of the managers: it takes the fields that it changed.

Rules: Kubernetes' field manager. The one who writes owns what it added or changed, everyone else loses that, and what
was removed is nobody's. An object that nobody's fields are kept of stays so until something is applied to it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from nodeport.api.managedfields.entries import Manager, Owned, Owners, capped, updater
from nodeport.api.managedfields.sets import EMPTY, Tree, covers, difference, overlaps, tree_of, union
from nodeport.api.managedfields.types import Type
from nodeport.api.meta import JsonObject

REMEMBERED_SHAPES = 512

_NEVER_MANAGED = ("apiVersion", "kind")
_NEVER_MANAGED_METADATA = (
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
    "resourceVersion",
)  # fmt: skip
STRIPPED: Tree = tree_of(
    ("f:metadata",),
    *((f"f:{name}",) for name in _NEVER_MANAGED),
    *(("f:metadata", f"f:{name}") for name in _NEVER_MANAGED_METADATA),
)
"""Fields that are no manager's."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One way to write a kind. ``top`` and ``below``: the fields that this way resets, so that nobody gets them, of the
    object itself and of those of its fields that are named; metadata is always named.

    ``type``: of the document that is written; ``subresource``: empty for the object itself.
    """

    type: Type
    api_version: str
    subresource: str = ""
    top: frozenset[str] = frozenset(_NEVER_MANAGED)
    below: tuple[tuple[str, frozenset[str]], ...] = (("metadata", frozenset(_NEVER_MANAGED_METADATA)),)

    @classmethod
    def of(cls, kind: Type, api_version: str, subresource: str = "", resets: Iterable[str] = ()) -> Scope:
        """``resets``: dotted paths of one or two names (``status``, ``metadata.labels``)."""
        top, nested = set(_NEVER_MANAGED), {"metadata": set(_NEVER_MANAGED_METADATA)}
        for path in resets:
            name, dot, below = path.partition(".")
            if dot:
                nested.setdefault(name, set()).add(below)
            else:
                top.add(name)
        frozen = tuple((name, frozenset(fields)) for name, fields in nested.items())
        return cls(kind, api_version, subresource, frozenset(top), frozen)

    def managed_part(self, obj: JsonObject) -> JsonObject:
        """The object without what no manager gets by this way; shares what is left."""
        top = self.top
        part = {name: value for name, value in obj.items() if name not in top}
        for field, hidden in self.below:
            if found := part.get(field):
                part[field] = {name: value for name, value in found.items() if name not in hidden}
        return part

    @property
    def reset(self) -> Tree:
        """The fields that this way resets, as a set."""
        return tree_of(
            *((f"f:{name}",) for name in self.top if name not in _NEVER_MANAGED),
            *(
                (f"f:{field}", f"f:{name}")
                for field, hidden in self.below
                for name in hidden
                if field != "metadata" or name not in _NEVER_MANAGED_METADATA
            ),
        )


def created(
    scope: Scope, obj: JsonObject, manager: Manager, time: str, owners: Owners | None = None
) -> Owners:
    """The owners of a new object: whoever made it. ``owners``: what the object came with."""
    return _taken(owners or {}, EMPTY, _all_of(scope, scope.managed_part(obj)), manager, time)


def _all_of(scope: Scope, part: JsonObject) -> Tree:
    _, modified, added = scope.type.compare({"metadata": {}}, part)
    return changed_of(modified, added)


class NewFields:
    """What the maker of a new object owns, remembered by the object's shape: most are made from a few templates."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._known: dict[Hashable, Tree] = {}

    def of(self, obj: JsonObject) -> Tree:
        """In the order in which it is written. Shared: do not change it."""
        part = self.scope.managed_part(obj)
        shape = self.scope.type.shape(part)
        found = self._known.get(shape)
        if found is None:
            if len(self._known) >= REMEMBERED_SHAPES:
                self._known.clear()
            found = self._known[shape] = difference(_all_of(self.scope, part), STRIPPED)
        return found


def updated(
    scope: Scope, old: JsonObject, new: JsonObject, owners: Owners, manager: Manager, time: str
) -> Owners:
    """The owners after ``new`` was put in the place of ``old``; the same owners when that changes none."""
    if not owners:
        return owners
    known = of_version(owners, scope.api_version)
    removed, modified, added = scope.type.compare(scope.managed_part(old), scope.managed_part(new))
    if removed is None and modified is None and added is None:
        return known
    return _taken(known, removed or EMPTY, changed_of(modified, added), manager, time)


def changed_of(modified: Tree | None, added: Tree | None) -> Tree:
    """What a comparison found modified or added, in order."""
    if modified is None or added is None:
        return modified or added or EMPTY
    return union(modified, added)


def of_version(owners: Owners, api_version: str) -> Owners:
    """The owners whose fields are those of a version that is served; the object itself when all are."""
    if all(owned.api_version == api_version for owned in owners.values()):
        return owners
    return {manager: owned for manager, owned in owners.items() if owned.api_version == api_version}


def without(owners: Owners, changed: Tree, removed: Tree, spared: Manager | None = None) -> Owners:
    """The owners after a change: nobody but ``spared`` keeps what was changed or removed."""
    made: Owners = {}
    for manager, owned in owners.items():
        if manager == spared or not (overlaps(owned.fields, changed) or overlaps(owned.fields, removed)):
            made[manager] = owned
            continue
        left = difference(difference(owned.fields, changed), removed)
        if left:
            made[manager] = owned.having(left)
    return made


def _taken(owners: Owners, removed: Tree, changed: Tree, manager: Manager, time: str) -> Owners:
    taken = difference(changed, STRIPPED)
    made = without(owners, changed, removed, spared=manager)
    own = made.get(manager)
    if own is None:
        if taken:
            made[manager] = Owned(taken, manager.api_version, time)
    elif not taken or not covers(own.fields, taken) or overlaps(own.fields, removed):
        fields = union(difference(difference(own.fields, changed), removed), taken)
        if fields:
            made[manager] = Owned(fields, manager.api_version, time if taken else own.time)
        else:
            del made[manager]
    else:
        made[manager] = own.at(time)
    return capped(made)


__all__ = ["NewFields", "Scope", "created", "of_version", "updated", "updater", "without"]
