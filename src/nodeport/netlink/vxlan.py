"""VXLAN links and who is behind them, over rtnetlink.

Formats: ``linux/if_link.h`` (``IFLA_VXLAN_*``), ``linux/neighbour.h``; rule source: Documentation/networking/vxlan.rst.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.route import (
    IFF_UP,
    RTM_DELNEIGH,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    IPAddress,
    Request,
    RouteSocket,
)
from nodeport.netlink.socket import KernelRefused

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_NEIGHBOUR = struct.Struct("=BBHiHBB")
_KIND: Final = "vxlan"
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 1, 3, 4, 18
_INFO_KIND, _INFO_DATA = 1, 2
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_ID, _LOCAL, _LEARNING, _PORT, _LOCAL6 = 1, 4, 7, 15, 17
_NDA_DST, _NDA_LLADDR = 1, 2
_AF_BRIDGE: Final = 7
_NTF_SELF: Final = 2
_PERMANENT_NO_ARP: Final = 0x80 | 0x40


class LinkTaken(Exception):
    """Another link has the name; it is left alone."""


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A link that wraps frames into UDP from ``local`` to ``port``. It learns nothing: all it knows is told to it."""

    name: str
    vni: int
    port: int
    local: IPAddress
    mac: bytes
    mtu: int


@dataclass(frozen=True, slots=True)
class FoundVxlan:
    index: int
    up: bool
    vxlan: Vxlan


def vxlan(wanted: Vxlan) -> Request:
    """Make the link, up."""
    data = (
        codec.u32(_ID, wanted.vni),
        codec.attribute(_LOCAL if wanted.local.version == 4 else _LOCAL6, wanted.local.packed),
        codec.u8(_LEARNING, 0),
        codec.u16be(_PORT, wanted.port),
    )
    info = codec.nested(_IFLA_LINKINFO, codec.string(_INFO_KIND, _KIND), codec.nested(_INFO_DATA, *data))
    header = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP)
    return Request(
        RTM_NEWLINK,
        codec.NLM_F_CREATE | codec.NLM_F_EXCL,
        header + codec.string(_IFLA_IFNAME, wanted.name) + _shape(wanted) + info,
    )


def reshape(index: int, wanted: Vxlan) -> Request:
    """Have the link the MTU and MAC that are wanted, and up."""
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP) + _shape(wanted))


def _shape(wanted: Vxlan) -> bytes:
    return codec.attribute(_IFLA_ADDRESS, wanted.mac) + codec.u32(_IFLA_MTU, wanted.mtu)


def forwarding_entry(link: int, mac: bytes, remote: IPAddress) -> Request:
    """Frames to ``mac`` go to the machine ``remote``; put in place of another entry for the MAC."""
    flags = codec.NLM_F_CREATE | codec.NLM_F_REPLACE
    return Request(RTM_NEWNEIGH, flags, _entry(link, mac) + codec.attribute(_NDA_DST, remote.packed))


def forwarding_entry_delete(link: int, mac: bytes) -> Request:
    return Request(RTM_DELNEIGH, 0, _entry(link, mac), frozenset((errno.ENOENT,)))


def _entry(link: int, mac: bytes) -> bytes:
    header = _NEIGHBOUR.pack(_AF_BRIDGE, 0, 0, link, _PERMANENT_NO_ARP, _NTF_SELF, 0)
    return header + codec.attribute(_NDA_LLADDR, mac)


class VxlanSocket(RouteSocket):
    """A socket for routes that knows VXLAN links too, and what is below them."""

    def link_with(self, address: IPAddress) -> tuple[int, int] | None:
        """Index and MTU of the link that has the address."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        index = 0
        for answer in self._socket.dump(RTM_GETADDR, _ADDRESS.pack(family, 0, 0, 0, 0)):
            found = codec.parse(answer.payload[_ADDRESS.size :])
            if (found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)) == address.packed:
                index = _ADDRESS.unpack_from(answer.payload)[4]
        if not index:
            return None
        answer = self._socket.request(RTM_GETLINK, _LINK.pack(0, 0, index, 0, 0))[0]
        return index, struct.unpack("=I", codec.parse(answer.payload[_LINK.size :])[_IFLA_MTU])[0]

    def vxlan(self, name: str) -> FoundVxlan | None:
        """The link of that name. Raises LinkTaken when it is of another kind."""
        try:
            payload = _LINK.pack(0, 0, 0, 0, 0) + codec.string(_IFLA_IFNAME, name)
            answer = self._socket.request(RTM_GETLINK, payload)[0]
        except KernelRefused as refused:
            if refused.errno == errno.ENODEV:
                return None
            raise
        _, _, index, flags, _ = _LINK.unpack_from(answer.payload)
        found = codec.parse(answer.payload[_LINK.size :])
        info = codec.parse(found.get(_IFLA_LINKINFO, b""))
        if codec.text(info.get(_INFO_KIND, b"")) != _KIND:
            raise LinkTaken(f"link {name!r} is there and is no VXLAN link: it is not ours to use")
        return FoundVxlan(index, bool(flags & IFF_UP), _vxlan(name, found, codec.parse(info[_INFO_DATA])))

    def forwarding_entries(self, link: int) -> Iterator[tuple[bytes, IPAddress]]:
        """(MAC, machine) of each entry that was told to the link."""
        for answer in self._socket.dump(RTM_GETNEIGH, _NEIGHBOUR.pack(_AF_BRIDGE, 0, 0, link, 0, 0, 0)):
            _, _, _, index, _, _, _ = _NEIGHBOUR.unpack_from(answer.payload)
            found = codec.parse(answer.payload[_NEIGHBOUR.size :])
            if index == link and _NDA_DST in found and _NDA_LLADDR in found:
                yield found[_NDA_LLADDR], ip_address(found[_NDA_DST])


def _vxlan(name: str, link: dict[int, bytes], data: dict[int, bytes]) -> Vxlan:
    local = data.get(_LOCAL) or data.get(_LOCAL6) or bytes(4)
    return Vxlan(
        name=name,
        vni=struct.unpack("=I", data[_ID])[0],
        port=int.from_bytes(data[_PORT], "big"),
        local=ip_address(local),
        mac=link.get(_IFLA_ADDRESS, b""),
        mtu=struct.unpack("=I", link[_IFLA_MTU])[0],
    )
