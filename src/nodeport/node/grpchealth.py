"""The gRPC health checking protocol, one unary call: bytes in, bytes and an outcome out.

Rule source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md beside it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

METHOD = "/grpc.health.v1.Health/Check"
OK, UNKNOWN, UNIMPLEMENTED, UNAVAILABLE = 0, 2, 12, 14
SERVICE_FIELD, STATUS_FIELD = 0x0A, 0x08
_CODES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal",
    "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip


class ServingStatus(IntEnum):
    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Checked:
    """How a call ended: ``code`` 0 with the service's ``status``, or gRPC's code and message."""

    code: int
    message: str = ""
    status: int = 0

    @property
    def code_name(self) -> str:
        return _CODES[self.code] if self.code < len(_CODES) else f"Code({self.code})"


class HealthCall:
    """``opening`` is to be sent; then each `receive` says what to send; ``result`` is there once it is over."""

    def __init__(self, authority: str, service: str, user_agent: str) -> None:
        self.result: Checked | None = None
        self._data = b""
        self._headers: dict[str, str] = {}
        self._connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._connection.initiate_connection()
        stream = self._connection.get_next_available_stream_id()
        self._connection.send_headers(stream, [
            (":method", "POST"), (":scheme", "http"), (":path", METHOD), (":authority", authority),
            ("content-type", "application/grpc"), ("user-agent", user_agent), ("te", "trailers"),
        ])  # fmt: skip
        self._connection.send_data(stream, framed(request_message(service)), end_stream=True)
        self.opening = self._connection.data_to_send()

    def receive(self, data: bytes) -> bytes:
        """``data`` empty: the other end has closed."""
        if not data:
            self._end(Checked(UNAVAILABLE, "error reading from server: EOF"))
            return b""
        try:
            events = self._connection.receive_data(data)
        except (ProtocolError, UnicodeDecodeError) as error:
            self._end(Checked(UNAVAILABLE, f"connection error: {error}"))
            return b""
        for event in events:
            self._take(event)
        return self._connection.data_to_send()

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                self._headers |= {str(name): str(value) for name, value in event.headers or ()}
            case DataReceived():
                self._data += event.data or b""
                self._connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            case StreamEnded():
                self._end(checked(self._headers, self._data))
            case StreamReset() | ConnectionTerminated():
                self._end(Checked(UNAVAILABLE, "the stream was reset"))

    def _end(self, result: Checked) -> None:
        self.result = self.result or result


def checked(headers: dict[str, str], data: bytes) -> Checked:
    """From a response's headers and trailers, and its body."""
    code = headers.get("grpc-status", "")
    if not code.isdigit():
        status = headers.get(":status", "")
        kind = UNIMPLEMENTED if status == "404" else UNKNOWN
        return Checked(kind, f"unexpected HTTP status code received from server: {status}")
    if int(code) != OK:
        return Checked(int(code), unquote(headers.get("grpc-message", "")))
    return Checked(OK, "", serving_status(data[5:]))


def framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def request_message(service: str) -> bytes:
    """HealthCheckRequest: field 1 is the service's name."""
    name = service.encode()
    return bytes((SERVICE_FIELD,)) + _varint(len(name)) + name if name else b""


def serving_status(message: bytes) -> int:
    """HealthCheckResponse: field 1 is the status, absent when it is UNKNOWN."""
    return message[1] if len(message) >= 2 and message[0] == STATUS_FIELD else 0


def _varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return found + bytes((number,))
