"""The bytes of requests, as the structures of the kernel's headers lay them out."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from nodeport.netlink import codec, route


def test_an_address_is_both_local_and_peer() -> None:
    request = route.address(2, IPv4Interface("172.30.0.11/22"))
    assert request.kind == route.RTM_NEWADDR
    assert request.payload == bytes.fromhex(
        "02160000 02000000 0800 0200 ac1e000b 0800 0100 ac1e000b".replace(" ", "")
    )


def test_a_gateway_route_has_universe_scope_and_our_protocol() -> None:
    request = route.route(IPv4Network("10.244.2.0/24"), gateway=IPv4Address("172.30.0.12"))
    header, rest = request.payload[:12], request.payload[12:]
    assert header == bytes((2, 24, 0, 0, 254, route.RTPROT_NODEPORT, 0, 1)) + bytes(4)
    assert codec.parse(rest) == {1: bytes((10, 244, 2, 0)), 5: bytes((172, 30, 0, 12))}


def test_a_direct_route_has_link_scope_and_its_source() -> None:
    request = route.route(IPv4Network("10.244.1.2"), link=7, source=IPv4Address("172.30.0.11"))
    assert request.payload[6] == 253
    assert codec.parse(request.payload[12:]) == {
        1: bytes((10, 244, 1, 2)), 4: struct.pack("=I", 7), 7: bytes((172, 30, 0, 11)),
    }  # fmt: skip


def test_a_permanent_neighbour() -> None:
    request = route.neighbour(2, IPv4Address("169.254.1.1"), bytes.fromhex("0a5800000001"))
    assert request.payload[:12] == struct.pack("=BBHiHBB", 2, 0, 0, 2, 0x80, 0, 1)
    assert codec.parse(request.payload[12:]) == {1: bytes((169, 254, 1, 1)), 2: bytes.fromhex("0a5800000001")}


def test_a_veth_pair_nests_its_peer_and_only_the_near_end_is_up() -> None:
    near = route.VethEnd("port", b"\1" * 6, master=2)
    request = route.veth(near, route.VethEnd("eth0", b"\2" * 6, index=2, netns=9), 1500)
    outer = codec.parse(request.payload[16:])
    assert struct.unpack("=BxHiII", request.payload[:16])[3:] == (1, 1)
    assert (outer[3], outer[10]) == (b"port\0", struct.pack("=I", 2))
    info = codec.parse(outer[18])
    assert info[1] == b"veth\0"
    peer = codec.parse(info[2])[1]
    assert struct.unpack("=BxHiII", peer[:16]) == (0, 0, 2, 0, 0)
    assert codec.parse(peer[16:]) == {
        1: b"\2" * 6, 3: b"eth0\0", 4: struct.pack("=I", 1500), 28: struct.pack("=I", 9),
    }  # fmt: skip


def test_what_ipv6_needs_has_its_family_and_asks_nobody_for_the_address() -> None:
    address = route.address(2, IPv6Interface("fd00::1/128")).payload
    assert address[:8] == struct.pack("=BBBBI", 10, 128, 0, 0, 2)
    assert codec.parse(address[8:])[8] == struct.pack("=I", 2)
    onward = route.route(
        IPv6Network("fd00:2::/64"), link=7, gateway=IPv6Address("fd00:2::1"), onlink=True
    ).payload
    assert onward[:12] == bytes((10, 64, 0, 0, 254, route.RTPROT_NODEPORT, 0, 1)) + struct.pack("=I", 4)
    assert codec.parse(onward[12:]) == {
        1: IPv6Address("fd00:2::").packed, 4: struct.pack("=I", 7), 5: IPv6Address("fd00:2::1").packed,
    }  # fmt: skip
    assert route.neighbour(2, IPv6Address("fd00:2::1"), b"\1" * 6).payload[0] == 10
