"""The three-way merge of ``apply``: what was applied last, what is applied now, what the server has.

Fields that the manifest sets are set; fields that the last manifest set and this one does not are removed; everything
else is left to whoever else cares for it (Kubernetes documentation, "Declarative Management of Kubernetes Objects").
The outcome is a strategic merge patch; empty means that there is nothing to do.
"""

from __future__ import annotations

from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.schema import field_schema, resolve, schema_of


def three_way_patch(
    schema: str, original: JsonObject, modified: JsonObject, current: JsonObject
) -> JsonObject:
    """The patch that takes ``current`` to where ``modified`` wants it, given that ``original`` was applied last."""
    return _map_patch(schema_of(schema), original, modified, current)


def _map_patch(
    schema: JsonObject, original: JsonObject, modified: JsonObject, current: JsonObject
) -> JsonObject:
    patch: JsonObject = {}
    for field, wanted in modified.items():
        if wanted is None:
            if current.get(field) is not None:
                patch[field] = None
            continue
        patch.update(_field_patch(schema, field, original.get(field), wanted, current.get(field)))
    for field in original:
        if field not in modified and current.get(field) is not None:
            patch[field] = None
    return patch


def _field_patch(schema: JsonObject, field: str, original: Any, wanted: Any, has: Any) -> JsonObject:
    found = (field_schema(schema, field) if schema else None) or {}
    strategies = str(found.get("x-kubernetes-patch-strategy") or "").split(",")
    value = resolve(found) if found else {}
    if isinstance(wanted, dict) and isinstance(has, dict):
        inner = _map_patch(value, original if isinstance(original, dict) else {}, wanted, has)
        if inner and "retainKeys" in strategies:
            inner = {**inner, "$retainKeys": sorted(wanted)}
        return {field: inner} if inner else {}
    if isinstance(wanted, list) and isinstance(has, list) and "merge" in strategies:
        before = original if isinstance(original, list) else []
        key = str(found.get("x-kubernetes-patch-merge-key") or "")
        if key:
            patch = _keyed_list_patch(resolve(value.get("items") or {}), field, key, before, wanted, has)
            return _retaining(patch, field, key, wanted) if "retainKeys" in strategies else patch
        return _primitive_list_patch(field, before, wanted, has)
    return {} if wanted == has else {field: wanted}


def _keyed_list_patch(
    schema: JsonObject, field: str, key: str, original: list[Any], wanted: list[Any], has: list[Any]
) -> JsonObject:
    """Elements are themselves by their merge key. Where that is not unique (one port over TCP and UDP) the list is
    replaced as a whole, which the key alone cannot do.
    """
    lists = (original, wanted, has)
    if any(not _is_unique(items, key) for items in lists):
        return {} if _covers(has, wanted) else {field: [{"$patch": "replace"}, *wanted]}
    before, now = ({item[key]: item for item in items} for items in (original, has))
    changes: list[JsonObject] = []
    for item in wanted:
        if item[key] not in now:
            changes.append(item)
        elif change := _map_patch(schema, before.get(item[key], {}), item, now[item[key]]):
            changes.append({**change, key: item[key]})
    kept = {item[key] for item in wanted}
    gone = [{"$patch": "delete", key: name} for name in before if name not in kept and name in now]
    if not changes and not gone:
        return {}
    order = [{key: item[key]} for item in wanted]
    return {f"$setElementOrder/{field}": order, field: [*changes, *gone]}


def _retaining(patch: JsonObject, field: str, key: str, wanted: list[Any]) -> JsonObject:
    """With ``$retainKeys`` in every changed element: one volume source replaces another instead of joining it."""
    keys = {item.get(key): sorted(item) for item in wanted if isinstance(item, dict)}
    changes = [
        change if "$patch" in change else {**change, "$retainKeys": keys[change[key]]}
        for change in patch.get(field, [])
    ]
    return {**patch, field: changes} if patch else patch


def _is_unique(items: list[Any], key: str) -> bool:
    names = [item.get(key) for item in items if isinstance(item, dict)]
    return len(names) == len(items) == len(set(names)) and None not in names


def _covers(has: Any, wanted: Any) -> bool:
    """Whether everything that is wanted is there already; more, such as defaults, may be."""
    if isinstance(wanted, dict) and isinstance(has, dict):
        return all(key in has and _covers(has[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(has, list):
        return len(wanted) == len(has) and all(map(_covers, has, wanted))
    return bool(wanted == has)


def _primitive_list_patch(field: str, original: list[Any], wanted: list[Any], has: list[Any]) -> JsonObject:
    added = [item for item in wanted if item not in has]
    gone = [item for item in original if item not in wanted and item in has]
    patch: JsonObject = {}
    if added:
        patch[field] = added
    if gone:
        patch[f"$deleteFromPrimitiveList/{field}"] = gone
    if patch:
        patch[f"$setElementOrder/{field}"] = wanted
    return patch
