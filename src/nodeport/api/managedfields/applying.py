"""Server-side apply: an applied configuration, the live object and its managers -> the new object and managers.

Rules: structured-merge-diff as Kubernetes 1.36 uses it. The applier owns exactly what it named. What it named before
and no longer names is removed, unless somebody else owns it. To change a field that somebody else owns is a conflict,
unless forced: then the other loses it. ``kubectl`` may take what its own client-side apply wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from nodeport.api.managedfields.conflicts import Conflict, Conflicts, conflicts_of
from nodeport.api.managedfields.elements import escaped
from nodeport.api.managedfields.entries import BEFORE_FIRST_APPLY, Manager, Owned, Owners, applier, updater
from nodeport.api.managedfields.leaves import leaves, with_structs
from nodeport.api.managedfields.merging import merge, remove
from nodeport.api.managedfields.sets import (
    EMPTY,
    Tree,
    contains,
    difference,
    intersection,
    ordered,
    recursive_difference,
    union,
)
from nodeport.api.managedfields.types import Type
from nodeport.api.managedfields.updates import STRIPPED, Scope, changed_of, created, of_version, without
from nodeport.api.meta import JsonObject, deep_copy

KUBECTL = "kubectl"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MOST_ANNOTATION_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Apply:
    """One request. ``config`` fits the scope's type; ``time`` is RFC 3339."""

    scope: Scope
    config: JsonObject
    manager: str
    time: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """``object`` is a copy of its own, without ``managedFields``."""

    object: JsonObject
    owners: Owners


def apply(request: Apply, live: JsonObject, owners: Owners) -> Applied:
    """``live``: the object without its ``managedFields``; one that is new has nothing but its kind.

    Conflicts are raised. Objects that were never tracked belong to ``before-first-apply`` from now on.
    """
    scope = request.scope
    known = of_version(owners, scope.api_version)
    if not known:
        first = updater(BEFORE_FIRST_APPLY, scope.api_version, scope.subresource)
        known = created(scope, live, first, request.time)
    try:
        done = _apply(request, live, known)
    except Conflicts as conflicts:
        left = _not_from_client_side(request, live, conflicts.found)
        if left:
            raise Conflicts(left) from None
        done = _apply(replace(request, force=True), live, known)
    _refresh_last_applied(request, done.object)
    return done


def _apply(request: Apply, live: JsonObject, owners: Owners) -> Applied:
    scope, kind = request.scope, request.scope.type
    manager = applier(request.manager, scope.subresource)
    merged = merge(kind, live, request.config)
    last = owners.get(manager)
    named = ordered(recursive_difference(leaves(kind, request.config), scope.reset))
    made = dict(owners)
    made[manager] = Owned(named, scope.api_version, last.time if last else None)
    merged = _without_forgotten(kind, merged, last.fields if last else EMPTY, made)
    removed, modified, added = scope.type.compare(scope.managed_part(live), scope.managed_part(merged))
    changed = changed_of(modified, added)
    _refuse_conflicts(request, made, manager, changed)
    made = without(made, changed, removed or EMPTY, spared=manager)
    kept = difference(named, STRIPPED)
    if not kept:
        made.pop(manager, None)
    else:
        time = request.time if merged != live else made[manager].time
        made[manager] = Owned(kept, scope.api_version, time)
    return Applied(deep_copy(merged), made)


def _refuse_conflicts(request: Apply, owners: Owners, manager: Manager, changed: Tree) -> None:
    if request.force:
        return
    taken = {
        other: both
        for other, owned in owners.items()
        if other != manager and (both := intersection(owned.fields, changed))
    }
    if taken:
        raise Conflicts(conflicts_of(taken))


def _without_forgotten(kind: Type, merged: JsonObject, last: Tree, owners: Owners) -> JsonObject:
    """``merged`` without what the manager named the last time and nobody owns now.

    What is removed with its parent comes back when it is owned, or when the manager never named it.
    """
    if not last:
        return merged
    complete: Callable[[Tree], Tree] = lambda fields: with_structs(kind, fields)  # noqa: E731
    pruned = remove(kind, merged, complete(last)) or {}
    everything = complete(leaves(kind, merged))
    owned: Tree = EMPTY
    for each in owners.values():
        owned = union(owned, each.fields)
    kept = union(complete(leaves(kind, pruned)), complete(owned))
    pruned = remove(kind, merged, difference(everything, kept)) or {}
    gone = difference(everything, complete(leaves(kind, pruned)))
    result: JsonObject = remove(kind, merged, intersection(gone, complete(last))) or {}
    return result


def _not_from_client_side(request: Apply, live: JsonObject, found: list[Conflict]) -> list[Conflict]:
    """Conflicts that are no matter of kubectl's own client-side apply: what that wrote and nobody changed since."""
    if request.manager != KUBECTL:
        return found
    applied = _last_applied(request.scope, live)
    if applied is None:
        return found
    removed, modified, added = request.scope.type.compare(applied, live)
    ours = leaves(request.scope.type, applied)
    for changed in (modified, added, removed):
        ours = difference(ours, changed or EMPTY)
    return [each for each in found if not contains(ours, each.path)]


def _last_applied(scope: Scope, live: JsonObject) -> JsonObject | None:
    text = _annotations(live).get(LAST_APPLIED)
    if not text:
        return None
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("apiVersion") == scope.api_version else None


def _annotations(obj: JsonObject) -> dict[str, Any]:
    return (obj.get("metadata") or {}).get("annotations") or {}


def _refresh_last_applied(request: Apply, obj: JsonObject) -> None:
    """Keep the annotation of client-side apply true, where there is one, when it is kubectl who applies."""
    if request.manager != KUBECTL or not _annotations(obj).get(LAST_APPLIED):
        return
    config = deep_copy(request.config)
    metadata = config.get("metadata") or {}
    if isinstance(metadata.get("annotations"), dict):
        metadata["annotations"].pop(LAST_APPLIED, None)
    annotations = obj["metadata"]["annotations"]
    annotations[LAST_APPLIED] = escaped(msgspec.json.encode(config, order="sorted").decode()) + "\n"
    if sum(len(key) + len(str(value)) for key, value in annotations.items()) > MOST_ANNOTATION_BYTES:
        del annotations[LAST_APPLIED]
