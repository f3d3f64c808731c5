"""Changing the proxy mode while connections are made and kept: nobody notices, and nothing of the old mode is left."""

from __future__ import annotations

import itertools
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from kernel import scenario
from kernel.packets import Policy, Situation
from kernel.topology import NODES, EchoPods, Topology, ask, topology
from nodeport.forwarding.table import Family
from nodeport.netlink.namespace import open_in
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
}
ROUNDS = 3


@pytest.fixture(scope="module")
def made() -> Iterator[Topology]:
    with topology() as built:
        pods = EchoPods(built)
        try:
            yield built
        finally:
            pods.close()


@pytest.fixture
def node(made: Topology) -> Iterator[Path]:
    netns = made.namespace("n1")
    yield netns
    for mode in (Mode.NFTABLES, Mode.IPTABLES):
        remove_mode(mode, Family.IPV4, netns, ProxyOptions())
    assert traces(netns) == {}


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
        found[name] = sum("nodeport" in line.lower() for line in done.stdout.splitlines())
    return {name: count for name, count in found.items() if count}


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
            answer = ask(self.made.namespace(self.sender), socket.SOCK_STREAM, self.address, self.port, 2.0)
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
def kept_connections(made: Topology) -> Iterator[list[socket.socket]]:
    """Several, so that both endpoints, and masquerading, are among them."""
    opened: list[socket.socket] = []
    try:
        for _ in range(8):
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


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(MODES, 2)), ids="-to-".join)
def test_nobody_notices_a_change_of_the_mode(old: str, new: str, made: Topology, node: Path) -> None:
    start(MODES[old], node)
    with kept_connections(made) as kept, probing(made) as probers:
        before = [talk(live) for live in kept]
        for _ in range(ROUNDS):
            start(MODES[new], node)
            assert set(traces(node)) == {new}
            assert [talk(live) for live in kept] == before
            start(MODES[old], node)
            assert set(traces(node)) == {old}
            assert [talk(live) for live in kept] == before
    for prober in probers:
        assert set(prober.answers) == {"local", "remote"}, prober.sender
        assert sum(prober.answers.values()) > 2 * ROUNDS


def test_a_restart_in_the_same_mode_takes_away_nothing(node: Path) -> None:
    for name, options in MODES.items():
        start(options, node)
        start(options, node)
        assert set(traces(node)) == {name}


def test_what_other_families_left_goes_and_what_is_in_use_stays(node: Path) -> None:
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
