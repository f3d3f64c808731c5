"""Changing the proxy mode while connections are made and kept: nobody notices, and nothing of the old mode is left."""

from __future__ import annotations

import itertools
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from kernel import scenario
from kernel.modes import lacks_ipvs
from kernel.packets import Policy, Situation
from kernel.topology import NODES, Topology, ask
from nodeport.forwarding.table import Family
from nodeport.netlink.ipvs.kernel import Ipvs
from nodeport.netlink.localroute import LocalRoutes
from nodeport.netlink.namespace import open_in
from nodeport.proxy.iptables.variants import has_legacy
from nodeport.proxy.ipvs.ground import LINKS
from nodeport.proxy.modes import Mode, open_proxier, remove_mode
from nodeport.proxy.options import ProxyOptions, Variant
from nodeport.proxy.switch import remove_others

NODE = scenario.facts()
SERVICE = scenario.service(Policy.CLUSTER, Situation.BOTH)
NODE_PORT = SERVICE["spec"]["ports"][0]["nodePort"]
CLUSTER_IP = IPv4Address(SERVICE["spec"]["clusterIP"])
FAMILIES = (Family.IPV4,)
MODES = {
    "nftables": ProxyOptions(mode=Mode.NFTABLES, families=FAMILIES),
    "iptables-legacy": ProxyOptions(mode=Mode.IPTABLES, families=FAMILIES, iptables_variant=Variant.LEGACY),
    "iptables-nft": ProxyOptions(mode=Mode.IPTABLES, families=FAMILIES, iptables_variant=Variant.NFT),
    "ipvs": ProxyOptions(mode=Mode.IPVS, families=FAMILIES),
}
PAIRS = list(itertools.permutations(MODES, 2))
ROUNDS = 3


@pytest.fixture
def node(made: Topology) -> Iterator[Path]:
    netns = made.namespace("n1")
    yield netns
    for mode in Mode:
        remove_mode(mode, Family.IPV4, netns, ProxyOptions())
    assert traces(netns) == {}


def lacks(name: str, netns: Path) -> str:
    """What this kernel misses for a mode."""
    if name == "ipvs":
        return lacks_ipvs()
    if name == "iptables-legacy" and not has_legacy(Family.IPV4, netns):
        return "this kernel has no legacy iptables"
    return ""


def skip_where_there_is_no(name: str, netns: Path) -> None:
    if missing := lacks(name, netns):
        pytest.skip(missing)


def start(options: ProxyOptions, netns: Path) -> None:
    """What a proxy does when it starts: programs, then takes away what other modes left."""
    with open_proxier(options.mode, Family.IPV4, netns, options) as proxier:
        proxier.resync(scenario.table(NODE), NODE)
    remove_others(options.mode, options.families, netns, options)


def traces(netns: Path) -> dict[str, int]:
    """How many lines of each mode the real programs print."""
    commands = {
        "nftables": ("nft", "list", "tables"),
        "iptables-legacy": ("iptables-legacy-save",),
        "iptables-nft": ("iptables-nft-save",),
    }
    found = {}
    for name, command in commands.items():
        done = subprocess.run(
            ["ip", "netns", "exec", netns.name, *command], check=True, capture_output=True, text=True
        )
        lines = [line.lower() for line in done.stdout.splitlines()]
        found[name] = sum("nodeport" in line and "nodeport-ipvs" not in line for line in lines)
    found["ipvs"] = virtual_services(netns)
    return {name: count for name, count in found.items() if count}


def virtual_services(netns: Path) -> int:
    """Those that take new connections."""
    if lacks_ipvs():
        return 0
    with Ipvs(netns) as ipvs:
        keys = [item.service.key for item in ipvs.services()]
        return sum(any(found.destination.weight for found in ipvs.destinations(key)) for key in keys)


@dataclass
class Prober:
    """Makes one new connection after the other, until told to stop; ``answers`` counts them by who answered."""

    made: Topology
    sender: str
    address: IPv4Address
    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    answers: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                answer = ask(
                    self.made.namespace(self.sender), socket.SOCK_STREAM, self.address, self.port, 2.0
                )
            except ConnectionResetError:
                answer = "cut"
            who = answer.split()[0]
            self.answers[who] = self.answers.get(who, 0) + 1


@contextmanager
def probing(made: Topology) -> Iterator[list[Prober]]:
    probers = [
        Prober(made, "client", NODES["n1"], NODE_PORT),
        Prober(made, "other", CLUSTER_IP, 80),
        Prober(made, "n1", CLUSTER_IP, 80),
    ]
    threads = [threading.Thread(target=prober.run) for prober in probers]
    for thread in threads:
        thread.start()
    try:
        yield probers
    finally:
        for prober in probers:
            prober.stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def kept_connections(made: Topology, number: int) -> Iterator[list[socket.socket]]:
    """Several, so that both endpoints, and masquerading, are among them."""
    opened: list[socket.socket] = []
    try:
        for _ in range(number):
            live = open_in(
                made.namespace("client"), lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            )
            opened.append(live)
            live.settimeout(2)
            live.connect((str(NODES["n1"]), NODE_PORT))
        yield opened
    finally:
        for live in opened:
            live.close()


def talk(live: socket.socket) -> str:
    live.sendall(b"still there?")
    return live.recv(100).decode().split()[0]


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=["-to-".join(pair) for pair in PAIRS])
def test_nobody_notices_a_change_of_the_mode(old: str, new: str, made: Topology, node: Path) -> None:
    for name in (old, new):
        skip_where_there_is_no(name, node)
    start(MODES[old], node)
    with kept_connections(made, 8) as kept, probing(made) as probers:
        before = [talk(live) for live in kept]
        for _ in range(ROUNDS):
            start(MODES[new], node)
            assert set(traces(node)) == {new}
            assert [talk(live) for live in kept] == before
            start(MODES[old], node)
            assert set(traces(node)) == {old}
            assert [talk(live) for live in kept] == before
    for prober in probers:
        assert prober.answers.keys() == {"local", "remote"}, (prober.sender, prober.answers)
        assert sum(prober.answers.values()) > 2 * ROUNDS


@pytest.mark.parametrize("new", ["nftables", "iptables-nft"])
def test_what_ipvs_needs_for_its_connections_goes_with_the_last_of_them(
    new: str, made: Topology, node: Path
) -> None:
    """``ipvs`` left. UDP ends with the mode: a client that keeps its port is led by the new one at once."""
    skip_where_there_is_no("ipvs", node)
    start(MODES["ipvs"], node)
    options = MODES[new]
    with kept_connections(made, 2) as kept, udp_client(made) as asking:
        before = [talk(live) for live in kept]
        talk(asking)
        start(options, node)
        assert not remove_others(options.mode, options.families, node, options)
        assert link(node)
        assert talk(asking) in ("local", "remote")
        assert [talk(live) for live in kept] == before
        for live in kept:  # a reset is forgotten soon, an orderly end after two minutes
            live.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    deadline = time.monotonic() + 30
    while not remove_others(options.mode, options.families, node, options):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not link(node)
    with Ipvs(node) as ipvs:
        assert list(ipvs.services()) == []


def link(netns: Path) -> bool:
    with LocalRoutes(netns) as routes:
        return routes.own_link(LINKS[Family.IPV4]) is not None


@contextmanager
def udp_client(made: Topology) -> Iterator[socket.socket]:
    with open_in(
        made.namespace("client"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ) as asking:
        asking.settimeout(2)
        asking.connect((str(NODES["n1"]), NODE_PORT))
        yield asking


def test_a_restart_in_the_same_mode_takes_away_nothing(node: Path) -> None:
    for name, options in MODES.items():
        if lacks(name, node):
            continue
        start(options, node)
        start(options, node)
        assert set(traces(node)) == {name}


def test_what_other_families_left_goes_and_what_is_in_use_stays(node: Path) -> None:
    skip_where_there_is_no("iptables-legacy", node)
    options = MODES["iptables-legacy"]
    with open_proxier(options.mode, Family.IPV6, node, options) as proxier:
        proxier.resync(
            scenario.ForwardingTable(), scenario.NodeFacts("n1", family=Family.IPV6, service_networks=())
        )
    start(options, node)
    done = subprocess.run(
        ["ip", "netns", "exec", node.name, "ip6tables-legacy-save"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "NODEPORT" not in done.stdout
    assert set(traces(node)) == {"iptables-legacy"}
