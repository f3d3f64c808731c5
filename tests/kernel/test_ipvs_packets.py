"""Real packets through IPVS, where it could differ from the other modes: ends of connections, ARP, addresses held."""

from __future__ import annotations

import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from kernel import scenario
from kernel.modes import lacks_ipvs
from kernel.packets import Policy, Situation
from kernel.topology import NODES, PODS, Topology, answering_topology, ask
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.table import Family, ForwardingOptions, ForwardingTable
from nodeport.netlink.ipvs.kernel import Ipvs
from nodeport.netlink.ipvs.messages import DestinationKey, ServiceKey
from nodeport.netlink.namespace import open_in
from nodeport.proxy.ipvs.proxier import remove_ipvs
from nodeport.proxy.ipvs.refusal import NAME
from nodeport.proxy.modes import open_proxier
from nodeport.proxy.options import Mode, ProxyOptions
from nodeport.proxy.proxier import Proxier

pytestmark = pytest.mark.skipif(bool(lacks_ipvs()), reason=lacks_ipvs())

NODE = scenario.facts()
READY = scenario.ENDPOINTS[Situation.LOCAL]["local"]
SERVICE = scenario.service(Policy.CLUSTER, Situation.BOTH)
CLUSTER_IP = IPv4Address(SERVICE["spec"]["clusterIP"])
EXTERNAL_IP = IPv4Address(SERVICE["spec"]["externalIPs"][0])
NODE_PORT = SERVICE["spec"]["ports"][0]["nodePort"]
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
TIMEOUT = 3.0
PATIENCE = timedelta(seconds=30)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with answering_topology() as made:
        yield made


class Kernel:
    """The mode at work in node n1, with the table it was given."""

    def __init__(self, made: Topology, proxier: Proxier) -> None:
        self.table = ForwardingTable()
        self.made = made
        self.proxier = proxier
        proxier.resync(self.table, NODE)

    def put(self, item: JsonObject, *pods: str) -> None:
        """Lets ``item`` have these pods as its endpoints."""
        found = scenario.slices(item, dict.fromkeys(pods, READY))
        built = build_service(item, found, NODE, ForwardingOptions())
        self.proxier.apply(self.table.replace(NamespacedName.of(item), built), NODE)

    def remove(self, item: JsonObject) -> None:
        self.proxier.apply(self.table.replace(NamespacedName.of(item), {}), NODE)

    def ask(
        self, address: IPv4Address, port: int, kind: socket.SocketKind = TCP, sender: str = "client"
    ) -> str:
        return ask(self.made.namespace(sender), kind, address, port, TIMEOUT).split()[0]

    def connect(self, address: IPv4Address, port: int, kind: socket.SocketKind = TCP) -> socket.socket:
        """A connection of the client outside."""
        made = open_in(self.made.namespace("client"), lambda: socket.socket(socket.AF_INET, kind))
        made.settimeout(TIMEOUT)
        made.connect((str(address), port))
        return made


@pytest.fixture
def kernel(cluster: Topology) -> Iterator[Kernel]:
    with open_proxier(Mode.IPVS, Family.IPV4, cluster.namespace("n1"), ProxyOptions()) as opened:
        yield Kernel(cluster, opened)
        opened.remove()


@pytest.fixture
def ipvs(cluster: Topology) -> Iterator[Ipvs]:
    with Ipvs(cluster.namespace("n1")) as opened:
        yield opened


def who(connection: socket.socket) -> str:
    """Which pod is at the other end."""
    connection.sendall(b"who?")
    return connection.recv(2048).decode().split()[0]


def key(address: IPv4Address, port: int, protocol: int = 6) -> ServiceKey:
    return ServiceKey(protocol, address.packed, port)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize(
    ("address", "port"),
    [(CLUSTER_IP, 80), (NODES["n1"], NODE_PORT), (EXTERNAL_IP, 80)],
    ids=["ClusterIP", "NodePort", "ExternalIP"],
)
def test_it_is_ipvs_that_spreads_and_it_does_so_in_turn(
    kernel: Kernel, ipvs: Ipvs, address: IPv4Address, port: int
) -> None:
    kernel.put(SERVICE, "local", "other")
    answered = Counter(kernel.ask(address, port) for _ in range(10))
    assert answered == {"local": 5, "other": 5}
    counted = [item.active + item.inactive for item in ipvs.destinations(key(address, port))]
    assert counted == [5, 5]


def test_a_node_port_that_is_gone_refuses_while_its_connections_go_on(kernel: Kernel) -> None:
    def refuses() -> bool:
        return NAME in kernel.made.nft("n1", "list", "tables")

    kernel.put(SERVICE, "local")
    connection = kernel.connect(NODES["n1"], NODE_PORT)
    assert who(connection) == "local"
    kernel.remove(SERVICE)
    assert kernel.ask(NODES["n1"], NODE_PORT) == "reject"
    assert who(connection) == "local"
    assert refuses()
    kernel.put(SERVICE, "other")
    assert kernel.ask(NODES["n1"], NODE_PORT) == "other"
    assert not refuses()
    connection.close()


def test_a_node_port_that_becomes_sticky_takes_new_connections_while_the_old_ones_go_on(
    kernel: Kernel,
) -> None:
    sticky = scenario.service(Policy.CLUSTER, Situation.BOTH)
    sticky["spec"]["sessionAffinity"] = "ClientIP"
    kernel.put(SERVICE, "local")
    connection = kernel.connect(NODES["n1"], NODE_PORT)
    assert who(connection) == "local"
    kernel.put(sticky, "local")
    assert kernel.ask(NODES["n1"], NODE_PORT) == "local"
    kernel.remove(sticky)
    assert kernel.ask(NODES["n1"], NODE_PORT) == "reject"
    kernel.put(sticky, "local")
    assert kernel.ask(NODES["n1"], NODE_PORT) == "local"
    assert who(connection) == "local"
    connection.close()


def test_connections_outlive_their_endpoint_and_the_endpoint_goes_when_they_end(
    kernel: Kernel, ipvs: Ipvs
) -> None:
    item = scenario.service(Policy.CLUSTER, Situation.HANDOVER)  # one whose ports no other test has used
    node_port = item["spec"]["ports"][0]["nodePort"]
    kernel.put(item, "local", "other")
    connection = kernel.connect(NODES["n1"], node_port)
    pod = who(connection)
    stays = {"local": "other", "other": "local"}[pod]
    leaving = DestinationKey(PODS[pod][1].packed, 8080)
    kernel.put(item, stays)

    def weights() -> dict[DestinationKey, int]:
        found = ipvs.destinations(key(NODES["n1"], node_port))
        return {item.destination.key: item.destination.weight for item in found}

    assert kernel.proxier.is_undisturbed()
    assert weights()[leaving] == 0
    assert {kernel.ask(NODES["n1"], node_port) for _ in range(6)} == {stays}
    assert who(connection) == pod
    with open_proxier(Mode.IPVS, Family.IPV4, kernel.made.namespace("n1"), ProxyOptions()) as restarted:
        assert restarted.resync(kernel.table, NODE) == 0
        assert who(connection) == pod
        assert restarted.verify(kernel.table, NODE) == []
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends with a reset
    connection.close()
    assert eventually(lambda: kernel.proxier.is_undisturbed() and leaving not in weights())


def test_connections_outlive_their_service_while_new_ones_are_refused(kernel: Kernel, ipvs: Ipvs) -> None:
    kernel.put(SERVICE, "local")
    with kernel.connect(CLUSTER_IP, 80) as connection:
        assert who(connection) == "local"
        kernel.proxier.apply(kernel.table.replace(NamespacedName.of(SERVICE), {}), NODE)
        assert kernel.ask(CLUSTER_IP, 80) == "reject"
        assert who(connection) == "local"
        assert kernel.proxier.verify(kernel.table, NODE) == []
    assert ipvs.service(key(CLUSTER_IP, 80, 17)) is None


def test_an_endpoint_that_comes_back_while_it_is_leaving_serves_again(kernel: Kernel) -> None:
    kernel.put(SERVICE, "local")
    with kernel.connect(CLUSTER_IP, 80) as connection:
        assert who(connection) == "local"
        kernel.put(SERVICE, "other")
        assert kernel.ask(CLUSTER_IP, 80) == "other"
        kernel.put(SERVICE, "local")
        assert {kernel.ask(CLUSTER_IP, 80) for _ in range(4)} == {"local"}
        assert who(connection) == "local"
    assert kernel.proxier.verify(kernel.table, NODE) == []


def test_a_udp_flow_moves_on_when_its_endpoint_goes(kernel: Kernel) -> None:
    kernel.put(SERVICE, "local")
    with kernel.connect(CLUSTER_IP, 80, UDP) as flow:
        assert who(flow) == "local"
        kernel.put(SERVICE, "other")
        flow.settimeout(0.2)

        def moved() -> bool:
            try:
                return who(flow) == "other"
            except TimeoutError:  # the packet that found its connection gone
                return False

        assert eventually(moved)


@pytest.mark.parametrize("kind", [TCP, UDP], ids=["TCP", "UDP"])
@pytest.mark.parametrize("sender", ["client", "far", "n1"])
def test_a_client_stays_with_its_endpoint_where_the_service_says_so(
    kernel: Kernel, sender: str, kind: socket.SocketKind
) -> None:
    sticky = scenario.service(Policy.CLUSTER, Situation.BOTH)
    sticky["spec"]["sessionAffinity"] = "ClientIP"
    kernel.put(sticky, "local", "other", "remote")
    for address, port in ((CLUSTER_IP, 80), (NODES["n1"], NODE_PORT)):
        assert len({kernel.ask(address, port, kind, sender) for _ in range(9)}) == 1


def test_a_client_leaves_an_endpoint_that_leaves(kernel: Kernel) -> None:
    sticky = scenario.service(Policy.CLUSTER, Situation.BOTH)
    sticky["spec"]["sessionAffinity"] = "ClientIP"
    kernel.put(sticky, "local", "other")
    pod = kernel.ask(CLUSTER_IP, 80)
    stays = {"local": "other", "other": "local"}[pod]
    kernel.put(sticky, stays)
    assert {kernel.ask(CLUSTER_IP, 80) for _ in range(4)} == {stays}


def test_nobody_answers_arp_for_addresses_that_only_services_have(kernel: Kernel) -> None:
    """A client on the same wire that takes the addresses for its neighbours'."""
    kernel.put(SERVICE, "local")
    namespace = kernel.made.namespace("client")
    retransmit = Path("/proc/sys/net/ipv4/neigh/eth0/retrans_time_ms")
    open_in(namespace, lambda: retransmit.write_text("50"))
    held = (CLUSTER_IP, EXTERNAL_IP)
    kernel.made.ip("client", *(f"route add {address} dev eth0" for address in held))
    try:
        for address in held:
            assert kernel.ask(address, 80) == "unreachable"
        assert kernel.ask(NODES["n1"], NODE_PORT) == "local"
        kernel.made.nft("n1", "delete", "table", "arp", "nodeport-ipvs")
        kernel.made.ip("client", "neigh flush all")
        assert {kernel.ask(address, 80) for address in held} == {"local"}
        assert not kernel.proxier.is_undisturbed()
    finally:
        kernel.made.ip("client", *(f"route del {address} dev eth0" for address in held), "neigh flush all")


@pytest.mark.parametrize("sender", ["client", "other", "n1"])
def test_what_the_node_listens_to_cannot_be_reached_through_an_address_of_a_service(
    kernel: Kernel, sender: str
) -> None:
    kernel.put(SERVICE, "local")
    with open_in(kernel.made.namespace("n1"), lambda: socket.create_server(("0.0.0.0", 9999))):
        for address in (CLUSTER_IP, EXTERNAL_IP):
            assert kernel.ask(address, 9999, sender=sender) == "reject"


def test_an_external_ip_that_is_the_nodes_own_address_leaves_its_other_ports_alone(kernel: Kernel) -> None:
    item = scenario.service(Policy.CLUSTER, Situation.BOTH)
    item["spec"]["externalIPs"] = [str(NODES["n1"])]
    kernel.put(item, "local")
    assert kernel.ask(NODES["n1"], 80) == "local"
    listener = open_in(kernel.made.namespace("n1"), lambda: socket.create_server(("0.0.0.0", 9999)))
    with listener, kernel.connect(NODES["n1"], 9999) as connection:
        assert connection.getpeername() == (str(NODES["n1"]), 9999)
    kernel.proxier.apply(kernel.table.replace(NamespacedName.of(item), {}), NODE)
    assert kernel.proxier.verify(kernel.table, NODE) == []


@pytest.mark.parametrize("sender", ["client", "other", "far", "n1"])
def test_cluster_ips_need_no_network_to_be_known(cluster: Topology, sender: str) -> None:
    """A proxy that has not been told the service networks delivers each ClusterIP by itself."""
    node = replace(NODE, service_networks=())
    table = ForwardingTable()
    built = build_service(SERVICE, scenario.slices(SERVICE, {"local": READY}), node, ForwardingOptions())
    changes = table.replace(NamespacedName.of(SERVICE), built)
    with open_proxier(Mode.IPVS, Family.IPV4, cluster.namespace("n1"), ProxyOptions()) as proxier:
        proxier.resync(ForwardingTable(), node)
        proxier.apply(changes, node)
        try:
            found = [ask(cluster.namespace(sender), TCP, CLUSTER_IP, port, TIMEOUT) for port in (80, 81)]
            assert [word.split()[0] for word in found] == ["local", "reject"]
            assert proxier.verify(table, node) == []
        finally:
            proxier.remove()


@pytest.mark.parametrize("sender", ["other", "client", "n1"])
def test_pods_are_told_by_the_interface_they_send_through(cluster: Topology, sender: str) -> None:
    """Who is no pod of this node is masqueraded towards an endpoint elsewhere."""
    node = replace(NODE, pod_networks=(), pod_interfaces=("other", "loc*"))
    table = ForwardingTable()
    built = build_service(SERVICE, scenario.slices(SERVICE, {"remote": READY}), node, ForwardingOptions())
    table.replace(NamespacedName.of(SERVICE), built)
    with open_proxier(Mode.IPVS, Family.IPV4, cluster.namespace("n1"), ProxyOptions()) as proxier:
        proxier.resync(table, node)
        try:
            seen = PODS["other"][1] if sender == "other" else NODES["n1"]
            assert ask(cluster.namespace(sender), TCP, CLUSTER_IP, 80, TIMEOUT) == f"remote {seen}"
        finally:
            proxier.remove()


def test_a_mode_that_was_never_at_work_is_removed_without_asking_for_it(cluster: Topology) -> None:
    remove_ipvs(Family.IPV4, cluster.namespace("n1"))
    with open_proxier(Mode.IPVS, Family.IPV4, cluster.namespace("n1"), ProxyOptions()) as proxier:
        proxier.resync(ForwardingTable(), NODE)
    remove_ipvs(Family.IPV4, cluster.namespace("n1"))
    assert cluster.nft("n1", "list", "tables") == ""


def test_an_external_ip_is_the_nodes_no_longer_than_a_service_wants_it(kernel: Kernel) -> None:
    def kind_of_route() -> str:
        command = ["ip", "-n", kernel.made.namespace("n1").name, "route", "get", str(EXTERNAL_IP)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]

    assert kind_of_route() != "local"
    kernel.put(SERVICE, "local")
    assert kind_of_route() == "local"
    kernel.proxier.apply(kernel.table.replace(NamespacedName.of(SERVICE), {}), NODE)
    assert kind_of_route() != "local"


def test_the_node_speaks_to_services_with_its_own_address(kernel: Kernel) -> None:
    kernel.put(SERVICE, "local", "remote")
    for address, port in ((CLUSTER_IP, 80), (EXTERNAL_IP, 80), (NODES["n1"], NODE_PORT)):
        seen = {ask(kernel.made.namespace("n1"), TCP, address, port, TIMEOUT) for _ in range(4)}
        assert seen == {f"local {NODES['n1']}", f"remote {NODES['n1']}"}


def test_an_endpoint_with_the_nodes_own_address_is_reached_from_everywhere(kernel: Kernel) -> None:
    """A pod in the network of the node: what IPVS translates never leaves the machine."""
    slices = scenario.slices(SERVICE, {"local": READY})
    slices[0]["endpoints"][0]["addresses"] = [str(NODES["n1"])]
    built = build_service(SERVICE, slices, NODE, ForwardingOptions())
    kernel.proxier.apply(kernel.table.replace(NamespacedName.of(SERVICE), built), NODE)
    listener = open_in(kernel.made.namespace("n1"), lambda: socket.create_server(("0.0.0.0", 8080)))
    with listener:
        for sender in ("client", "other", "far", "n1"):
            for address, port in ((CLUSTER_IP, 80), (NODES["n1"], NODE_PORT)):
                with open_in(
                    kernel.made.namespace(sender), lambda: socket.socket(socket.AF_INET, TCP)
                ) as asking:
                    asking.settimeout(TIMEOUT)
                    asking.connect((str(address), port))
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(b"here")
                        assert asking.recv(10) == b"here"
