"""Requests to a Kubernetes API: one session, reused connections, Kubernetes' own errors.

::

    ApiError (api/status)   the server answered and said no
    TransportError          no answer, half an answer, or something that is not an answer
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, TypedDict, Unpack

import aiohttp
import msgspec
from aiohttp import hdrs

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.api.status import ApiError, from_status
from nodeport.client.config import ClientConfig
from nodeport.client.connection import Connection, Reload

__all__ = [
    "MERGE_PATCH",
    "STRATEGIC_MERGE_PATCH",
    "ClientConfig",
    "RestClient",
    "TransportError",
    "WatchEvent",
]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"

PAGE_SIZE = 500
"""What kubectl and client-go ask for."""

_CONNECT = timedelta(seconds=10)
_CONCURRENT_REQUESTS = 24
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError)


Observer = Callable[[str, str, str, float], None]
"""Told of every request: method, server, status code (``<error>`` without an answer), seconds to the answer's head."""


class TransportError(Exception):
    """The server could not be reached, or its answer was cut or is no JSON; the cause is chained."""


class WatchEvent(msgspec.Struct, frozen=True):
    """``type`` is ADDED, MODIFIED, DELETED or BOOKMARK; ERROR events are raised, not returned."""

    type: str
    object: JsonObject


_Objects = list[JsonObject]
_Body = JsonObject | list[JsonObject]
_Batch = list[WatchEvent]


class WatchOptions(TypedDict, total=False):
    """``timeout``: after which the server is to end the stream."""

    resource_version: str
    label_selector: str
    field_selector: str
    timeout: timedelta | None
    send_initial_events: bool


class RestClient:
    """An async context manager; every method may be called concurrently. ``timeout`` bounds all but watches.

    ``reload`` reads the configuration again: files that are replaced while we run are noticed.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        user_agent: str = "nodeport",
        timeout: timedelta = timedelta(seconds=60),
        reload: Reload | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._connection = Connection(config, user_agent, reload)
        self._observer = observer
        self._timeout = aiohttp.ClientTimeout(
            total=timeout.total_seconds(), sock_connect=_CONNECT.total_seconds()
        )
        self._slots = asyncio.Semaphore(_CONCURRENT_REQUESTS)
        self._decode_frames = msgspec.json.Decoder(WatchEvent).decode_lines

    @property
    def config(self) -> ClientConfig:
        return self._connection.config

    async def __aenter__(self) -> RestClient:
        self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def cut(self) -> None:
        """Have every request fail with TransportError, those under way too, until `join`."""
        await self._connection.cut()

    def join(self) -> None:
        self._connection.join()

    # --- reading

    async def get(self, resource: Resource, name: str, namespace: str = "") -> JsonObject:
        return await self._json("GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_: str = "",
        resource_version: str = "",
    ) -> JsonObject:
        """One page, as the server's List object; ``limit`` 0 asks for everything at once."""
        query = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "limit": str(limit) if limit else "",
            "continue": continue_,
            "resourceVersion": resource_version,
        }
        return await self._json("GET", resource.path(namespace), query=query)

    async def list_all(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> JsonObject:
        """Every page as one List; raises Expired when the server forgot the revision between two pages."""
        items: _Objects = []
        token = ""
        while True:
            page = await self.list(
                resource, namespace, label_selector=label_selector, field_selector=field_selector,
                limit=PAGE_SIZE, continue_=token,
            )  # fmt: skip
            items.extend(page.get("items") or ())
            token = page["metadata"].get("continue") or ""
            if not token:
                return {**page, "items": items}

    async def raw_get(self, path: str) -> bytes:
        """The body of any path (``/readyz``, ``/version``)."""
        return await self._send("GET", path)

    async def watch(
        self, resource: Resource, namespace: str = "", **options: Unpack[WatchOptions]
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after ``resource_version``, bookmarks included, until the server ends the stream."""
        async with aclosing(self.watch_batches(resource, namespace, **options)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def watch_batches(
        self, resource: Resource, namespace: str = "", **options: Unpack[WatchOptions]
    ) -> AsyncGenerator[_Batch, None]:
        """As ``watch``, by the handful in which events arrived.

        ``timeout`` asks the server to end the stream after that long; a server that does not is left 30 s
        later. An ERROR event is raised as the ``ApiError`` it carries; a stream cut in the middle raises
        ``TransportError``.
        """
        timeout = options.get("timeout")
        seconds = int(timeout.total_seconds()) if timeout else 0
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": options.get("resource_version", ""),
            "labelSelector": options.get("label_selector", ""),
            "fieldSelector": options.get("field_selector", ""),
            "timeoutSeconds": str(seconds) if seconds else "",
        }
        if options.get("send_initial_events"):
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        limits = aiohttp.ClientTimeout(
            total=seconds + 30 if seconds else None, sock_connect=_CONNECT.total_seconds(), sock_read=None
        )
        async with self._open("GET", resource.path(namespace), query=query, timeout=limits) as response:
            async for batch in self._frames(response):
                yield batch

    async def _frames(self, response: aiohttp.ClientResponse) -> AsyncIterator[_Batch]:
        """Newline-separated JSON objects, however the network cut them."""
        pending: list[bytes] = []
        async for chunk in response.content.iter_any():
            end = chunk.rfind(b"\n")
            if end < 0:
                pending.append(chunk)
                continue
            complete, rest = b"".join((*pending, chunk[: end + 1])), chunk[end + 1 :]
            pending = [rest] if rest else []
            batch: _Batch = self._decode_frames(complete)
            failed = next((at for at, event in enumerate(batch) if event.type == "ERROR"), None)
            if failed is None:
                yield batch
                continue
            if failed:
                yield batch[:failed]
            raise from_status(batch[failed].object)
        if b"".join(pending).strip():
            raise TransportError("the watch ended in the middle of an event")

    # --- writing

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        """POST; the namespace is the object's own."""
        namespace = obj["metadata"].get("namespace") or ""
        return await self._json("POST", resource.path(namespace), body=_typed(resource, obj))

    async def create_subresource(
        self, resource: Resource, name: str, namespace: str, subresource: str, body: JsonObject
    ) -> JsonObject:
        """POST to ``…/name/subresource``: bindings, evictions, token requests."""
        return await self._json("POST", resource.path(namespace, name, subresource), body=body)

    async def update(self, resource: Resource, obj: JsonObject, *, subresource: str = "") -> JsonObject:
        """PUT; a ``resourceVersion`` in the object makes it conditional."""
        meta = obj["metadata"]
        path = resource.path(meta.get("namespace") or "", meta["name"], subresource)
        return await self._json("PUT", path, body=_typed(resource, obj))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: _Body,
        namespace: str = "",
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> JsonObject:
        path = resource.path(namespace, name, subresource)
        return await self._json("PATCH", path, body=patch, content_type=content_type)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        grace_period_seconds: int | None = None,
        propagation_policy: str = "",
    ) -> JsonObject:
        """DELETE; ``uid`` and ``resource_version`` are preconditions."""
        preconditions = {
            key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value
        }
        options: JsonObject = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if preconditions:
            options["preconditions"] = preconditions
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation_policy:
            options["propagationPolicy"] = propagation_policy
        return await self._json("DELETE", resource.path(namespace, name), body=options)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        propagation_policy: str = "",
    ) -> JsonObject:
        query = {
            "labelSelector": label_selector, "fieldSelector": field_selector,
            "propagationPolicy": propagation_policy,
        }  # fmt: skip
        return await self._json("DELETE", resource.path(namespace), query=query)

    # --- the wire

    async def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: _Body | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        answer = await self._send(method, path, query=query, body=body, content_type=content_type)
        try:
            decoded = msgspec.json.decode(answer)
        except msgspec.DecodeError as error:
            raise TransportError(f"{method} {path}: the answer is no JSON: {error}") from error
        if not isinstance(decoded, dict):
            raise TransportError(f"{method} {path}: the answer is no JSON object")
        return decoded

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: _Body | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        payload = None if body is None else msgspec.json.encode(body)
        async with (
            self._slots,
            self._open(
                method, path, query=query, payload=payload, content_type=content_type, timeout=self._timeout
            ) as response,
        ):
            return await response.read()

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's own limits, not a deadline of ours
        query: Mapping[str, str] | None = None,
        payload: bytes | None = None,
        content_type: str = "",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful response; every failure, also while the body is read, leaves as one of the two errors."""
        if not self._connection.is_open:
            raise TransportError("the client is not open")
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: content_type} if payload is not None else {}
        started, answered = time.monotonic(), False
        try:
            session = await self._connection.session()
            async with session.request(
                method,
                self.config.server + path,
                params={key: value for key, value in (query or {}).items() if value},
                data=payload,
                headers={**headers, **self.config.headers()},
                timeout=timeout,
                server_hostname=self.config.server_name or None,
                allow_redirects=False,
            ) as response:
                answered = True
                self._observe(method, str(response.status), started)
                if response.status >= 300:
                    if response.status == 401:
                        self._connection.doubt()
                    raise await _refusal(response)
                with self._connection.reading(response):
                    yield response
        except _FAILURES as error:
            self._connection.doubt()
            if not answered:
                self._observe(method, "<error>", started)
            raise TransportError(f"{method} {path}: {error or type(error).__name__}") from error

    def _observe(self, method: str, code: str, started: float) -> None:
        if self._observer is not None:
            host = self.config.server.partition("://")[2]
            self._observer(method, host, code, time.monotonic() - started)


def _typed(resource: Resource, obj: JsonObject) -> JsonObject:
    """List items and cached objects carry no ``kind``; a server wants it."""
    return {"kind": resource.kind, "apiVersion": resource.api_version, **obj}


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    body = await response.read()
    status: Any = None
    with suppress(msgspec.DecodeError):
        status = msgspec.json.decode(body)
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = body[:500].decode(errors="replace").strip()
        status = {"code": response.status, "message": text or response.reason}
    error = from_status(status)
    after = response.headers.get("Retry-After", "")
    if not error.retry_after_seconds and after.isdecimal():
        error.retry_after_seconds = int(after)
    return error
