"""What a node's kernel is to know of other nodes' pods, and what it is told."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from nodeport.netlink import route, vxlan
from nodeport.netlink.codec import Message
from nodeport.netlink.route import RTPROT_PEERS, Neighbour, Route
from nodeport.node.podnetwork.diff import Found, changes
from nodeport.node.podnetwork.plan import (
    Mode,
    Peer,
    Place,
    Plan,
    peer_of,
    peers_of,
    plan,
    tunnel_mac,
    tunnel_mtu,
)
from nodeport.node.podnetwork.watch import matters

HERE = Place(
    ip_address("192.0.2.11"),
    (ip_network("10.201.1.0/24"), ip_network("fd00:1::/64")),
    (ip_network("192.0.2.0/24"),),
)
V4, V6 = ip_network("10.201.2.0/24"), ip_network("fd00:2::/64")


def peer(name: str = "m2", address: str = "192.0.2.12", *cidrs: str, since: str = "") -> Peer:
    networks = tuple(map(ip_network, cidrs or (str(V4), str(V6))))
    return Peer(name, (ip_address(address),), networks, since)


def test_plain_routes_lead_to_the_node_itself_and_need_its_address_of_that_family() -> None:
    found = plan(Mode.ROUTES, HERE, [peer()])
    assert found.routes == {V4: ip_address("192.0.2.12")}
    assert (found.neighbours, found.forwarding, found.addresses) == ({}, {}, frozenset())
    assert found.barriers == set(HERE.pod_cidrs)
    assert [each.message for each in found.refusals] == [
        f"no way to pods {V6} of node m2: the node has no InternalIP of IPv6"
    ]


def test_plain_routes_do_not_pass_routers_and_say_what_does() -> None:
    found = plan(Mode.ROUTES, HERE, [peer("far", "198.51.100.7", str(V4))])
    assert not found.routes
    assert "198.51.100.7 is on no subnet of this machine (192.0.2.0/24)" in found.refusals[0].message
    assert "--pod-network=vxlan" in found.refusals[0].message


def test_a_tunnel_end_is_known_by_the_nodes_address_alone() -> None:
    found = plan(Mode.VXLAN, HERE, [peer("far", "198.51.100.7")])
    mac = bytes.fromhex("0a58c6336407")
    assert found.routes == {V4: ip_address("10.201.2.1"), V6: ip_address("fd00:2::1")}
    assert found.neighbours == dict.fromkeys(found.routes.values(), mac)
    assert found.forwarding == {mac: ip_address("198.51.100.7")}
    assert found.addresses == {ip_interface("10.201.1.1/32"), ip_interface("fd00:1::1/128")}
    assert not found.refusals


def test_macs_are_ours_to_give_and_differ() -> None:
    macs = {tunnel_mac(ip_address(text)) for text in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")}
    assert len(macs) == 4
    assert all(mac[0] & 3 == 2 and len(mac) == 6 for mac in macs)  # locally administered, of one station


@pytest.mark.parametrize(("version", "mtu"), [(4, 1450), (6, 1430)])
def test_a_tunnel_takes_its_share_of_each_packet(version: int, mtu: int) -> None:
    assert tunnel_mtu(1500, version) == mtu


@pytest.mark.parametrize(
    ("greedy", "why"),
    [
        ("0.0.0.0/0", "overlap 10.201.1.0/24"),
        ("10.201.1.128/25", "overlap 10.201.1.0/24"),
        ("192.0.2.0/25", "overlap 192.0.2.0/24"),
        ("10.201.0.0/16", "overlap 10.201.1.0/24"),
    ],
)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_node_cannot_claim_what_is_this_ones(mode: Mode, greedy: str, why: str) -> None:
    found = plan(mode, HERE, [peer("greedy", "192.0.2.66", greedy)])
    assert not found.routes
    assert why in found.refusals[0].message


def test_of_two_nodes_that_claim_the_same_the_older_one_has_it() -> None:
    young = peer("a", "192.0.2.20", "10.201.2.128/25", since="2026-02-01T00:00:00Z")
    wide = peer("b", "192.0.2.21", "10.201.0.0/20", since="2026-03-01T00:00:00Z")
    old = peer("z", "192.0.2.22", str(V4), since="2026-01-01T00:00:00Z")
    found = plan(Mode.ROUTES, replace(HERE, pod_cidrs=()), [young, wide, old])
    assert found.routes == {V4: ip_address("192.0.2.22")}
    assert {each.node for each in found.refusals} == {"a", "b"}


def test_two_nodes_of_one_address_are_no_two_tunnel_ends() -> None:
    found = plan(Mode.VXLAN, HERE, [peer("twin", str(HERE.address))])
    assert not found.routes
    assert "this node's own" in found.refusals[0].message


def test_routes_of_others_are_left_alone() -> None:
    found = plan(Mode.ROUTES, replace(HERE, foreign=frozenset((V4, HERE.pod_cidrs[0]))), [peer()])
    assert "somebody else made" in found.refusals[0].message
    assert found.barriers == {HERE.pod_cidrs[1]}


def test_nodes_are_read_leniently() -> None:
    node: dict[str, Any] = {
        "metadata": {"name": "m2", "creationTimestamp": "then"},
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "nonsense"]},
        "status": {"addresses": [
            {"type": "Hostname", "address": "m2"}, {"type": "InternalIP", "address": "host.example"},
            {"type": "InternalIP", "address": "2001:db8::7"},
        ]},
    }  # fmt: skip
    assert peer_of(node) == Peer("m2", (ip_address("2001:db8::7"),), (ip_network("10.1.0.0/24"),), "then")
    old = {"metadata": {"name": "old"}, "spec": {"podCIDR": "10.2.0.0/24"}}
    assert [each.name for each in peers_of([node, old, {"metadata": {"name": "bare"}}], "m2")] == ["old"]


def as_found(wanted: Plan, link: int) -> Found:
    routes = [
        Route(network, gateway, link or 3, RTPROT_PEERS, onlink=bool(link))
        for network, gateway in wanted.routes.items()
    ]
    routes += [Route(network, None, 1, RTPROT_PEERS, reachable=False) for network in wanted.barriers]
    return Found(
        link, routes, addresses=list(wanted.addresses),
        neighbours=[Neighbour(ip, mac) for ip, mac in wanted.neighbours.items()],
        forwarding=list(wanted.forwarding.items()),
    )  # fmt: skip


@pytest.mark.parametrize(("mode", "link"), [(Mode.ROUTES, 0), (Mode.VXLAN, 9)])
def test_what_is_as_planned_is_not_touched_and_all_of_it_can_go(mode: Mode, link: int) -> None:
    wanted = plan(mode, HERE, [peer()])
    found = as_found(wanted, link)
    assert changes(wanted, found) == []
    assert {each.kind for each in changes(Plan(), found)} <= {
        route.RTM_DELROUTE, route.RTM_DELNEIGH, route.RTM_DELADDR
    }  # fmt: skip
    foreign = [replace(each, protocol=4) for each in found.routes]
    assert changes(Plan(), Found(routes=foreign)) == []


def test_no_route_is_made_before_its_gateway_is_known() -> None:
    kinds = [each.kind for each in changes(plan(Mode.VXLAN, HERE, [peer()]), Found(link=9))]
    first_route = kinds.index(route.RTM_NEWROUTE)
    assert (
        kinds[:first_route].count(route.RTM_NEWNEIGH) == 3
    )  # a forwarding entry, and a neighbour of each family
    assert set(kinds[first_route:]) == {route.RTM_NEWROUTE}


def test_a_node_that_moved_is_followed_before_the_old_place_is_forgotten() -> None:
    before, after = (
        plan(Mode.VXLAN, HERE, [peer("m2", address, str(V4))]) for address in ("192.0.2.12", "192.0.2.13")
    )
    found = changes(after, as_found(before, 9))
    assert found == [
        vxlan.forwarding_entry(9, tunnel_mac(ip_address("192.0.2.13")), ip_address("192.0.2.13")),
        route.neighbour(9, ip_address("10.201.2.1"), tunnel_mac(ip_address("192.0.2.13"))),
        vxlan.forwarding_entry_delete(9, tunnel_mac(ip_address("192.0.2.12"))),
    ]


def test_only_what_the_pod_network_consists_of_is_looked_at_again() -> None:
    def of_route(protocol: int) -> Message:
        return Message(
            route.RTM_DELROUTE, 0, 0, 0, struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, protocol, 0, 1, 0)
        )

    def of_link(index: int) -> Message:
        return Message(route.RTM_DELLINK, 0, 0, 0, struct.pack("=BxHiII", 0, 0, index, 0, 0))

    assert matters(of_route(RTPROT_PEERS), {9})
    assert not matters(of_route(route.RTPROT_NODEPORT), {9})
    assert matters(of_link(9), {9})
    assert not matters(of_link(8), {9})
    assert not matters(replace(of_route(RTPROT_PEERS), type=route.RTM_NEWROUTE), {9})
