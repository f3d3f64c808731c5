"""Session affinity with real packets: who is bound to whom, through which frontends, for how long, and past what."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from kernel import scenario
from kernel.packets import Policy, Situation
from kernel.topology import PLANS, Topology, answering_topology, ask
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Family, ForwardingOptions, ForwardingTable, NodeFacts, Protocol
from nodeport.netlink.conntrack import Asked, Conntrack
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.proxier import NftablesProxier

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
READY = {"ready": True}
EVERYBODY = dict.fromkeys(("local", "other", "remote", "far"), READY)
ASKS = 12
"""Times a client asks to be believed: four endpoints leave one chance in four million that nothing binds it."""
OPTIONS = ForwardingOptions()

both_families = pytest.mark.parametrize("family", Family, ids=str)
both_protocols = pytest.mark.parametrize("protocol", KINDS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with answering_topology() as made:
        yield made


class Site:
    """One Service with affinity, programmed on n1 in one family."""

    def __init__(self, made: Topology, family: Family, **spec: Any) -> None:
        self.family = family
        self.plan = PLANS[family]
        self.nft_family = "ip" if family is Family.IPV4 else "ip6"
        self._made = made
        self.table = ForwardingTable()
        self.item = scenario.service(Policy.CLUSTER, Situation.BOTH, family=family.value)
        self.item["spec"].update({"sessionAffinity": "ClientIP", **spec})
        self.node = self._facts()
        self._kernel = Nftables(made.namespace("n1"))
        self.proxier = NftablesProxier(self._kernel, OPTIONS, family)
        self.proxier.remove()
        self.proxier.resync(self.table, self.node)
        self._forget_flows()

    def _forget_flows(self) -> None:
        """A new client may have the port of an earlier one, and would then go where that one went."""
        with Conntrack(self._made.namespace("n1")) as conntrack:
            for protocol in (Protocol.TCP, Protocol.UDP):
                conntrack.delete(list(conntrack.list(self.family, Asked(protocol))))

    def close(self) -> None:
        self.proxier.remove()
        self._kernel.close()

    def restart(self) -> None:
        """Another proxier, with nothing but what the kernel remembers."""
        self._kernel.close()
        self._kernel = Nftables(self._made.namespace("n1"))
        self.proxier = NftablesProxier(self._kernel, OPTIONS, self.family)
        assert self.proxier.resync(self.table, self.node) == 0

    def _facts(self) -> NodeFacts:
        return node_facts("n1", scenario.NODE, family=self.family, service_networks=())

    def serve(self, pods: dict[str, dict[str, bool]]) -> None:
        found = scenario.slices(self.item, pods, family=self.family.value)
        built = build_service(self.item, found, self.node, OPTIONS)
        identity = NamespacedName.of(self.item)
        before = self.table.wanted(identity)
        settled = {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
        self.proxier.apply(self.table.replace(identity, settled), self.node)
        assert self.proxier.is_intact()

    def ask(self, sender: str, protocol: str, *, nodeport: bool = False) -> str:
        spec: JsonObject = self.item["spec"]
        if nodeport:
            address, port = self.plan.nodes["n1"], spec["ports"][list(KINDS).index(protocol)]["nodePort"]
        else:
            address, port = scenario.ip_address(spec["clusterIP"]), 80
        answer = ask(self._made.namespace(sender), KINDS[protocol], address, port).split()[0]
        assert answer in EVERYBODY
        return answer

    def answers(self, sender: str, protocol: str, **where: bool) -> set[str]:
        return {self.ask(sender, protocol, **where) for _ in range(ASKS)}


@pytest.fixture
def site(cluster: Topology, family: Family) -> Iterator[Site]:
    made = Site(cluster, family)
    made.serve(EVERYBODY)
    yield made
    made.close()


@both_families
@both_protocols
def test_a_client_keeps_its_endpoint_through_every_frontend_of_the_service(site: Site, protocol: str) -> None:
    for sender in ("client", "n1"):
        bound = site.answers(sender, protocol)
        assert len(bound) == 1
        assert site.answers(sender, protocol, nodeport=True) == bound


@both_families
def test_another_port_of_the_service_binds_for_itself_and_another_client_too(site: Site) -> None:
    bound = Counter(site.ask("client", protocol) for protocol in KINDS for _ in range(ASKS))
    assert sorted(bound.values()) in ([ASKS, ASKS], [2 * ASKS])
    assert len(site.answers("far", "tcp", nodeport=True)) == 1


@both_families
@both_protocols
def test_a_client_stays_when_other_endpoints_come_and_go(site: Site, protocol: str) -> None:
    (bound,) = site.answers("client", protocol)
    for others in ({}, {"local", "other"}, {"local", "other", "remote", "far"}):
        site.serve({pod: READY for pod in EVERYBODY if pod == bound or pod in others})
        assert site.answers("client", protocol) == {bound}


@both_families
@both_protocols
def test_a_client_is_bound_anew_when_its_endpoint_goes_and_does_not_return_to_it(
    site: Site, protocol: str
) -> None:
    (bound,) = site.answers("client", protocol)
    site.serve({pod: READY for pod in EVERYBODY if pod != bound})
    (second,) = site.answers("client", protocol)
    assert second != bound
    site.serve(EVERYBODY)
    assert site.answers("client", protocol) == {second}


@both_families
def test_a_restart_of_the_proxy_keeps_clients_with_their_endpoints(site: Site) -> None:
    bound = site.answers("client", "tcp")
    site.restart()
    assert site.answers("client", "tcp") == bound


@both_families
def test_a_client_that_stays_away_too_long_is_forgotten(cluster: Topology, family: Family) -> None:
    config = {"clientIP": {"timeoutSeconds": 1}}
    made = Site(cluster, family, sessionAffinityConfig=config)
    try:
        made.serve(EVERYBODY)
        assert {forwarding.affinity for _, forwarding in made.table.items()} == {timedelta(seconds=1)}
        seen: set[str] = set()
        deadline = time.monotonic() + 90
        while len(seen) < 2 and time.monotonic() < deadline:
            seen.add(made.ask("client", "tcp"))
            while "expires" in cluster.nft("n1", "list", "map", made.nft_family, "nodeport", "affinity"):
                assert time.monotonic() < deadline
        assert len(seen) > 1
    finally:
        made.close()


@both_families
def test_with_policy_local_outsiders_are_bound_to_an_endpoint_here(cluster: Topology, family: Family) -> None:
    made = Site(cluster, family, externalTrafficPolicy="Local")
    try:
        made.serve(EVERYBODY)
        (bound,) = made.answers("client", "tcp", nodeport=True)
        assert bound in ("local", "other")
        assert made.answers("client", "tcp") == {bound}
    finally:
        made.close()


@both_families
def test_a_service_without_affinity_has_nothing_of_it_in_the_kernel(
    cluster: Topology, family: Family
) -> None:
    made = Site(cluster, family, sessionAffinity="None")
    try:
        made.serve(EVERYBODY)
        listing = cluster.nft("n1", "list", "ruleset")
        assert "sticky" not in listing
        assert "@affinity" not in listing
        assert {made.ask("client", "tcp") for _ in range(6 * ASKS)} == set(EVERYBODY)
    finally:
        made.close()


@both_families
def test_when_no_more_clients_can_be_remembered_the_others_go_to_any_endpoint(
    cluster: Topology, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "AFFINITY_SIZE", 1)
    made = Site(cluster, family)
    try:
        made.serve(EVERYBODY)
        bound = made.answers("client", "tcp")
        assert len(bound) == 1
        assert len({made.ask("n1", "tcp") for _ in range(6 * ASKS)}) > 1
        assert made.answers("client", "tcp") == bound
    finally:
        made.close()
