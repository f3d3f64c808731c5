"""OpenAPI v3 documents, one a group version, and a tiny v2.

kubectl looks in them for two things: a PATCH operation for its kind with the parameters ``fieldValidation`` and
``dryRun`` (then validation is the server's), and schemas for ``explain`` and for strategic merge patches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from aiohttp import web

from nodeport import KUBERNETES_VERSION
from nodeport.api import schema
from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.apiserver.encoding import encode

TITLE = "nodeport"
VERSION = KUBERNETES_VERSION
PATCH_TYPES = (
    "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
)  # fmt: skip
_REFERENCE = "#/components/schemas/"
_V2_ASKED = "proto-openapi.spec.v2"
_V2_ANSWERED = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


class OpenApi:
    """Documents are made when first asked for and kept as bytes."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._rows = tuple(resources)
        self._groups = {row.base_path.strip("/"): row.api_version for row in self._rows}
        self._bodies: dict[str, bytes] = {}

    def knows(self, path: str) -> bool:
        if path in ("/openapi/v2", "/openapi/v3"):
            return True
        return path.startswith("/openapi/v3/") and path.removeprefix("/openapi/v3/") in self._groups

    def answer(self, path: str, accept: str = "") -> web.Response:
        """``accept`` matters for v2 only: clients that parse it ask for protobuf and take nothing else."""
        if path == "/openapi/v2":
            if _V2_ASKED in accept:
                return web.Response(body=_version_two_protobuf(), headers={"Content-Type": _V2_ANSWERED})
            info = {"title": TITLE, "version": VERSION}
            found: JsonObject = {"swagger": "2.0", "info": info, "paths": {}, "definitions": {}}
            return web.Response(body=encode(found), content_type="application/json")
        if path == "/openapi/v3":
            return web.Response(body=self._index(), content_type="application/json")
        body = self._document(path.removeprefix("/openapi/v3/"))
        return web.Response(
            body=body, content_type="application/json", headers={"ETag": f'"{_digest(body)}"'}
        )

    def _index(self) -> bytes:
        paths = {
            group: {"serverRelativeURL": f"/openapi/v3/{group}?hash={_digest(self._document(group))}"}
            for group in self._groups
        }
        return encode({"paths": paths})

    def _document(self, group: str) -> bytes:
        found = self._bodies.get(group)
        if found is None:
            found = self._bodies[group] = encode(self._make(group))
        return found

    def _make(self, group: str) -> JsonObject:
        rows = [row for row in self._rows if row.base_path.strip("/") == group]
        paths: JsonObject = {}
        for row in rows:
            item, collection = _paths(row)
            paths[collection] = _collection_operations(row)
            paths[item] = _item_operations(row)
        return {
            "openapi": "3.0.0",
            "info": {"title": TITLE, "version": VERSION},
            "paths": paths,
            "components": {"schemas": reachable(row.schema for row in rows)},
        }


def _version_two_protobuf() -> bytes:
    """A version 2 document without paths, in protobuf: kubectl reads it before it applies a ``kind: List``.

    Fields of ``openapi.v2.Document``: 1 swagger, 2 info {1 title, 2 version}. Every text is shorter than 128 bytes, so
    a length is one byte.
    """

    def text(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    info = text(1, TITLE.encode()) + text(2, VERSION.encode())
    return text(1, b"2.0") + text(2, info)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest().upper()


def _paths(row: Resource) -> tuple[str, str]:
    namespace = "{namespace}" if row.namespaced else ""
    return row.path(namespace, "{name}"), row.path(namespace)


def reachable(roots: Iterable[str]) -> JsonObject:
    """The schemas of ``roots`` and all that they refer to."""
    definitions = schema.definitions()
    found: JsonObject = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found or name not in definitions:
            continue
        found[name] = definitions[name]
        waiting.extend(_references(definitions[name]))
    return dict(sorted(found.items()))


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(_REFERENCE)
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _parameter(name: str, where: str, kind: str = "string") -> JsonObject:
    found: JsonObject = {"name": name, "in": where, "schema": {"type": kind, "uniqueItems": True}}
    if where == "path":
        found["required"] = True
    return found


def _path_parameters(row: Resource, *, item: bool) -> list[JsonObject]:
    found = [_parameter("name", "path")] if item else []
    if row.namespaced:
        found.append(_parameter("namespace", "path"))
    return [*found, _parameter("pretty", "query")]


def _write_parameters(*, force: bool = False) -> list[JsonObject]:
    found = [_parameter(name, "query") for name in ("dryRun", "fieldManager", "fieldValidation")]
    return [*found, _parameter("force", "query", "boolean")] if force else found


def _operation(row: Resource, verb: str, action: str, **more: Any) -> JsonObject:
    scope = "Namespaced" if row.namespaced else ""
    group = row.group.split(".")[0].capitalize() or "Core"
    return {
        "operationId": f"{verb}{group}{row.version.capitalize()}{scope}{row.kind}",
        "tags": [f"{group.lower()}_{row.version}"],
        "responses": {
            "200": {"description": "OK", "content": {"application/json": {"schema": _ref(row)}}},
            "401": {"description": "Unauthorized"},
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": row.group, "version": row.version, "kind": row.kind},
        **more,
    }


def _ref(row: Resource) -> JsonObject:
    return {"$ref": f"{_REFERENCE}{row.schema}"}


def _body(row: Resource) -> JsonObject:
    return {"required": True, "content": {"*/*": {"schema": _ref(row)}}}


def _collection_operations(row: Resource) -> JsonObject:
    names = ("labelSelector", "fieldSelector", "continue", "resourceVersion")
    selectors = [_parameter(name, "query") for name in names]
    return {
        "parameters": _path_parameters(row, item=False),
        "get": _operation(
            row, "list", "list", parameters=[*selectors, _parameter("limit", "query", "integer")]
        ),
        "post": _operation(row, "create", "post", parameters=_write_parameters(), requestBody=_body(row)),
    }


def _item_operations(row: Resource) -> JsonObject:
    patch_body = {"required": True, "content": {kind: {"schema": {"type": "object"}} for kind in PATCH_TYPES}}
    return {
        "parameters": _path_parameters(row, item=True),
        "get": _operation(row, "read", "get"),
        "put": _operation(row, "replace", "put", parameters=_write_parameters(), requestBody=_body(row)),
        "patch": _operation(
            row, "patch", "patch", parameters=_write_parameters(force=True), requestBody=patch_body
        ),
        "delete": _operation(row, "delete", "delete", parameters=[_parameter("dryRun", "query")]),
    }
