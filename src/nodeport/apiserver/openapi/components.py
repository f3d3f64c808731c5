"""Component schemas with their prose, in the flavours of OpenAPI versions 3 and 2."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import msgspec

from nodeport.api import schema
from nodeport.api.meta import JsonObject
from nodeport.api.resources import GroupVersionKind

REFERENCE = "#/components/schemas/"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
STATUS, DELETE_OPTIONS, WATCH_EVENT, PATCH = (
    META + kind for kind in ("Status", "DeleteOptions", "WatchEvent", "Patch")
)
_GZIP = 31
_ALTERNATIVES: dict[str, JsonObject] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
}  # fmt: skip
"""What version 3 can say and version 2 cannot: types that are written in two ways."""

Texts = dict[str, dict[str, str]]
"""``{definition: {field: text}}``; a definition's own text is under the empty field."""


def texts() -> Texts:
    """The prose of every definition. Not kept: documents, which are, hold it too."""
    from importlib import resources as package_files  # not cheap to import, and needed once

    data = (package_files.files("nodeport.api") / "data" / "descriptions.json.gz").read_bytes()
    return msgspec.json.decode(zlib.decompress(data, _GZIP), type=Texts)


def reference(name: str) -> JsonObject:
    return {"$ref": f"{REFERENCE}{name}"}


@cache
def _names_by_kind() -> dict[GroupVersionKind, str]:
    found: dict[GroupVersionKind, str] = {}
    for name, definition in schema.definitions().items():
        for kind in definition.get("x-kubernetes-group-version-kind") or ():
            found.setdefault(GroupVersionKind(kind["group"], kind["version"], kind["kind"]), name)
    return found


def name_of(gvk: GroupVersionKind) -> str | None:
    """The definition of a kind; None where there is none."""
    return _names_by_kind().get(gvk)


def reachable(roots: Iterable[str]) -> list[str]:
    """``roots`` and all definitions that they refer to, in order of name."""
    definitions = schema.definitions()
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found and name in definitions:
            found.add(name)
            waiting.extend(_references(definitions[name]))
    return sorted(found)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(REFERENCE)
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def components(roots: Iterable[str], prose: Texts) -> JsonObject:
    """The schemas of ``roots`` and all that they need, as version 3 writes them."""
    return {name: _component(name, prose.get(name, {})) for name in reachable(roots)}


def _component(name: str, words: dict[str, str]) -> JsonObject:
    made = definition(name, words, _described)
    if name in _ALTERNATIVES:
        made.pop("type", None)
        made.update(_ALTERNATIVES[name])
    return made


def definition(name: str, words: dict[str, str], describe: Any) -> JsonObject:
    """The definition ``name`` with its texts; ``describe(schema, text)`` says how a field carries its own."""
    found = schema.definitions()[name]
    made: JsonObject = {"description": words[""]} if "" in words else {}
    made.update(found)
    if "properties" in found:
        made["properties"] = {
            field: describe(sub, words.get(field, "")) for field, sub in found["properties"].items()
        }
    return made


def _described(sub: JsonObject, text: str) -> JsonObject:
    """Nothing may stand beside a reference in version 3: it is wrapped."""
    words = {"description": text} if text else {}
    if "$ref" not in sub:
        return {**words, **sub}
    rest = {key: value for key, value in sub.items() if key != "$ref"}
    if not words and not rest:
        return sub
    return {**words, "allOf": [{"$ref": sub["$ref"]}], **rest}
