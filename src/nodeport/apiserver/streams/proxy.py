"""pods, services and nodes /{name}/proxy/{path}: any HTTP request, sent on to what the name stands for."""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from nodeport.api.resources import NODES, PODS
from nodeport.api.status import BadRequest, NotFound, ServiceUnavailable
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.requests import invite_body
from nodeport.apiserver.routes import Target
from nodeport.apiserver.streams.bytestreams import Taken, TakenConnection, take_over
from nodeport.apiserver.streams.destinations import Destinations, parse_name
from nodeport.apiserver.streams.html import LinkRewriter
from nodeport.apiserver.streams.nodes import NodeConnections, PodPort, TunnelError
from nodeport.apiserver.streams.openstreams import OpenStreams

HOP_BY_HOP = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
))  # fmt: skip
"""RFC 9110, section 7.6.1: they mean one connection, not the message."""
NOT_SENT_ON = HOP_BY_HOP | {"authorization", "expect"}
MAX_PAGE_BYTES = 4 * 1024 * 1024
"""Longer pages are passed on with the links that they have."""
CHUNK_BYTES = 64 * 1024
ANSWER_SECONDS = 60.0 * 60
AUTO_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Proxied:
    """One request as it goes on. ``prefix``: the path up to and with ``proxy``; ``rest``: what follows, encoded."""

    request: web.BaseRequest
    prefix: str
    rest: str

    @property
    def path(self) -> str:
        """Path and query, as the far side sees them."""
        query = self.request.raw_path.partition("?")
        return (self.rest or "/") + query[1] + query[2]

    @property
    def is_upgrade(self) -> bool:
        headers = self.request.headers
        return "upgrade" in headers.get("Connection", "").lower() and bool(headers.get("Upgrade"))

    def headers(self) -> CIMultiDict[str]:
        """What is sent on, with who asked and how."""
        request = self.request
        named = {word.strip().lower() for word in request.headers.get("Connection", "").split(",")}
        dropped = (NOT_SENT_ON | named) - ({"upgrade"} if self.is_upgrade else set())
        found = CIMultiDict(
            (name, text)
            for name, text in request.headers.items()
            if (lowered := name.lower()) not in dropped and not lowered.startswith("impersonate-")
        )
        if self.is_upgrade:
            found["Connection"] = "Upgrade"
        peer = request.transport.get_extra_info("peername") if request.transport else None
        before = request.headers.get("X-Forwarded-For")
        if peer:
            found["X-Forwarded-For"] = f"{before}, {peer[0]}" if before else str(peer[0])
        found["X-Forwarded-Uri"] = self.prefix + self.rest
        found["X-Forwarded-Host"] = request.host
        found["X-Forwarded-Proto"] = request.scheme
        return found

    def rewriter(self) -> LinkRewriter:
        return LinkRewriter(self.prefix, frozenset({self.request.host}))


class _OneSocket(aiohttp.BaseConnector):
    """A client's connector for a socket that is connected already."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(force_close=True)
        self._socket = sock

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # the base class's
    ) -> ResponseHandler:
        if (descriptor := self._socket.detach()) < 0:  # a request that failed is tried once more
            raise aiohttp.ClientConnectionError("the connection was closed before there was an answer")
        sock = socket.socket(fileno=descriptor)
        _, protocol = await self._loop.create_connection(self._factory, sock=sock)
        return protocol


class Proxies:
    def __init__(self, registry: Registry, nodes: NodeConnections, streams: OpenStreams, rng: Random) -> None:
        self._nodes, self._streams = nodes, streams
        self._destinations = Destinations(registry, rng)

    async def serve(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        proxied = split_path(request, target)
        with self._streams.holding():
            if target.resource is NODES:
                return await self._to_node(proxied, target.name)
            find = self._destinations.of_pod if target.resource is PODS else self._destinations.of_service
            where = await find(target.namespace, target.name)
            if (moved := redirect(proxied)) is not None:
                return moved
            if proxied.is_upgrade:
                return await self._upgrade_to_pod(proxied, where)
            return await self._to_pod(proxied, where)

    async def _to_pod(self, proxied: Proxied, where: PodPort) -> web.StreamResponse:
        async with self._nodes.local_socket(where) as (sock, trouble):
            session = aiohttp.ClientSession(
                connector=_OneSocket(sock), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_read=ANSWER_SECONDS),
            )  # fmt: skip
            async with session:
                return await exchange(
                    session, URL(f"http://pod{proxied.path}", encoded=True), proxied, trouble
                )

    async def _upgrade_to_pod(self, proxied: Proxied, where: PodPort) -> web.StreamResponse:
        async with self._nodes.tunnel(where) as tunnel:
            await tunnel.write(request_head(proxied))
            try:
                first = await tunnel.read()
            except TunnelError as error:
                raise unreachable(error) from error
            client = take_over(proxied.request)
            with suppress(ConnectionError, TunnelError):
                await client.write(first)
                await join_raw(client, tunnel.read, tunnel.write)
            await client.close()
        return Taken()

    async def _to_node(self, proxied: Proxied, raw: str) -> web.StreamResponse:
        asked = parse_name("node", raw)
        url = await self._nodes.url_of(asked.name)
        if asked.port not in ("", str(urlsplit(url).port)):
            raise BadRequest(f'invalid node request "{raw}": only the port of its own server can be reached')
        if (moved := redirect(proxied)) is not None:
            return moved
        if proxied.is_upgrade:
            return await self._upgrade_to_node(proxied, url)
        async with self._nodes.session() as session:
            return await exchange(session, URL(url + proxied.path, encoded=True), proxied, [])

    async def _upgrade_to_node(self, proxied: Proxied, url: str) -> web.StreamResponse:
        try:
            reader, writer = await self._nodes.connect(url)
        except (OSError, TimeoutError) as error:
            raise unreachable(error) from error
        try:
            writer.write(request_head(proxied))
            first = await reader.read(CHUNK_BYTES)
            client = take_over(proxied.request)
            with suppress(ConnectionError):
                await client.write(first)
                node = TakenConnection(reader, writer)
                await join_raw(client, node.read, node.write)
            await client.close()
        finally:
            writer.close()
        return Taken()


def split_path(request: web.BaseRequest, target: Target) -> Proxied:
    """Where the proxied object's path ends and what is sent on begins, in the path as the client wrote it."""
    resource = target.resource
    above = resource.path(target.namespace, target.name, target.subresource).count("/")
    segments = request.raw_path.partition("?")[0].split("/")
    prefix, rest = "/".join(segments[: above + 1]), segments[above + 1 :]
    if unquote(prefix) != resource.path(target.namespace, target.name, target.subresource):
        raise NotFound("the server could not find the requested resource")
    return Proxied(request, prefix, "".join(f"/{segment}" for segment in rest))


def redirect(proxied: Proxied) -> web.Response | None:
    """A page without a slash at its end would have its relative links lead elsewhere; other methods have no links."""
    if proxied.rest or proxied.request.method not in ("GET", "HEAD") or proxied.is_upgrade:
        return None
    _, mark, query = proxied.request.raw_path.partition("?")
    return web.Response(status=301, headers={"Location": f"{proxied.prefix}/{mark}{query}"})


def unreachable(why: object) -> ServiceUnavailable:
    return ServiceUnavailable(f"error trying to reach service: {why}")


def request_head(proxied: Proxied) -> bytes:
    """The request as bytes; a body does not come with an upgrade."""
    lines = [f"{proxied.request.method} {proxied.path} HTTP/1.1"]
    lines += [f"{name}: {text}" for name, text in proxied.headers().items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def join_raw(
    client: TakenConnection, read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Bytes both ways until either side has no more."""
    up = asyncio.ensure_future(_copy(client.read, write))
    down = asyncio.ensure_future(_copy(read, client.write))
    try:
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _copy(read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]]) -> None:
    while data := await read():
        await write(data)


async def exchange(
    session: aiohttp.ClientSession, url: URL, proxied: Proxied, trouble: list[TunnelError]
) -> web.StreamResponse:
    """Send the request on and its answer back. ``trouble``: why there is no connection, when that is known later."""
    request = proxied.request
    try:
        answer = await session.request(
            request.method, url, headers=proxied.headers(), data=_body(request), allow_redirects=False,
            skip_auto_headers=AUTO_HEADERS,
        )  # fmt: skip
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise unreachable(trouble[0] if trouble else error) from error
    async with answer:
        try:
            return await _send_back(answer, proxied)
        except aiohttp.ClientError as error:
            raise ConnectionResetError("the far side broke off its answer") from error


def _body(request: web.BaseRequest) -> AsyncIterator[bytes] | None:
    return _chunks(request) if request.body_exists else None


async def _chunks(request: web.BaseRequest) -> AsyncIterator[bytes]:
    await invite_body(request)
    async for chunk in request.content.iter_any():
        yield chunk


async def _send_back(answer: aiohttp.ClientResponse, proxied: Proxied) -> web.StreamResponse:
    headers = CIMultiDict(
        (name, text) for name, text in answer.headers.items() if name.lower() not in HOP_BY_HOP
    )
    if location := headers.get("Location"):
        headers["Location"] = proxied.rewriter().url(location)
    first = b""
    if is_page(answer) and proxied.request.method != "HEAD":
        first, is_whole = await _read_page(answer)
        if is_whole:
            first = rewrite_page(
                first, headers.get("Content-Encoding", ""), answer.charset or "utf-8", proxied.rewriter()
            )
            headers["Content-Length"] = str(len(first))
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    await response.prepare(proxied.request)
    if first:
        await response.write(first)
    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
        await response.write(chunk)
    await response.write_eof()
    return response


def is_page(answer: aiohttp.ClientResponse) -> bool:
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return media_type == "text/html" and answer.headers.get("Content-Encoding", "").lower() in ("", "gzip")


async def _read_page(answer: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """What comes up to the limit, and whether that is all."""
    parts: list[bytes] = []
    size = 0
    while size <= MAX_PAGE_BYTES:
        chunk = await answer.content.readany()
        if not chunk:
            return b"".join(parts), True
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts), False


def rewrite_page(body: bytes, encoding: str, charset: str, rewriter: LinkRewriter) -> bytes:
    """The page with its links changed; as it is when it cannot be read."""
    packed = encoding.lower() == "gzip"
    try:
        plain = _unpacked(body) if packed else body
        text = plain.decode(charset)
        changed = rewriter.page(text).encode(charset)
    except (zlib.error, UnicodeError, LookupError):
        return body
    if changed == plain:
        return body
    if not packed:
        return changed
    packer = zlib.compressobj(wbits=31)
    return packer.compress(changed) + packer.flush()


def _unpacked(body: bytes) -> bytes:
    """Raises zlib.error, also for a page that is too long once it is unpacked."""
    unpacker = zlib.decompressobj(wbits=31)
    plain = unpacker.decompress(body, MAX_PAGE_BYTES)
    if not unpacker.eof:
        raise zlib.error("too long, or cut short")
    return plain
