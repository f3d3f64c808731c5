"""Connections that no longer speak HTTP: taken over after an upgrade, or tunnelled in a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from nodeport.apiserver.connections import STARTED

READ_BYTES = 64 * 1024


class ByteStream(Protocol):
    async def read(self) -> bytes:
        """At least one byte; none when the client has closed or is gone."""
        ...

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the client is gone."""
        ...


class WebSocketBytes:
    """The bytes of another protocol as binary messages; their borders mean nothing."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                return b""
            if message.data:
                return bytes(message.data)

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)


class TakenConnection:
    """A connection that was HTTP until now."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> bytes:
        try:
            return await self.reader.read(READ_BYTES)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError("the client is gone")
        self.writer.write(data)
        await self.writer.drain()

    async def close(self) -> None:
        """What was written still goes out."""
        with suppress(OSError):
            await self.writer.drain()
        self.writer.close()


class Taken(web.StreamResponse):
    """The answer of a handler that took the connection over and has said all there was to say."""

    @property
    def prepared(self) -> bool:
        return True

    @property
    def keep_alive(self) -> bool:
        return False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class _Protocol(asyncio.StreamReaderProtocol):
    """Feeds the reader; the server's own protocol still learns that the connection is lost."""

    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._before.connection_lost(exc)


def take_over(request: web.BaseRequest) -> TakenConnection:
    """From here on the connection belongs to the caller. Raises ConnectionError when it is lost already.

    Nothing that the client said after its request is lost: a client says nothing more before it is answered.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    reader = asyncio.StreamReader(limit=READ_BYTES)
    protocol = _Protocol(reader, request.protocol)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    return TakenConnection(reader, writer)


async def switch_protocols(request: web.BaseRequest, headers: Mapping[str, str]) -> TakenConnection:
    """Answer 101 with ``headers`` and take the connection over."""
    found = take_over(request)
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers.items())]
    await found.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    if told := request.get(STARTED):
        told(101)
    return found
