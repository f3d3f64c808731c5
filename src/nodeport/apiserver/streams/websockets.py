"""A client's WebSocket: which protocol is spoken, and its channels as messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from aiohttp import WSMsgType, web

from nodeport.api import channels
from nodeport.api.channels import Channel, ChannelError, ChannelMessage, ChannelProtocol
from nodeport.api.meta import JsonObject
from nodeport.api.status import BadRequest

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""Some clients send all of their input in one message; Go's servers take as much."""


class ClientStreams(Protocol):
    """A client's end of exec or attach, whatever it speaks."""

    async def receive(self) -> ChannelMessage | None:
        """The next message; None: the client is gone."""
        ...

    async def send(self, message: ChannelMessage) -> None:
        """Raises ConnectionError when the client is gone."""
        ...

    async def finish(self, status: JsonObject) -> None:
        """The last word, in the way of the protocol."""
        ...


class WebSocketStreams:
    def __init__(self, socket: web.WebSocketResponse, protocol: ChannelProtocol) -> None:
        self._socket, self._protocol = socket, protocol

    async def receive(self) -> ChannelMessage | None:
        while True:
            message = await self._socket.receive()
            match message.type:
                case WSMsgType.BINARY:
                    payload: bytes = message.data
                case WSMsgType.TEXT:
                    payload = message.data.encode()
                case _:
                    return None
            try:
                return self._protocol.decode(payload)
            except ChannelError:
                continue  # as in Kubernetes: what makes no sense is passed over

    async def send(self, message: ChannelMessage) -> None:
        payload = self._protocol.encode(message)
        if not payload:
            return
        if self._protocol.is_text:
            await self._socket.send_str(payload.decode("ascii"))
        else:
            await self._socket.send_bytes(payload)

    async def finish(self, status: JsonObject) -> None:
        text = json.dumps(status, separators=(",", ":"))
        if not self._protocol.has_status:
            text = status.get("message", "")
        with suppress(ConnectionError):
            if text:
                await self.send(ChannelMessage(Channel.ERROR, text.encode()))
            await self._socket.close()


def asks_for_websocket(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def offered_protocols(request: web.BaseRequest) -> list[str]:
    values = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [word.strip() for value in values for word in value.split(",") if word.strip()]


def agreed_protocol(request: web.BaseRequest, known: Sequence[ChannelProtocol]) -> ChannelProtocol:
    """400 when the client speaks none of ``known``."""
    offered = offered_protocols(request)
    found = channels.choose(offered, known)
    if found is None:
        raise BadRequest(
            f"unable to upgrade: unable to negotiate protocol: client supports [{' '.join(offered)}], "
            f"server accepts [{' '.join(one.name for one in known)}]"
        )
    return found


async def accept(request: web.BaseRequest, protocol: str) -> web.WebSocketResponse:
    """The connection as a WebSocket; 400 when the request is none."""
    found = web.WebSocketResponse(
        protocols=(protocol,) if protocol else (), max_msg_size=MAX_MESSAGE_BYTES, compress=False
    )
    if not found.can_prepare(request):
        raise BadRequest("the WebSocket handshake is not complete")
    await found.prepare(request)
    return found
