"""Virtual services and their destinations as values, and the messages of generic netlink family ``IPVS``. Pure.

Format: ``linux/ip_vs.h``. Ports are big-endian, everything else host-endian; addresses always take sixteen bytes. What
is encoded here decodes to itself, also out of the kernel's listings, which add counters.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from nodeport.netlink import codec
from nodeport.netlink.codec import MalformedMessage
from nodeport.netlink.generic import HEADER

FAMILY: Final = "IPVS"
VERSION: Final = 1


class Command(IntEnum):
    NEW_SERVICE = 1
    SET_SERVICE = 2
    DEL_SERVICE = 3
    GET_SERVICE = 4
    NEW_DEST = 5
    SET_DEST = 6
    DEL_DEST = 7
    GET_DEST = 8
    SET_CONFIG = 12
    GET_CONFIG = 13
    GET_INFO = 15
    ZERO = 16
    FLUSH = 17


class ServiceFlag(IntEnum):
    """Bits of ``VirtualService.flags``, which is a plain integer.

    The kernel keeps the last one and never looks at it: the schedulers that have options (sh, mh) use two bits only.
    ``ipvsadm`` prints it as ``flag-3``.
    """

    PERSISTENT = 0x1
    HASHED = 0x2
    ONE_PACKET = 0x4
    SCHEDULER_1 = 0x8
    SCHEDULER_2 = 0x10
    SCHEDULER_3 = 0x20


class Method(IntEnum):
    """How packets reach a destination."""

    MASQUERADING = 0
    """What ``ipvsadm`` calls so, and others NAT."""
    LOCAL = 1
    TUNNEL = 2
    DIRECT_ROUTING = 3


class ServiceKey(NamedTuple):
    """Names a virtual service: IANA's protocol number, packed address (4 or 16 bytes), port."""

    protocol: int
    address: bytes
    port: int

    def __str__(self) -> str:
        return f"{_PROTOCOL_NAMES.get(self.protocol, self.protocol)} {_endpoint(self.address, self.port)}"


class DestinationKey(NamedTuple):
    """Names a destination within its virtual service: packed address, port."""

    address: bytes
    port: int

    def __str__(self) -> str:
        return _endpoint(self.address, self.port)


@dataclass(frozen=True, slots=True)
class VirtualService:
    """``timeout``: seconds a client stays with its destination, if ``flags`` say PERSISTENT. ``mask_length``: how many
    leading bits of a client's address make it the same client; ``None``: all of them.
    """

    key: ServiceKey
    scheduler: str = "rr"
    flags: int = 0
    timeout: int = 0
    mask_length: int | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """``weight`` 0: no new connections. Thresholds are numbers of connections, 0: none."""

    key: DestinationKey
    weight: int = 1
    method: Method = Method.MASQUERADING
    upper_threshold: int = 0
    lower_threshold: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """Since the beginning or the last ZERO; the kernel brings them up to date every two seconds."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class ListedService:
    """``counters``: as the kernel lists them, read by ``statistics`` when somebody asks."""

    service: VirtualService
    counters: bytes = b""

    @property
    def statistics(self) -> Statistics:
        return decode_statistics(self.counters)


@dataclass(frozen=True, slots=True)
class ListedDestination:
    """``active`` and ``inactive`` connections (established, and all others); ``persistent``: clients that stay."""

    destination: Destination
    active: int = 0
    inactive: int = 0
    persistent: int = 0
    counters: bytes = b""

    @property
    def statistics(self) -> Statistics:
        return decode_statistics(self.counters)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; 0 in a request: leave it as it is."""

    tcp: int = 0
    tcp_fin: int = 0
    udp: int = 0


_PROTOCOL_NAMES: Final = {6: "tcp", 17: "udp", 132: "sctp"}
_CMD_SERVICE, _CMD_DEST = 1, 2
_CMD_TIMEOUT_TCP, _CMD_TIMEOUT_TCP_FIN, _CMD_TIMEOUT_UDP = 4, 5, 6
_SVC_AF, _SVC_PROTOCOL, _SVC_ADDR, _SVC_PORT = 1, 2, 3, 4
_SVC_SCHED_NAME, _SVC_FLAGS, _SVC_TIMEOUT, _SVC_NETMASK = 6, 7, 8, 9
_SVC_STATS, _SVC_STATS64 = 10, 12
_DEST_ADDR, _DEST_PORT, _DEST_FWD_METHOD, _DEST_WEIGHT, _DEST_U_THRESH, _DEST_L_THRESH = 1, 2, 3, 4, 5, 6
_DEST_ACTIVE, _DEST_INACTIVE, _DEST_PERSISTENT = 7, 8, 9
_DEST_STATS, _DEST_ADDR_FAMILY, _DEST_STATS64 = 10, 11, 12
_AF_INET, _AF_INET6 = 2, 10
_METHOD_MASK: Final = 0x7
_SERVICE_NAME = struct.Struct("=HHH2xHHH2xHH16sHH2s2x")
"""The attributes of a service's name in a row, each with its length and its type: there are very many of them."""
_DESTINATION_NAME = struct.Struct("=HHH2xHH16sHH2s2x")
_DESTINATION_SETTINGS = struct.Struct("=HHIHHIHHIHHI")
_FLAGS = struct.Struct("=II")
"""flags, and which of them are meant"""
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")


def payload(command: Command, *attributes: bytes) -> bytes:
    """One message of the family, without its netlink header."""
    return HEADER.pack(command, VERSION) + b"".join(attributes)


def service_attribute(service: VirtualService) -> bytes:
    """For NEW_SERVICE and SET_SERVICE."""
    full = 8 * len(service.key.address)
    return codec.nested(
        _CMD_SERVICE,
        _service_name(service.key),
        codec.string(_SVC_SCHED_NAME, service.scheduler),
        codec.attribute(_SVC_FLAGS, _FLAGS.pack(service.flags, 0xFFFFFFFF)),
        codec.u32(_SVC_TIMEOUT, service.timeout),
        codec.attribute(
            _SVC_NETMASK, _netmask(full, full if service.mask_length is None else service.mask_length)
        ),
    )


def service_name_attribute(key: ServiceKey) -> bytes:
    """For every message that is about a virtual service without redefining it."""
    return codec.nested(_CMD_SERVICE, _service_name(key))


def destination_attribute(destination: Destination) -> bytes:
    """For NEW_DEST and SET_DEST."""
    return codec.nested(
        _CMD_DEST,
        _destination_name(destination.key),
        _DESTINATION_SETTINGS.pack(
            8, _DEST_FWD_METHOD, destination.method, 8, _DEST_WEIGHT, destination.weight,
            8, _DEST_U_THRESH, destination.upper_threshold, 8, _DEST_L_THRESH, destination.lower_threshold,
        ),
    )  # fmt: skip


def destination_name_attribute(key: DestinationKey) -> bytes:
    """For DEL_DEST."""
    return codec.nested(_CMD_DEST, _destination_name(key))


def timeouts_payload(timeouts: Timeouts) -> bytes:
    """SET_CONFIG with those timeouts that are not 0."""
    parts = (
        (_CMD_TIMEOUT_TCP, timeouts.tcp),
        (_CMD_TIMEOUT_TCP_FIN, timeouts.tcp_fin),
        (_CMD_TIMEOUT_UDP, timeouts.udp),
    )
    return payload(Command.SET_CONFIG, *(codec.u32(kind, seconds) for kind, seconds in parts if seconds))


def decode_timeouts(answer: bytes) -> Timeouts:
    """An answer to GET_CONFIG; a kernel without one of the protocols does not tell its timeout."""
    found = codec.parse(answer[HEADER.size :])
    return Timeouts(
        _number(found, _CMD_TIMEOUT_TCP),
        _number(found, _CMD_TIMEOUT_TCP_FIN),
        _number(found, _CMD_TIMEOUT_UDP),
    )


def decode_service(answer: bytes) -> ListedService | None:
    """A listed virtual service; ``None`` when it goes by packet mark and not by address."""
    found = codec.parse(codec.parse(answer[HEADER.size :]).get(_CMD_SERVICE, b""))
    if _SVC_ADDR not in found:
        return None
    address = _address(found, _SVC_ADDR, _number(found, _SVC_AF))
    flags, _ = _FLAGS.unpack(_exactly(found, _SVC_FLAGS, _FLAGS.size))
    length = _mask_length(len(address), _exactly(found, _SVC_NETMASK, 4))
    service = VirtualService(
        ServiceKey(_number(found, _SVC_PROTOCOL), address, _port(found, _SVC_PORT)),
        codec.text(found.get(_SVC_SCHED_NAME, b"")),
        flags & ~ServiceFlag.HASHED,
        _number(found, _SVC_TIMEOUT),
        None if length == 8 * len(address) else length,
    )
    return ListedService(service, found.get(_SVC_STATS64) or found.get(_SVC_STATS, b""))


def decode_destination(answer: bytes, family_of: ServiceKey) -> ListedDestination:
    """A listed destination. ``family_of``: its virtual service, whose family it has where it names none itself."""
    found = codec.parse(codec.parse(answer[HEADER.size :]).get(_CMD_DEST, b""))
    family = _number(found, _DEST_ADDR_FAMILY) or (_AF_INET if len(family_of.address) == 4 else _AF_INET6)
    method = _number(found, _DEST_FWD_METHOD) & _METHOD_MASK
    try:
        known = Method(method)
    except ValueError as error:
        raise MalformedMessage(f"forwarding method {method}") from error
    destination = Destination(
        DestinationKey(_address(found, _DEST_ADDR, family), _port(found, _DEST_PORT)),
        _number(found, _DEST_WEIGHT),
        known,
        _number(found, _DEST_U_THRESH),
        _number(found, _DEST_L_THRESH),
    )
    return ListedDestination(
        destination,
        _number(found, _DEST_ACTIVE),
        _number(found, _DEST_INACTIVE),
        _number(found, _DEST_PERSISTENT),
        found.get(_DEST_STATS64) or found.get(_DEST_STATS, b""),
    )


@lru_cache(maxsize=1024)
def _service_name(key: ServiceKey) -> bytes:
    """Asked for once for the service and once for each of its destinations."""
    family = _AF_INET if len(key.address) == 4 else _AF_INET6
    return _SERVICE_NAME.pack(
        6, _SVC_AF, family, 6, _SVC_PROTOCOL, key.protocol, 20, _SVC_ADDR, key.address, 6, _SVC_PORT,
        key.port.to_bytes(2, "big"),
    )  # fmt: skip


def _destination_name(key: DestinationKey) -> bytes:
    family = _AF_INET if len(key.address) == 4 else _AF_INET6
    return _DESTINATION_NAME.pack(
        6, _DEST_ADDR_FAMILY, family, 20, _DEST_ADDR, key.address, 6, _DEST_PORT, key.port.to_bytes(2, "big")
    )


def _netmask(full: int, length: int) -> bytes:
    """IPv4: the mask itself, in network order. IPv6: the prefix length."""
    if full == 128:
        return _U32.pack(length)
    return (0xFFFFFFFF << (32 - length) & 0xFFFFFFFF).to_bytes(4, "big")


def _mask_length(address_length: int, netmask: bytes) -> int:
    if address_length == 16:
        return int(_U32.unpack(netmask)[0])
    return int.from_bytes(netmask, "big").bit_count()


def _address(found: Mapping[int, bytes], kind: int, family: int) -> bytes:
    raw = _exactly(found, kind, 16)
    if family == _AF_INET:
        return raw[:4]
    if family == _AF_INET6:
        return raw
    raise MalformedMessage(f"address family {family}")


def _port(found: Mapping[int, bytes], kind: int) -> int:
    return int.from_bytes(_exactly(found, kind, 2), "big")


def _exactly(found: Mapping[int, bytes], kind: int, length: int) -> bytes:
    value = found.get(kind, b"")
    if len(value) != length:
        raise MalformedMessage(f"attribute {kind} has {len(value)} bytes instead of {length}")
    return value


def _number(found: Mapping[int, bytes], kind: int) -> int:
    """Whatever its width; 0 when it is absent."""
    return int.from_bytes(found.get(kind, b""), sys.byteorder)


def decode_statistics(counters: bytes) -> Statistics:
    """The first five counters; kernels before 4.1 have them with 32 bits only."""
    found = codec.parse(counters)
    return Statistics(*(_number(found, kind) for kind in range(1, 6)))


def _endpoint(address: bytes, port: int) -> str:
    return f"{IPv4Address(address)}:{port}" if len(address) == 4 else f"[{IPv6Address(address)}]:{port}"
