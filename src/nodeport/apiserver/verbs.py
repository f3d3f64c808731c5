"""The verbs over HTTP: from a request to the machinery behind it, and back to a response."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass, replace

import msgspec
from aiohttp import web

from nodeport.api import schema
from nodeport.api.meta import JsonObject
from nodeport.api.resources import BINDINGS, PODS, SCALES
from nodeport.api.status import BadRequest
from nodeport.apiserver.auth import User
from nodeport.apiserver.bodies import META_SCHEME, Body, parse, read_object, unknown_kind
from nodeport.apiserver.deletes import Deleter
from nodeport.apiserver.encoding import encode
from nodeport.apiserver.errors import method_not_allowed
from nodeport.apiserver.evictions import EVICTION, EVICTION_SCHEMA, OLD_EVICTION, Evictions
from nodeport.apiserver.fieldlabels import check_field_selector
from nodeport.apiserver.fieldmanagers import SCALE_SCHEMA
from nodeport.apiserver.heavy import HEAVY_BYTES
from nodeport.apiserver.listing import Lister
from nodeport.apiserver.negotiation import Form, Representation, body_type, representation, wants_pretty
from nodeport.apiserver.options import (
    ListOptions,
    WriteOptions,
    delete_options,
    list_options,
    patch_options,
    revision,
    write_options,
)
from nodeport.apiserver.patches import APPLY_PATCH, Patcher, check_patch_type
from nodeport.apiserver.presenting import present_list, present_object
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.requests import Address, read_body
from nodeport.apiserver.reviews import Reviews
from nodeport.apiserver.routes import Target
from nodeport.apiserver.streaming import Streamer
from nodeport.apiserver.streams.connections import Connections
from nodeport.apiserver.subresources import BINDING, BINDING_SCHEMA, SCALE, Subresources
from nodeport.apiserver.tokenrequests import TOKEN_REQUEST, TOKEN_REQUEST_SCHEMA, TokenRequests
from nodeport.apiserver.warnings import warning_headers
from nodeport.apiserver.writes import Writer, Written

COMPRESS_FROM_BYTES = 128 * 1024
COMPRESSION_LEVEL = 1

DELETE_OPTIONS_SCHEMA = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"


class Call(msgspec.Struct, frozen=True):
    request: web.BaseRequest
    address: Address
    target: Target
    verb: str
    user: User

    @property
    def include(self) -> str:
        """What Tables carry beside their cells: Metadata, Object or None."""
        return self.address.query.get("includeObject") or "Metadata"

    def representation(self, *, transformable: bool = True) -> Representation:
        headers = self.request.headers
        found = representation(headers.get("Accept", ""), transformable=transformable)
        pretty = wants_pretty(self.address.query.get("pretty", ""), headers.get("User-Agent", ""))
        return replace(found, pretty=True) if pretty else found

    async def body(self) -> Body:
        media_type = body_type(self.request.headers.get("Content-Type", ""))
        return Body(await read_body(self.request), media_type)

    @property
    def agent(self) -> str:
        return self.request.headers.get("User-Agent", "")

    async def patch_body(self) -> Body:
        media_type = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Body(await read_body(self.request), media_type)


@dataclass(frozen=True, slots=True)
class Machinery:
    """Everything behind the verbs."""

    registry: Registry
    lister: Lister
    writer: Writer
    patcher: Patcher
    deleter: Deleter
    subresources: Subresources
    streamer: Streamer
    connections: Connections
    evictions: Evictions
    reviews: Reviews
    token_requests: TokenRequests


class Verbs:
    def __init__(self, machinery: Machinery) -> None:
        self._machinery = machinery

    async def serve(self, call: Call) -> web.StreamResponse:
        if call.target.resource is BINDINGS:
            return await self._bind(call)
        if not call.target.resource.is_kept:
            return await self._review(call)
        match call.target.subresource:
            case "" | "status" | "approval" | "ephemeralcontainers" | "resize":
                return await self._serve_object(call)
            case "scale":
                return await self._serve_scale(call)
            case "binding":
                return await self._bind(call)
            case "eviction":
                return await self._evict(call)
            case "finalize":
                return await self._finalize(call)
            case "token":
                return await self._request_token(call)
        return await self._machinery.connections.serve(call.request, call.target, call.address)

    async def _serve_object(self, call: Call) -> web.StreamResponse:
        match call.verb:
            case "get":
                return await self._get(call)
            case "list":
                return await self._list(call)
            case "watch":
                return await self._watch(call)
            case "create":
                return await self._create(call)
            case "update":
                return await self._update(call)
            case "patch":
                return await self._patch(call)
            case "delete":
                return await self._delete(call)
            case "deletecollection":
                return await self._delete_collection(call)
        raise method_not_allowed()

    async def _get(self, call: Call) -> web.Response:
        wanted = call.representation()
        target = call.target
        if asked := revision(call.address.query.get("resourceVersion", "")):
            await self._machinery.lister.wait_until_fresh(asked)
        kv = await self._machinery.registry.find(target.resource, target.namespace, target.name)
        splicer = self._machinery.registry.entry(target.resource).splicer
        return self._object(call, splicer.serve(kv.value, kv.mod_revision), wanted)

    def _object(
        self,
        call: Call,
        body: bytes,
        wanted: Representation,
        *,
        status: int = 200,
        warned: list[str] | None = None,
    ) -> web.Response:
        now = self._machinery.registry.clock.now()
        shown = present_object(call.target.resource, body, wanted, call.include, now)
        response = web.Response(status=status, body=shown, content_type=wanted.content_type)
        _warn(response, call, warned or [])
        return response

    def _written(self, call: Call, written: Written, wanted: Representation, more: list[str]) -> web.Response:
        status = 201 if written.created else 200
        return self._object(call, written.body, wanted, status=status, warned=[*more, *written.warnings])

    def _list_options(self, call: Call) -> ListOptions:
        options = list_options(call.address.query)
        check_field_selector(call.target.resource, options.field_selector)
        return options

    async def _list(self, call: Call) -> web.Response:
        wanted = call.representation()
        options = self._list_options(call)
        target = call.target
        splicer = self._machinery.registry.entry(target.resource).splicer
        page = await self._machinery.lister.page(target.resource, target.namespace, splicer, options)
        now = self._machinery.registry.clock.now()
        body = present_list(splicer, page, wanted, call.include, now)
        response = web.Response(body=body, content_type=wanted.content_type)
        _warn(response, call, [])
        return await compressed(call.request, response, body)

    async def _watch(self, call: Call) -> web.StreamResponse:
        wanted = call.representation()
        options = self._list_options(call)
        return await self._machinery.streamer.serve(
            call.request, call.target, options, wanted, call.include, call.user.name
        )

    async def _object_of(
        self, call: Call, options: WriteOptions
    ) -> tuple[JsonObject, list[str], WriteOptions]:
        """The body as an object of the target's kind, with its warnings and with its size in the options."""
        resource, body = call.target.resource, await call.body()
        size = len(body.data)
        obj, warned = await self._machinery.registry.heavy.run(
            size, read_object, body, resource.schema, resource.gvk, options.field_validation
        )
        if size >= HEAVY_BYTES:
            options = msgspec.structs.replace(options, size=size)
        return obj, warned, options

    async def _create(self, call: Call) -> web.Response:
        wanted = call.representation()
        options = write_options(call.address.query, "CreateOptions", call.user, call.agent)
        obj, warned, options = await self._object_of(call, options)
        written = await self._machinery.writer.create(call.target, obj, options)
        return self._written(call, written, wanted, warned)

    async def _update(self, call: Call) -> web.Response:
        wanted = call.representation()
        options = write_options(call.address.query, "UpdateOptions", call.user, call.agent)
        obj, warned, options = await self._object_of(call, options)
        written = await self._machinery.writer.update(call.target, obj, options)
        return self._written(call, written, wanted, warned)

    async def _patch(self, call: Call) -> web.Response:
        wanted = call.representation()
        body = await call.patch_body()
        written = await self._machinery.patcher.patch(call.target, body, _patch_options(call, body))
        return self._written(call, written, wanted, [])

    async def _delete(self, call: Call) -> web.Response:
        wanted = call.representation(transformable=False)
        options = delete_options(call.address.query, await self._delete_body(call), call.user)
        body = await self._machinery.deleter.delete(call.target, options)
        advice = self._machinery.registry.entry(call.target.resource).strategy.default_propagation_warning
        warned = [advice] if advice and not options.propagation_policy else []
        return self._object(call, body, wanted, warned=warned)

    async def _delete_collection(self, call: Call) -> web.Response:
        options = delete_options(call.address.query, await self._delete_body(call), call.user)
        chosen = self._list_options(call)
        body = await self._machinery.deleter.delete_collection(call.target, chosen, options)
        return web.Response(body=body, content_type="application/json")

    async def _delete_body(self, call: Call) -> dict[str, object]:
        body = await call.body()
        if not body.data:
            return {}
        found, _ = parse(body, "")
        kind, version = found.get("kind") or "DeleteOptions", found.get("apiVersion") or "meta.k8s.io/v1"
        if kind != "DeleteOptions":
            raise BadRequest(unknown_kind(kind, version, META_SCHEME))
        if problem := schema.check(DELETE_OPTIONS_SCHEMA, found).type_error:
            raise BadRequest(problem)
        return found

    async def _serve_scale(self, call: Call) -> web.Response:
        subresources = self._machinery.subresources
        if call.verb == "get":
            wanted = call.representation()
            scale, now = await subresources.get_scale(call.target), self._machinery.registry.clock.now()
            shown = present_object(SCALES, scale, wanted, call.include, now)
            return web.Response(body=shown, content_type=wanted.content_type)
        wanted = call.representation(transformable=False)
        if call.verb == "patch":
            body = await call.patch_body()
            written = await subresources.patch_scale(call.target, body, _patch_options(call, body))
            return self._written(call, written, wanted, [])
        options = write_options(call.address.query, "UpdateOptions", call.user, call.agent)
        sent, warned = read_object(await call.body(), SCALE_SCHEMA, SCALE, options.field_validation)
        written = await subresources.update_scale(call.target, sent, options)
        return self._written(call, written, wanted, warned)

    async def _bind(self, call: Call) -> web.Response:
        options = write_options(call.address.query, "CreateOptions", call.user, call.agent)
        binding, _ = read_object(await call.body(), BINDING_SCHEMA, BINDING, options.field_validation)
        target = call.target
        if target.resource is BINDINGS:  # the pod is the one that the binding names
            name = (binding.get("metadata") or {}).get("name") or ""
            target = Target(PODS, target.namespace, name, "binding")
        found = await self._machinery.subresources.bind(target, binding, options)
        return web.Response(status=201, body=encode(found), content_type="application/json")

    async def _evict(self, call: Call) -> web.Response:
        options = write_options(call.address.query, "CreateOptions", call.user, call.agent)
        asked, _ = read_object(
            await call.body(), EVICTION_SCHEMA, EVICTION, options.field_validation, also=OLD_EVICTION
        )
        deletion = delete_options(call.address.query, asked.get("deleteOptions") or {}, call.user)
        name = (asked.get("metadata") or {}).get("name") or ""
        found = await self._machinery.evictions.evict(call.target, name, options, deletion)
        return web.Response(status=201, body=encode(found), content_type="application/json")

    async def _review(self, call: Call) -> web.Response:
        options = write_options(call.address.query, "CreateOptions", call.user, call.agent)
        resource = call.target.resource
        review, warned = read_object(
            await call.body(), resource.schema, resource.gvk, options.field_validation
        )
        found = await self._machinery.reviews.answer(call.target, review, call.user)
        return self._answer(call, found, warned)

    async def _request_token(self, call: Call) -> web.Response:
        options = write_options(call.address.query, "CreateOptions", call.user, call.agent)
        asked, warned = read_object(
            await call.body(), TOKEN_REQUEST_SCHEMA, TOKEN_REQUEST, options.field_validation
        )
        found = await self._machinery.token_requests.create(
            call.target, asked, call.user, dry_run=options.dry_run
        )
        return self._answer(call, found, warned)

    def _answer(self, call: Call, found: JsonObject, warned: list[str]) -> web.Response:
        """201 with an object that was made only to be told."""
        wanted = call.representation(transformable=False)
        return self._object(call, encode(found), wanted, status=201, warned=warned)

    async def _finalize(self, call: Call) -> web.Response:
        options = write_options(call.address.query, "UpdateOptions", call.user, call.agent)
        resource = call.target.resource
        obj, warned = read_object(await call.body(), resource.schema, resource.gvk, options.field_validation)
        written = await self._machinery.subresources.finalize(call.target, obj, options)
        return self._written(call, written, Representation(Form.OBJECT), warned)


def _patch_options(call: Call, body: Body) -> WriteOptions:
    check_patch_type(body.media_type)
    applies = body.media_type == APPLY_PATCH
    return patch_options(call.address.query, call.user, call.agent, applies=applies)


async def compressed(request: web.BaseRequest, response: web.Response, body: bytes) -> web.Response:
    """Compress a large answer for whoever can read that, off the event loop."""
    if len(body) >= COMPRESS_FROM_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.body = await asyncio.to_thread(gzip.compress, body, COMPRESSION_LEVEL)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
    return response


def _warn(response: web.Response, call: Call, texts: list[str]) -> None:
    deprecation = call.target.resource.deprecation
    for header in warning_headers([deprecation, *texts] if deprecation else texts):
        response.headers.add("Warning", header)
