"""pods/{name}/portforward: connections of a client's to ports of a pod, each a pair of streams, data and errors."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from aiohttp import WSMsgType, web

from nodeport.api import channels
from nodeport.api.channels import ChannelError, ChannelMessage, ChannelProtocol
from nodeport.api.meta import JsonObject
from nodeport.api.status import ApiError, BadRequest
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.requests import Address
from nodeport.apiserver.routes import Target
from nodeport.apiserver.spdy.connection import SpdyConnection, SpdyStream
from nodeport.apiserver.streams.bytestreams import ByteStream, Taken, WebSocketBytes
from nodeport.apiserver.streams.destinations import LONGEST_NUMBER
from nodeport.apiserver.streams.nodes import NodeConnections, PodPort, Tunnel, TunnelError
from nodeport.apiserver.streams.openstreams import OpenStreams
from nodeport.apiserver.streams.pods import check_assigned, read_pod
from nodeport.apiserver.streams.upgrades import agreed_stream_protocol, asks_for_spdy, upgrade_to_spdy
from nodeport.apiserver.streams.websockets import (
    accept,
    agreed_protocol,
    asks_for_websocket,
    offered_protocols,
)

STREAMS = "portforward.k8s.io"
TUNNELLED = f"SPDY/3.1+{STREAMS}"
PAIR_SECONDS = 30.0
"""How long a client may take from the first stream of a pair to the second."""
MAX_PORTS = 64
QUEUED_MESSAGES = 16


class PortForwards:
    def __init__(self, registry: Registry, nodes: NodeConnections, streams: OpenStreams) -> None:
        self._registry, self._nodes, self._streams = registry, nodes, streams

    async def serve(self, request: web.BaseRequest, target: Target, address: Address) -> web.StreamResponse:
        pod = await read_pod(self._registry, target)
        await self._nodes.url_of(check_assigned(pod))
        with self._streams.holding():
            if asks_for_spdy(request):
                protocol = agreed_stream_protocol(request, (STREAMS,))
                connection = await upgrade_to_spdy(request, protocol)
                try:
                    await self._serve_spdy(connection, pod)
                finally:
                    await connection.close()
                return Taken()
            if not asks_for_websocket(request):
                raise BadRequest("Upgrade request required")
            if TUNNELLED in offered_protocols(request):
                socket = await accept(request, TUNNELLED)
                await self._serve_spdy(WebSocketBytes(socket), pod)
                await socket.close()
                return socket
            protocols = agreed_protocol(request, channels.PORT_FORWARD)
            ports = asked_ports(address)
            socket = await accept(request, protocols.name)
            await _PortSocket(self._nodes, pod, socket, protocols).serve(ports)
            return socket

    async def _serve_spdy(self, wire: ByteStream, pod: JsonObject) -> None:
        forwarding = _SpdyForwarding(self._nodes, pod, SpdyConnection(wire))
        await forwarding.run()


@dataclass
class _SpdyForwarding:
    """All connections of one client; they end with it."""

    nodes: NodeConnections
    pod: JsonObject
    connection: SpdyConnection
    pairs: dict[str, dict[str, SpdyStream]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        reading = asyncio.ensure_future(self.connection.run())
        try:
            while (stream := await self.connection.accept()) is not None:
                await self._add(stream)
        finally:
            for task in (reading, *self.tasks):
                task.cancel()
            await asyncio.gather(reading, *self.tasks, return_exceptions=True)

    async def _add(self, stream: SpdyStream) -> None:
        kind, request_id = stream.headers.get("streamtype", ""), stream.headers.get("requestid", "")
        port = stream.headers.get("port", "")
        known = self.pairs.setdefault(request_id, {})
        if kind not in ("data", "error") or kind in known or not is_port(port):
            if not known:
                del self.pairs[request_id]
            await self.connection.refuse(stream)
            return
        known[kind] = stream
        if len(known) == 2:
            del self.pairs[request_id]
            self._start(self._forward(int(port), known["data"], known["error"]))
        else:
            self._start(self._expire(request_id, known))

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _expire(self, request_id: str, known: dict[str, SpdyStream]) -> None:
        await asyncio.sleep(PAIR_SECONDS)
        if self.pairs.get(request_id) is known:
            del self.pairs[request_id]
            for stream in known.values():
                await self.connection.refuse(stream)

    async def _forward(self, port: int, data: SpdyStream, error: SpdyStream) -> None:
        why = await carry(self.nodes, PodPort(self.pod, port, loopback=True), data)
        with suppress(ConnectionError):
            if why:
                await error.write(forward_error(self.pod, port, why).encode())
            await error.close_write()
            await data.close_write()
        data.discard()
        error.discard()


async def carry(nodes: NodeConnections, where: PodPort, data: SpdyStream) -> str:
    """Join a stream with the pod's port until the pod has no more to say, or the client is gone; why it broke."""
    try:
        async with nodes.tunnel(where) as tunnel:
            up = asyncio.ensure_future(_to_pod(data.read, tunnel))
            try:
                while received := await tunnel.read():
                    await data.write(received)
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)
    except (TunnelError, ApiError) as error:
        return str(error)
    except ConnectionError:
        return ""
    return ""


async def _to_pod(read: Callable[[], Awaitable[bytes]], tunnel: Tunnel) -> None:
    while data := await read():
        await tunnel.write(data)
    await tunnel.close_write()


def forward_error(pod: JsonObject, port: int, why: str) -> str:
    metadata = pod["metadata"]
    return f"error forwarding port {port} to pod {metadata['name']}, uid {metadata['uid']}: {why}"


def is_port(text: str) -> bool:
    return len(text) < LONGEST_NUMBER and text.isascii() and text.isdecimal() and 0 < int(text) < 65536


def asked_ports(address: Address) -> list[int]:
    """``?ports=80,90`` or ``?ports=80&ports=90``; 400 when that is no list of ports."""
    texts = [
        text for name, value in parse_qsl(address.query_text) if name == "ports" for text in value.split(",")
    ]
    if not texts:
        raise BadRequest('query parameter "ports" is required')
    for text in texts:
        if not is_port(text):
            raise BadRequest(f'invalid value "{text}" for query parameter "ports": must be from 1 to 65535')
    if len(texts) > MAX_PORTS:
        raise BadRequest(f'{len(texts)} values for query parameter "ports": {MAX_PORTS} are the most')
    return [int(text) for text in texts]


@dataclass
class _PortSocket:
    """One connection for each port over a WebSocket: channel 2i has its bytes, 2i + 1 its errors.

    Both begin with the port as two bytes, low byte first.
    """

    nodes: NodeConnections
    pod: JsonObject
    socket: web.WebSocketResponse
    protocol: ChannelProtocol
    over: set[int] = field(default_factory=set)

    async def serve(self, ports: list[int]) -> None:
        for index, port in enumerate(ports):
            for channel in (2 * index, 2 * index + 1):
                await self._send(channel, struct.pack("<H", port))
        queues: list[asyncio.Queue[bytes]] = [asyncio.Queue(QUEUED_MESSAGES) for _ in ports]
        works = [
            asyncio.ensure_future(self._forward(index, port, queues[index]))
            for index, port in enumerate(ports)
        ]
        reading = asyncio.ensure_future(self._read(queues))
        everything = asyncio.gather(*works)
        try:
            await asyncio.wait((reading, everything), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, everything):
                task.cancel()
            await asyncio.gather(reading, *works, return_exceptions=True)
            with suppress(asyncio.CancelledError, ConnectionError):
                await everything
        await self.socket.close()

    async def _send(self, channel: int, data: bytes) -> None:
        payload = self.protocol.encode(ChannelMessage(channel, data))
        if self.protocol.is_text:
            await self.socket.send_str(payload.decode("ascii"))
        else:
            await self.socket.send_bytes(payload)

    async def _read(self, queues: list[asyncio.Queue[bytes]]) -> None:
        """Until the client closes."""
        async for message in self.socket:
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return
            payload = message.data if message.type is WSMsgType.BINARY else message.data.encode()
            try:
                found = self.protocol.decode(payload)
            except ChannelError:
                continue
            index, is_error = divmod(found.channel, 2)
            if found.data and not is_error and index < len(queues) and index not in self.over:
                await queues[index].put(found.data)

    async def _forward(self, index: int, port: int, queue: asyncio.Queue[bytes]) -> None:
        try:
            async with self.nodes.tunnel(PodPort(self.pod, port, loopback=True)) as tunnel:
                up = asyncio.ensure_future(_to_pod(queue.get, tunnel))
                try:
                    while received := await tunnel.read():
                        await self._send(2 * index, received)
                finally:
                    up.cancel()
                    await asyncio.gather(up, return_exceptions=True)
        except (TunnelError, ApiError) as error:
            await self._send(2 * index + 1, forward_error(self.pod, port, str(error)).encode())
        except ConnectionError:
            pass  # the client, or the node, is gone
        finally:
            self.over.add(index)
            while not queue.empty():  # whoever reads for all ports must not wait for this one
                queue.get_nowait()
