"""rtnetlink: links, addresses, routes and neighbours as requests that go to the kernel in batches.

Formats: ``linux/if_link.h``, ``if_addr.h``, ``rtnetlink.h``, ``neighbour.h``. The functions that make requests are
pure; `RouteSocket` sends them. A request says which refusals mean that what it wants is so already.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
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
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30

IFF_UP: Final = 1
RTPROT_NODEPORT: Final = 78
"""Our own mark on the routes we make (``ip route`` shows ``proto 78``): only these are ours to remove."""
RTPROT_PEERS: Final = 79
"""The mark on routes to the pods of other nodes."""

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BBHiHBB")
_AF_INET: Final = 2
_AF_INET6: Final = 10
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_LINKINFO, _IFLA_GROUP, _IFLA_NET_NS_FD = 18, 27, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_BR_STP_STATE, _BR_MCAST_SNOOPING = 5, 23
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_NODAD: Final = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_NDA_DST, _NDA_LLADDR, _NDA_IFINDEX = 1, 2, 8
_NUD_PERMANENT: Final = 0x80
_TABLE_MAIN: Final = 254
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_NOWHERE = 0, 253, 255
_TYPE_UNICAST, _TYPE_UNREACHABLE = 1, 7
_RTNH_F_ONLINK: Final = 4
_BATCH: Final = 200
_CREATE: Final = codec.NLM_F_CREATE | codec.NLM_F_EXCL
_REPLACE: Final = codec.NLM_F_CREATE | codec.NLM_F_REPLACE

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network


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
    """A unicast route of the main table; ``destination`` 0.0.0.0/0 or ::/0 is the default one.

    ``onlink``: the gateway is taken to be on the link, whatever other routes say.
    """

    destination: IPNetwork
    gateway: IPAddress | None
    link: int
    protocol: int
    source: IPAddress | None = None
    onlink: bool = False
    reachable: bool = True


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Who has ``ip`` on a link; ``permanent`` ones are not asked for."""

    ip: IPAddress
    mac: bytes
    permanent: bool = True


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


def link_up(index: int, mtu: int = 0, group: int = 0) -> Request:
    """``mtu``, ``group`` 0: they stay as they are."""
    shape = codec.u32(_IFLA_MTU, mtu) if mtu else b""
    shape += codec.u32(_IFLA_GROUP, group) if group else b""
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP) + shape)


def link_down(index: int) -> Request:
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, IFF_UP))


def set_master(index: int, master: int) -> Request:
    """Make the link a port of the bridge ``master``; 0: of none."""
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + codec.u32(_IFLA_MASTER, master))


def link_delete(index: int) -> Request:
    return Request(RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0), frozenset((errno.ENODEV,)))


def address(index: int, interface: IPInterface) -> Request:
    """An address of a link. Nobody is asked whether an IPv6 one is taken: it is ours to give."""
    payload = _address(index, interface)
    if interface.version == 6:
        payload += codec.u32(_IFA_FLAGS, _IFA_F_NODAD)
    return Request(RTM_NEWADDR, _REPLACE, payload, frozenset((errno.EEXIST,)))


def address_delete(index: int, interface: IPInterface) -> Request:
    return Request(RTM_DELADDR, 0, _address(index, interface), frozenset((errno.EADDRNOTAVAIL,)))


def _address(index: int, interface: IPInterface) -> bytes:
    packed = interface.ip.packed
    return b"".join((
        _ADDRESS.pack(_family(interface), interface.network.prefixlen, 0, 0, index),
        codec.attribute(_IFA_LOCAL, packed),
        codec.attribute(_IFA_ADDRESS, packed),
    ))  # fmt: skip


def route(
    destination: IPNetwork,
    *,
    link: int = 0,
    gateway: IPAddress | None = None,
    source: IPAddress | None = None,
    onlink: bool = False,
    protocol: int = RTPROT_NODEPORT,
) -> Request:
    """A route of ours, put in place of another to the same destination. ``onlink`` needs gateway and link."""
    scope = _SCOPE_UNIVERSE if gateway else _SCOPE_LINK
    payload = _route(destination, scope, link=link, gateway=gateway, onlink=onlink, protocol=protocol)
    if source:
        payload += codec.attribute(_RTA_PREFSRC, source.packed)
    return Request(RTM_NEWROUTE, _REPLACE, payload)


def unreachable(destination: IPNetwork, *, protocol: int = RTPROT_NODEPORT) -> Request:
    """Packets that no longer route of this prefix takes are answered with ICMP at once."""
    payload = _route(destination, _SCOPE_UNIVERSE, kind=_TYPE_UNREACHABLE, protocol=protocol)
    return Request(RTM_NEWROUTE, _REPLACE, payload)


def route_delete(
    destination: IPNetwork, *, protocol: int = RTPROT_NODEPORT, reachable: bool = True
) -> Request:
    """Removes a route of ours only, the one that `route` made or that of `unreachable`: the kernel compares the
    protocol.
    """
    kind = _TYPE_UNICAST if reachable else _TYPE_UNREACHABLE
    payload = _route(destination, _SCOPE_NOWHERE, kind=kind, protocol=protocol)
    return Request(RTM_DELROUTE, 0, payload, frozenset((errno.ESRCH,)))


def _route(
    destination: IPNetwork,
    scope: int,
    *,
    link: int = 0,
    gateway: IPAddress | None = None,
    kind: int = _TYPE_UNICAST,
    onlink: bool = False,
    protocol: int = RTPROT_NODEPORT,
) -> bytes:
    flags = _RTNH_F_ONLINK if onlink else 0
    prefix = destination.prefixlen
    parts = [
        _ROUTE.pack(_family(destination), prefix, 0, 0, _TABLE_MAIN, protocol, scope, kind, flags),
        codec.attribute(_RTA_DST, destination.network_address.packed),
    ]
    if link:
        parts.append(codec.u32(_RTA_OIF, link))
    if gateway:
        parts.append(codec.attribute(_RTA_GATEWAY, gateway.packed))
    return b"".join(parts)


def neighbour(index: int, ip: IPAddress, mac: bytes) -> Request:
    """A permanent entry: nobody has to answer ARP, or neighbour solicitation, for it."""
    payload = b"".join((
        _NEIGHBOUR.pack(_family(ip), 0, 0, index, _NUD_PERMANENT, 0, _TYPE_UNICAST),
        codec.attribute(_NDA_DST, ip.packed),
        codec.attribute(_NDA_LLADDR, mac),
    ))  # fmt: skip
    return Request(RTM_NEWNEIGH, _REPLACE, payload)


def neighbour_delete(index: int, ip: IPAddress) -> Request:
    payload = _NEIGHBOUR.pack(_family(ip), 0, 0, index, 0, 0, 0) + codec.attribute(_NDA_DST, ip.packed)
    return Request(RTM_DELNEIGH, 0, payload, frozenset((errno.ENOENT,)))


def _family(of: IPAddress | IPInterface | IPNetwork) -> int:
    return _AF_INET if of.version == 4 else _AF_INET6


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
        for found in self.interfaces(4):
            if isinstance(found, IPv4Interface):
                yield found

    def interfaces(self, version: int, link: int = 0) -> Iterator[IPInterface]:
        """Addresses of one IP version with their prefixes; ``link`` 0: those of all links."""
        family = _AF_INET if version == 4 else _AF_INET6
        for answer in self._socket.dump(RTM_GETADDR, _ADDRESS.pack(family, 0, 0, 0, link)):
            _, prefix, _, _, index = _ADDRESS.unpack_from(answer.payload)
            found = codec.parse(answer.payload[_ADDRESS.size :])
            if link in (0, index):
                yield ip_interface((found.get(_IFA_LOCAL) or found[_IFA_ADDRESS], prefix))

    def local_addresses(self, version: int) -> frozenset[IPAddress]:
        """All addresses of one IP version that are this namespace's own, loopback too."""
        return frozenset(found.ip for found in self.interfaces(version))

    def routes(self, version: int = 4) -> Iterator[Route]:
        """The main table's unicast routes of one IP version."""
        return (found for found in self.all_routes(version) if found.reachable)

    def all_routes(self, version: int) -> Iterator[Route]:
        """As `routes`, those of `unreachable` too."""
        family = _AF_INET if version == 4 else _AF_INET6
        nowhere = bytes(4 if version == 4 else 16)
        for answer in self._socket.dump(RTM_GETROUTE, _ROUTE.pack(family, *(0,) * 8)):
            _, prefix, _, _, table, protocol, _, kind, flags = _ROUTE.unpack_from(answer.payload)
            if table != _TABLE_MAIN or kind not in (_TYPE_UNICAST, _TYPE_UNREACHABLE):
                continue
            found = codec.parse(answer.payload[_ROUTE.size :])
            gateway, source = found.get(_RTA_GATEWAY), found.get(_RTA_PREFSRC)
            yield Route(
                destination=ip_network((found.get(_RTA_DST, nowhere), prefix)),
                gateway=ip_address(gateway) if gateway else None,
                link=struct.unpack("=I", found.get(_RTA_OIF, bytes(4)))[0],
                protocol=protocol,
                source=ip_address(source) if source else None,
                onlink=bool(flags & _RTNH_F_ONLINK),
                reachable=kind == _TYPE_UNICAST,
            )

    def neighbours(self, link: int, version: int) -> Iterator[Neighbour]:
        """Of one IP version on one link."""
        family = _AF_INET if version == 4 else _AF_INET6
        asked = _NEIGHBOUR.pack(family, 0, 0, 0, 0, 0, 0) + codec.u32(_NDA_IFINDEX, link)
        for answer in self._socket.dump(RTM_GETNEIGH, asked):
            _, _, _, index, state, _, _ = _NEIGHBOUR.unpack_from(answer.payload)
            found = codec.parse(answer.payload[_NEIGHBOUR.size :])
            if index == link and _NDA_DST in found:
                mac = found.get(_NDA_LLADDR, b"")
                yield Neighbour(ip_address(found[_NDA_DST]), mac, bool(state & _NUD_PERMANENT))


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
