"""Connections into pods, carried over a WebSocket: channel 0 has the bytes, closed one way at a time; 1 has the error.

The socket is made inside the namespace it is to reach from, so that a pod's loopback is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from nodeport.api.channels import ChannelMessage
from nodeport.kit.clock import Clock
from nodeport.netlink.namespace import family_of, open_in
from nodeport.node import remote

DATA, ERROR = 0, 1
PATIENCE = 10.0
"""Seconds for the connection, and for the TLS handshake."""
CHUNK = 64 * 1024
_NOT_A_RECORD = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_NO_TLS = "http: server gave HTTP response to HTTPS client"
"""What is asked for by ``https:`` is pages: whatever is not TLS is taken for HTTP."""


@dataclass(frozen=True, slots=True)
class Destination:
    """``netns`` None: this machine's own. ``tls`` None: plain."""

    netns: Path | None
    host: str
    port: int
    tls: ssl.SSLContext | None = None


def unverified_tls() -> ssl.SSLContext:
    """TLS with pods, whose certificates nobody can check (as the API's proxies do it)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def serve(peer: web.WebSocketResponse, where: Destination, clock: Clock) -> None:
    """Until the client closes the WebSocket, or the pod's side breaks."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await connect(where)
    except (OSError, TimeoutError) as error:
        await _finish(peer, reason(where, error))
        return
    sending = asyncio.ensure_future(_send(peer, reader))
    try:
        await remote.unless_gone([remote.keep_pinging(peer, clock)], _receive(peer, writer))
    finally:
        sending.cancel()
        writer.close()
        await asyncio.gather(sending, return_exceptions=True)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()
    await _finish(peer)


async def connect(where: Destination) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises OSError."""
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
    sock = open_in(where.netns, lambda: socket.socket(family_of(where.host), kind))
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (where.host, where.port))
        name = where.host if where.tls else None
        return await asyncio.open_connection(sock=sock, limit=CHUNK, ssl=where.tls, server_hostname=name)
    except BaseException:
        sock.close()
        raise


def reason(where: Destination, error: BaseException) -> str:
    dial = (
        f"dial tcp6 [{where.host}]:{where.port}"
        if ":" in where.host
        else f"dial tcp4 {where.host}:{where.port}"
    )
    if isinstance(error, TimeoutError):
        return f"{dial}: i/o timeout"
    if isinstance(error, ssl.SSLError):
        return _NO_TLS if error.reason in _NOT_A_RECORD else f"tls: {error.reason or error}".lower()
    number = getattr(error, "errno", None)
    words = os.strerror(number) if number else str(error)
    return f"{dial}: connect: {words.lower()}"


async def _send(peer: web.WebSocketResponse, reader: asyncio.StreamReader) -> None:
    """The pod's bytes, then that there are no more."""
    try:
        while data := await reader.read(CHUNK):
            await peer.send_bytes(remote.PROTOCOL.encode(ChannelMessage(DATA, data)))
    finally:
        with contextlib.suppress(ConnectionError):
            await peer.send_bytes(remote.PROTOCOL.encode(ChannelMessage(DATA, closes=True)))


async def _receive(peer: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    """The client's bytes, until it goes."""
    async for found in remote.messages(peer):
        if found.channel != DATA:
            continue
        if found.closes:
            if writer.can_write_eof():
                writer.write_eof()
            continue
        writer.write(found.data)
        await writer.drain()


async def _finish(peer: web.WebSocketResponse, trouble: str = "") -> None:
    with contextlib.suppress(ConnectionError):
        if trouble:
            await peer.send_bytes(remote.PROTOCOL.encode(ChannelMessage(ERROR, trouble.encode())))
        await peer.close()
