"""Schema definitions compiled for walking objects field by field, and the two walks that every write makes.

``whole`` is the set of a value that appears or disappears: the node itself and all below it. ``compare`` is what two
values of one type differ in. ``shape`` is all of a new value that its set depends on: values of one shape have one set.
A struct knows what Go prints of it when nobody filled it (``data/emptystructs.json``): a
field that is missing counts as that, because a client of a real server would have seen it there.

Rules: atomic maps, lists and structs are one field; associative lists are walked by their keys
(``x-kubernetes-list-type``, ``x-kubernetes-list-map-keys``, ``x-kubernetes-map-type``); a key that is missing has its
default.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

from nodeport.api import schema
from nodeport.api.managedfields.elements import SELF, in_order, key_element, literal, value_element
from nodeport.api.managedfields.sets import LEAF, Tree

Differences = tuple[Tree | None, Tree | None, Tree | None]
"""(removed, modified, added) at a node; None: nothing."""

_REFERENCE = "#/components/schemas/"
_MISSING: Any = object()
_NOTHING: Differences = (None, None, None)
_CHANGED: Differences = (None, LEAF, None)
_KEY_DEFAULTS = {"protocol": "TCP"}
"""Defaults of list keys that the schema names and our copy of it leaves out."""
_UNTYPED = ("io.k8s.apimachinery.pkg.runtime.RawExtension", "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1")


class Type:
    """What is one field as a whole: scalars, and everything atomic."""

    __slots__ = ("kind", "name")

    def __init__(self, kind: str = "", name: str = "") -> None:
        self.kind = kind
        """For scalars ``string``, ``integer``, ``number``, ``boolean`` or ``scalar``; ``list``, ``map`` when atomic."""
        self.name = name

    def whole(self, value: Any) -> Tree:
        return LEAF

    def compare(self, old: Any, new: Any) -> Differences:
        """``old`` and ``new`` are not equal."""
        return _CHANGED

    def shape(self, value: Any) -> Hashable:
        """What is printed of empty structs is told apart, because it counts as unchanged; other values are alike."""
        return None if value and value != "0" else repr(value)


class Struct(Type):
    """``fields``: name -> (path element, type). ``empty``: what is printed of an empty one."""

    __slots__ = ("empty", "fields")

    def __init__(self, name: str) -> None:
        super().__init__("map", name)
        self.fields: dict[str, tuple[str, Type]] = {}
        self.empty: dict[str, Any] = {}

    def whole(self, value: Any) -> Tree:
        if not self.empty.keys() <= (value or {}).keys():
            value = {**self.empty, **(value or {})}
        if not value:
            return LEAF
        made: Tree = {SELF: LEAF}
        fields = self.fields
        for name in sorted(value):
            if name in fields:
                element, kind = fields[name]
                made[element] = kind.whole(value[name])
        return made

    def compare(self, old: Any, new: Any) -> Differences:
        old, new = old or {}, new or {}
        removed: Tree = {}
        modified: Tree = {}
        added: Tree = {}
        empty, fields = self.empty, self.fields
        for name in sorted({**old, **new}):
            before = old.get(name, _MISSING)
            after = new.get(name, _MISSING)
            if before == after or name not in fields:
                continue
            if before is _MISSING:
                before = empty.get(name, _MISSING)
            elif after is _MISSING:
                after = empty.get(name, _MISSING)
            element, kind = fields[name]
            _note(element, kind, before, after, (removed, modified, added))
        if removed or modified or added:
            return removed or None, modified or None, added or None
        return _NOTHING

    def shape(self, value: Any) -> Hashable:
        fields = self.fields
        return (
            tuple([(name, fields[name][1].shape(item)) for name, item in value.items() if name in fields])
            if value
            else repr(value)
        )


class MapOf(Type):
    """A map whose entries are fields of their own."""

    __slots__ = ("item",)

    def __init__(self, item: Type) -> None:
        super().__init__("map")
        self.item = item

    def whole(self, value: Any) -> Tree:
        if not value:
            return LEAF
        item = self.item
        made: Tree = {SELF: LEAF}
        for name in sorted(value):
            made[f"f:{name}"] = item.whole(value[name])
        return made

    def compare(self, old: Any, new: Any) -> Differences:
        if not old and not new:
            return _CHANGED
        old, new = old or {}, new or {}
        found: tuple[Tree, Tree, Tree] = ({}, {}, {})
        for name in sorted({**old, **new}):
            _note(f"f:{name}", self.item, old.get(name, _MISSING), new.get(name, _MISSING), found)
        removed, modified, added = found
        return removed or None, modified or None, added or None

    def shape(self, value: Any) -> Hashable:
        shape = self.item.shape
        return tuple([(name, shape(item)) for name, item in value.items()]) if value else repr(value)


class ListOf(Type):
    """An associative list: ``element`` names an item by its keys or value; None for one that has no name."""

    __slots__ = ("element", "item", "keys")

    def __init__(self, item: Type, keys: tuple[str, ...], element: Callable[[Any], str | None]) -> None:
        super().__init__("list")
        self.item = item
        self.keys = keys
        self.element = element

    def whole(self, value: Any) -> Tree:
        if not value:
            return LEAF
        made: Tree = {SELF: LEAF}
        grouped = self.grouped(value)
        for element in in_order(grouped):
            items = grouped[element]
            made[element] = LEAF if len(items) > 1 else self.item.whole(items[0])
        return made

    def grouped(self, value: Any) -> dict[str, list[Any]]:
        """Element -> the items of that name: more than one is allowed in what was stored, not in what is applied."""
        made: dict[str, list[Any]] = {}
        for item in value or ():
            element = self.element(item)
            if element is not None:
                made.setdefault(element, []).append(item)
        return made

    def compare(self, old: Any, new: Any) -> Differences:
        if not old and not new:
            return _CHANGED
        before, after = self.grouped(old), self.grouped(new)
        found: tuple[Tree, Tree, Tree] = ({}, {}, {})
        for element in in_order({**before, **after}):
            ours, theirs = before.get(element, []), after.get(element, [])
            if len(ours) < 2 and len(theirs) < 2:
                _note(
                    element,
                    self.item,
                    ours[0] if ours else _MISSING,
                    theirs[0] if theirs else _MISSING,
                    found,
                )
            elif ours != theirs:
                _note_repeated(element, self.item, ours, theirs, found)
        removed, modified, added = found
        return removed or None, modified or None, added or None

    def shape(self, value: Any) -> Hashable:
        element, shape = self.element, self.item.shape
        return tuple([(element(item), shape(item)) for item in value]) if value else repr(value)


class Untyped(Type):
    """A value whose type shows by looking: objects are maps, lists and scalars are one field."""

    __slots__ = ()

    def whole(self, value: Any) -> Tree:
        return _untyped_map().whole(value) if isinstance(value, dict) else LEAF

    def compare(self, old: Any, new: Any) -> Differences:
        if isinstance(old or {}, dict) and isinstance(new or {}, dict):
            return _untyped_map().compare(old, new)
        removed = None if isinstance(new, dict) or not isinstance(old, dict) else self.whole(old)
        return removed, LEAF, self.whole(new) if isinstance(new, dict) else None

    def shape(self, value: Any) -> Hashable:
        return _untyped_map().shape(value) if isinstance(value, dict) else super().shape(value)


@cache
def _untyped_map() -> MapOf:
    return MapOf(Untyped())


def _note(element: str, kind: Type, before: Any, after: Any, found: tuple[Tree, Tree, Tree]) -> None:
    """Record how one field differs, if it does."""
    if before is after or before == after:
        return
    removed, modified, added = found
    if before is _MISSING:
        added[element] = kind.whole(after)
    elif after is _MISSING:
        removed[element] = kind.whole(before)
    else:
        less, other, more = kind.compare(before, after)
        if less is not None:
            removed[element] = less
        if other is not None:
            modified[element] = other
        if more is not None:
            added[element] = more


def _note_repeated(
    element: str, kind: Type, before: list[Any], after: list[Any], found: tuple[Tree, Tree, Tree]
) -> None:
    """Items that share a name, before or after, are one field."""
    removed, modified, added = found
    if len(before) > 1 and len(after) > 1:
        modified[element] = LEAF
        return
    if before:
        removed[element] = LEAF if len(before) > 1 else kind.whole(before[0])
    if after:
        added[element] = LEAF if len(after) > 1 else kind.whole(after[0])


class Compiler:
    """Makes each type once; recursive definitions are tied through the named struct."""

    def __init__(self, definitions: dict[str, Any], empty_structs: dict[str, Any]) -> None:
        self._definitions = definitions
        self._empty_structs = empty_structs
        self._named: dict[str, Type] = {}
        self._made: dict[str, Type] = {}
        self._lock = threading.RLock()

    def type(self, name: str) -> Type:
        """The type of the definition ``name``, with all that it leads to; KeyError when there is none.

        Large objects are looked at by another thread, which must see none that is half made.
        """
        found = self._made.get(name)
        if found is None:
            with self._lock:
                found = self.named(name)
                self._made |= self._named
        return found

    def named(self, name: str) -> Type:
        """The type of the definition ``name``, which may not be finished yet."""
        found = self._named.get(name)
        if found is None:
            found = self._make_named(name, self._definitions[name])
        return found

    def _make_named(self, name: str, definition: dict[str, Any]) -> Type:
        if name in _UNTYPED:
            made: Type = Untyped("untyped", name)
        elif definition.get("x-kubernetes-map-type") == "atomic":
            made = Type("map", name)
        elif "properties" in definition:
            made = self._named[name] = struct = Struct(name)
            self._fill(struct, definition)
        elif definition.get("format") in ("int-or-string", "quantity", "date-time"):
            made = Type("scalar", name)
        else:
            made = self.of(definition)
        self._named[name] = made
        return made

    def _fill(self, struct: Struct, definition: dict[str, Any]) -> None:
        for name, field in definition["properties"].items():
            struct.fields[name] = (f"f:{name}", self.of(field))
        for name, value in self._empty_structs.get(struct.name, {}).items():
            if name in struct.fields:
                struct.empty[name] = value

    def of(self, definition: dict[str, Any]) -> Type:
        """The type of a field's schema: a reference may be marked atomic where it is used."""
        atomic = definition.get("x-kubernetes-map-type") == "atomic"
        if "$ref" in definition:
            return Type("map") if atomic else self.named(definition["$ref"].removeprefix(_REFERENCE))
        kind = definition.get("type")
        if kind == "array":
            return self._list(definition)
        if kind == "object" or "properties" in definition:
            return Type("map") if atomic else self._map(definition)
        if kind is None:
            return Untyped("untyped")
        if definition.get("format") in ("int-or-string", "quantity", "date-time"):
            return Type("scalar")
        return Type(kind)

    def _map(self, definition: dict[str, Any]) -> Type:
        if "properties" in definition:
            struct = Struct("")
            self._fill(struct, definition)
            return struct
        items = definition.get("additionalProperties")
        return MapOf(self.of(items)) if isinstance(items, dict) else Untyped("untyped")

    def _list(self, definition: dict[str, Any]) -> Type:
        item = self.of(definition["items"])
        match definition.get("x-kubernetes-list-type"):
            case "map":
                keys = tuple(sorted(definition["x-kubernetes-list-map-keys"]))
                return ListOf(item, keys, _by_keys(keys, self._defaults(definition["items"], keys)))
            case "set":
                return ListOf(item, (), _by_value)
        return Type("list")

    def _defaults(self, items: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
        if "$ref" in items:
            items = self._definitions[items["$ref"].removeprefix(_REFERENCE)]
        fields = items.get("properties") or {}
        return {
            key: fields.get(key, {}).get("default", _KEY_DEFAULTS.get(key))
            for key in keys
            if "default" in fields.get(key, {}) or key in _KEY_DEFAULTS
        }


def _by_keys(keys: tuple[str, ...], defaults: dict[str, Any]) -> Callable[[Any], str | None]:
    def element(item: Any) -> str | None:
        if not isinstance(item, dict):
            return None
        pairs = [
            (key, item[key] if key in item else defaults[key])
            for key in keys
            if key in item or key in defaults
        ]
        return key_element(pairs) if pairs else None

    def single(item: Any) -> str | None:
        if not isinstance(item, dict) or key not in item:
            return None
        return f"{head}{literal(item[key])}}}"

    key = keys[0]
    if len(keys) == 1 and not defaults:
        head = f"k:{{{literal(key)}:"
        return single
    return element


def _by_value(item: Any) -> str | None:
    return None if item is None or isinstance(item, dict | list) else value_element(item)


@cache
def _compiler() -> Compiler:
    return Compiler(schema.definitions(), schema.empty_structs())


def type_of(name: str) -> Type:
    """The compiled definition ``name`` (``io.k8s.api.core.v1.Service``)."""
    return _compiler().type(name)
