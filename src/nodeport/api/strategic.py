"""Strategic merge patch: lists merge by the keys that the schema names.

Rules: the server side of Kubernetes' strategic merge patch, with its directives ``$patch``, ``$retainKeys``,
``$deleteFromPrimitiveList/<list>`` and ``$setElementOrder/<list>``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.status import ApiError, BadRequest, Invalid, PlainError

_PATCH = "$patch"
_RETAIN_KEYS = "$retainKeys"
_DELETE_LIST = "$deleteFromPrimitiveList"
_ORDER = "$setElementOrder"
_LAST = 1 << 30


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one field merges. ``schema`` describes the field's value, or a list's elements."""

    schema: JsonObject
    merges: bool = False
    replaces: bool = False
    key: str = ""


_FREE = _Rule({})


def strategic_merge_patch(schema: str, obj: JsonObject, patch: JsonObject) -> JsonObject:
    """``obj``, of the definition ``schema``, after ``patch``; a new object. ApiError when the patch is malformed."""
    from nodeport.api.schema import schema_of

    if not isinstance(patch, dict):
        raise BadRequest("error decoding patch: the patch is no JSON object")
    return _merge_map(deep_copy(obj), deep_copy(patch), schema_of(schema))


def _rule(schema: JsonObject, field: str) -> _Rule:
    from nodeport.api.schema import field_schema, resolve

    found = field_schema(schema, field) if schema else None
    if found is None:
        return _FREE
    strategies = (found.get("x-kubernetes-patch-strategy") or "").split(",")
    value = resolve(found)
    return _Rule(
        schema=resolve(value["items"]) if "items" in value else value,
        merges="merge" in strategies,
        replaces="replace" in strategies,
        key=found.get("x-kubernetes-patch-merge-key") or "",
    )


def _merge_map(original: JsonObject, patch: JsonObject, schema: JsonObject) -> JsonObject:
    if _PATCH in patch:
        return _whole_map(patch)
    _retain_keys(original, patch)
    _set_element_orders(original, patch, schema)
    for key, value in patch.items():
        deletes = key.startswith(_DELETE_LIST)
        field = _directive_field(key, _DELETE_LIST) if deletes else key
        if value is None:
            original.pop(field, None)
            continue
        current = original.get(field)
        if isinstance(current, dict) and isinstance(value, dict):
            rule = _rule(schema, field)
            original[field] = value if rule.replaces else _merge_map(current, value, rule.schema)
        elif isinstance(current, list) and isinstance(value, list):
            original[field] = _merge_list(current, value, _rule(schema, field), deletes)
        elif not deletes or (current is not None and type(current) is type(value)):
            _put(original, field, value)
    return original


def _whole_map(patch: JsonObject) -> JsonObject:
    directive = patch[_PATCH]
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _PATCH}
    if directive == "delete":
        return {}
    raise PlainError(f"unknown patch type: {directive} in map: {go_text(patch)}")


def _put(original: JsonObject, field: str, value: Any) -> None:
    """A field that was not there, or had another type: the patch's value without nulls and marked maps."""
    cleaned = _unmarked(_without_nulls(value))
    if cleaned is _DROPPED:
        original.pop(field, None)
    else:
        original[field] = cleaned


_DROPPED = object()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _unmarked(value: Any) -> Any:
    """Without the maps that hold ``$patch``; other directives stay, and are fields that nobody knows."""
    if isinstance(value, dict):
        if _PATCH in value:
            return _DROPPED
        cleaned = {key: _unmarked(item) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item is not _DROPPED}
    if isinstance(value, list):
        return [item for item in map(_unmarked, value) if item is not _DROPPED]
    return value


def _directive_field(key: str, prefix: str) -> str:
    head, slash, field = key.partition("/")
    if head != prefix or not slash:
        kind = "primitive" if prefix == _DELETE_LIST else "setElementOrder"
        raise BadRequest(f"invalid patch format of {kind} list")
    return field


def _retain_keys(original: JsonObject, patch: JsonObject) -> None:
    """``$retainKeys``: drop the fields it does not list."""
    wanted = patch.pop(_RETAIN_KEYS, None)
    if wanted is None:
        return
    if not isinstance(wanted, list):
        raise BadRequest("invalid patch format of retainKeys")
    for key, value in patch.items():
        if value is not None and key not in wanted and not key.startswith((_DELETE_LIST, _ORDER)):
            raise BadRequest("invalid patch format of retainKeys")
    for key in list(original):
        if key not in wanted:
            del original[key]


def _set_element_orders(original: JsonObject, patch: JsonObject, schema: JsonObject) -> None:
    """``$setElementOrder/x``: merge list ``x`` and bring its elements into the order that the directive gives."""
    for directive in [key for key in patch if key.startswith(_ORDER)]:
        order = patch.pop(directive)
        field = _directive_field(directive, _ORDER)
        current, change = _list(original.get(field, [])), _list(patch.get(field, []))
        rule = _rule(schema, field)
        _check_order(change, _list(order), rule.key)
        if field not in original:
            if field in patch:
                added = _unmarked(change)
                _element_type([], change)
                original[field] = _in_order(added, order, [], rule.key)
                del patch[field]
            continue
        merged = current if field not in patch else _merge_list(current, change, rule, deletes=False)
        original[field] = _in_order(merged, order, current, rule.key)
        patch.pop(field, None)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise PlainError(f"expected a []interface {{}}, but received a {_go_type(value)}")
    return value


def _check_order(change: list[Any], order: list[Any], key: str) -> None:
    """The patch's own elements must come in the directive's order."""
    if not order or not change:
        return
    for item in change if key else ():
        _require_map(item)
    wanted = (_identity(item, key) for item in order)
    for item in change:
        if isinstance(item, dict) and _PATCH in item:
            continue
        identity = _identity(item, key)
        if not any(identity == other for other in wanted):
            raise PlainError(
                f"The order in patch list:\n{go_text(change)}\n doesn't match {_ORDER} list:\n{go_text(order)}\n"
            )


def _identity(item: Any, key: str) -> Any:
    """What makes a list element itself: its merge key's value, or the scalar."""
    if not key:
        return item
    _require_map(item)
    if key not in item:
        _no_merge_key(item, key)
    return item[key]


def _require_map(item: Any) -> None:
    if not isinstance(item, dict):
        raise PlainError(f"expected a map[string]interface {{}}, but received a {_go_type(item)}")


def _no_merge_key(item: JsonObject, key: str) -> NoReturn:
    raise PlainError(f"map: {go_text(item)} does not contain declared merge key: {key}")


def _merge_list(original: list[Any], change: list[Any], rule: _Rule, deletes: bool) -> list[Any]:
    if not rule.merges and not deletes:
        return change
    if not original and not change:
        return original
    if _element_type(original, change) != _MAP:
        if deletes:
            return [item for item in original if item not in change]
        return _in_order(list(dict.fromkeys([*original, *change])), change, original, "")
    if not rule.key:
        raise PlainError("cannot merge lists without merge key for struct")
    kept, additions = _special_elements(original, change, rule.key)
    merged = list(kept)
    for item in additions:
        position = _position(merged, rule.key, _identity(item, rule.key))
        if position < 0:
            merged.append(item)
        else:
            merged[position] = _merge_map(merged[position], item, rule.schema)
    return _in_order(merged, additions, kept, rule.key)


_MAP = "map[string]interface {}"


def _element_type(original: list[Any], change: list[Any]) -> str:
    """What all elements of both lists are."""
    found = [_go_type(item) for item in (*original, *change)]
    if found and found[0] == "[]interface {}":
        raise _unprocessable("lists of lists are not supported")
    if len({*found}) > 1:
        raise PlainError(f"list element types are not identical: {go_text([original, change])}")
    if not found:
        raise PlainError("no elements in any of the given slices")
    return found[0]


def _unprocessable(_why: str) -> ApiError:
    return Invalid("the server rejected our request due to an error in our request", details={})


def _special_elements(original: list[Any], change: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """(what stays of the original, the elements to merge), after ``$patch: delete`` and ``$patch: replace``."""
    plain: list[Any] = []
    replace = False
    for item in change:
        match item.get(_PATCH):
            case None:
                plain.append(item)
            case "delete":
                unwanted = _identity(item, key)
                original = [entry for entry in original if _identity_or_none(entry, key) != unwanted]
            case "replace":
                replace = True
            case "merge":
                raise PlainError("merging lists cannot yet be specified in the patch")
            case other:
                raise PlainError(f"unknown patch type: {other} in map: {go_text(item)}")
    return (plain, []) if replace else (original, plain)


def _identity_or_none(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, dict) else None


def _position(items: list[Any], key: str, identity: Any) -> int:
    for index, item in enumerate(items):
        if isinstance(item, dict) and key in item and item[key] == identity:
            return index
    return -1


def _in_order(merged: list[Any], patch_order: list[Any], server_order: list[Any], key: str) -> list[Any]:
    """Elements that the patch names in its order, the others in theirs, interleaved as they stood before."""
    wanted, stood = _positions(patch_order, key), _positions(server_order, key)

    def identity(item: Any) -> Any:
        return _frozen(_identity(item, key))

    named = sorted(
        (item for item in merged if identity(item) in wanted), key=lambda item: wanted[identity(item)]
    )
    others = sorted(
        (item for item in merged if identity(item) not in wanted),
        key=lambda item: stood.get(identity(item), _LAST),
    )
    return _interleaved(others, named, [stood.get(identity(item), -1) for item in others],
                        [stood.get(identity(item), -1) for item in named])  # fmt: skip


def _positions(items: list[Any], key: str) -> dict[Any, int]:
    """Where each element stands first."""
    return {
        _frozen(_identity_or_none(item, key) if key else item): at
        for at, item in reversed([*enumerate(items)])
    }


def _interleaved(left: list[Any], right: list[Any], left_at: list[int], right_at: list[int]) -> list[Any]:
    """Both lists in their order; a left one goes first only where it is known to have stood before the right one."""
    made: list[Any] = []
    at = 0
    for item, position in zip(right, right_at, strict=True):
        while at < len(left) and 0 <= left_at[at] < position:
            made.append(left[at])
            at += 1
        made.append(item)
    return [*made, *left[at:]]


def _frozen(value: Any) -> Any:
    return go_text(value) if isinstance(value, dict | list) else value


def go_text(value: Any) -> str:
    """A value as Go prints it with ``%v``."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)


def _go_type(value: Any) -> str:
    match value:
        case None:
            return "%!s(<nil>)"
        case bool():
            return "bool"
        case int():
            return "int64"
        case float():
            return "float64"
        case str():
            return "string"
        case list():
            return "[]interface {}"
    return "map[string]interface {}"
