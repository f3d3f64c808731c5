"""Networks that a node takes as its own without having an address in them: local routes over a dummy link.

What is sent to such a network is delivered to the node itself, and the node's own packets to it leave with a source
address of our choice. Formats: ``linux/rtnetlink.h``, ``if_link.h``, ``if_addr.h``. The functions that make requests
are pure; `LocalRoutes` asks and sends. Both families.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from nodeport.netlink import codec, route
from nodeport.netlink.route import RTPROT_NODEPORT, Request, RouteSocket
from nodeport.netlink.socket import KernelRefused

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_FAMILIES: Final = {4: 2, 6: 10}
_IFF_NOARP: Final = 0x80
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_AF_SPEC = 3, 18, 20, 26
_INFO_KIND: Final = 1
_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE = 8, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_PREFSRC = 1, 4, 7
_TABLE_LOCAL: Final = 255
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST = 0, 253, 254
_TYPE_LOCAL: Final = 2
_REPLACE: Final = codec.NLM_F_CREATE | codec.NLM_F_REPLACE


@dataclass(frozen=True, slots=True)
class LocalRoute:
    """``source``: from which address the node's own packets leave, ``None``: from the one they are sent to."""

    network: IPNetwork
    source: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class OwnLink:
    """A link as we look at it; ``alias``: the text that somebody gave it."""

    index: int
    up: bool
    alias: str


def dummy(name: str, alias: str) -> tuple[Request, ...]:
    """Makes a dummy link that is up, answers nobody and gives itself no address. The kernel takes alias and address
    mode of a link that is there only, hence the steps.
    """
    named = codec.string(_IFLA_IFNAME, name)
    kind = codec.nested(_IFLA_LINKINFO, codec.string(_INFO_KIND, "dummy"))
    mode = codec.nested(_FAMILIES[6], codec.u8(_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE))
    described = named + codec.string(_IFLA_IFALIAS, alias) + codec.nested(_IFLA_AF_SPEC, mode)
    new = codec.NLM_F_CREATE | codec.NLM_F_EXCL
    return (
        Request(route.RTM_NEWLINK, new, _LINK.pack(0, 0, 0, _IFF_NOARP, _IFF_NOARP) + named + kind),
        Request(route.RTM_SETLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + described),
        Request(route.RTM_NEWLINK, 0, _LINK.pack(0, 0, 0, route.IFF_UP, route.IFF_UP) + named),
    )


def add(link: int, wanted: LocalRoute) -> Request:
    """The route, in place of one of ours to the same network."""
    payload = _route(link, wanted.network)
    if wanted.source is not None:
        payload += codec.attribute(_RTA_PREFSRC, wanted.source.packed)
    return Request(route.RTM_NEWROUTE, _REPLACE, payload)


def remove(link: int, network: IPNetwork) -> Request:
    return Request(route.RTM_DELROUTE, 0, _route(link, network), frozenset((errno.ESRCH,)))


def _route(link: int, network: IPNetwork) -> bytes:
    family = _FAMILIES[network.version]
    scope = _SCOPE_HOST if network.version == 4 else _SCOPE_UNIVERSE
    header = _ROUTE.pack(
        family, network.prefixlen, 0, 0, _TABLE_LOCAL, RTPROT_NODEPORT, scope, _TYPE_LOCAL, 0
    )
    return header + codec.attribute(_RTA_DST, network.network_address.packed) + codec.u32(_RTA_OIF, link)


class LocalRoutes(RouteSocket):
    """Reads and changes local routes in one namespace."""

    def own_link(self, name: str) -> OwnLink | None:
        """The link of that name; ``None``: there is none."""
        asked = _LINK.pack(0, 0, 0, 0, 0) + codec.string(_IFLA_IFNAME, name)
        try:
            found = self._socket.request(route.RTM_GETLINK, asked)[0].payload
        except KernelRefused as refused:
            if refused.errno == errno.ENODEV:
                return None
            raise
        _, _, index, flags, _ = _LINK.unpack_from(found)
        alias = codec.parse(found[_LINK.size :]).get(_IFLA_IFALIAS, b"")
        return OwnLink(index, bool(flags & route.IFF_UP), codec.text(alias))

    def local_routes(self, link: int, version: int) -> Iterator[LocalRoute]:
        """Our local routes over ``link``; ``version``: 4 or 6. The kernel picks them out, where it can (4.20)."""
        asked = _ROUTE.pack(_FAMILIES[version], 0, 0, 0, _TABLE_LOCAL, RTPROT_NODEPORT, 0, _TYPE_LOCAL, 0)
        for answer in self._listed(asked + codec.u32(_RTA_OIF, link)):
            family, prefix, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(answer.payload)
            found = codec.parse(answer.payload[_ROUTE.size :])
            over = struct.unpack("=I", found.get(_RTA_OIF, bytes(4)))[0]
            ours = (_FAMILIES[version], _TABLE_LOCAL, RTPROT_NODEPORT, _TYPE_LOCAL, link)
            if (family, table, protocol, kind, over) != ours:
                continue
            destination = found.get(_RTA_DST, bytes(4 if version == 4 else 16))
            source = found.get(_RTA_PREFSRC)
            yield LocalRoute(
                ip_network((destination, prefix)), ip_address(source) if source is not None else None
            )

    def _listed(self, asked: bytes) -> Iterator[codec.Message]:
        """The table of local routes comes into being with the first of them: where lo was never up there is none."""
        try:
            yield from self._socket.dump(route.RTM_GETROUTE, asked)
        except KernelRefused as refused:
            if refused.errno != errno.ENOENT:
                raise

    def own_addresses(self, version: int) -> list[IPAddress]:
        """The node's addresses of a family in the kernel's order, those of loopback left out, and of a single link."""
        found: list[IPAddress] = []
        for answer in self._socket.dump(route.RTM_GETADDR, _ADDRESS.pack(_FAMILIES[version], 0, 0, 0, 0)):
            scope = answer.payload[3]
            parts = codec.parse(answer.payload[_ADDRESS.size :])
            address = ip_address(parts.get(_IFA_LOCAL) or parts[_IFA_ADDRESS])
            if not address.is_loopback and not (version == 6 and scope == _SCOPE_LINK):
                found.append(address)
        return found
