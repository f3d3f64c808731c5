"""Local routes and the link they go over, as the structures of the kernel's headers lay them out."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network

import pytest

from nodeport.netlink import codec, localroute, route
from nodeport.netlink.localroute import LocalRoute


@pytest.mark.parametrize(
    ("network", "source", "family", "scope"),
    [("10.96.0.0/16", "172.31.7.11", 2, 254), ("fd00:96::/112", "fd00:172::11", 10, 0)],
    ids=["IPv4", "IPv6"],
)
def test_a_local_route_is_in_the_table_local_and_ours(
    network: str, source: str, family: int, scope: int
) -> None:
    wanted = LocalRoute(ip_network(network), ip_address(source))
    request = localroute.add(7, wanted)
    prefix = wanted.network.prefixlen
    assert request.payload[:12] == bytes((family, prefix, 0, 0, 255, 78, scope, 2)) + bytes(4)
    assert codec.parse(request.payload[12:]) == {
        1: wanted.network.network_address.packed,
        4: struct.pack("=I", 7),
        7: ip_address(source).packed,
    }


def test_a_removal_names_link_and_protocol_so_that_it_hits_none_but_ours() -> None:
    request = localroute.remove(7, ip_network("192.0.2.1"))
    assert request.kind == route.RTM_DELROUTE
    assert request.payload[:12] == bytes((2, 32, 0, 0, 255, 78, 254, 2)) + bytes(4)
    assert codec.parse(request.payload[12:]) == {1: bytes((192, 0, 2, 1)), 4: struct.pack("=I", 7)}


def test_the_link_is_a_dummy_without_arp_that_gives_itself_no_address() -> None:
    made, described, up = localroute.dummy("np-ipvs4", "before: x=1")
    assert struct.unpack("=BxHiII", made.payload[:16]) == (0, 0, 0, 0x80, 0x80)
    parts = codec.parse(made.payload[16:])
    assert parts[3] == b"np-ipvs4\0"
    assert codec.parse(parts[18]) == {1: b"dummy\0"}
    parts = codec.parse(described.payload[16:])
    assert parts[20] == b"before: x=1\0"
    assert codec.parse(codec.parse(parts[26])[10]) == {8: b"\1"}
    assert struct.unpack("=BxHiII", up.payload[:16])[3:] == (route.IFF_UP, route.IFF_UP)
