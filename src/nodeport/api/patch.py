"""The three patch languages: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch.

All return new objects and leave their arguments as they were. Faults raise ``ApiError`` subclasses with the texts that
the Kubernetes API sends. Strategic merge lives in ``strategic.py``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.status import BadRequest, Invalid, RequestEntityTooLarge
from nodeport.api.strategic import strategic_merge_patch

__all__ = ["json_patch", "merge_patch", "strategic_merge_patch"]

MOST_OPERATIONS = 10_000
MOST_COPIED_BYTES = 3 * 1024 * 1024
"""Of all copies of one patch, as JSON: a copy into its own origin doubles it each time."""
_KINDS = frozenset(("add", "remove", "replace", "move", "copy", "test"))
_MISSING = object()


class _Inapplicable(Exception):
    """An operation that this object refuses."""


def merge_patch(obj: JsonObject, patch: JsonObject) -> JsonObject:
    """Objects merge, null removes, everything else replaces (RFC 7386)."""
    if not isinstance(patch, dict):
        raise BadRequest(f"error decoding patch: json: cannot unmarshal {_word(patch)} into Go value of type"
                         " map[string]interface {}")  # fmt: skip
    merged: JsonObject = _merge(obj, patch)
    return merged


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return deep_copy(patch)
    merged = {key: deep_copy(value) for key, value in target.items()} if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _word(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case list():
            return "array"
        case str():
            return "string"
        case None:
            return "null"
    return "number"


def json_patch(obj: JsonObject, ops: list[Any]) -> JsonObject:
    """The object after all operations. BadRequest for a malformed list, Invalid when an operation does not apply.

    Rules: RFC 6902; an index may be negative, counted from the end, as the Kubernetes API's own patcher allows; the
    number of operations is limited as there.
    """
    if not isinstance(ops, list):
        raise BadRequest(f"json: cannot unmarshal {'object' if isinstance(ops, dict) else _word(ops)}"
                         " into Go value of type jsonpatch.Patch")  # fmt: skip
    if len(ops) > MOST_OPERATIONS:
        raise RequestEntityTooLarge(
            f"The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {len(ops)}"
        )
    for op in ops:
        if not isinstance(op, dict):
            kind = _word(op) if not isinstance(op, list) else "array"
            raise BadRequest(f"json: cannot unmarshal {kind} into Go value of type jsonpatch.Operation")
    document: Any = {"": deep_copy(obj)}
    copied = 0
    try:
        for op in ops:
            copied += _apply(document, op, MOST_COPIED_BYTES - copied)
    except _Inapplicable as error:
        raise _inapplicable() from error
    patched = document.get("")
    if not isinstance(patched, dict):
        raise _inapplicable()
    return patched


def _inapplicable() -> Invalid:
    return Invalid("the server rejected our request due to an error in our request", details={})


def _apply(document: JsonObject, op: JsonObject, most_copied: int) -> int:
    """One operation; ``document`` holds the object under an empty key, so that the root has a parent too.

    Returns how many bytes were copied.
    """
    kind = op.get("op")
    if kind not in _KINDS:
        raise _Inapplicable(f"unexpected kind: {kind}")
    if kind in ("move", "copy"):
        origin = _steps(op.get("from"))
        if kind == "move" and _steps(op.get("path"))[: len(origin)] == origin:
            if _steps(op.get("path")) == origin:
                return 0
            raise _Inapplicable("cannot move a value into itself")
        value, copied = _get(document, origin), 0
        if kind == "move":
            _remove(document, origin)
        else:
            copied = len(msgspec.json.encode(value))
            if copied > most_copied:
                raise _Inapplicable("the copies are too large")
            value = deep_copy(value)
        _add(document, _steps(op.get("path")), value)
        return copied
    path = _steps(op.get("path"))
    if kind == "remove":
        _remove(document, path)
        return 0
    if "value" not in op and kind != "test":
        raise _Inapplicable(f"{kind} operation has no value")
    match kind:
        case "add" if len(path) == 1:
            raise _Inapplicable("the whole object can be replaced, and not be added")
        case "add":
            _add(document, path, deep_copy(op["value"]))
        case "replace":
            _replace(document, path, deep_copy(op["value"]))
        case _:
            _test(document, path, op.get("value"))
    return 0


def _steps(pointer: Any) -> list[str]:
    """The keys of a JSON pointer, under the document's wrapper."""
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise _Inapplicable(f"no JSON pointer: {pointer}")
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]


def _parent(document: Any, steps: list[str]) -> Any:
    for step in steps[:-1]:
        document = _child(document, step)
    return document


def _child(parent: Any, step: str) -> Any:
    if isinstance(parent, dict):
        if step not in parent:
            raise _Inapplicable(f"missing path: {step}")
        return parent[step]
    if isinstance(parent, list):
        return parent[_index(step, len(parent))]
    raise _Inapplicable(f"{step} is below a scalar")


def _index(step: str, length: int) -> int:
    """A position that exists; RFC 6901 allows no leading zeros."""
    digits = step.removeprefix("-")
    if (
        not digits.isascii()
        or not digits.isdigit()
        or (len(digits) > 1 and digits[0] == "0")
        or len(digits) > 9
    ):
        raise _Inapplicable(f"no index: {step}")
    index = int(step)
    if index < 0:
        index += length
    if not 0 <= index < length:
        raise _Inapplicable(f"index out of bounds: {step}")
    return index


def _get(document: Any, steps: list[str]) -> Any:
    return _child(_parent(document, steps), steps[-1])


def _add(document: Any, steps: list[str], value: Any) -> None:
    parent, last = _parent(document, steps), steps[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent) + 1), value)
    else:
        raise _Inapplicable(f"{last} is below a scalar")


def _replace(document: Any, steps: list[str], value: Any) -> None:
    parent, last = _parent(document, steps), steps[-1]
    _child(parent, last)
    parent[last if isinstance(parent, dict) else _index(last, len(parent))] = value


def _remove(document: Any, steps: list[str]) -> None:
    parent, last = _parent(document, steps), steps[-1]
    _child(parent, last)
    del parent[last if isinstance(parent, dict) else _index(last, len(parent))]


def _test(document: Any, steps: list[str], wanted: Any) -> None:
    try:
        found = _get(document, steps)
    except _Inapplicable:
        found = None
        if wanted is not None:
            raise
    if not equal(found, wanted):
        raise _Inapplicable("testing value failed")


def equal(left: Any, right: Any) -> bool:
    """JSON equality: 1 is not true, 1.0 is 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            equal(one, other) for one, other in zip(left, right, strict=True)
        )
    return bool(left == right)
