"""Makes OpenAPI documents when they are first asked for, keeps them compressed, and serves them.

kubectl asks for the index before every ``create`` and ``apply``; so the hashes in it are made of what the documents are
made of, not of the documents.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Iterable

from aiohttp import web

from nodeport import KUBERNETES_VERSION, __version__
from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.apiserver.encoding import encode
from nodeport.apiserver.openapi import gnostic
from nodeport.apiserver.openapi.components import (
    DELETE_OPTIONS,
    META,
    PATCH,
    STATUS,
    WATCH_EVENT,
    components,
    name_of,
    reachable,
    reference,
    texts,
)
from nodeport.apiserver.openapi.paths import PRODUCED, paths_of
from nodeport.apiserver.openapi.swagger import swagger

INFO: JsonObject = {"title": "nodeport", "version": KUBERNETES_VERSION}
V2, V3 = "/openapi/v2", "/openapi/v3"
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_V2_ASKED = "proto-openapi.spec.v2"
_JSON = "application/json"
_COMPRESSION = 6
_FOR_A_YEAR = {"Cache-Control": "public, immutable", "Expires": "Thu, 31 Dec 2099 23:59:59 GMT"}
_EVERYWHERE = (STATUS, DELETE_OPTIONS, WATCH_EVENT, PATCH)


class OpenApi:
    """The documents of one resource table."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._rows = tuple(resources)
        self._makers: dict[str, Callable[[], JsonObject]] = {
            row.base_path.strip("/"): _of(self._group_document, row.base_path) for row in self._rows
        }
        self._makers |= {path: _of(_discovery_document, path, schema) for path, schema in self._discovery()}
        self._kept: dict[str, bytes] = {}
        self._making = asyncio.Lock()
        digest = hashlib.sha256(repr((__version__, self._rows)).encode())
        self._hash = digest.hexdigest().upper()

    def _discovery(self) -> Iterable[tuple[str, str]]:
        yield "api", f"{META}APIVersions"
        yield "apis", f"{META}APIGroupList"
        yield "version", "io.k8s.apimachinery.pkg.version.Info"
        for group in {row.group: None for row in self._rows if row.group}:
            yield f"apis/{group}", f"{META}APIGroup"

    def knows(self, path: str) -> bool:
        if path in (V2, V3):
            return True
        return path.startswith(f"{V3}/") and path.removeprefix(f"{V3}/") in self._makers

    async def answer(self, request: web.BaseRequest, path: str, asked_hash: str = "") -> web.Response:
        """``path`` is one that is known; ``asked_hash`` is the query's, with which an answer may be kept for ever."""
        etag = f'"{self._hash}"'
        headers = {"ETag": etag, "Vary": "Accept, Accept-Encoding"}
        if asked_hash and path not in (V2, V3):
            if asked_hash != self._hash:
                return web.Response(status=301, headers={"Location": f"{path}?hash={self._hash}"})
            headers |= _FOR_A_YEAR
        if etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        if path == V3:
            return web.Response(body=self._index(), content_type=_JSON, headers=headers)
        old = path == V2 and _V2_ASKED in request.headers.get("Accept", "")
        headers["Content-Type"] = V2_PROTOBUF if old else _JSON
        body = await self._document("v2.pb" if old else path.removeprefix(f"{V3}/"))
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=body, headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=await asyncio.to_thread(gzip.decompress, body), headers=headers)

    def _index(self) -> bytes:
        paths = {
            group: {"serverRelativeURL": f"{V3}/{group}?hash={self._hash}"} for group in sorted(self._makers)
        }
        return encode({"paths": paths})

    async def _document(self, name: str) -> bytes:
        """The compressed bytes; made off the event loop, one document at a time."""
        if name not in self._kept:
            async with self._making:
                if name not in self._kept:
                    self._kept[name] = await asyncio.to_thread(self._made, name)
        return self._kept[name]

    def _made(self, name: str) -> bytes:
        if name in self._makers:
            body = encode(self._makers[name]())
        else:
            found = self._old_document()
            body = gnostic.document(found) if name == "v2.pb" else encode(found)
        return gzip.compress(body, _COMPRESSION, mtime=0)

    def _group_document(self, base: str) -> JsonObject:
        rows = [row for row in self._rows if row.base_path == base]
        paths: JsonObject = {f"{base}/": _resources_path(base)}
        for row in rows:
            paths |= paths_of(row)
        roots = [f"{META}APIResourceList", *_EVERYWHERE, *_roots(rows)]
        return _document(paths, roots)

    def _old_document(self) -> JsonObject:
        paths: JsonObject = {}
        for base in dict.fromkeys(row.base_path for row in self._rows):
            paths[f"{base}/"] = _resources_path(base)
        for row in self._rows:
            paths |= paths_of(row)
        roots = [f"{META}APIResourceList", *_EVERYWHERE, *_roots(self._rows)]
        return swagger(INFO, paths, reachable(roots), texts())


def _of(make: Callable[..., JsonObject], *arguments: str) -> Callable[[], JsonObject]:
    return lambda: make(*arguments)


def _roots(rows: Iterable[Resource]) -> Iterable[str]:
    for row in rows:
        yield row.schema
        yield f"{row.schema}List"
        for sub in row.subresources:
            found = name_of(sub.kind) if sub.kind else None
            if found:
                yield found


def _document(paths: JsonObject, roots: list[str]) -> JsonObject:
    return {
        "openapi": "3.0.0",
        "info": INFO,
        "paths": paths,
        "components": {"schemas": components(roots, texts())},
    }


def _reading(path: str, text: str, schema: str) -> JsonObject:
    name = "get" + "".join(part[:1].upper() + part[1:] for part in path.replace(".", "/").split("/") if part)
    answers = {
        "200": {
            "description": "OK",
            "content": {kind: {"schema": reference(schema)} for kind in PRODUCED[:1]},
        },
        "401": {"description": "Unauthorized"},
    }
    return {"get": {"tags": ["discovery"], "description": text, "operationId": name, "responses": answers}}


def _resources_path(base: str) -> JsonObject:
    return _reading(base, "get available resources", f"{META}APIResourceList")


def _discovery_document(path: str, schema: str) -> JsonObject:
    return _document({f"/{path}/": _reading(path, "get what is served", schema)}, [schema])
