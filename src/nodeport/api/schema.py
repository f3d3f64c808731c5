"""What fields objects have: decoding bodies, finding unknown fields and wrong types, dropping what Go drops.

The facts come from ``data/schema.json`` (OpenAPI v3 component schemas without prose; made by ``tools/make_schema.py``)
and ``data/gotypes.json`` (which zero values Go's encoder omits, and the named Go types that error texts mention; made
by ``tools/make_protobuf.py``, as is ``data/emptystructs.json``). They are read on first use and compiled, type by type.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from nodeport.api.decoding import decode_json, decode_yaml
from nodeport.api.meta import JsonObject
from nodeport.api.walkers import Compiler, Walker

__all__ = [
    "FieldReport", "check", "decode_json", "decode_yaml", "definitions", "empty_structs", "field_schema", "prune",
    "resolve", "schema_of",
]  # fmt: skip

_REFERENCE = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class FieldReport:
    """Unknown fields as dotted paths in document order, and the first type error in Go's words.

    ``conversion_error``: the same in the words for objects that are not decoded from a text (strategic merges).
    """

    unknown: tuple[str, ...] = ()
    type_error: str | None = None
    conversion_error: str | None = None


_CLEAN = FieldReport()


def _data(name: str) -> Any:
    from importlib import resources as package_files  # not cheap to import, and needed once

    return msgspec.json.decode((package_files.files("nodeport.api") / "data" / name).read_bytes())


@cache
def definitions() -> dict[str, Any]:
    """OpenAPI v3 component schemas by definition name. Shared: do not change it."""
    found: dict[str, Any] = _data("schema.json")
    return found


@cache
def _go_types() -> dict[str, Any]:
    found: dict[str, Any] = _data("gotypes.json")
    return found


@cache
def empty_structs() -> dict[str, Any]:
    """What Go prints of a struct that nobody filled, by definition; ``{}`` is an empty struct. Do not change it."""
    found: dict[str, Any] = _data("emptystructs.json")
    return found


def schema_of(name: str) -> JsonObject:
    """The definition called ``name`` (``io.k8s.api.core.v1.Service``); KeyError when there is none."""
    found: JsonObject = definitions()[name]
    return found


def resolve(schema: JsonObject) -> JsonObject:
    """The schema that a ``$ref`` points at, or ``schema`` itself."""
    reference = schema.get("$ref")
    return schema_of(reference.removeprefix(_REFERENCE)) if reference else schema


def field_schema(schema: JsonObject, field: str) -> JsonObject | None:
    """The schema of an object's field or map entry with the field's own extensions (merge key), not resolved."""
    target = resolve(schema)
    found: JsonObject | None = (target.get("properties") or {}).get(field) or target.get(
        "additionalProperties"
    )
    return found


@cache
def _compiler() -> Compiler:
    return Compiler(definitions(), _go_types())


def _walker(name: str) -> Walker:
    return _compiler().walker(name)


def check(resource_schema: str, obj: JsonObject) -> FieldReport:
    """Unknown fields and the first type error of ``obj`` read as the definition ``resource_schema``.

    Rules: the decoder of the Kubernetes API (case-sensitive names; the first type error wins; null fits everything).
    """
    walker = _walker(resource_schema)
    if walker.fits(obj):
        return _CLEAN
    return FieldReport(*walker.report(obj))


def prune(schema: str, obj: JsonObject) -> None:
    """Drop in place what a decode into Go structs and back would lose.

    That is: unknown fields, null fields, and empty values (``""``, 0, false, ``[]``, ``{}``) of fields that Go omits
    when empty; nulls inside lists and maps become the element type's zero value. ``obj`` must have passed ``check``
    for types.
    """
    _walker(schema).prune(obj)
