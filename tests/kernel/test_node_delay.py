"""A node's link that holds every packet for a while: nothing is spoilt, nothing is left when it ends."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.clusters import wait_for
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import RouteSocket
from nodeport.node import local, network, processes
from nodeport.node.addresses import ClusterPlan, free_fabric, free_pod_network
from nodeport.node.delay import Delay, NodeLink
from nodeport.node.processes import ProcessId

NODE, OTHER = "node-1", "node-2"


@pytest.fixture
def plan() -> Iterator[ClusterPlan]:
    name = f"t{secrets.token_hex(4)}"
    with local.locked():
        taken = network.taken_networks()
        found = ClusterPlan(name, (free_fabric(taken),), (free_pod_network(taken),), 2)
        network.ensure_cluster(found)
    yield found
    processes.end(processes.of_cluster(name), 1)
    network.remove_cluster(name)


@pytest.fixture
def link(plan: ClusterPlan, tmp_path: Path) -> NodeLink:
    return NodeLink(plan.name, NODE, tmp_path / "run" / "delay.pid")


def ports(plan: ClusterPlan) -> dict[str, int]:
    """The links of the fabric and whose ports they are."""
    with RouteSocket(network.fabric_netns(plan.name)) as fabric:
        return {name: found.master for name, found in fabric.links().items()}


def udp(plan: ClusterPlan, node: str, patience: float = 20.0) -> socket.socket:
    netns = network.node_netns(plan.name, node)
    made = open_in(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.bind(("0.0.0.0", 0))
    made.settimeout(patience)
    return made


def round_trip(plan: ClusterPlan, patience: float = 20.0) -> float:
    """Seconds that a packet takes to the other node and back. Raises TimeoutError after so many each way."""
    with udp(plan, NODE, patience) as here, udp(plan, OTHER, patience) as there:
        began = time.monotonic()
        here.sendto(b"?", (str(plan.node(2).address), there.getsockname()[1]))
        _, source = there.recvfrom(10)
        there.sendto(b"!", source)
        here.recv(10)
        return time.monotonic() - began


def passes(plan: ClusterPlan) -> bool:
    try:
        return round_trip(plan, 1) > 0
    except OSError:
        return False


def ensured(link: NodeLink, delay: Delay) -> ProcessId:
    found = link.ensure(delay)
    assert found is not None
    return found


def test_packets_are_held_each_way_until_it_is_undone_without_a_trace(
    plan: ClusterPlan, link: NodeLink
) -> None:
    before = ports(plan)
    first = ensured(link, Delay(60))
    wait_for(lambda: passes(plan), "the program to pass packets on")
    assert round_trip(plan) >= 0.12
    assert ensured(link, Delay(60)) == first
    second = ensured(link, Delay(30))
    assert not first.is_alive()
    wait_for(lambda: passes(plan), "the program to pass packets on")
    assert round_trip(plan) >= 0.06
    assert link.ensure(Delay()) is None
    assert not second.is_alive()
    assert ports(plan) == before
    assert round_trip(plan) > 0
    assert processes.of_cluster(plan.name) == []


def test_large_transfers_arrive_whole(plan: ClusterPlan, link: NodeLink) -> None:
    """Large segments and checksums that the sender leaves to the link pass too."""
    ensured(link, Delay(2))
    data = os.urandom(8 << 20)
    address = str(plan.node(2).address)
    netns = network.node_netns(plan.name, OTHER)
    with open_in(netns, lambda: socket.create_server((address, 0))) as server:
        here = open_in(network.node_netns(plan.name, NODE), socket.socket)
        with here:
            here.settimeout(30)
            here.connect((address, server.getsockname()[1]))
            there, _ = server.accept()
            sending = threading.Thread(target=lambda: (here.sendall(data), here.shutdown(socket.SHUT_WR)))
            sending.start()
            with there:
                there.settimeout(30)
                received = b"".join(iter(lambda: there.recv(1 << 20), b""))
            sending.join()
    assert received == data


def test_packets_keep_their_order_whatever_the_jitter(plan: ClusterPlan, link: NodeLink) -> None:
    ensured(link, Delay(15, 15))
    wait_for(lambda: passes(plan), "the program to pass packets on")
    with udp(plan, NODE) as here, udp(plan, OTHER) as there:
        for number in range(200):
            here.sendto(struct.pack("=I", number), (str(plan.node(2).address), there.getsockname()[1]))
        assert [struct.unpack("=I", there.recv(10))[0] for _ in range(200)] == list(range(200))


def test_a_link_that_is_pulled_out_and_plugged_in_is_delayed_as_before(
    plan: ClusterPlan, link: NodeLink
) -> None:
    running = ensured(link, Delay(20))
    wait_for(lambda: passes(plan), "the program to pass packets on")
    network.set_node_link(plan.name, NODE, up=False)
    assert not passes(plan)
    network.set_node_link(plan.name, NODE, up=True)
    wait_for(lambda: passes(plan), "the link to be back")
    assert round_trip(plan) >= 0.04
    assert running.is_alive()


def test_a_program_that_was_killed_is_replaced_and_can_be_healed(plan: ClusterPlan, link: NodeLink) -> None:
    before = ports(plan)
    first = ensured(link, Delay(20))
    first.send(signal.SIGKILL)
    wait_for(lambda: not first.is_alive(), "its end")
    assert not passes(plan)
    second = ensured(link, Delay(20))
    wait_for(lambda: passes(plan), "the program to pass packets on")
    second.send(signal.SIGKILL)
    link.heal()
    assert round_trip(plan) > 0
    assert ports(plan) == before


def test_it_has_no_rights(plan: ClusterPlan, link: NodeLink) -> None:
    running = ensured(link, Delay(20))
    wait_for(lambda: passes(plan), "the program to pass packets on")
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{running.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == ["65534"] * 4
    assert int(status["CapEff"], 16) == 0
