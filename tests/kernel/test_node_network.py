"""Fabric, nodes and pods in the real kernel: who reaches whom, by which way, and that all of it mends and goes away."""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from nodeport.netlink import route
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import RouteSocket
from nodeport.node import local, namespaces, network
from nodeport.node.addresses import ClusterPlan, free_fabric, free_pod_network
from nodeport.node.podnetwork import kernel as podnetwork
from nodeport.node.podnetwork.kernel import Setup
from nodeport.node.podnetwork.plan import Peer


@pytest.fixture
def plan() -> Iterator[ClusterPlan]:
    """A plan of two nodes that nobody else has; whatever is made of it is removed."""
    name = f"t{secrets.token_hex(4)}"
    with local.locked():
        taken = network.taken_networks()
        found = ClusterPlan(name, free_fabric(taken), free_pod_network(taken), 2)
        network.ensure_cluster(found)
    yield found
    network.remove_cluster(name)
    assert network.cluster_netns(name) == []
    assert not network.host_has_link(network.host_link(name))


def netns(plan: ClusterPlan, number: int) -> Path:
    return network.node_netns(plan.name, plan.node(number).name)


def add_pod(plan: ClusterPlan, number: int, last: int) -> tuple[Path, IPv4Address]:
    node, pod_id = plan.node(number), f"{number}{last:011d}"
    path, address = network.pod_netns(plan.name, pod_id), node.pod_cidr[last]
    if not namespaces.exists(path):
        network.create_pod_namespaces({"net": path}, None)
    network.ensure_pod(netns(plan, number), path, pod_id, address, node.address)
    return path, address


def join(plan: ClusterPlan) -> None:
    """What the agents do: routes to the other node's pods."""
    for number, other in ((1, 2), (2, 1)):
        peer = plan.node(other)
        podnetwork.ensure(setup_of(plan, number), [Peer(peer.name, (peer.address,), (peer.pod_cidr,))])


def setup_of(plan: ClusterPlan, number: int) -> Setup:
    node = plan.node(number)
    return Setup(netns(plan, number), node.address, (node.pod_cidr,))


def peer_seen(server: Path | None, address: IPv4Address, client: Path | None) -> str:
    """The address from which a TCP connection of ``client`` arrives at ``address`` in ``server``."""
    with open_in(server, lambda: socket.create_server((str(address), 0))) as listener:
        port = listener.getsockname()[1]
        with open_in(client, socket.socket) as sock:
            sock.settimeout(3)
            sock.connect((str(address), port))
            accepted, peer = listener.accept()
            accepted.close()
            return str(peer[0])


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
        taken = network.taken_networks()
        plan = ClusterPlan(f"t{secrets.token_hex(4)}", free_fabric(taken), free_pod_network(taken), 2)
        network.ensure_cluster(plan)
    try:
        join(plan)
        one, first = add_pod(plan, 1, 2)
        far, address = add_pod(plan, 2, 2)
        assert peer_seen(far, address, one) == str(first)
    finally:
        network.remove_cluster(plan.name)


def test_nodes_and_the_host_reach_pods_everywhere(plan: ClusterPlan) -> None:
    join(plan)
    pod, address = add_pod(plan, 2, 2)
    assert peer_seen(pod, address, netns(plan, 1)) == str(plan.node(1).address)
    assert peer_seen(pod, address, netns(plan, 2)) == str(plan.node(2).address)
    assert peer_seen(pod, address, None) == str(plan.host)


def test_traffic_between_pods_of_one_node_passes_the_nodes_netfilter(plan: ClusterPlan) -> None:
    one, _ = add_pod(plan, 1, 2)
    other, address = add_pod(plan, 1, 3)
    rules = "table ip t { chain c { type filter hook forward priority 0; tcp sport 1-65535 drop; }; }"
    command = ["ip", "netns", "exec", netns(plan, 1).name, "nft", rules]
    subprocess.run(command, check=True)
    with (
        open_in(other, lambda: socket.create_server((str(address), 0))) as listener,
        open_in(one, socket.socket) as sock,
    ):
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.connect((str(address), listener.getsockname()[1]))


def test_a_pod_cannot_send_from_an_address_of_another(plan: ClusterPlan) -> None:
    liar, _ = add_pod(plan, 1, 2)
    listener_pod, address = add_pod(plan, 1, 3)
    stolen = plan.node(1).pod_cidr[9]
    with RouteSocket(liar) as inside:
        inside.apply([route.address(network.UPLINK_INDEX, route.IPv4Interface(stolen))])

    def udp() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(0.3)
        return sock

    with open_in(listener_pod, udp) as receiver, open_in(liar, udp) as sender:
        receiver.bind((str(address), 5000))
        sender.bind((str(stolen), 0))
        sender.sendto(b"x", (str(address), 5000))
        with pytest.raises(TimeoutError):
            receiver.recv(10)


def test_an_address_without_a_pod_is_unreachable_at_once(plan: ClusterPlan) -> None:
    pod, _ = add_pod(plan, 1, 2)
    with open_in(pod, socket.socket) as sock:
        sock.settimeout(3)
        with pytest.raises(OSError, match="No route to host"):
            sock.connect((str(plan.node(1).pod_cidr[200]), 80))


def test_what_was_taken_away_is_mended(plan: ClusterPlan) -> None:
    pod, address = add_pod(plan, 1, 2)
    with RouteSocket(netns(plan, 1)) as node:
        for name in (network.UPLINK, network.pod_link(pod.name.rpartition(".")[2])):
            link = node.link(name)
            assert link is not None
            node.apply([route.link_delete(link.index)])
    with RouteSocket() as host:
        host.apply([route.route_delete(plan.node(2).pod_cidr)])
        network.ensure_cluster(plan)
        assert {found.destination for found in host.routes()} >= {node.pod_cidr for node in plan.nodes}
    add_pod(plan, 1, 2)
    assert peer_seen(pod, address, None) == str(plan.host)
    network.remove_node(plan.name, "node-2")
    network.ensure_cluster(plan)
    assert peer_seen(netns(plan, 2), plan.node(2).address, netns(plan, 1)) == str(plan.node(1).address)


def test_routes_that_are_not_wanted_any_more_go(plan: ClusterPlan) -> None:
    join(plan)
    podnetwork.ensure(setup_of(plan, 1), [])
    with RouteSocket(netns(plan, 1)) as node:
        destinations = {str(found.destination) for found in node.routes()}
    assert destinations == {"0.0.0.0/0", str(plan.fabric)}


def test_twenty_nodes_are_made_well_within_a_second() -> None:
    name = f"t{secrets.token_hex(4)}"
    with local.locked():
        taken = network.taken_networks()
        plan = ClusterPlan(name, free_fabric(taken), free_pod_network(taken), 20)
        try:
            began = time.process_time()
            network.ensure_cluster(plan)
            assert time.process_time() - began < 1.0
            assert len(network.cluster_netns(name)) == 21
        finally:
            network.remove_cluster(name)


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
