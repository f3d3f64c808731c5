"""pods/NAME/portforward over real sockets, in each of the protocols that clients speak."""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from contract.streamed_pods import LOOPBACK, World, world
from freeports import free_port
from nodeport.apiserver.spdy.frames import (
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    Ping,
    RstStream,
    SynReply,
    SynStream,
)

FORWARD = "/api/v1/namespaces/default/pods/web/portforward"
TUNNELLED = "SPDY/3.1+portforward.k8s.io"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


@asynccontextmanager
async def pod_port(talk: Talk) -> AsyncIterator[int]:
    server = await asyncio.start_server(talk, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers once its client has no more to say: a half-closed connection in both directions."""
    writer.write((await reader.read()).upper())
    writer.close()


async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"%d" % len(await reader.read()))
    writer.close()


class SpdyClient:
    """A client that speaks frames over a connection of either kind."""

    def __init__(self, read: Callable[[], Any], write: Callable[[bytes], Any]) -> None:
        self._read, self._write = read, write
        self._encoder, self._decoder = Encoder(), Decoder()
        self._frames: list[Frame] = []
        self._last_id = -1

    async def send(self, frame: Frame) -> None:
        await self._write(self._encoder.encode(frame))

    async def frame(self) -> Frame:
        async with asyncio.timeout(60):
            while not self._frames:
                data = await self._read()
                assert data, "the server closed the connection"
                self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    async def open(self, **headers: str) -> int:
        self._last_id += 2
        await self.send(SynStream(self._last_id, headers))
        return self._last_id

    async def pair(self, port: int, request_id: str) -> tuple[int, int]:
        error = await self.open(streamtype="error", port=str(port), requestid=request_id)
        await self.send(Data(error, fin=True))
        return await self.open(streamtype="data", port=str(port), requestid=request_id), error

    async def until_closed(self, *streams: int) -> dict[int, bytes]:
        """What the server says on the streams until it has closed all of them."""
        said, left = dict.fromkeys(streams, b""), set(streams)
        while left:
            match await self.frame():
                case Data(number, data, fin):
                    said[number] += data
                    left -= {number} if fin else set()
                case SynReply():
                    pass
                case other:
                    raise AssertionError(other)
        return said


@asynccontextmanager
async def over_websocket(there: World) -> AsyncIterator[SpdyClient]:
    url = there.api.url + FORWARD
    async with there.session.ws_connect(url, protocols=(TUNNELLED,)) as socket:
        assert socket.protocol == TUNNELLED

        async def read() -> bytes:
            message = await socket.receive()
            return message.data if message.type is aiohttp.WSMsgType.BINARY else b""

        yield SpdyClient(read, socket.send_bytes)


async def upgraded(
    there: World, path: str, *headers: str
) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
    """The head of the answer to an upgrade, and the connection."""
    where = urlsplit(there.api.url)
    tls: ssl.SSLContext = there.api.admin_config.ssl_context()
    reader, writer = await asyncio.open_connection(where.hostname, where.port, ssl=tls)
    lines = [f"POST {path} HTTP/1.1", f"Host: {where.netloc}", "Content-Length: 0", *headers]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    return (await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer


@asynccontextmanager
async def over_upgrade(there: World) -> AsyncIterator[SpdyClient]:
    head, reader, writer = await upgraded(
        there,
        FORWARD,
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        "X-Stream-Protocol-Version: portforward.k8s.io",
    )
    assert head.startswith("HTTP/1.1 101 ")
    assert "X-Stream-Protocol-Version: portforward.k8s.io" in head

    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    try:
        yield SpdyClient(lambda: reader.read(65536), write)
    finally:
        writer.close()


BOTH = pytest.mark.parametrize("connect", [over_websocket, over_upgrade])


@BOTH
async def test_bytes_go_both_ways_and_each_way_ends_by_itself(there: World, connect: Any) -> None:
    async with pod_port(shout) as port:
        await there.pod("web", port)
        async with connect(there) as client:
            data, error = await client.pair(port, "0")
            await client.send(Data(data, b"hel"))
            await client.send(Data(data, b"lo", fin=True))
            assert await client.until_closed(data, error) == {data: b"HELLO", error: b""}


@BOTH
async def test_several_connections_share_one_client(there: World, connect: Any) -> None:
    async with pod_port(shout) as first, pod_port(count) as second:
        await there.pod("web", first, second)
        async with connect(there) as client:
            one, one_error = await client.pair(first, "0")
            two, two_error = await client.pair(second, "1")
            for _ in range(50):
                await client.send(Data(two, bytes(60_000)))
            await client.send(Data(two, fin=True))
            await client.send(Data(one, b"x", fin=True))
            said = await client.until_closed(one, one_error, two, two_error)
            assert said == {one: b"X", one_error: b"", two: b"3000000", two_error: b""}


@BOTH
async def test_a_port_that_nobody_listens_on_is_told_on_the_error_stream(there: World, connect: Any) -> None:
    port = free_port()
    pod = await there.pod("web", port)
    async with connect(there) as client:
        data, error = await client.pair(port, "0")
        said = await client.until_closed(data, error)
        why = f"dial tcp4 127.0.0.1:{port}: connect: connection refused"
        assert (
            said[error].decode()
            == f"error forwarding port {port} to pod web, uid {pod['metadata']['uid']}: {why}"
        )
        assert said[data] == b""


@BOTH
async def test_streams_that_make_no_sense_are_refused(there: World, connect: Any) -> None:
    await there.pod("web", 80)
    async with connect(there) as client:
        await client.send(Ping(1))
        assert await client.frame() == Ping(1)
        for headers in ({"streamtype": "data", "port": "0"}, {"streamtype": "chat", "port": "80"}, {}):
            number = await client.open(**headers)
            assert await client.frame() == SynReply(number)
            assert await client.frame() == RstStream(number, 3)
        await client.send(SynStream(2, {}))
        assert await client.frame() == RstStream(2, 1)
        await client.send(Data(99, b"x"))
        assert await client.frame() == RstStream(99, 2)


async def test_noise_instead_of_frames_ends_the_connection(there: World) -> None:
    await there.pod("web", 80)
    async with over_upgrade(there) as client:
        await client._write(b"\x80\x02" + bytes(20))
        assert await client.frame() == GoAway(0, 1)
        assert await client._read() == b""


async def test_a_client_that_knows_no_protocol_of_ours_is_refused(there: World) -> None:
    await there.pod("web", 80)
    head, reader, writer = await upgraded(
        there, FORWARD, "Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v9"
    )
    assert head.startswith("HTTP/1.1 403 ")
    length = int(next(line for line in head.splitlines() if line.startswith("Content-Length")).split()[1])
    assert json.loads(await reader.readexactly(length))["message"] == (
        "unable to upgrade: unable to negotiate protocol: client supports [v9], server accepts [portforward.k8s.io]"
    )
    writer.close()
    async with await there.request("GET", FORWARD) as plain:
        assert (plain.status, (await plain.json())["message"]) == (400, "Upgrade request required")


async def test_version_4_has_two_channels_for_each_port(there: World) -> None:
    closed = free_port()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard " + await reader.readexactly(2))
        writer.close()

    async with pod_port(greet) as port:
        await there.pod("web", port)
        url = f"{there.api.url}{FORWARD}?ports={port},{closed}"
        async with there.session.ws_connect(url, protocols=("v4.channel.k8s.io",)) as socket:
            heads = [await socket.receive_bytes() for _ in range(4)]
            number, other = struct.pack("<H", port), struct.pack("<H", closed)
            assert heads == [b"\0" + number, b"\1" + number, b"\2" + other, b"\3" + other]
            await socket.send_bytes(b"\0hi")
            said: dict[int, bytes] = {}
            async for message in socket:
                said[message.data[0]] = said.get(message.data[0], b"") + message.data[1:]
            assert said[0] == b"heard hi"
            assert said[3].endswith(b"connect: connection refused")
            assert socket.close_code == 1000


async def test_one_message_may_hold_all_that_a_client_has_to_say(there: World) -> None:
    size = 8_000_000

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % len(await reader.readexactly(size)))
        writer.close()

    async with pod_port(swallow) as port:
        await there.pod("web", port)
        url = f"{there.api.url}{FORWARD}?ports={port}"
        async with there.session.ws_connect(url, protocols=("v4.channel.k8s.io",)) as socket:
            await socket.send_bytes(b"\0" + bytes(size))
            said = b"".join([message.data[1:] async for message in socket if message.data[0] == 0])
            assert said.endswith(b"8000000")


@pytest.mark.parametrize("query", ["", "?ports=", "?ports=0", "?ports=x", "?ports=80,70000"])
async def test_version_4_needs_ports_that_are_ports(there: World, query: str) -> None:
    await there.pod("web", 80)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await there.session.ws_connect(there.api.url + FORWARD + query, protocols=("v4.channel.k8s.io",))
    assert refused.value.status == 400


async def test_a_server_that_stops_does_not_wait_for_open_streams(there: World) -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with pod_port(wait) as port:
        await there.pod("web", port)
        async with over_upgrade(there) as client:
            await client.pair(port, "0")
            await client.frame()
            loop = asyncio.get_running_loop()
            began = loop.time()
            there.api.task.cancel()
            await asyncio.gather(there.api.task, return_exceptions=True)
            assert loop.time() - began < 1.5
