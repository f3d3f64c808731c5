"""The API server's connections to the servers of nodes.

Pods are reached through their node's server, never directly: only the node needs a route to its pods, and one TLS
connection with a client certificate is all that has to pass between the machines.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode, urlsplit

import aiohttp

from nodeport.api import channels
from nodeport.api.channels import ChannelError, ChannelMessage
from nodeport.api.meta import JsonObject
from nodeport.api.resources import NODES
from nodeport.api.status import BadRequest, InternalError, NotFound, ServiceUnavailable
from nodeport.apiserver.registry import Registry

CONNECT_SECONDS = 5.0
UPGRADE_SECONDS = 10.0
PROTOCOL = channels.V5
REFUSAL = "X-Refusal"
MAX_MESSAGE_BYTES = 1024 * 1024
DATA, ERROR = 0, 1
CHUNK_BYTES = 64 * 1024


class TunnelError(Exception):
    """The node could not reach the pod's port; the text says why."""


@dataclass(frozen=True, slots=True)
class PodPort:
    """``loopback``: the port as processes of the pod see it on 127.0.0.1, else that of the pod's address."""

    pod: JsonObject
    port: int
    loopback: bool = False
    tls: bool = False

    def path(self) -> str:
        metadata = self.pod["metadata"]
        kind = "portForward" if self.loopback else "podConnection"
        query = "?tls=1" if self.tls else ""
        return f"{path_of(kind, metadata['namespace'], metadata['name'], str(self.port))}{query}"


class Tunnel:
    """A connection to a port of a pod: bytes both ways, each way closed by itself."""

    def __init__(self, peer: aiohttp.ClientWebSocketResponse) -> None:
        self._peer = peer
        self._ended = False

    async def read(self) -> bytes:
        """At least one byte; none at the end. Raises TunnelError."""
        while not self._ended:
            message = await self._peer.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                self._ended = True
                break
            try:
                found = PROTOCOL.decode(message.data)
            except ChannelError as error:
                raise TunnelError(str(error)) from error
            if found.channel == ERROR:
                raise TunnelError(found.data.decode("utf-8", "replace"))
            if found.closes:
                self._ended = True
            elif found.data:
                return found.data
        return b""

    async def write(self, data: bytes) -> None:
        await send_in_pieces(self._peer, DATA, data)

    async def close_write(self) -> None:
        await self._peer.send_bytes(PROTOCOL.encode(ChannelMessage(DATA, closes=True)))


class NodeConnections:
    """``tls`` None: no client certificate for nodes, so nothing of them can be reached."""

    def __init__(self, registry: Registry, tls: ssl.SSLContext | None) -> None:
        self._registry = registry
        self._tls = tls

    async def url_of(self, node: str) -> str:
        """Where the node's server is; 503 when it has none, 404 when there is no such node."""
        kv = await self._registry.find(NODES, "", node)
        status = self._registry.entry(NODES).splicer.read(kv).get("status") or {}
        endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
        addresses = (
            each["address"] for each in status.get("addresses") or [] if each["type"] == "InternalIP"
        )
        port, host = endpoint.get("Port"), next(addresses, None)
        if not port or not host or self._tls is None:
            raise ServiceUnavailable(f"node {node} has no server that can be asked")
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    def session(self) -> aiohttp.ClientSession:
        """For one request; whoever asks closes it."""
        assert self._tls is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        connector = aiohttp.TCPConnector(ssl=self._tls, force_close=True, limit=0)
        return aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def connect(self, url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare TLS connection to a node's server. Raises OSError and TimeoutError."""
        where = urlsplit(url)
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_connection(where.hostname, where.port, ssl=self._tls, limit=CHUNK_BYTES)

    @asynccontextmanager
    async def websocket(self, node: str, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """``path`` with its query, encoded. Raises what the client is to be told."""
        base = await self.url_of(node)
        async with self.session() as session:
            try:
                async with asyncio.timeout(UPGRADE_SECONDS):
                    peer = await session.ws_connect(
                        base + path, protocols=(PROTOCOL.name,), max_msg_size=MAX_MESSAGE_BYTES, autoping=True
                    )
            except aiohttp.WSServerHandshakeError as error:
                text = unquote(error.headers.get(REFUSAL, "") if error.headers else "") or error.message
                if error.status == 400:
                    raise BadRequest(text) from error
                raise upgrade_failed(text) from error
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise upgrade_failed(f"error dialing backend: {error}") from error
            try:
                yield peer
            finally:
                await _close(peer)

    @asynccontextmanager
    async def tunnel(self, where: PodPort) -> AsyncIterator[Tunnel]:
        """A connection to a pod's port; that it cannot be had shows when it is read."""
        async with self.websocket(where.pod["spec"]["nodeName"], where.path()) as peer:
            yield Tunnel(peer)

    @asynccontextmanager
    async def local_socket(self, where: PodPort) -> AsyncIterator[tuple[socket.socket, list[TunnelError]]]:
        """The same as a socket of this process, for code that needs one; the list gets why there is no connection."""
        ours, theirs = socket.socketpair()
        trouble: list[TunnelError] = []
        try:
            reader, writer = await asyncio.open_connection(sock=ours, limit=CHUNK_BYTES)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        try:
            async with self.tunnel(where) as tunnel:
                pumps = [
                    asyncio.ensure_future(_to_pod(reader, tunnel)),
                    asyncio.ensure_future(_from_pod(writer, tunnel, trouble)),
                ]
                try:
                    yield theirs, trouble
                finally:
                    for pump in pumps:
                        pump.cancel()
                    writer.close()
                    await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            writer.close()
            theirs.close()


async def send_in_pieces(peer: aiohttp.ClientWebSocketResponse, channel: int, data: bytes) -> None:
    """A client's message may be longer than a node takes at once."""
    for start in range(0, len(data), CHUNK_BYTES):
        await peer.send_bytes(PROTOCOL.encode(ChannelMessage(channel, data[start : start + CHUNK_BYTES])))


async def _to_pod(reader: asyncio.StreamReader, tunnel: Tunnel) -> None:
    while data := await reader.read(CHUNK_BYTES):
        await tunnel.write(data)
    await tunnel.close_write()


async def _from_pod(writer: asyncio.StreamWriter, tunnel: Tunnel, trouble: list[TunnelError]) -> None:
    try:
        while data := await tunnel.read():
            writer.write(data)
            await writer.drain()
    except TunnelError as error:
        trouble.append(error)
    finally:
        with suppress(OSError):
            writer.write_eof()


async def _close(peer: aiohttp.ClientWebSocketResponse) -> None:
    """At once: a node that does not answer the farewell is not waited for."""
    with suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(0.2):
            await peer.close()


def upgrade_failed(why: str) -> InternalError:
    return InternalError(f"Internal error occurred: unable to upgrade connection: {why}")


def path_of(*parts: str) -> str:
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def query_of(pairs: Sequence[tuple[str, str]]) -> str:
    return f"?{urlencode(pairs)}" if pairs else ""


def refused(status: int, text: str) -> BadRequest | NotFound:
    return (NotFound if status == 404 else BadRequest)(text)
