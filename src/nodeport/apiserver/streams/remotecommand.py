"""pods/{name}/exec and attach: a client's streams joined with those of a container on its node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web

from nodeport.api import channels
from nodeport.api.channels import Channel, ChannelError, ChannelMessage
from nodeport.api.meta import JsonObject
from nodeport.api.status import BadRequest, go_quoted
from nodeport.apiserver.options import flag
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.requests import Address
from nodeport.apiserver.routes import Target
from nodeport.apiserver.streams import spdystreams
from nodeport.apiserver.streams.bytestreams import Taken
from nodeport.apiserver.streams.nodes import PROTOCOL, NodeConnections, path_of, query_of, send_in_pieces
from nodeport.apiserver.streams.openstreams import OpenStreams
from nodeport.apiserver.streams.pods import check_assigned, choose_container, read_pod
from nodeport.apiserver.streams.spdystreams import expected_channels
from nodeport.apiserver.streams.upgrades import agreed_stream_protocol, asks_for_spdy, upgrade_to_spdy
from nodeport.apiserver.streams.websockets import (
    ClientStreams,
    WebSocketStreams,
    accept,
    agreed_protocol,
    asks_for_websocket,
)

LOST = "error reading from error stream: the connection to the node is lost"


class RemoteCommands:
    def __init__(self, registry: Registry, nodes: NodeConnections, streams: OpenStreams) -> None:
        self._registry, self._nodes, self._streams = registry, nodes, streams

    async def serve(self, request: web.BaseRequest, target: Target, address: Address) -> web.StreamResponse:
        """``target.subresource`` is exec or attach."""
        pod = await read_pod(self._registry, target)
        container = choose_container(pod, address.query.get("container", ""))
        node = check_assigned(pod)
        wanted = asked_streams(address)
        path = path_of(target.subresource, target.namespace, target.name, container) + query_of(wanted)
        with self._streams.holding():
            if asks_for_spdy(request):
                return await self._serve_spdy(
                    request, node, path, expected_channels(name for name, _ in wanted)
                )
            if not asks_for_websocket(request):
                raise BadRequest("Upgrade request required")
            return await self._serve_websocket(request, node, path)

    async def _serve_spdy(
        self, request: web.BaseRequest, node: str, path: str, expected: set[Channel]
    ) -> web.StreamResponse:
        protocol = agreed_stream_protocol(request, spdystreams.PROTOCOLS)
        async with self._nodes.websocket(node, path) as peer:
            connection = await upgrade_to_spdy(request, protocol)
            try:
                async with spdystreams.opened(connection, expected) as client:
                    if client is not None:
                        await join(client, peer)
            finally:
                await connection.close()
        return Taken()

    async def _serve_websocket(self, request: web.BaseRequest, node: str, path: str) -> web.StreamResponse:
        protocol = agreed_protocol(request, channels.REMOTE_COMMAND)
        async with self._nodes.websocket(node, path) as peer:
            socket = await accept(request, protocol.name)
            await join(WebSocketStreams(socket, protocol), peer)
            return socket


def asked_streams(address: Address) -> Sequence[tuple[str, str]]:
    """The client's options as a node's server takes them; 400 when they leave nothing to do."""
    query = address.query
    pairs = [("command", value) for name, value in _pairs(address) if name == "command"]
    for _, word in pairs:
        if "\0" in word:
            raise BadRequest(f"command: {go_quoted(word)}: no word of a command may hold a NUL character")
    for theirs, ours in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")):
        if flag(query, theirs):
            pairs.append((ours, "1"))
    if not {"input", "output", "error"} & {name for name, _ in pairs}:
        raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    return pairs


def _pairs(address: Address) -> list[tuple[str, str]]:
    return parse_qsl(address.query_text, keep_blank_values=True)


async def join(client: ClientStreams, peer: aiohttp.ClientWebSocketResponse) -> None:
    """Carry messages both ways until the node has told how it ended, or the client is gone."""
    up = asyncio.ensure_future(_to_node(client, peer))
    down = asyncio.ensure_future(_to_client(client, peer))
    try:
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        if down.done() and not down.cancelled() and down.exception() is None:
            await client.finish(down.result())
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _to_node(client: ClientStreams, peer: aiohttp.ClientWebSocketResponse) -> None:
    """Until the client is gone; a node that is gone is for the other direction to see."""
    while (message := await client.receive()) is not None:
        if message.channel in (Channel.STDIN, Channel.RESIZE):
            with suppress(ConnectionError):
                if message.closes:
                    await peer.send_bytes(PROTOCOL.encode(message))
                else:
                    await send_in_pieces(peer, message.channel, message.data)


async def _to_client(client: ClientStreams, peer: aiohttp.ClientWebSocketResponse) -> JsonObject:
    """The status that the node told at the end."""
    async for found in peer:
        if found.type is not aiohttp.WSMsgType.BINARY:
            break
        try:
            message = PROTOCOL.decode(found.data)
        except ChannelError:
            break
        if message.channel == Channel.ERROR:
            return _status(message)
        await client.send(message)
    return channels.failure(LOST)


def _status(message: ChannelMessage) -> JsonObject:
    try:
        found: Any = json.loads(message.data)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else channels.failure(LOST)
