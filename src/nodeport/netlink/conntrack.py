"""Connection tracking entries of one network namespace: listed by protocol, deleted one by one. IPv4."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.socket import NETLINK_NETFILTER, Connection, KernelRefused

_SUBSYSTEM: Final = 1
_GET: Final = _SUBSYSTEM << 8 | 1
_DELETE: Final = _SUBSYSTEM << 8 | 2
_HEADER: Final = bytes((2, 0, 0, 0))
_ORIGINAL: Final = 1
_REPLY: Final = 2
_STATUS: Final = 3
_ID: Final = 12
_ZONE: Final = 18
_FILTER: Final = 25
_TUPLE_IP: Final = 1
_TUPLE_PROTOCOL: Final = 2
_IP_SOURCE: Final = 1
_IP_DESTINATION: Final = 2
_PROTOCOL_NUMBER: Final = 1
_SOURCE_PORT: Final = 2
_DESTINATION_PORT: Final = 3
_FILTER_ORIGINAL: Final = 1
_FILTER_REPLY: Final = 2
_FILTER_PROTOCOL_NUMBER: Final = 1 << 3
"""Which fields of the tuple a filter compares: this one says the protocol."""


@dataclass(frozen=True, slots=True)
class Tuple:
    """One direction of a connection."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    source_port: int
    destination_port: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A tracked connection. ``original`` is what its first packet said, ``reply`` what answers say.

    ``key`` is the original tuple, zone and id in the kernel's own bytes: it names this entry and no later one.
    """

    original: Tuple
    reply: Tuple
    key: bytes

    @property
    def translated(self) -> bool:
        """Whether the destination was changed on the way in."""
        return (self.reply.source, self.reply.source_port) != (
            self.original.destination,
            self.original.destination_port,
        )


class Conntrack(Connection):
    """A connection to conntrack of one network namespace; synchronous."""

    protocol = NETLINK_NETFILTER

    def list(self, protocol: int) -> Iterator[Entry]:
        """The IPv4 entries of one transport protocol, replied to or not.

        Kernels that can (5.8 and later) pick them out themselves. Raises DumpInterrupted, KernelRefused.
        """
        for answer in self._dump(protocol):
            entry = decode_entry(answer.payload)
            if entry is not None and entry.original.protocol == protocol:
                yield entry

    def _dump(self, protocol: int) -> Iterator[codec.Message]:
        try:
            yield from self._socket.dump(_GET, _HEADER + _only(protocol))
        except KernelRefused as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            yield from self._socket.dump(_GET, _HEADER)

    def delete(self, entries: Iterable[Entry]) -> int:
        """Deletes exactly these entries; returns how many of them were still there."""
        deleted = 0
        for entry in entries:
            try:
                self._socket.request(_DELETE, _HEADER + entry.key)
            except KernelRefused as error:
                if error.errno != errno.ENOENT:
                    raise
            else:
                deleted += 1
        return deleted


def decode_entry(payload: bytes) -> Entry | None:
    """An entry out of a listing; ``None`` when it is not IPv4 with ports."""
    parts = codec.parse(payload[4:])
    if payload[0] != _HEADER[0] or _ORIGINAL not in parts or _REPLY not in parts:
        return None
    original, reply = _decode_tuple(parts[_ORIGINAL]), _decode_tuple(parts[_REPLY])
    if original is None or reply is None:
        return None
    key = codec.attribute(_ORIGINAL | codec.NLA_F_NESTED, parts[_ORIGINAL])
    for kind in (_ZONE, _ID):
        if kind in parts:
            key += codec.attribute(kind, parts[kind])
    return Entry(original, reply, key)


def _decode_tuple(payload: bytes) -> Tuple | None:
    parts = codec.parse(payload)
    addresses = codec.parse(parts.get(_TUPLE_IP, b""))
    ports = codec.parse(parts.get(_TUPLE_PROTOCOL, b""))
    wanted = (addresses.get(_IP_SOURCE), addresses.get(_IP_DESTINATION))
    numbers = (ports.get(_PROTOCOL_NUMBER), ports.get(_SOURCE_PORT), ports.get(_DESTINATION_PORT))
    source, destination = wanted
    protocol, source_port, destination_port = numbers
    if not (source and destination and protocol and source_port and destination_port):
        return None
    return Tuple(
        IPv4Address(source),
        IPv4Address(destination),
        protocol[0],
        int.from_bytes(source_port, "big"),
        int.from_bytes(destination_port, "big"),
    )


def _only(protocol: int) -> bytes:
    """Asks the kernel to list one protocol."""
    number = codec.nested(_TUPLE_PROTOCOL, codec.u8(_PROTOCOL_NUMBER, protocol))
    fields = codec.u32(_FILTER_ORIGINAL, _FILTER_PROTOCOL_NUMBER) + codec.u32(_FILTER_REPLY, 0)
    return codec.nested(_ORIGINAL, number) + codec.nested(_FILTER, fields)
