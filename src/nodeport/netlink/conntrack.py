"""Connection tracking entries of one network namespace: picked out by the kernel where it can, deleted one by one."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.socket import NETLINK_NETFILTER, Connection, KernelRefused

_SUBSYSTEM: Final = 1
_GET: Final = _SUBSYSTEM << 8 | 1
_DELETE: Final = _SUBSYSTEM << 8 | 2
_STATISTICS: Final = _SUBSYSTEM << 8 | 5
_ENTRIES: Final = 1
_HEADERS: Final = {4: bytes((2, 0, 0, 0)), 6: bytes((10, 0, 0, 0))}
"""``struct nfgenmsg`` by IP version."""
_ORIGINAL: Final = 1
_REPLY: Final = 2
_STATUS: Final = 3
_ID: Final = 12
_ZONE: Final = 18
_FILTER: Final = 25
_TUPLE_IP: Final = 1
_TUPLE_PROTOCOL: Final = 2
_IP_SOURCE: Final = {4: 1, 6: 3}
_IP_DESTINATION: Final = {4: 2, 6: 4}
_PROTOCOL_NUMBER: Final = 1
_SOURCE_PORT: Final = 2
_DESTINATION_PORT: Final = 3
_FILTER_ORIGINAL: Final = 1
_FILTER_REPLY: Final = 2
_FILTER_DESTINATION: Final = 1 << 1
_FILTER_PROTOCOL_NUMBER: Final = 1 << 3
_FILTER_DESTINATION_PORT: Final = 1 << 5
"""Which fields of the tuple a filter compares."""

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Asked:
    """Picks out entries by what their first packet asked for; ``None``: whatever it was."""

    protocol: int
    destination: IPAddress | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Tuple:
    """One direction of a connection."""

    source: IPAddress
    destination: IPAddress
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
    def version(self) -> int:
        """The IP version."""
        return self.original.destination.version

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

    def count(self) -> int:
        """How many entries there are, of whatever kind. A listing looks at those of all namespaces; this at none."""
        (answer,) = self._socket.request(_STATISTICS, _HEADERS[4])
        return int.from_bytes(codec.parse(answer.payload[4:])[_ENTRIES], "big")

    def list(self, version: int, asked: Asked) -> Iterator[Entry]:
        """The entries of one IP version that were asked for so, replied to or not.

        Kernels that can (5.8 and later) pick them out themselves. Raises DumpInterrupted, KernelRefused.
        """
        for answer in self._dump(version, asked):
            entry = decode_entry(answer.payload)
            if entry is not None and entry.version == version and _matches(entry.original, asked):
                yield entry

    def _dump(self, version: int, asked: Asked) -> Iterator[codec.Message]:
        header = _HEADERS[version]
        try:
            yield from self._socket.dump(_GET, header + _only(version, asked))
        except KernelRefused as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            yield from self._socket.dump(_GET, header)

    def delete(self, entries: Iterable[Entry]) -> int:
        """Deletes exactly these entries; returns how many of them were still there."""
        deleted = 0
        for entry in entries:
            try:
                self._socket.request(_DELETE, _HEADERS[entry.version] + entry.key)
            except KernelRefused as error:
                if error.errno != errno.ENOENT:
                    raise
            else:
                deleted += 1
        return deleted


def decode_entry(payload: bytes) -> Entry | None:
    """An entry out of a listing; ``None`` when it is not IP with ports."""
    parts = codec.parse(payload[4:])
    if _ORIGINAL not in parts or _REPLY not in parts:
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
    version = 6 if _IP_SOURCE[6] in addresses else 4
    source, destination = addresses.get(_IP_SOURCE[version]), addresses.get(_IP_DESTINATION[version])
    numbers = (ports.get(_PROTOCOL_NUMBER), ports.get(_SOURCE_PORT), ports.get(_DESTINATION_PORT))
    protocol, source_port, destination_port = numbers
    if not (source and destination and protocol and source_port and destination_port):
        return None
    return Tuple(
        ip_address(source),
        ip_address(destination),
        protocol[0],
        int.from_bytes(source_port, "big"),
        int.from_bytes(destination_port, "big"),
    )


def _matches(original: Tuple, asked: Asked) -> bool:
    return (
        original.protocol == asked.protocol
        and asked.destination in (None, original.destination)
        and asked.port in (None, original.destination_port)
    )


def _only(version: int, asked: Asked) -> bytes:
    """Asks the kernel to list nothing else; what it cannot be asked is left to ``_matches``.

    IPv6 addresses are not: the kernel (6.18 still) takes equal ones for different, and lists all the others.
    """
    flags, wanted = _FILTER_PROTOCOL_NUMBER, b""
    if asked.destination is not None and version == 4:
        flags |= _FILTER_DESTINATION
        address = codec.attribute(_IP_DESTINATION[version], asked.destination.packed)
        wanted += codec.nested(_TUPLE_IP, address)
    ports = codec.u8(_PROTOCOL_NUMBER, asked.protocol)
    if asked.port is not None:
        flags |= _FILTER_DESTINATION_PORT
        ports += codec.u16be(_DESTINATION_PORT, asked.port)
    wanted += codec.nested(_TUPLE_PROTOCOL, ports)
    fields = codec.u32(_FILTER_ORIGINAL, flags) + codec.u32(_FILTER_REPLY, 0)
    return codec.nested(_ORIGINAL, wanted) + codec.nested(_FILTER, fields)
