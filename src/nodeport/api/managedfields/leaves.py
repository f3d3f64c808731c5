"""The set of fields that an applied configuration names, and sets completed by the structs on the way to them.

Rules: structured-merge-diff. A list item is named with its fields, a map entry by its key, an empty or null object by
itself; structs, maps and lists as such are named by nobody.
"""

from __future__ import annotations

from typing import Any

from nodeport.api.managedfields.elements import SELF
from nodeport.api.managedfields.sets import EMPTY, LEAF, Tree, with_self
from nodeport.api.managedfields.types import ListOf, MapOf, Struct, Type, Untyped


def leaves(kind: Type, value: Any) -> Tree:
    """The fields that the object ``value`` of type ``kind`` names."""
    return _below(kind, value) or EMPTY


def _below(kind: Type, value: Any) -> Tree | None:
    """The node of a value; None when nothing at it or below it is named."""
    match kind:
        case Struct():
            return _entries(value, kind)
        case MapOf():
            return _entries(value, kind)
        case ListOf():
            return _items(value, kind)
        case Untyped() if isinstance(value, dict):
            return _entries(value, MapOf(kind))
    return LEAF


def _entries(value: Any, kind: Struct | MapOf) -> Tree | None:
    made: Tree = {}
    for name, item in (value or {}).items():
        if isinstance(kind, Struct):
            if name not in kind.fields:
                continue
            element, below = kind.fields[name]
            named = item is None or item == {}
        else:
            element, below, named = f"f:{name}", kind.item, True
        node = _below(below, item)
        if node is None:
            node = LEAF if named else None
        elif named:
            node = with_self(node)
        if node is not None:
            made[element] = node
    return made or None


def _items(value: Any, kind: ListOf) -> Tree | None:
    made: Tree = {}
    for element, items in kind.grouped(value).items():
        node = None if len(items) > 1 else _below(kind.item, items[0])
        made[element] = LEAF if node is None else with_self(node)
    return made or None


def with_structs(kind: Type, tree: Tree) -> Tree:
    """The set with every struct field above a member made a member, as far as the schema names it.

    Removing is by members: so a struct goes when everything in it goes.
    """
    return {element: _with_structs(kind, element, node) for element, node in tree.items()}


def _with_structs(kind: Type, element: str, node: Tree) -> Tree:
    if not node or element == SELF:
        return node
    named = isinstance(kind, Struct) and element[2:] in kind.fields and element.startswith("f:")
    below = with_structs(_type_below(kind, element), node)
    return with_self(below) if named else below


def _type_below(kind: Type, element: str) -> Type:
    match kind:
        case Struct() if element[2:] in kind.fields:
            return kind.fields[element[2:]][1]
        case MapOf() | ListOf():
            return kind.item
        case Untyped():
            return kind
    return Type()
