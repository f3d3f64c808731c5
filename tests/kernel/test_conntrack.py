"""Tracked connections on the real kernel: what is stale goes at once, what still fits stays, TCP always does."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from kernel import scenario
from kernel.modes import MODES, SuiteMode
from kernel.packets import FrontendKind, Policy, Row, Sender, Situation
from kernel.topology import PLANS, PORT, EchoPods, IPAddress, Topology, topology
from nodeport.api.kubeproxy.types import Conntrack as ConntrackConfiguration
from nodeport.api.kubeproxy.types import Duration
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Change, Family, ForwardingOptions, ForwardingTable, Protocol
from nodeport.netlink.conntrack import Asked, Conntrack, Entry
from nodeport.netlink.namespace import open_in
from nodeport.netlink.nftables.owned import TableOwner
from nodeport.proxy.claim import take
from nodeport.proxy.conntrack import ConntrackCleaner
from nodeport.proxy.conntrack_settings import CLOSE_WAIT, ESTABLISHED, HASHSIZE, MAX, apply_settings
from nodeport.proxy.proxier import Proxier

OPTIONS = ForwardingOptions()
READY = {"ready": True}
RESTARTS = 120
"""In each mode and family, under the eyes of all flows."""
MANY_RESTARTS = 1000
"""In the mode and family that most nodes have."""
SECOND = {Family.IPV4: ip_address("172.31.7.99"), Family.IPV6: ip_address("fd00:31:7::99")}
"""Addresses of the node that its Node object does not tell."""


@pytest.fixture(scope="module")
def made() -> Iterator[Topology]:
    with topology() as built:
        built.ip(
            "n1", *(f"addr add {address}/{address.max_prefixlen} dev eth0" for address in SECOND.values())
        )
        yield built


@pytest.fixture(scope="module", autouse=True)
def pods(made: Topology) -> Iterator[EchoPods]:
    answering = EchoPods(made)
    yield answering
    answering.close()


class Site:
    """One Service under a proxier and a cleaner; ``put`` gives it other endpoints, as the proxy's loop does."""

    def __init__(self, mode: str, proxier: Proxier, cleaner: ConntrackCleaner, family: Family) -> None:
        self.mode = mode
        self.family = family
        self.table = ForwardingTable()
        self.node = scenario.facts("0.0.0.0/0", "::/0", family=family)
        self.item = scenario.service(Policy.CLUSTER, Situation.BOTH, family=family)
        self._proxier = proxier
        self._cleaner = cleaner
        proxier.resync(self.table, self.node)

    def put(self, *pods: str, item: JsonObject | None = None) -> int:
        """Returns how many entries the cleaner deleted: see ``assert_all_forgotten``."""
        wanted = item or self.item
        slices = scenario.slices(wanted, dict.fromkeys(pods, READY), family=self.family)
        return self._replace(wanted, slices)

    def remove(self) -> int:
        changes = self.table.replace(NamespacedName.of(self.item), {})
        return self._apply(changes)

    def _replace(self, item: JsonObject, slices: list[JsonObject]) -> int:
        identity = NamespacedName.of(item)
        before = self.table.wanted(identity)
        built = build_service(item, slices, self.node, OPTIONS)
        settled = {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
        return self._apply(self.table.replace(identity, settled))

    def _apply(self, changes: list[Change]) -> int:
        self._proxier.apply(changes, self.node)
        return self._cleaner.clean(changes, self.node)


@pytest.fixture(params=list(itertools.product(MODES, Family)), ids=lambda given: f"{given[0]}-{given[1]}")
def site(request: pytest.FixtureRequest, made: Topology) -> Iterator[Site]:
    mode: SuiteMode
    family: Family
    mode, family = request.param
    if mode.lacks():
        pytest.skip(mode.lacks())
    netns = made.namespace("n1")
    with Conntrack(netns) as conntrack:
        conntrack.delete(list(conntrack.list(family, Asked(Protocol.UDP.value))))
    with mode.open(netns, family, OPTIONS) as proxier, ConntrackCleaner(netns) as cleaner:
        yield Site(mode.name, proxier, cleaner, family)
        proxier.remove()


class Flow:
    """A UDP client that keeps its port."""

    def __init__(self, made: Topology, sender: str, address: IPAddress, port: int) -> None:
        family, anywhere = SOCKETS[Family(address.version)]
        self._socket = open_in(made.namespace(sender), lambda: socket.socket(family, socket.SOCK_DGRAM))
        self._socket.bind((anywhere, 0))
        self._place = (str(address), port)
        self.port: int = self._socket.getsockname()[1]

    def ask(self, timeout: float = 20.0) -> str:
        """The pod that answers one datagram; empty: none does."""
        self._socket.settimeout(timeout)
        with contextlib.suppress(OSError):
            self._socket.sendto(b"who?", self._place)
            return self._socket.recv(100).decode().split()[0]
        return ""

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Sends from another thread, without a pause and without looking at answers."""
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    self._socket.sendto(b"who?", self._place)
                time.sleep(0.0005)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def is_led_to(self, pod: str, patience: float = 30.0) -> bool:
        """Whether that pod answers now, after what others have answered before."""
        self._socket.settimeout(patience)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self._socket.recv(100).decode().split()[0] == pod:
                    return True
        return False

    def close(self) -> None:
        self._socket.close()


NUMBER = scenario.index(Policy.CLUSTER, Situation.BOTH)
SOCKETS = {Family.IPV4: (socket.AF_INET, "0.0.0.0"), Family.IPV6: (socket.AF_INET6, "::")}


def places(family: Family) -> dict[str, tuple[str, IPAddress, int]]:
    """Who asks where, and at which port."""
    node, port = PLANS[family].nodes["n1"], 30100 + NUMBER

    def address(kind: FrontendKind) -> IPAddress:
        row = Row(Sender.POD, kind, Policy.CLUSTER, Situation.BOTH, "")
        return scenario.frontend(row, family=family)[0]

    return {
        "ClusterIP": ("other", address(FrontendKind.CLUSTER_IP), 80),
        "NodePort": ("client", node, port),
        "NodePort on another address": ("client", SECOND[family], port),
        "NodePort from the node": ("n1", node, port),
        "ExternalIP": ("client", address(FrontendKind.EXTERNAL_IP), 80),
        "LoadBalancerIP": ("client", address(FrontendKind.LOAD_BALANCER_IP), 80),
    }


@pytest.fixture
def flows(made: Topology, site: Site) -> Iterator[dict[str, Flow]]:
    opened = {name: Flow(made, *place) for name, place in places(site.family).items()}
    yield opened
    for flow in opened.values():
        flow.close()


def test_a_client_that_sent_before_there_was_a_service_reaches_it(site: Site, flows: dict[str, Flow]) -> None:
    assert {flow.ask(0.05) for flow in flows.values()} == {""}
    site.put("local")
    assert {name: flow.ask() for name, flow in flows.items()} == dict.fromkeys(flows, "local")


@pytest.mark.timeout(1200)  # for each change the kernel walks its whole table several times
def test_restarts_of_a_pod_lose_no_datagram_sent_after_the_change(site: Site, flows: dict[str, Flow]) -> None:
    """Each change is one pod gone and another there; the very next datagram of every flow must reach that."""
    usual = (site.mode, site.family) == ("nftables", Family.IPV4)
    for number in range(MANY_RESTARTS if usual else RESTARTS):
        pod = ("local", "remote", "other")[number % 3]
        site.put(pod)
        for name, flow in flows.items():
            if pod != "other" or name != "ClusterIP":  # its own sender: a hairpin, which has rows of its own
                assert flow.ask() == pod, name


def test_flows_that_never_pause_lose_nothing_to_restarts_either(site: Site, flows: dict[str, Flow]) -> None:
    """Datagrams are on their way through the old rules while those are exchanged: none may leave an entry behind that
    keeps its flow at a pod that is gone.
    """
    if site.mode == "ipvs":
        pytest.skip("a late answer of a pod that comes back at its old address holds a flow up for 30 s")
    with contextlib.ExitStack() as noise:
        for flow in flows.values():
            noise.enter_context(flow.sending())
        for number in range(RESTARTS):
            pod = ("local", "remote")[number % 2]
            site.put(pod)
            for name, flow in flows.items():
                assert flow.is_led_to(pod), name


def test_no_endpoint_at_all_forgets_every_flow_and_the_next_one_takes_them_over(
    site: Site, flows: dict[str, Flow], made: Topology
) -> None:
    site.put("local")
    assert {flow.ask() for flow in flows.values()} == {"local"}
    known = entries_of(made, site, flows)
    assert_all_forgotten(made, site, known, site.put())
    assert {flow.ask(0.05) for flow in flows.values()} == {""}
    site.put("remote")
    assert {flow.ask() for flow in flows.values()} == {"remote"}


def test_flows_whose_endpoint_still_serves_stay_where_they_are(
    site: Site, flows: dict[str, Flow], made: Topology
) -> None:
    site.put("local")
    assert {flow.ask() for flow in flows.values()} == {"local"}
    known = entries_of(made, site, flows)
    assert site.put("local", "remote") == 0
    assert entries_of(made, site, flows) == known
    for _ in range(5):
        assert {flow.ask() for flow in flows.values()} == {"local"}


def test_other_services_and_what_only_passes_through_are_left_alone(site: Site, made: Topology) -> None:
    site.put("local")
    other = scenario.service(Policy.CLUSTER, Situation.LOCAL, family=site.family)
    site.put("local", item=other)
    theirs = Flow(made, "client", ip_address(other["spec"]["clusterIP"]), 80)
    passing = Flow(made, "client", PLANS[site.family].pods["local"][1], PORT)
    assert (theirs.ask(), passing.ask()) == ("local", "local")
    before = tracked(made, site.family, theirs.port, passing.port)
    site.put("remote")
    site.remove()
    assert tracked(made, site.family, theirs.port, passing.port) == before
    theirs.close()
    passing.close()


def tracked(made: Topology, family: Family, *ports: int) -> set[bytes]:
    """The entries of these clients, by the bytes that name them."""
    found = {entry.key for entry in all_entries(made, family) if entry.original.source_port in ports}
    assert len(found) == len(ports)
    return found


def all_entries(made: Topology, family: Family) -> list[Entry]:
    """Every UDP entry of the node."""
    with Conntrack(made.namespace("n1")) as conntrack:
        return list(conntrack.list(family, Asked(Protocol.UDP.value)))


def entries_of(made: Topology, site: Site, flows: dict[str, Flow]) -> set[bytes]:
    """One entry for each of these flows."""
    return tracked(made, site.family, *(flow.port for flow in flows.values()))


def assert_all_forgotten(made: Topology, site: Site, known: set[bytes], deleted: int) -> None:
    """None of ``known`` is left, as soon as the cleaner is done. Who deleted them is fixed in the modes without IPVS
    only: that ends the connections of a destination that is gone by itself, a tick later and beside the cleaner
    (``expire_nodest_conn``), and their entries with them, so that the cleaner finds between none and all of them.
    """
    assert not known & {entry.key for entry in all_entries(made, site.family)}
    assert deleted <= len(known) if site.mode == "ipvs" else deleted == len(known)


def test_a_removed_service_forgets_its_flows(site: Site, flows: dict[str, Flow], made: Topology) -> None:
    site.put("local")
    assert {flow.ask() for flow in flows.values()} == {"local"}
    known = entries_of(made, site, flows)
    assert_all_forgotten(made, site, known, site.remove())
    assert {flow.ask(0.05) for flow in flows.values()} == {""}


@pytest.mark.parametrize("family", Family, ids=str)
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("place", places(Family.IPV4))
def test_an_established_connection_survives_whatever_the_proxy_does(
    mode: SuiteMode, place: str, family: Family, made: Topology, pods: EchoPods
) -> None:
    if mode.lacks():
        pytest.skip(mode.lacks())
    node = scenario.facts("0.0.0.0/0", "::/0", family=family)
    netns, table = made.namespace("n1"), scenario.table(node, OPTIONS)
    item = scenario.service(Policy.CLUSTER, Situation.BOTH, family=family)
    sender, address, port = places(family)[place]

    def put(*names: str) -> list[Change]:
        slices = scenario.slices(item, dict.fromkeys(names, READY), family=family)
        built = build_service(item, slices, node, OPTIONS)
        return table.replace(NamespacedName.of(item), built)

    def speak() -> str:
        live.sendall(b"still there?")
        return live.recv(100).decode()

    with contextlib.ExitStack() as opened:
        cleaner = opened.enter_context(ConntrackCleaner(netns))
        with mode.open(netns, family, OPTIONS) as proxier:
            proxier.resync(table, node)
            live = opened.enter_context(
                open_in(made.namespace(sender), lambda: socket.socket(SOCKETS[family][0], socket.SOCK_STREAM))
            )
            live.settimeout(20)
            live.connect((str(address), port))
            first = speak()
            for names in (["local", "remote", "far"], ["far"], ["remote", "local"]):
                changes = put(*names)
                proxier.apply(changes, node)
                cleaner.clean(changes, node)
                assert speak() == first
            proxier.resync(table, node)
            assert speak() == first
        for _ in range(3):
            with mode.open(netns, family, OPTIONS) as proxier:
                proxier.resync(table, node)
                assert speak() == first
        pods.wait_until_quiet()  # while nothing is tracked, the node answers even a late ACK with a reset
        made.nft("n1", "flush", "ruleset")
        with mode.open(netns, family, OPTIONS) as proxier:
            proxier.resync(table, node)
            assert speak() == first
            proxier.remove()


@pytest.mark.parametrize("family", Family, ids=str)
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("place", ["ClusterIP", "NodePort", "NodePort from the node"])
def test_a_connection_that_speaks_while_everything_is_flushed_goes_on(
    mode: SuiteMode, place: str, family: Family, made: Topology, pods: EchoPods
) -> None:
    """What others cannot flush is the claim of the proxy's process, and that keeps the kernel translating."""
    if mode.lacks():
        pytest.skip(mode.lacks())
    netns, node = made.namespace("n1"), scenario.facts("0.0.0.0/0", "::/0", family=family)
    sender, address, port = places(family)[place]
    with contextlib.ExitStack() as opened:
        assert take(opened.enter_context(TableOwner(netns)), "test")
        proxier = opened.enter_context(mode.open(netns, family, OPTIONS))
        proxier.resync(scenario.table(node, OPTIONS), node)
        live = [
            opened.enter_context(
                open_in(made.namespace(sender), lambda: socket.socket(SOCKETS[family][0], socket.SOCK_STREAM))
            )
            for _ in range(4)  # so that both endpoints are among them
        ]
        for connection in live:
            connection.settimeout(20)
            connection.connect((str(address), port))
        for _ in range(3):
            made.nft("n1", "flush", "ruleset")
            for connection in live:
                connection.sendall(b"still there?")
                assert connection.recv(100)
        proxier.resync(scenario.table(node, OPTIONS), node)
        for connection in live:
            connection.sendall(b"still there?")
            assert connection.recv(100)
        proxier.remove()


@pytest.mark.parametrize("version", [4, 6])
def test_the_kernel_picks_out_and_deletes_exactly_what_was_asked_for(made: Topology, version: int) -> None:
    """Plain connections without any Service, seen by the node that they pass."""
    plan = PLANS[version]
    family = {4: socket.AF_INET, 6: socket.AF_INET6}[version]
    table = {4: "ip", 6: "ip6"}[version]
    made.nft(
        "n1",
        f"add table {table} track; add chain {table} track c {{ type filter hook prerouting priority 0; }}; "
        f"add rule {table} track c ct state new accept",
    )
    try:
        sent = []
        for pod in ("local", "other"):
            for _ in range(2):
                asking = open_in(made.namespace("client"), lambda: socket.socket(family, socket.SOCK_DGRAM))
                asking.settimeout(20)
                asking.sendto(b"who?", (str(plan.pods[pod][1]), PORT))
                assert asking.recv(100).decode() == f"{pod} {plan.client}"
                sent.append((pod, asking.getsockname()[1]))
                asking.close()
        with Conntrack(made.namespace("n1")) as conntrack:
            everything = list(conntrack.list(version, Asked(17)))
            local = list(conntrack.list(version, Asked(17, plan.pods["local"][1], PORT)))
            assert {entry.original.source_port for entry in local} >= {
                port for pod, port in sent if pod == "local"
            }
            assert {entry.original.destination for entry in local} == {plan.pods["local"][1]}
            assert {entry.key for entry in local} < {entry.key for entry in everything}
            assert list(conntrack.list(version, Asked(17, port=PORT + 1))) == []
            assert {entry.original.protocol for entry in conntrack.list(version, Asked(6))} <= {6}
            assert conntrack.count() >= len(everything)
            assert conntrack.delete(local) == len(local)
            assert conntrack.delete(local) == 0
            left = {entry.key for entry in conntrack.list(version, Asked(17))}
            assert left == {entry.key for entry in everything} - {entry.key for entry in local}
    finally:
        made.nft("n1", "delete", "table", table, "track")


def test_a_node_that_nobody_has_spoken_to_tracks_nothing() -> None:
    name = f"npcount.{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with Conntrack(Path("/run/netns") / name) as conntrack:
            assert conntrack.count() == 0
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_settings_are_written_in_a_namespace_as_far_as_they_are_its_own() -> None:
    name = f"npc.{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    netns = Path("/run/netns") / name
    wanted = ConntrackConfiguration(
        maxPerCore=1 << 20,
        tcpEstablishedTimeout=Duration(hours=24),
        tcpCloseWaitTimeout=Duration(hours=1),
    )
    try:
        for _ in range(2):
            problems = apply_settings(wanted, 1, netns)
            assert all(
                problem.startswith((f"cannot set {MAX} ", f"cannot set {HASHSIZE} ")) for problem in problems
            )
        there = open_in(
            netns,
            lambda: [Path("/proc/sys/net/netfilter", name).read_text() for name in (ESTABLISHED, CLOSE_WAIT)],
        )
        assert there == ["86400\n", "3600\n"]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
