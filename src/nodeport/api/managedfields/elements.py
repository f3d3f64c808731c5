"""One step of a field path, as ``fieldsV1`` spells it.

``f:name`` is a field or map key, ``k:{"port":80,"protocol":"TCP"}`` the list item with these keys, ``v:"x"`` the item
of a set, ``i:0`` an index. ``.`` is no step: it says that the node itself is owned. The spelled form is used
throughout; these functions make it, read it, order it and print it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

SELF = "."
"""Marks a node that is owned beside its children."""

_PLAIN = re.compile(r"[A-Za-z0-9 _./:-]*\Z")
_ESCAPED = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


class BadElement(ValueError):
    """A path element that cannot be read."""


def literal(value: Any) -> str:
    """A value as JSON, escaped the way Go's encoder escapes it for HTML."""
    if value.__class__ is str and _PLAIN.match(value):
        return f'"{value}"'
    if value.__class__ is int:
        return str(value)
    return escaped(json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True))


def escaped(text: str) -> str:
    """JSON text as Go writes it: fit to stand in HTML."""
    return text.translate(_ESCAPED)


def key_element(pairs: Iterable[tuple[str, Any]]) -> str:
    """``k:{…}`` of (key, value) pairs that are sorted by key."""
    return f"k:{{{','.join([f'{literal(key)}:{literal(value)}' for key, value in pairs])}}}"


def value_element(value: Any) -> str:
    return f"v:{literal(value)}"


def canonical(element: str) -> str | None:
    """The one spelling of an element that a client wrote; None for a kind of element that we do not know.

    BadElement when it is malformed.
    """
    kind, content = element[:2], element[2:]
    match kind:
        case "f:":
            return element
        case "k:":
            pairs = _json(element, content)
            if not isinstance(pairs, dict):
                raise BadElement(f"no object of keys: {element}")
            return key_element(sorted(pairs.items()))
        case "v:":
            return value_element(_json(element, content))
        case "i:":
            try:
                return f"i:{int(content)}"
            except ValueError:
                raise BadElement(f"no index: {element}") from None
    if len(element) < 2:
        raise BadElement("key must be 2 characters long:")
    if element[1] != ":":
        raise BadElement(f"missing colon: {element}")
    return None


def _json(element: str, content: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise BadElement(f"no JSON in path element: {element}") from None


def in_order(elements: Iterable[str]) -> list[str]:
    """Elements as they are written: ``.``, fields by name, then keys, values and indexes by what they hold."""
    found = sorted(elements)
    if len(found) < 2 or found[-1][0] == "f":
        return found
    return sorted(found, key=_rank)


def _rank(element: str) -> tuple[Any, ...]:
    match element[:2]:
        case "f:":
            return (1, element)
        case "k:":
            pairs = json.loads(element[2:])
            return (2, [part for key in sorted(pairs) for part in (key, _value_rank(pairs[key]))])
        case "v:":
            return (3, _value_rank(json.loads(element[2:])))
        case "i:":
            return (4, int(element[2:]))
    return (0,)


def _value_rank(value: Any) -> tuple[Any, ...]:
    """Numbers before strings before booleans before null, each among themselves by value."""
    match value:
        case bool():
            return (2, value)
        case int() | float():
            return (0, value)
        case str():
            return (1, value)
        case None:
            return (5,)
    return (3, literal(value))


def shown(element: str) -> str:
    """The element in a path for people: ``.spec``, ``[port=80,protocol="TCP"]``, ``[="x"]``, ``[0]``."""
    content = element[2:]
    match element[:2]:
        case "k:":
            pairs = sorted(json.loads(content).items())
            return f"[{','.join(f'{key}={_shown_value(value)}' for key, value in pairs)}]"
        case "v:":
            return f"[={_shown_value(json.loads(content))}]"
        case "i:":
            return f"[{content}]"
    return f".{content}"


def _shown_value(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
