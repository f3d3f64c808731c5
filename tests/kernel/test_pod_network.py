"""The way to pods of other machines in the real kernel: who reaches whom, how large packets may be, and what is left."""

from __future__ import annotations

import errno
import secrets
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from kernel.clusters import wait_for
from kernel.machines import ETH0, Machine, Machines, machines
from nodeport.netlink import route, vxlan
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import IPAddress, RouteSocket, VethEnd
from nodeport.netlink.vxlan import LinkTaken, VxlanSocket
from nodeport.node import namespaces, network
from nodeport.node.namespaces import NamespaceFile
from nodeport.node.podnetwork import kernel
from nodeport.node.podnetwork.kernel import Setup
from nodeport.node.podnetwork.plan import LINK, Mode, Peer, Way, tunnel_mac

ROUTES, VXLAN = Way(Mode.ROUTES), Way(Mode.VXLAN)
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24
HEADERS = {4: 28, 6: 48}
"""Bytes of IP and UDP."""


@dataclass(frozen=True)
class Pod:
    netns: Path
    addresses: dict[int, IPAddress]


def setup(machine: Machine, way: Way) -> Setup:
    return Setup(machine.netns, machine.address, machine.pod_cidrs, way)


def peers(found: Machines, own: Machine) -> list[Peer]:
    return [Peer(each.name, (each.address,), each.pod_cidrs) for each in found.members if each is not own]


def join(found: Machines, way: Way) -> None:
    """What the agents do."""
    for machine in found.members:
        kernel.ensure(setup(machine, way), peers(found, machine))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def add_pod(stack: ExitStack, machine: Machine, mtu: int) -> Pod:
    """As an agent makes them: a /32, a /128, and a gateway that a neighbour entry stands for."""
    path = namespaces.NETNS_ROOT / f"{machine.netns.name}.{secrets.token_hex(3)}"
    namespaces.create([NamespaceFile("net", path)], lambda: None)
    stack.callback(namespaces.remove, path)
    addresses = {cidr.version: cidr[2] for cidr in machine.pod_cidrs}
    mac = b"\x0a\x58" + addresses[4].packed
    with (
        RouteSocket(machine.netns) as node,
        RouteSocket(path) as inside,
        network.open_namespace(path) as target,
    ):
        node.apply(
            [
                route.veth(
                    VethEnd("eth0", mac, index=ETH0, netns=target), VethEnd("pod", network.GATEWAY_MAC), mtu
                )
            ]
        )
        link = node.link("pod")
        assert link is not None
        node.apply([route.link_up(link.index)])
        inside.apply([route.link_up(1), route.link_up(ETH0)])
        for version, address in addresses.items():
            gateway = ip_address("169.254.1.1" if version == 4 else "fe80::1")
            inside.apply([
                route.address(ETH0, ip_interface(address)), route.route(ip_network(gateway), link=ETH0),
                route.route(network_of_all(version), gateway=gateway, link=ETH0),
                route.neighbour(ETH0, gateway, network.GATEWAY_MAC),
            ])  # fmt: skip
            node.apply(
                [route.route(ip_network(address), link=link.index), route.neighbour(link.index, address, mac)]
            )
    return Pod(path, addresses)


def network_of_all(version: int) -> route.IPNetwork:
    return ip_network("0.0.0.0/0" if version == 4 else "::/0")


def datagrams(netns: Path, version: int) -> socket.socket:
    """A UDP socket that forbids fragments."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    made = open_in(netns, lambda: socket.socket(family, socket.SOCK_DGRAM))
    made.settimeout(20)
    if version == 4:
        made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
    return made


def seen_from(sender: Path, receiver: Path, address: IPAddress, size: int) -> str:
    """The address from which one whole packet of ``size`` bytes, headers included, arrives.

    Sent until it does: links that are new may lose one, since the kernel begins to use them on its own time. Raises
    PacketTooLarge.
    """
    version = address.version
    with datagrams(receiver, version) as listening, datagrams(sender, version) as sending:
        listening.bind((str(address), 0))
        listening.settimeout(0.5)
        sending.connect((str(address), listening.getsockname()[1]))

        def arrived() -> tuple[bytes, tuple[str, int]]:
            try:
                sending.send(bytes(size - HEADERS[version]))
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    raise PacketTooLarge from error
                raise
            return listening.recvfrom(65536)

        data, source = wait_for(arrived, "the packet")
        assert len(data) == size - HEADERS[version]
        return str(source[0])


class PacketTooLarge(Exception):
    """The sender's own link does not take it."""


CASES = [
    pytest.param(ROUTES, False, 4, 1500, id="routes"),
    pytest.param(VXLAN, False, 4, 1450, id="vxlan-on-one-subnet"),
    pytest.param(VXLAN, True, 4, 1450, id="vxlan-through-a-router"),
    pytest.param(VXLAN, True, 6, 1430, id="vxlan-through-an-ipv6-router"),
]


@pytest.mark.parametrize(("way", "routed", "underlay", "mtu"), CASES)
def test_pods_reach_pods_elsewhere_with_their_own_addresses_and_full_packets(
    stack: ExitStack, way: Way, routed: bool, underlay: int, mtu: int
) -> None:
    found = stack.enter_context(machines(3, routed=routed, version=underlay))
    join(found, way)
    assert {kernel.pod_mtu(setup(machine, way)) for machine in found.members} == {mtu}
    pods = [add_pod(stack, machine, mtu) for machine in found.members]
    versions = [underlay] if way is ROUTES else [4, 6]
    for version in versions:
        for one in pods:
            for other in pods:
                if one is not other:
                    source = seen_from(one.netns, other.netns, other.addresses[version], mtu)
                    assert source == str(one.addresses[version])
        with pytest.raises(PacketTooLarge):
            seen_from(pods[0].netns, pods[1].netns, pods[1].addresses[version], mtu + 1)
        machine = found.members[0]
        from_node = seen_from(machine.netns, pods[1].netns, pods[1].addresses[version], mtu)
        own = machine.address if way is ROUTES else machine.pod_cidrs[0 if version == 4 else 1][1]
        assert from_node == str(own)


def refuses(sending: socket.socket, size: int) -> bool:
    try:
        sending.send(bytes(size))
    except OSError as error:
        return error.errno == errno.EMSGSIZE
    return False


@pytest.mark.parametrize("version", [4, 6])
def test_whoever_sends_too_much_into_the_tunnel_is_told_how_much_it_takes(
    stack: ExitStack, version: int
) -> None:
    found = stack.enter_context(machines(2, routed=True))
    join(found, VXLAN)
    large, other = add_pod(stack, found.members[0], 1500), add_pod(stack, found.members[1], 1450)
    address = other.addresses[version]
    with datagrams(large.netns, version) as sending:
        sending.connect((str(address), 9))
        sending.send(bytes(1500 - HEADERS[version]))
        wait_for(lambda: refuses(sending, 1500 - HEADERS[version]), "the news of the path's MTU")
        level, option = (socket.IPPROTO_IP, IP_MTU) if version == 4 else (socket.IPPROTO_IPV6, IPV6_MTU)
        assert sending.getsockopt(level, option) == 1450


def state(machine: Machine) -> tuple[list[str], list[str], list[str]]:
    """All routes, what the tunnel's link is told, and the links, in words."""
    with VxlanSocket(machine.netns) as inside:
        routes = [str(each) for version in (4, 6) for each in inside.all_routes(version)]
        found = inside.vxlan(LINK)
        told = []
        if found is not None:
            told = [str(each) for each in inside.forwarding_entries(found.index)]
            told += [
                str(each) for v in (4, 6) for each in inside.neighbours(found.index, v) if each.permanent
            ]
            told += [str(each) for v in (4, 6) for each in inside.interfaces(v, found.index)]
        links = list(inside.links())
    rules = ["ip", "netns", "exec", machine.netns.name, "nft", "list", "ruleset"]
    told.append(subprocess.run(rules, capture_output=True, text=True, check=True).stdout)
    return sorted(routes), sorted(told), sorted(links)


@pytest.mark.parametrize("way", [ROUTES, VXLAN], ids=["routes", "vxlan"])
def test_it_mends_what_was_taken_and_leaves_what_is_as_it_should_be(stack: ExitStack, way: Way) -> None:
    found = stack.enter_context(machines(3, routed=False))
    join(found, way)
    machine = found.members[0]
    whole = state(machine)
    with VxlanSocket(machine.netns) as inside:
        before = inside.vxlan(LINK)
    join(found, way)
    assert state(machine) == whole
    with VxlanSocket(machine.netns) as inside:
        assert inside.vxlan(LINK) == before
        victims = [route.route_delete(found.members[1].pod_cidrs[0], protocol=route.RTPROT_PEERS)]
        if before is not None:
            mac, _ = next(inside.forwarding_entries(before.index))
            victims += [
                vxlan.forwarding_entry_delete(before.index, mac), route.link_down(before.index),
                route.neighbour_delete(before.index, found.members[1].pod_cidrs[0][1]),
                route.address_delete(before.index, ip_interface(machine.pod_cidrs[0][1])),
            ]  # fmt: skip
        inside.apply(victims)
    assert state(machine) != whole
    join(found, way)
    assert state(machine) == whole


@pytest.mark.parametrize("way", [ROUTES, VXLAN], ids=["routes", "vxlan"])
def test_a_node_that_went_is_forgotten_and_all_can_be_taken_away(stack: ExitStack, way: Way) -> None:
    found = stack.enter_context(machines(3, routed=False))
    machine, gone = found.members[0], found.members[2]
    before = state(machine)
    join(found, way)
    left = Machines(found.outside, found.members[:2])
    kernel.ensure(setup(machine, way), peers(left, machine))
    words = "".join(map(str, state(machine)[0] + state(machine)[1]))
    assert str(found.members[1].pod_cidrs[0]) in words
    assert str(gone.pod_cidrs[0]) not in words
    assert str(gone.address) not in words
    assert kernel.remove(machine.netns)
    assert state(machine) == before
    assert not kernel.remove(machine.netns)


def test_the_way_can_be_changed_and_changed_back(stack: ExitStack) -> None:
    found = stack.enter_context(machines(2, routed=False))
    pods = [add_pod(stack, machine, 1450) for machine in found.members]
    for way in (ROUTES, VXLAN, replace(VXLAN, vni=99, port=8472), ROUTES):
        join(found, way)
        source = seen_from(pods[0].netns, pods[1].netns, pods[1].addresses[4], 1450)
        assert source == str(pods[0].addresses[4])
    assert LINK not in state(found.members[0])[2]


def test_what_others_made_is_left_alone(stack: ExitStack) -> None:
    found = stack.enter_context(machines(2, routed=False))
    machine, other = found.members
    foreign = other.pod_cidrs[0]
    with RouteSocket(machine.netns) as inside:
        inside.apply([route.route(foreign, gateway=machine.gateway)])
        done = kernel.ensure(setup(machine, ROUTES), peers(found, machine))
        assert "somebody else made" in done.plan.refusals[0].message
        kernel.remove(machine.netns)
        assert [each.gateway for each in inside.routes() if each.destination == foreign] == [machine.gateway]
        inside.apply(
            [route.veth(VethEnd(LINK, b"\x0a\0\0\0\0\7", index=77), VethEnd("y", b"\x0a\0\0\0\0\x08"), 1500)]
        )
    with pytest.raises(LinkTaken, match="not ours"):
        kernel.ensure(setup(machine, VXLAN), peers(found, machine))


@pytest.mark.parametrize("underlay", [4, 6])
def test_strangers_cannot_put_packets_into_the_tunnel(stack: ExitStack, underlay: int) -> None:
    """A host beside the machines wraps a frame as a node would: a datagram from one pod to another."""
    found = stack.enter_context(machines(2, routed=False, version=underlay))
    join(found, VXLAN)
    victim = found.members[0]
    pods = [add_pod(stack, machine, 1400) for machine in found.members]
    with datagrams(pods[0].netns, 4) as listening:
        listening.bind((str(pods[0].addresses[4]), 0))
        port = listening.getsockname()[1]
        inner = frame(tunnel_mac(victim.address), pods[1].addresses[4], pods[0].addresses[4], port)
        wrapped = struct.pack("!II", 0x08000000, VXLAN.vni << 8) + inner

        def send(netns: Path) -> None:
            with datagrams(netns, underlay) as sending:
                sending.sendto(wrapped, (str(victim.address), VXLAN.port))

        def comes_from(netns: Path) -> bool:
            send(netns)
            return listening.recv(10) == b"hello"

        listening.settimeout(0.5)
        wait_for(lambda: comes_from(found.members[1].netns), "a node's packet")
        for stranger in (found.outside, pods[0].netns) if underlay == 4 else (found.outside,):
            with pytest.raises(TimeoutError):
                comes_from(stranger)


def frame(mac: bytes, source: IPAddress, target: IPAddress, port: int) -> bytes:
    """A datagram ``hello`` in IPv4 and Ethernet."""
    udp = struct.pack("!HHHH", 9, port, 8 + 5, 0) + b"hello"
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source.packed, target.packed)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = struct.pack("!H", ~total & 0xFFFF)
    return mac + b"\x0a\0\0\0\0\x09" + b"\x08\0" + head[:10] + checksum + head[12:] + udp


def test_a_machine_without_the_nodes_address_is_told_so(stack: ExitStack) -> None:
    found = stack.enter_context(machines(1, routed=False))
    wrong = replace(setup(found.members[0], VXLAN), address=IPv4Address("192.0.2.200"))
    with pytest.raises(kernel.AddressMissing, match="192.0.2.200"):
        kernel.pod_mtu(wrong)
