"""An applied configuration merged into the live object, and fields taken out of one.

Rules: structured-merge-diff. What is applied wins; associative lists merge item by item, and the order of the items
that are applied is kept among them; atomic values are replaced whole; null puts a scalar or an atomic value away and
leaves the entries of a map or list as they are.
"""

from __future__ import annotations

from typing import Any

from nodeport.api.managedfields.sets import Tree, is_member
from nodeport.api.managedfields.types import ListOf, MapOf, Struct, Type, Untyped
from nodeport.api.meta import JsonObject

_MISSING: Any = object()


def merge(kind: Type, live: JsonObject, applied: JsonObject) -> JsonObject:
    """A new object; parts that did not change are shared with the arguments."""
    merged: JsonObject = _merge(kind, live, applied)
    return merged


def _merge(kind: Type, live: Any, applied: Any) -> Any:
    if live is _MISSING:
        return applied
    if applied is _MISSING:
        return live
    match kind:
        case Struct() | MapOf():
            return _merge_maps(kind, live, applied)
        case ListOf():
            return _merge_lists(kind, live, applied)
        case Untyped() if isinstance(applied, dict):
            return _merge_maps(MapOf(kind), live if isinstance(live, dict) else None, applied)
    return applied


def _merge_maps(kind: Struct | MapOf, live: Any, applied: Any) -> Any:
    if not live and not applied:
        return applied
    live, applied = live or {}, applied or {}
    return {
        name: _merge(
            type_of_entry(kind, name), live.get(name, _MISSING), applied.get(name, _MISSING)
        )
        for name in {**live, **applied}
    }  # fmt: skip


def type_of_entry(kind: Struct | MapOf, name: str) -> Type:
    if isinstance(kind, MapOf):
        return kind.item
    field = kind.fields.get(name)
    return field[1] if field else Untyped()


def _merge_lists(kind: ListOf, live: Any, applied: Any) -> Any:
    if not live and not applied:
        return applied
    ours = [(kind.element(item), item) for item in live or ()]
    theirs = {element: item for item in applied or () if (element := kind.element(item)) is not None}
    counts: dict[str | None, int] = {}
    for element, _ in ours:
        counts[element] = counts.get(element, 0) + 1
    single = {element: item for element, item in ours if counts[element] == 1}
    merged = []
    for element, item in _interleaved(ours, list(theirs)):
        if element is None or element not in theirs:
            merged.append(item)
        else:
            merged.append(_merge(kind.item, single.get(element, _MISSING), theirs[element]))
    return merged


def _interleaved(ours: list[tuple[str | None, Any]], theirs: list[str]) -> list[tuple[str | None, Any]]:
    """The order of a merged list: live items where they were, applied ones in the order in which they are applied.

    An item that only one side has stays behind its neighbour of that side.
    """
    present = {element for element, _ in ours}
    shared = [element for element in theirs if element in present]
    applied = set(theirs)
    made: list[tuple[str | None, Any]] = []
    done: set[str] = set()
    left = right = next_shared = 0
    while left < len(ours) or right < len(theirs):
        awaited = shared[next_shared] if next_shared < len(shared) else None
        mine = ours[left][0] if left < len(ours) else None
        if left < len(ours) and right < len(theirs):
            if mine == theirs[right]:
                made.append((mine, None))
                done.add(theirs[right])
                left, right, next_shared = left + 1, right + 1, next_shared + 1
                continue
            if mine in applied and awaited is not None and mine != awaited:
                left += 1
                continue
        if left < len(ours):
            if mine not in applied:
                made.append(ours[left])
                left += 1
                continue
            if mine in done:
                left += 1
        if right < len(theirs):
            made.append((theirs[right], None))
            done.add(theirs[right])
            next_shared += theirs[right] == awaited
            right += 1
    return made


def remove(kind: Type, value: Any, fields: Tree) -> Any:
    """``value`` without the members of ``fields``; None for a map or list of which nothing is left."""
    if not fields or not value:
        return None if isinstance(value, dict | list) and not value else value
    match kind:
        case Struct() | MapOf() if isinstance(value, dict):
            return _remove_entries(kind, value, fields)
        case Untyped() if isinstance(value, dict):
            return _remove_entries(MapOf(kind), value, fields)
        case ListOf() if isinstance(value, list):
            return _remove_items(kind, value, fields)
    return None if isinstance(value, dict | list) else value


def _remove_entries(kind: Struct | MapOf, value: JsonObject, fields: Tree) -> JsonObject | None:
    made: JsonObject = {}
    for name, item in value.items():
        node = fields.get(f"f:{name}")
        if node is None:
            made[name] = item
        elif not is_member(node):
            made[name] = remove(type_of_entry(kind, name), item, node)
    return made or None


def _remove_items(kind: ListOf, value: list[Any], fields: Tree) -> list[Any] | None:
    made = []
    for item in value:
        element = kind.element(item)
        node = fields.get(element) if element is not None else None
        if node is None:
            made.append(item)
        elif not is_member(node):
            made.append(remove(kind.item, item, node))
    return made or None
