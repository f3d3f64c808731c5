"""Bytes of netlink: message headers and type-length-value attributes, both directions, without I/O.

Format: ``struct nlmsghdr`` and ``struct nlattr`` of ``linux/netlink.h``. Headers are host-endian, everything
is padded to four bytes; what an attribute's payload means, and its byte order, is the family's business.

Errors::

    NetlinkError
    ├── MalformedMessage    the bytes do not parse
    ├── KernelRefused       the kernel answered a request with an errno (socket.py)
    └── DumpInterrupted     the listed objects changed while they were being listed (socket.py)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

NLM_F_REQUEST: Final = 0x1
NLM_F_MULTI: Final = 0x2
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800
NLM_F_DUMP: Final = 0x300
NLM_F_CAPPED: Final = 0x100
"""On an error message: the request's payload is not repeated."""
NLM_F_ACK_TLVS: Final = 0x200
"""On an error message: extended acknowledgement attributes follow."""

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF
NLA_MAX_LENGTH: Final = 0xFFFF
"""An attribute's length, its header of four bytes included, is 16 bits wide."""

HEADER: Final = struct.Struct("=IHHII")
"""length, type, flags, sequence, port id"""
ATTRIBUTE: Final = struct.Struct("=HH")
"""length, type"""

_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")


class NetlinkError(Exception):
    """Anything that went wrong between us and the kernel."""


class MalformedMessage(NetlinkError):
    """The bytes are not netlink messages or attributes."""


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message; ``payload`` starts with the family's own header."""

    type: int
    flags: int
    sequence: int
    port: int
    payload: bytes


def align(length: int) -> int:
    """``length`` rounded up to netlink's four bytes."""
    return (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded. Raises MalformedMessage when the payload does not fit in 16 bits of length."""
    length = len(payload) + 4
    if length > NLA_MAX_LENGTH:
        raise MalformedMessage(f"attribute {kind} of {length} bytes is longer than {NLA_MAX_LENGTH}")
    return ATTRIBUTE.pack(length, kind) + payload + _PADDING[length & 3]


def nested(kind: int, *children: bytes) -> bytes:
    """An attribute that consists of attributes (already encoded)."""
    return attribute(kind | NLA_F_NESTED, b"".join(children))


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u16be(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(2, "big"))


def u32be(kind: int, value: int) -> bytes:
    """A big-endian 32-bit attribute, as the nfnetlink families have them."""
    return attribute(kind, value.to_bytes(4, "big"))


def u64be(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(8, "big"))


def u32(kind: int, value: int) -> bytes:
    """A host-endian 32-bit attribute, as rtnetlink has them."""
    return attribute(kind, struct.pack("=I", value))


def string(kind: int, value: str) -> bytes:
    """A NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def text(payload: bytes) -> str:
    """The text of a string attribute, without its NUL."""
    return payload.rstrip(b"\0").decode("utf-8", "replace")


def attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in ``payload`` as (type without flag bits, payload), in order, repetitions included."""
    offset, end = 0, len(payload)
    while offset + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(payload, offset)
        if length < 4 or offset + length > end:
            raise MalformedMessage(f"attribute at byte {offset} claims {length} of {end - offset} bytes")
        yield kind & NLA_TYPE_MASK, payload[offset + 4 : offset + length]
        offset += align(length)
    if offset < end:
        raise MalformedMessage(f"{end - offset} bytes after the last attribute")


def parse(payload: bytes) -> dict[int, bytes]:
    """The attributes in ``payload`` by type; of a repeated type the last, as the kernel has it."""
    return dict(attributes(payload))


def message(kind: int, flags: int, sequence: int, payload: bytes = b"", port: int = 0) -> bytes:
    """One message with its header, padded."""
    length = HEADER.size + len(payload)
    return HEADER.pack(length, kind, flags, sequence, port) + payload + _PADDING[length & 3]


def messages(buffer: bytes) -> Iterator[Message]:
    """The messages in what one read returned."""
    offset, end = 0, len(buffer)
    while offset + HEADER.size <= end:
        length, kind, flags, sequence, port = HEADER.unpack_from(buffer, offset)
        if length < HEADER.size or offset + length > end:
            raise MalformedMessage(f"message at byte {offset} claims {length} of {end - offset} bytes")
        yield Message(kind, flags, sequence, port, buffer[offset + HEADER.size : offset + length])
        offset += align(length)
    if offset < end:
        raise MalformedMessage(f"{end - offset} bytes after the last message")
