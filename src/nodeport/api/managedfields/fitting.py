"""Whether an applied configuration fits its schema, with the words of a Kubernetes server when it does not.

Only applied configurations are held to this: they must name list items unmistakably and may hold no unknown field.
"""

from __future__ import annotations

import json
from typing import Any

from nodeport.api.managedfields.elements import shown
from nodeport.api.managedfields.types import ListOf, MapOf, Struct, Type, Untyped


def faults(kind: Type, value: Any) -> list[str]:
    """What is wrong, each with its path: ``.spec.foo: field not declared in schema``."""
    found: list[str] = []
    _check(kind, value, "", found)
    return found


def text_of(found: list[str]) -> str:
    """Several faults as one text."""
    return found[0] if len(found) == 1 else "\n  ".join(["errors:", *found])


def _fault(path: str, words: str, found: list[str]) -> None:
    found.append(f"{path}: {words}" if path else words)


def _check(kind: Type, value: Any, path: str, found: list[str]) -> None:
    if value is None:
        return
    match kind:
        case Struct() | MapOf():
            _check_map(kind, value, path, found)
        case ListOf():
            _check_items(kind, value, path, found)
        case Untyped():
            return
        case _:
            words = _scalar_fault(kind.kind, value)
            if words:
                _fault(path, words, found)


def _check_map(kind: Struct | MapOf, value: Any, path: str, found: list[str]) -> None:
    if not isinstance(value, dict):
        _fault(path, f"expected map, got &{{{_go(value)}}}", found)
        return
    for name, item in value.items():
        below = f"{path}.{name}"
        if isinstance(kind, MapOf):
            _check(kind.item, item, below, found)
        elif name in kind.fields:
            _check(kind.fields[name][1], item, below, found)
        else:
            _fault(below, "field not declared in schema", found)


def _check_items(kind: ListOf, value: Any, path: str, found: list[str]) -> None:
    if not isinstance(value, list):
        _fault(path, f"expected list, got &{{{_go(value)}}}", found)
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        element = kind.element(item)
        if element is None:
            _fault(path, f"element {index}: {_no_name(kind, item)}", found)
            return
        if element in seen:
            _fault(path, f"duplicate entries for key {shown(element)}", found)
        seen.add(element)
        _check(kind.item, item, path + shown(element), found)


def _no_name(kind: ListOf, item: Any) -> str:
    if not kind.keys:
        if isinstance(item, dict):
            return "associative list without keys has an element that's a map type"
        if isinstance(item, list):
            return "not supported: associative list with lists as elements"
        return "associative list without keys has an element that's an explicit null"
    if item is None:
        return "associative list with keys may not have a null element"
    if not isinstance(item, dict):
        return "associative list with keys may not have non-map elements"
    keys = " ".join(json.dumps(key) for key in kind.keys)
    return (
        f"associative list with keys has an element that omits all key fields [{keys}] "
        "(and doesn't have default values for any key fields)"
    )


def _scalar_fault(kind: str, value: Any) -> str:
    """Why a value is none of a scalar or atomic type; empty when it is one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "string" if not isinstance(value, str):
            return f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
        case "boolean" if not isinstance(value, bool):
            return f"expected boolean, got &{{{_go(value)}}}"
        case "integer" | "number" if not is_number:
            return f"expected numeric (int or float), got {_go_type(value)}"
        case "scalar" if isinstance(value, dict | list):
            return f"expected any scalar, got &{{{_go(value)}}}"
        case "map" if not isinstance(value, dict):
            return f"expected map, got &{{{_go(value)}}}"
        case "list" if not isinstance(value, list):
            return f"expected list, got &{{{_go(value)}}}"
    return ""


def _go(value: Any) -> str:
    """The value as Go's ``%v`` prints it."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return f"map[{' '.join(f'{key}:{_go(value[key])}' for key in sorted(value))}]"
        case list():
            return f"[{' '.join(map(_go, value))}]"
        case None:
            return "<nil>"
    return str(value)


def _go_syntax(value: Any) -> str:
    """The value as Go's ``%#v`` prints it."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case dict():
            pairs = ", ".join(f"{json.dumps(key)}:{_go_syntax(value[key])}" for key in sorted(value))
            return f"map[string]interface {{}}{{{pairs}}}"
        case list():
            return f"[]interface {{}}{{{', '.join(map(_go_syntax, value))}}}"
        case None:
            return "interface {}(nil)"
    return _go(value)


def _go_type(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case dict():
            return "map[string]interface {}"
        case list():
            return "[]interface {}"
    return "int64" if isinstance(value, int) else "float64"
