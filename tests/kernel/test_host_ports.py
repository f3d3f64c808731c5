"""Host ports in the real kernel, of both families: who is led where, over which addresses, and what is forgotten."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kernel.topology import PLANS, PORT, EchoPods, Topology, topology
from nodeport.api.meta import JsonObject
from nodeport.netlink.namespace import open_in
from nodeport.node import hostports
from nodeport.node.hostportrules import NAME
from nodeport.node.hostports import HostPorts

HOST_PORT = 18080
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture(scope="module")
def made() -> Iterator[Topology]:
    with topology() as built:
        pods = EchoPods(built)
        yield built
        pods.close()


@pytest.fixture
def ports(made: Topology) -> Iterator[HostPorts]:
    yield HostPorts(made.namespace("n1"))
    hostports.remove(made.namespace("n1"))
    assert NAME not in made.nft("n1", "list", "tables")


def pod(protocol: str = "TCP", host_ip: str = "") -> JsonObject:
    port = {"hostPort": HOST_PORT, "containerPort": PORT, "protocol": protocol, "hostIP": host_ip}
    return {"spec": {"containers": [{"name": "main", "ports": [port]}]}}


def addresses(name: str) -> list[hostports.IPAddress]:
    return [plan.pods[name][1] for plan in PLANS.values()]


def client(made: Topology, sender: str, version: int, kind: int, destination: str) -> socket.socket:
    found = open_in(made.namespace(sender), lambda: socket.socket(FAMILIES[version], kind))
    found.settimeout(20)
    try:
        found.connect((destination, HOST_PORT))
    except BaseException:
        found.close()
        raise
    return found


def asked(client: socket.socket) -> str:
    """The pod that answers."""
    client.send(b"who")
    return client.recv(100).decode().split()[0]


@pytest.mark.parametrize("version", FAMILIES)
def test_a_host_port_is_at_each_address_of_the_node(made: Topology, ports: HostPorts, version: int) -> None:
    ports.hold("uid", hostports.wanted_by(pod(), addresses("local")))
    node = str(PLANS[version].nodes["n1"])
    for sender in ("client", "n1", "remote", "local"):
        with client(made, sender, version, socket.SOCK_STREAM, node) as connection:
            assert asked(connection) == "local"
    with pytest.raises(OSError, match="refused"):
        client(made, "n1", 6, socket.SOCK_STREAM, "::1")


@pytest.mark.parametrize("version", FAMILIES)
def test_a_udp_client_that_goes_on_sending_follows_its_port(
    made: Topology, ports: HostPorts, version: int
) -> None:
    node = str(PLANS[version].nodes["n1"])
    with closing(client(made, "client", version, socket.SOCK_DGRAM, node)) as sender:
        with pytest.raises(OSError, match="refused"):
            asked(sender)
        ports.hold("one", hostports.wanted_by(pod("UDP"), addresses("local")))
        assert asked(sender) == "local"
        ports.release("one")
        with pytest.raises(OSError, match="refused"):
            asked(sender)
        ports.hold("other", hostports.wanted_by(pod("UDP", node), addresses("other")))
        assert asked(sender) == "other"


def set_route_localnet(made: Topology, name: str, link: str) -> None:
    setting = Path(f"/proc/sys/net/ipv4/conf/{link}/route_localnet")
    open_in(made.namespace(name), lambda: setting.write_text("1"))


def test_nobody_but_the_node_itself_reaches_its_loopback_address(made: Topology, ports: HostPorts) -> None:
    """``client`` can send to 127.0.0.5, and ``n1`` would take it."""
    made.ip("client", "route del local 127.0.0.0/8 dev lo table local",
            f"route add 127.0.0.5/32 via {PLANS[4].nodes['n1']} dev eth0")  # fmt: skip
    for name, link in (("client", "eth0"), ("n1", "eth0"), ("n1", "local")):
        set_route_localnet(made, name, link)
    knocking = open_in(made.namespace("client"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    heard = open_in(made.namespace("n1"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with knocking, heard:
        knocking.bind((str(PLANS[4].client), 0))
        heard.bind(("127.0.0.5", HOST_PORT))
        heard.settimeout(20)
        knocking.sendto(b"before", ("127.0.0.5", HOST_PORT))
        assert heard.recv(10) == b"before"
        ports.hold("uid", hostports.wanted_by(pod(host_ip="127.0.0.1"), [PLANS[4].pods["local"][1]]))
        with client(made, "n1", 4, socket.SOCK_STREAM, "127.0.0.1") as connection:
            assert asked(connection) == "local"
        with pytest.raises(OSError, match="refused"):
            client(made, "client", 4, socket.SOCK_STREAM, str(PLANS[4].nodes["n1"]))
        heard.settimeout(0.3)
        knocking.sendto(b"after", ("127.0.0.5", HOST_PORT))
        with pytest.raises(TimeoutError):
            heard.recv(10)
