"""Fabric, nodes and pods in the real kernel: who reaches whom, by which way, and that all of it mends and goes away."""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_interface
from pathlib import Path

import pytest

from nodeport.netlink import route
from nodeport.netlink.namespace import family_of, open_in
from nodeport.netlink.route import RouteSocket
from nodeport.node import local, namespaces, network
from nodeport.node.addresses import ClusterPlan, IPAddress, IPNetwork, free_fabric, free_pod_network
from nodeport.node.podnetwork import kernel as podnetwork
from nodeport.node.podnetwork.kernel import Setup
from nodeport.node.podnetwork.plan import Peer

DUAL = (4, 6)
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2
"""``linux/in.h``, ``in6.h``: the socket module has no names for them."""


def planned(size: int, versions: Sequence[int] = DUAL) -> ClusterPlan:
    """A plan that nobody else has."""
    taken = network.taken_networks()
    fabrics = tuple(free_fabric(taken, version) for version in versions)
    pods = tuple(free_pod_network(taken, version) for version in versions)
    return ClusterPlan(f"t{secrets.token_hex(4)}", fabrics, pods, size)


@pytest.fixture
def plan(version: int) -> Iterator[ClusterPlan]:
    """Two nodes with addresses of both families, that of ``version`` first; whatever is made of it is removed."""
    with local.locked():
        found = planned(2, (version, 10 - version))
        network.ensure_cluster(found)
    yield found
    network.remove_cluster(found.name)
    assert network.cluster_netns(found.name) == []
    assert not network.host_has_link(network.host_link(found.name))


both_families = pytest.mark.parametrize("version", DUAL, ids=("IPv4", "IPv6"))


def netns(plan: ClusterPlan, number: int) -> Path:
    return network.node_netns(plan.name, plan.node(number).name)


def add_pod(plan: ClusterPlan, number: int, last: int) -> tuple[Path, IPAddress]:
    """The namespace of a pod of node ``number``, and its primary address, the ``last``-th of the node's."""
    node, pod_id = plan.node(number), f"{number}{last:011d}"
    path, addresses = network.pod_netns(plan.name, pod_id), [cidr[last] for cidr in node.pod_cidrs]
    if not namespaces.exists(path):
        network.create_pod_namespaces({"net": path}, None, plan.versions)
    network.ensure_pod(netns(plan, number), path, pod_id, addresses, node.addresses)
    return path, addresses[0]


def join(plan: ClusterPlan) -> None:
    """What the agents do: routes to the other node's pods."""
    for number, other in ((1, 2), (2, 1)):
        peer = plan.node(other)
        podnetwork.ensure(setup_of(plan, number), [Peer(peer.name, peer.addresses, peer.pod_cidrs)])


def setup_of(plan: ClusterPlan, number: int) -> Setup:
    node = plan.node(number)
    return Setup(netns(plan, number), node.address, node.pod_cidrs)


def tcp_to(address: IPAddress) -> socket.socket:
    sock = socket.socket(family_of(str(address)))
    sock.settimeout(20)
    return sock


def listening(address: IPAddress) -> socket.socket:
    return socket.create_server((str(address), 0), family=family_of(str(address)))


def peer_seen(server: Path | None, address: IPAddress, client: Path | None) -> str:
    """The address from which a TCP connection of ``client`` arrives at ``address`` in ``server``."""
    with open_in(server, lambda: listening(address)) as listener:
        port = listener.getsockname()[1]
        with open_in(client, lambda: tcp_to(address)) as sock:
            sock.connect((str(address), port))
            accepted, peer = listener.accept()
            accepted.close()
            return str(peer[0])


@both_families
def test_pods_reach_pods_nodes_and_the_host_with_their_own_address(plan: ClusterPlan) -> None:
    join(plan)
    one, first = add_pod(plan, 1, 2)
    neighbour, second = add_pod(plan, 1, 3)
    far, third = add_pod(plan, 2, 2)
    for server, address in (
        (neighbour, second), (far, third), (netns(plan, 1), plan.node(1).address),
        (netns(plan, 2), plan.node(2).address), (None, plan.host),
    ):  # fmt: skip
        assert peer_seen(server, address, one) == str(first)


def test_links_that_the_kernel_puts_into_every_namespace_are_in_nobodys_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As ``sit0``, ``tunl0`` and ``gre0`` are, where their modules are loaded."""
    make = namespaces.create

    def crowd() -> None:
        """In the namespace that the thread is in."""
        with RouteSocket() as inside:
            for index in range(2, 40, 2):
                mac = b"\x0a\0\0\0\0"
                left = route.VethEnd(f"x{index}", mac + bytes([index]), index=index)
                right = route.VethEnd(f"y{index}", mac + bytes([index + 1]), index=index + 1)
                inside.apply([route.veth(left, right, 1500)])

    def crowded(files: Sequence[namespaces.NamespaceFile], set_up: Callable[[], None]) -> None:
        make(files, lambda: (set_up(), crowd())[0])

    monkeypatch.setattr(namespaces, "create", crowded)
    with local.locked():
        plan = planned(2)
        network.ensure_cluster(plan)
    try:
        join(plan)
        one, first = add_pod(plan, 1, 2)
        far, address = add_pod(plan, 2, 2)
        assert peer_seen(far, address, one) == str(first)
    finally:
        network.remove_cluster(plan.name)


@both_families
def test_nodes_and_the_host_reach_pods_everywhere(plan: ClusterPlan) -> None:
    join(plan)
    pod, address = add_pod(plan, 2, 2)
    assert peer_seen(pod, address, netns(plan, 1)) == str(plan.node(1).address)
    assert peer_seen(pod, address, netns(plan, 2)) == str(plan.node(2).address)
    assert peer_seen(pod, address, None) == str(plan.host)


@both_families
def test_traffic_between_pods_of_one_node_passes_the_nodes_netfilter(plan: ClusterPlan) -> None:
    one, _ = add_pod(plan, 1, 2)
    other, address = add_pod(plan, 1, 3)
    rules = "table inet t { chain c { type filter hook forward priority 0; tcp sport 1-65535 drop; }; }"
    command = ["ip", "netns", "exec", netns(plan, 1).name, "nft", rules]
    subprocess.run(command, check=True)
    with (
        open_in(other, lambda: listening(address)) as listener,
        open_in(one, lambda: tcp_to(address)) as sock,
    ):
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.connect((str(address), listener.getsockname()[1]))


@both_families
def test_a_pod_cannot_send_from_an_address_of_another(plan: ClusterPlan) -> None:
    liar, _ = add_pod(plan, 1, 2)
    listener_pod, address = add_pod(plan, 1, 3)
    stolen = plan.node(1).pod_cidrs[0][9]
    with RouteSocket(liar) as inside:
        inside.apply([route.address(network.UPLINK_INDEX, ip_interface(stolen))])

    def udp() -> socket.socket:
        sock = socket.socket(family_of(str(stolen)), socket.SOCK_DGRAM)
        sock.settimeout(0.3)
        return sock

    with open_in(listener_pod, udp) as receiver, open_in(liar, udp) as sender:
        receiver.bind((str(address), 5000))
        sender.bind((str(stolen), 0))
        sender.sendto(b"x", (str(address), 5000))
        with pytest.raises(TimeoutError):
            receiver.recv(10)


@both_families
def test_an_address_without_a_pod_is_unreachable_at_once(plan: ClusterPlan) -> None:
    pod, _ = add_pod(plan, 1, 2)
    nobody = plan.node(1).pod_cidrs[0][200]
    with (
        open_in(pod, lambda: tcp_to(nobody)) as sock,
        pytest.raises(OSError, match="No route to host|Network is unreachable"),
    ):
        sock.connect((str(nobody), 80))


@both_families
def test_what_was_taken_away_is_mended(plan: ClusterPlan) -> None:
    pod, address = add_pod(plan, 1, 2)
    with RouteSocket(netns(plan, 1)) as node:
        for name in (network.UPLINK, network.pod_link(pod.name.rpartition(".")[2])):
            link = node.link(name)
            assert link is not None
            node.apply([route.link_delete(link.index)])
    with RouteSocket() as host:
        host.apply(list(map(route.route_delete, plan.node(2).pod_cidrs)))
        network.ensure_cluster(plan)
        routes = {found.destination for version in DUAL for found in host.routes(version)}
        assert routes >= {cidr for node in plan.nodes for cidr in node.pod_cidrs}
    add_pod(plan, 1, 2)
    assert peer_seen(pod, address, None) == str(plan.host)
    network.remove_node(plan.name, "node-2")
    network.ensure_cluster(plan)
    assert peer_seen(netns(plan, 2), plan.node(2).address, netns(plan, 1)) == str(plan.node(1).address)


@both_families
def test_routes_that_are_not_wanted_any_more_go(plan: ClusterPlan) -> None:
    join(plan)
    podnetwork.ensure(setup_of(plan, 1), [])
    with RouteSocket(netns(plan, 1)) as node:
        found = {each.destination for version in DUAL for each in node.routes(version)}
    assert {each for each in found if not each.is_link_local} == {*network.ANYWHERE.values(), *plan.fabrics}


def test_twenty_nodes_are_made_well_within_a_second() -> None:
    with local.locked():
        plan = planned(20)
        try:
            began = time.process_time()
            network.ensure_cluster(plan)
            assert time.process_time() - began < 1.0
            assert len(network.cluster_netns(plan.name)) == 21
        finally:
            network.remove_cluster(plan.name)


@both_families
def test_a_full_sized_packet_fits_all_the_way_to_a_pod_of_another_node(
    plan: ClusterPlan, version: int
) -> None:
    join(plan)
    one, first = add_pod(plan, 1, 2)
    far, address = add_pod(plan, 2, 2)
    assert peer_seen(far, address, one) == str(first)  # TCP tries again: links that are new may lose a packet
    room = network.MTU - (20 if version == 4 else 40) - 8

    def whole_datagrams(own: IPAddress) -> socket.socket:
        """None is cut into fragments."""
        sock = socket.socket(family_of(str(own)), socket.SOCK_DGRAM)
        level, option = (
            (socket.IPPROTO_IP, IP_MTU_DISCOVER) if version == 4 else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
        )
        sock.setsockopt(level, option, PMTUDISC_DO)
        sock.settimeout(20)
        sock.bind((str(own), 0))
        return sock

    with (
        open_in(far, lambda: whole_datagrams(address)) as server,
        open_in(one, lambda: whole_datagrams(first)) as client,
    ):
        client.connect(server.getsockname()[:2])
        client.send(bytes(room))
        data, source = server.recvfrom(network.MTU)
        server.sendto(data, source)
        assert len(client.recv(network.MTU)) == room
        with pytest.raises(OSError, match="Message too long"):
            client.send(bytes(room + 1))


def test_a_cluster_of_one_family_has_no_address_of_the_other() -> None:
    for versions in ((4,), (6,)):
        with local.locked():
            plan = planned(2, versions)
            network.ensure_cluster(plan)
        try:
            join(plan)
            one, first = add_pod(plan, 1, 2)
            far, third = add_pod(plan, 2, 2)
            assert peer_seen(far, third, one) == str(first)
            assert peer_seen(far, third, None) == str(plan.host)
            for place in (one, netns(plan, 1)):
                with RouteSocket(place) as inside:
                    own = {found.ip for version in DUAL for found in inside.interfaces(version)}
                ours = [each for each in own if not each.is_loopback]
                assert {each.version for each in ours} == set(versions), ours
        finally:
            network.remove_cluster(plan.name)


def test_clusters_side_by_side_share_no_address() -> None:
    with local.locked():
        one = planned(1)
        network.ensure_cluster(one)
        try:
            other = planned(1)
            mine: set[IPNetwork] = {*one.fabrics, *one.pods}
            assert not mine & {*other.fabrics, *other.pods}
            network.ensure_cluster(other)
            for plan in (one, other):
                for version in range(2):
                    pod, address = add_pod(plan, 1, 2 + version)
                    assert peer_seen(pod, address, None) == str(plan.host)
        finally:
            network.remove_cluster(one.name)
            network.remove_cluster(other.name)


def test_an_empty_file_in_place_of_a_namespace_is_replaced(tmp_path: Path) -> None:
    path = network.NETNS_ROOT / f"np.t{secrets.token_hex(4)}.fabric"
    namespaces.prepare_netns_root()
    path.touch()
    try:
        assert not namespaces.exists(path)
        namespaces.create([namespaces.NamespaceFile("net", path)], lambda: None)
        assert namespaces.exists(path)
    finally:
        assert namespaces.remove(path)
    assert not path.exists()
    assert not namespaces.remove(path)
