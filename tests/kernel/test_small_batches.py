"""Batches that do not fit into the socket's buffer: cut up, and still no packet meets half a Service."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from kernel import scenario
from kernel.packets import Policy, Situation
from kernel.topology import CLIENT, NODES, Topology, ask
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Change, ForwardingOptions, ForwardingTable
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.nftables.proxier import NftablesProxier

NODE = scenario.facts()
OPTIONS = ForwardingOptions()
READY = {"ready": True}
TINY = 2500
"""Bytes: less than one Service of these tests takes."""


@pytest.fixture
def proxier(made: Topology) -> Iterator[NftablesProxier]:
    with Nftables(made.namespace("n1")) as kernel:
        opened = NftablesProxier(kernel, OPTIONS)
        opened._limit = TINY
        yield opened
        opened.remove()


class Probe:
    """Asks one place without a pause; ``answers`` in the order they came, repetitions told once."""

    def __init__(self, made: Topology, sender: str, address: IPv4Address, port: int) -> None:
        self.answers: list[str] = []
        self.asked = 0
        self._stop = threading.Event()
        self._place = (made.namespace(sender), socket.SOCK_STREAM, address, port)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = ask(*self._place)
            self.asked += 1
            if not self.answers or self.answers[-1] != answer:
                self.answers.append(answer)

    def wait(self, times: int) -> None:
        """Until so many more questions were answered."""
        wanted = self.asked + times
        while self.asked < wanted and self._thread.is_alive():
            self._stop.wait(0.005)

    @contextlib.contextmanager
    def running(self) -> Iterator[Probe]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()


def put(table: ForwardingTable, item: JsonObject, pods: list[str]) -> list[Change]:
    identity = NamespacedName.of(item)
    built = build_service(item, scenario.slices(item, dict.fromkeys(pods, READY)), NODE, OPTIONS)
    before = table.wanted(identity)
    return table.replace(
        identity, {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
    )


def test_a_service_is_reached_through_every_cut_of_its_changes(
    made: Topology, proxier: NftablesProxier
) -> None:
    table = ForwardingTable()
    items = [scenario.service(policy, situation) for policy in Policy for situation in Situation]
    for item in items:
        put(table, item, ["local", "remote"])
    proxier.resync(table, NODE)
    number = scenario.index(Policy.CLUSTER, Situation.BOTH)
    probes = [
        Probe(made, "client", NODES["n1"], 30100 + number),
        Probe(made, "other", IPv4Address(f"10.96.1.{number}"), 80),
        Probe(made, "client", IPv4Address(f"192.0.2.{number}"), 80),
    ]
    rng = random.Random(5)
    with contextlib.ExitStack() as running:
        for probe in probes:
            running.enter_context(probe.running())
        for step in range(60):
            pods = rng.sample(["local", "remote", "far"], rng.randint(1, 3))
            changes = [change for item in items for change in put(table, item, pods)]
            if step % 2:
                proxier.apply(changes, NODE)
            else:
                proxier.resync(table, NODE)
            probes[step % len(probes)].wait(1)
    for probe in probes:
        assert probe.asked > 20
        assert {answer.split()[0] for answer in probe.answers} <= {"local", "remote", "far"}


def test_a_first_start_answers_nobody_before_it_can_answer_everybody(
    made: Topology, proxier: NftablesProxier
) -> None:
    table = ForwardingTable()
    for policy in Policy:
        for situation in Situation:
            put(table, scenario.service(policy, situation), ["local"])
    number = scenario.index(Policy.CLUSTER, Situation.BOTH)
    for _ in range(10):
        probe = Probe(made, "client", NODES["n1"], 30100 + number)
        with probe.running():
            probe.wait(3)
            assert proxier.resync(table, NODE) > 0
            probe.wait(3)
        assert probe.answers == ["reject", f"local {CLIENT}"]
        proxier.remove()


ROOTLESS = """
from nodeport.forwarding.table import *
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.nftables.proxier import NftablesProxier
from kernel import scenario
node = scenario.facts()
with Nftables() as kernel:
    limit = kernel.send_limit()
    assert limit < 1 << 28, limit
    proxier = NftablesProxier(kernel, ForwardingOptions())
    table = scenario.table(node)
    assert proxier.resync(table, node) > 0
    assert proxier.verify(table, node) == []
    print(limit)
"""


def test_without_the_hosts_rights_the_buffer_is_what_the_system_allows() -> None:
    """In a user namespace of its own, as in a rootless container, a socket's buffer cannot be forced."""
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", ROOTLESS]
    done = subprocess.run(
        command, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 2 * int(Path("/proc/sys/net/core/wmem_max").read_text())
