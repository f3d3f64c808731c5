"""rtnetlink: links, addresses, routes and neighbours as requests that go to the kernel in batches.

Formats: ``linux/if_link.h``, ``if_addr.h``, ``rtnetlink.h``, ``neighbour.h``. The functions that make requests are
pure; `RouteSocket` sends them. A request says which refusals mean that what it wants is so already.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, ip_address
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.socket import (
    NETLINK_ROUTE,
    Connection,
    KernelRefused,
    Refusal,
    refusal_of,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH = 28

IFF_UP: Final = 1
RTPROT_NODEPORT: Final = 78
"""Our own mark on the routes we make (``ip route`` shows ``proto 78``): only these are ours to remove."""

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BBHiHBB")
_AF_INET: Final = 2
_AF_INET6: Final = 10
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_LINKINFO, _IFLA_NET_NS_FD = 18, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_BR_STP_STATE, _BR_MCAST_SNOOPING = 5, 23
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_PERMANENT: Final = 0x80
_TABLE_MAIN: Final = 254
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_TYPE_UNICAST, _TYPE_UNREACHABLE = 1, 7
_BATCH: Final = 200
_CREATE: Final = codec.NLM_F_CREATE | codec.NLM_F_EXCL
_REPLACE: Final = codec.NLM_F_CREATE | codec.NLM_F_REPLACE


@dataclass(frozen=True, slots=True)
class Request:
    """One change; ``settled``: errnos that mean there is nothing left to do."""

    kind: int
    flags: int
    payload: bytes
    settled: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class VethEnd:
    """One end of a veth pair. ``index`` 0: the kernel chooses; ``netns``: an open descriptor, None: here."""

    name: str
    mac: bytes
    index: int = 0
    netns: int | None = None
    master: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    up: bool
    mtu: int
    master: int


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route of the main table; ``destination`` 0.0.0.0/0 is the default one."""

    destination: IPv4Network
    gateway: IPv4Address | None
    link: int
    protocol: int


def bridge(name: str, index: int, mac: bytes, mtu: int) -> Request:
    """A bridge without STP, so that ports forward at once, and without multicast snooping."""
    data = codec.nested(_INFO_DATA, codec.u32(_BR_STP_STATE, 0), codec.u8(_BR_MCAST_SNOOPING, 0))
    payload = b"".join((
        _LINK.pack(0, 0, index, IFF_UP, IFF_UP),
        codec.string(_IFLA_IFNAME, name),
        codec.attribute(_IFLA_ADDRESS, mac),
        codec.u32(_IFLA_MTU, mtu),
        codec.nested(_IFLA_LINKINFO, codec.string(_INFO_KIND, "bridge"), data),
    ))  # fmt: skip
    return Request(RTM_NEWLINK, _CREATE, payload)


def veth(end: VethEnd, peer: VethEnd, mtu: int) -> Request:
    """Both ends in one request, each made in its namespace. ``end`` is up; ``peer`` cannot be until both exist."""
    inner = codec.nested(_INFO_DATA, codec.nested(_VETH_INFO_PEER, _veth_end(peer, 0, mtu)))
    info = codec.nested(_IFLA_LINKINFO, codec.string(_INFO_KIND, "veth"), inner)
    return Request(RTM_NEWLINK, _CREATE, _veth_end(end, IFF_UP, mtu) + info)


def _veth_end(end: VethEnd, flags: int, mtu: int) -> bytes:
    parts = [
        _LINK.pack(0, 0, end.index, flags, flags),
        codec.string(_IFLA_IFNAME, end.name),
        codec.attribute(_IFLA_ADDRESS, end.mac),
        codec.u32(_IFLA_MTU, mtu),
    ]
    if end.netns is not None:
        parts.append(codec.u32(_IFLA_NET_NS_FD, end.netns))
    if end.master:
        parts.append(codec.u32(_IFLA_MASTER, end.master))
    return b"".join(parts)


def link_up(index: int) -> Request:
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP))


def link_down(index: int) -> Request:
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, IFF_UP))


def link_delete(index: int) -> Request:
    return Request(RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0), frozenset((errno.ENODEV,)))


def address(index: int, interface: IPv4Interface) -> Request:
    packed = interface.ip.packed
    payload = b"".join((
        _ADDRESS.pack(_AF_INET, interface.network.prefixlen, 0, 0, index),
        codec.attribute(_IFA_LOCAL, packed),
        codec.attribute(_IFA_ADDRESS, packed),
    ))  # fmt: skip
    return Request(RTM_NEWADDR, _REPLACE, payload, frozenset((errno.EEXIST,)))


def route(
    destination: IPv4Network,
    *,
    link: int = 0,
    gateway: IPv4Address | None = None,
    source: IPv4Address | None = None,
) -> Request:
    """A route of ours, put in place of another to the same destination."""
    payload = _route(destination, _SCOPE_UNIVERSE if gateway else _SCOPE_LINK, link=link, gateway=gateway)
    if source:
        payload += codec.attribute(_RTA_PREFSRC, source.packed)
    return Request(RTM_NEWROUTE, _REPLACE, payload)


def unreachable(destination: IPv4Network) -> Request:
    """Packets that no longer route of this prefix takes are answered with ICMP at once."""
    return Request(RTM_NEWROUTE, _REPLACE, _route(destination, _SCOPE_UNIVERSE, kind=_TYPE_UNREACHABLE))


def route_delete(destination: IPv4Network) -> Request:
    """Removes a route of ours only: the kernel compares the protocol."""
    return Request(RTM_DELROUTE, 0, _route(destination, 255), frozenset((errno.ESRCH,)))


def _route(
    destination: IPv4Network,
    scope: int,
    *,
    link: int = 0,
    gateway: IPv4Address | None = None,
    kind: int = _TYPE_UNICAST,
) -> bytes:
    parts = [
        _ROUTE.pack(_AF_INET, destination.prefixlen, 0, 0, _TABLE_MAIN, RTPROT_NODEPORT, scope, kind, 0),
        codec.attribute(_RTA_DST, destination.network_address.packed),
    ]
    if link:
        parts.append(codec.u32(_RTA_OIF, link))
    if gateway:
        parts.append(codec.attribute(_RTA_GATEWAY, gateway.packed))
    return b"".join(parts)


def neighbour(index: int, ip: IPv4Address, mac: bytes) -> Request:
    """A permanent entry: nobody has to answer ARP for it."""
    payload = b"".join((
        _NEIGHBOUR.pack(_AF_INET, 0, 0, index, _NUD_PERMANENT, 0, _TYPE_UNICAST),
        codec.attribute(_NDA_DST, ip.packed),
        codec.attribute(_NDA_LLADDR, mac),
    ))  # fmt: skip
    return Request(RTM_NEWNEIGH, _REPLACE, payload)


class RouteSocket(Connection):
    """One rtnetlink socket in one namespace. Raises OSError when the namespace is gone."""

    protocol = NETLINK_ROUTE

    def apply(self, requests: Iterable[Request]) -> None:
        """Sends the requests in order, many in one call; all are tried.

        Raises KernelRefused with those refusals that do not mean "it is so already".
        """
        todo = list(requests)
        refusals: list[Refusal] = []
        for start in range(0, len(todo), _BATCH):
            refusals += self._apply_batch(todo[start : start + _BATCH])
        if refusals:
            raise KernelRefused(refusals)

    def _apply_batch(self, requests: Sequence[Request]) -> list[Refusal]:
        sent: dict[int, Request] = {}
        buffer = bytearray()
        for request in requests:
            sequence = self._socket.next_sequence()
            sent[sequence] = request
            flags = request.flags | codec.NLM_F_REQUEST | codec.NLM_F_ACK
            buffer += codec.message(request.kind, flags, sequence, request.payload)
        self._socket.send(bytes(buffer))
        answers = (
            refusal_of(answer) for answer in self._socket.pending() if answer.type == codec.NLMSG_ERROR
        )
        return [
            found for found in answers
            if found.errno and found.sequence in sent and found.errno not in sent[found.sequence].settled
        ]  # fmt: skip

    def links(self) -> dict[str, Link]:
        """All links of the namespace by name."""
        found = (
            _link(answer.payload) for answer in self._socket.dump(RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0))
        )
        return {link.name: link for link in found}

    def link(self, name: str) -> Link | None:
        """The link of that name, without listing the others."""
        payload = _LINK.pack(0, 0, 0, 0, 0) + codec.string(_IFLA_IFNAME, name)
        try:
            answers = self._socket.request(RTM_GETLINK, payload)
        except KernelRefused as refused:
            if refused.errno == errno.ENODEV:
                return None
            raise
        return _link(answers[0].payload)

    def addresses(self) -> Iterator[IPv4Interface]:
        for answer in self._socket.dump(RTM_GETADDR, _ADDRESS.pack(_AF_INET, 0, 0, 0, 0)):
            prefix = answer.payload[1]
            found = codec.parse(answer.payload[_ADDRESS.size :])
            yield IPv4Interface((found.get(_IFA_LOCAL) or found[_IFA_ADDRESS], prefix))

    def local_addresses(self, version: int) -> frozenset[IPv4Address | IPv6Address]:
        """All addresses of one IP version that are this namespace's own, loopback too."""
        family = _AF_INET if version == 4 else _AF_INET6
        found: set[IPv4Address | IPv6Address] = set()
        for answer in self._socket.dump(RTM_GETADDR, _ADDRESS.pack(family, 0, 0, 0, 0)):
            parts = codec.parse(answer.payload[_ADDRESS.size :])
            found.add(ip_address(parts.get(_IFA_LOCAL) or parts[_IFA_ADDRESS]))
        return frozenset(found)

    def routes(self) -> Iterator[Route]:
        """The main table's unicast routes."""
        for answer in self._socket.dump(RTM_GETROUTE, _ROUTE.pack(_AF_INET, *(0,) * 8)):
            _, prefix, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(answer.payload)
            if table != _TABLE_MAIN or kind != _TYPE_UNICAST:
                continue
            found = codec.parse(answer.payload[_ROUTE.size :])
            gateway = found.get(_RTA_GATEWAY)
            yield Route(
                destination=IPv4Network((found.get(_RTA_DST, bytes(4)), prefix)),
                gateway=IPv4Address(gateway) if gateway else None,
                link=struct.unpack("=I", found.get(_RTA_OIF, bytes(4)))[0],
                protocol=protocol,
            )


def _link(payload: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(payload)
    found = codec.parse(payload[_LINK.size :])
    master = found.get(_IFLA_MASTER, bytes(4))
    return Link(
        index=index,
        name=codec.text(found[_IFLA_IFNAME]),
        up=bool(flags & IFF_UP),
        mtu=struct.unpack("=I", found[_IFLA_MTU])[0],
        master=struct.unpack("=I", master)[0],
    )
