"""Several byte streams over one WebSocket, as exec, attach and port-forward use them: ``channel.k8s.io``.

A message is one byte that numbers the channel, then data. Protocols differ in little: the ``base64`` ones send text
whose first character is the channel's digit; version 4 ends with a ``Status`` as JSON on the error channel; version 5
can also close one channel: byte 255, then the channel.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from nodeport.api.meta import JsonObject

CLOSE_MARK = 255
NON_ZERO_EXIT_CODE = "NonZeroExitCode"


class Channel(IntEnum):
    """The streams of exec and attach."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    RESIZE = 4


class ChannelError(ValueError):
    """A message that no protocol allows."""


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """``closes``: nothing more comes on this channel; then ``data`` is empty."""

    channel: int
    data: bytes = b""
    closes: bool = False


@dataclass(frozen=True, slots=True)
class ChannelProtocol:
    """``name``: the WebSocket subprotocol; empty when the client asked for none."""

    name: str
    is_text: bool = False
    can_close: bool = False
    has_status: bool = False

    def encode(self, message: ChannelMessage) -> bytes:
        """The WebSocket message's payload; a close that the protocol cannot say becomes nothing: ``b""``."""
        if message.closes:
            return bytes((CLOSE_MARK, message.channel)) if self.can_close else b""
        if self.is_text:
            return b"%d" % message.channel + base64.b64encode(message.data)
        return bytes((message.channel,)) + message.data

    def decode(self, payload: bytes) -> ChannelMessage:
        """Raises ChannelError."""
        if not payload:
            raise ChannelError("a message without a channel")
        if self.is_text:
            return _decode_text(payload)
        if payload[0] == CLOSE_MARK and self.can_close:
            if len(payload) != 2:
                raise ChannelError(f"a close message has 2 bytes, not {len(payload)}")
            return ChannelMessage(payload[1], closes=True)
        return ChannelMessage(payload[0], payload[1:])


def _decode_text(payload: bytes) -> ChannelMessage:
    digit = payload[0] - ord("0")
    if not 0 <= digit <= 9:
        raise ChannelError(f"channel {payload[:1]!r} is no digit")
    try:
        return ChannelMessage(digit, base64.b64decode(payload[1:], validate=True))
    except binascii.Error as error:
        raise ChannelError(f"a base64 message: {error}") from error


V5 = ChannelProtocol("v5.channel.k8s.io", can_close=True, has_status=True)
V4 = ChannelProtocol("v4.channel.k8s.io", has_status=True)
V4_BASE64 = ChannelProtocol("v4.base64.channel.k8s.io", is_text=True, has_status=True)
V1 = ChannelProtocol("channel.k8s.io")
V1_BASE64 = ChannelProtocol("base64.channel.k8s.io", is_text=True)
UNNAMED = ChannelProtocol("")
REMOTE_COMMAND = (V5, V4, V4_BASE64, V1, V1_BASE64)
PORT_FORWARD = (V4, V4_BASE64)


def choose(offered: Sequence[str], known: Iterable[ChannelProtocol]) -> ChannelProtocol | None:
    """The first protocol of the client's list that is known; the plain one when it names none; None: no agreement."""
    if not offered:
        return UNNAMED
    by_name = {protocol.name: protocol for protocol in known}
    return next((by_name[name] for name in offered if name in by_name), None)


def success() -> JsonObject:
    """What the error channel says of a command that ended with 0."""
    return {"metadata": {}, "status": "Success"}


def exit_status(argv: Sequence[str], code: int) -> JsonObject:
    """The last word on the error channel: how the command ended."""
    if code == 0:
        return success()
    said = f"error executing command [{' '.join(argv)}], exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {said}",
        "reason": NON_ZERO_EXIT_CODE,
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure(message: str) -> JsonObject:
    """The last word when the command could not be run, or its streams broke."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


class TerminalSizes:
    """The resize channel: JSON values ``{"Width":80,"Height":24}``, one after the other, however they are cut."""

    MOST_WAITING = 1024

    def __init__(self) -> None:
        self._waiting = ""

    def feed(self, data: bytes) -> list[tuple[int, int]]:
        """(columns, rows) of all values that are whole now; those that make no sense are passed over."""
        self._waiting = (self._waiting + data.decode("utf-8", "replace")).lstrip()
        found = []
        while self._waiting:
            try:
                value, end = json.JSONDecoder().raw_decode(self._waiting)
            except (ValueError, RecursionError):
                if len(self._waiting) > self.MOST_WAITING:
                    self._waiting = ""
                break
            self._waiting = self._waiting[end:].lstrip()
            if (size := _size(value)) is not None:
                found.append(size)
        return found


def _size(value: object) -> tuple[int, int] | None:
    if not isinstance(value, dict):
        return None
    columns, rows = value.get("Width"), value.get("Height")
    if isinstance(columns, int) and isinstance(rows, int) and 0 < columns < 65536 and 0 < rows < 65536:
        return columns, rows
    return None
