"""What the iptables mode says with words of its own, with real packets: affinity, source ranges, pods by interface, marks."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from kernel import scenario
from kernel.packets import Policy, Situation
from kernel.topology import PLANS, Topology, answering_topology, ask
from nodeport.api.meta import NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.sources import NODEPORT_SOURCE_RANGES
from nodeport.forwarding.table import Family, ForwardingOptions, ForwardingTable
from nodeport.netlink.conntrack import Asked, Conntrack
from nodeport.netlink.namespace import open_in
from nodeport.proxy.iptables.proxier import open_iptables
from nodeport.proxy.options import ProxyOptions, Variant

READY = {"ready": True}
EVERYBODY = dict.fromkeys(("local", "other", "remote", "far"), READY)
LOOPBACK = ip_address("127.0.0.1")
OPTIONS = ForwardingOptions()
ASKS = 12
"""Times a client asks to be believed: four endpoints leave one chance in four million that nothing binds it."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with answering_topology() as made:
        yield made


class Site:
    """One Service, programmed on n1 in one family and variant."""

    def __init__(self, made: Topology, family: Family, variant: Variant) -> None:
        self.made, self.family, self.variant = made, family, variant
        self.plan = PLANS[family]
        networks = (ip_network(scenario.SERVICE_NETWORKS[family]),)
        self.node = node_facts("n1", scenario.NODE, family=family, service_networks=networks)
        self.item = scenario.service(Policy.CLUSTER, Situation.BOTH, family=family.value)
        self.table = ForwardingTable()
        self._opened = ExitStack()
        self.restart()

    def restart(self) -> None:
        """Another proxier, with nothing but what the kernel remembers."""
        self._opened.close()
        options = ProxyOptions(iptables_variant=self.variant)
        self.proxier = self._opened.enter_context(
            open_iptables(self.family, self.made.namespace("n1"), options)
        )
        self.proxier.resync(self.table, self.node)

    def close(self) -> None:
        self.proxier.remove()
        self._opened.close()

    def serve(self, pods: dict[str, dict[str, bool]], **spec: Any) -> None:
        self.item["spec"].update(spec)
        found = scenario.slices(self.item, pods, family=self.family.value)
        built = build_service(self.item, found, self.node, OPTIONS)
        identity = NamespacedName.of(self.item)
        before = self.table.wanted(identity)
        settled = {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
        self.proxier.apply(self.table.replace(identity, settled), self.node)
        assert self.proxier.is_undisturbed()
        assert self.proxier.verify(self.table, self.node) == []

    @property
    def node_port(self) -> int:
        return int(self.item["spec"]["ports"][0]["nodePort"])

    def ask(
        self, sender: str, frontend: str = "", kind: int = socket.SOCK_STREAM, timeout: float = 20.0
    ) -> str:
        spec = self.item["spec"]
        address, port = {
            "": (ip_address(spec["clusterIP"]), 80),
            "nodeport": (self.plan.nodes["n1"], self.node_port),
            "vip": (ip_address(self.item["status"]["loadBalancer"]["ingress"][0]["ip"]), 80),
        }[frontend]
        return ask(self.made.namespace(sender), socket.SocketKind(kind), address, port, timeout)

    def answers(self, sender: str, frontend: str = "", kind: int = socket.SOCK_STREAM) -> set[str]:
        """Who answers new connections; a UDP port that comes again by chance makes one."""
        found = set()
        for _ in range(ASKS):
            self._forget_udp()
            found.add(self.ask(sender, frontend, kind).split()[0])
        return found

    def _forget_udp(self) -> None:
        with Conntrack(self.made.namespace("n1")) as conntrack:
            conntrack.delete(list(conntrack.list(self.family.value, Asked(protocol=17))))


@pytest.fixture(
    params=[(family, variant) for family in Family for variant in Variant], ids=lambda it: f"{it[0]}-{it[1]}"
)
def site(request: pytest.FixtureRequest, cluster: Topology) -> Iterator[Site]:
    made = Site(cluster, *request.param)
    yield made
    made.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
def test_a_client_keeps_its_endpoint_through_restarts_and_changes_of_others(site: Site, kind: int) -> None:
    site.serve(EVERYBODY, sessionAffinity="ClientIP")
    for sender in ("client", "n1"):
        bound = site.answers(sender, kind=kind)
        assert len(bound) == 1
        assert site.answers(sender, "nodeport", kind) == bound
        others = dict(EVERYBODY)
        others.pop(next(name for name in others if name not in bound))
        site.serve(others)
        site.restart()
        assert site.answers(sender, kind=kind) == bound
        site.serve({name: READY for name in EVERYBODY if name not in bound})
        elsewhere = site.answers(sender, kind=kind)
        assert len(elsewhere) == 1
        assert elsewhere != bound
        site.serve(EVERYBODY)


def test_without_affinity_everybody_is_spread_over_all(site: Site) -> None:
    site.serve(EVERYBODY)
    seen = {answer for _ in range(4) for answer in site.answers("client", "nodeport")}
    assert seen == set(EVERYBODY)


def test_a_load_balancer_ip_is_open_to_its_source_ranges_only(site: Site) -> None:
    plan = site.plan
    site.serve({"local": READY}, loadBalancerSourceRanges=[f"{plan.client}/{plan.host_bits}"])
    assert site.ask("client", "vip").startswith("local")
    assert site.ask("other", "vip", timeout=0.3) == "drop"
    assert site.ask("other", "nodeport").startswith("local")
    assert site.ask("other").startswith("local")
    site.serve({})
    assert site.ask("client", "vip") == "reject"
    assert site.ask("other", "vip", timeout=0.3) == "drop"


def test_a_node_port_is_open_to_its_ranges_and_to_the_node_itself(site: Site) -> None:
    plan = site.plan
    site.item["metadata"]["annotations"] = {NODEPORT_SOURCE_RANGES: f"{plan.client}/{plan.host_bits}"}
    site.serve({"local": READY})
    assert site.ask("client", "nodeport").startswith("local")
    assert site.ask("n1", "nodeport").startswith("local")
    assert site.ask("other", "nodeport", timeout=0.3) == "drop"
    assert site.ask("other", "vip").startswith("local")


def test_pods_told_by_their_interfaces_keep_their_addresses_and_others_do_not(site: Site) -> None:
    site.node = replace(site.node, pod_networks=(), pod_interfaces=("loc*", "other"))
    site.restart()
    site.serve({"remote": READY})
    plan = site.plan
    assert site.ask("local") == f"remote {plan.pods['local'][1]}"
    assert site.ask("other") == f"remote {plan.pods['other'][1]}"
    assert site.ask("client") == f"remote {plan.nodes['n1']}"
    assert site.ask("n1") == f"remote {plan.nodes['n1']}"
    site.serve({"remote": READY}, externalTrafficPolicy="Local")
    assert site.ask("local", "nodeport") == f"remote {plan.pods['local'][1]}"
    assert site.ask("n1", "nodeport") == f"remote {plan.nodes['n1']}"
    assert site.ask("client", "nodeport", timeout=0.3) == "drop"


def test_marks_of_others_stay_as_they_are(site: Site) -> None:
    """kube-proxy's own bit among them."""
    name = site.made.namespace("n1").name
    program = f"ip{'6' if site.family is Family.IPV6 else ''}tables-{site.variant}"

    def run(*arguments: str) -> str:
        command = ["ip", "netns", "exec", name, program, "-t", "mangle", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    site.serve({"remote": READY})
    watched = ("-d", f"{site.plan.pods['remote'][1]}", "-p", "tcp", "--dport", "8080")
    run("-A", "PREROUTING", "-j", "MARK", "--set-mark", "0x7fff")
    run("-A", "POSTROUTING", *watched, "-m", "mark", "--mark", "0x7fff", "-m", "comment", "--comment", "same")
    run(
        "-A",
        "POSTROUTING",
        *watched,
        "-m",
        "mark",
        "!",
        "--mark",
        "0x7fff",
        "-m",
        "comment",
        "--comment",
        "other",
    )
    try:
        site.answers("client", "nodeport")
        counted = [line for line in run("-S", "POSTROUTING", "-v").splitlines() if "--comment" in line]
    finally:
        run("-F")
    same, changed = counted
    assert "-c 0 0" not in same
    assert "-c 0 0" in changed


def test_node_ports_answer_the_node_itself_on_loopback_where_they_are_asked_to(site: Site) -> None:
    if site.family is Family.IPV6:
        pytest.skip("the kernel has no way from ::1 to anywhere: the proxy relays those")
    netns = site.made.namespace("n1")

    def setting() -> str:
        return open_in(netns, Path("/proc/sys/net/ipv4/conf/all/route_localnet").read_text).strip()

    site.serve({"local": READY, "remote": READY}, externalTrafficPolicy="Local")
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        assert ask(netns, kind, LOOPBACK, site.node_port) == "reject"
    site.node = replace(site.node, localhost_nodeports=True)
    site.restart()
    assert site.proxier.verify(site.table, site.node) == []
    assert setting() == "1"
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        answers = {ask(netns, kind, LOOPBACK, site.node_port) for _ in range(ASKS)}
        assert answers == {f"local {site.plan.nodes['n1']}", f"remote {site.plan.nodes['n1']}"}
    site.proxier.remove()
    assert setting() == "0"
