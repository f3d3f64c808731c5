"""Pods told by the interface they send through: what they are spared, and outsiders are not. Real packets, every mode."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from kernel import scenario
from kernel.modes import MODES, SuiteMode
from kernel.packets import Policy, Situation
from kernel.topology import PLANS, Topology, answering_topology, ask
from nodeport.forwarding.build import node_facts
from nodeport.forwarding.table import Family, ForwardingOptions

OPTIONS = ForwardingOptions()
TIMEOUT = 3.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with answering_topology() as made:
        yield made


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("family", Family, ids=str)
@pytest.mark.parametrize("interfaces", [("other",), ("eth1", "oth*")], ids=" ".join)
def test_pods_are_told_by_their_interface(
    cluster: Topology, mode: SuiteMode, family: Family, interfaces: tuple[str, ...]
) -> None:
    """On n1 every pod hangs on an interface of its own name; ``local`` is none of the pods here, by these patterns."""
    missing = mode.lacks()
    if missing:
        pytest.skip(missing)
    plan = PLANS[family.value]
    node = node_facts("n1", scenario.NODE, family=family, service_networks=(), pod_interfaces=interfaces)
    table = scenario.table(node, OPTIONS)
    remote = 30100 + scenario.index(Policy.LOCAL, Situation.REMOTE)
    cluster_ip = scenario.service(Policy.CLUSTER, Situation.REMOTE, family=family.value)["spec"]["clusterIP"]

    def asked(sender: str, *, nodeport: bool) -> str:
        place = (plan.nodes["n1"], remote) if nodeport else (scenario.ip_address(cluster_ip), 80)
        return ask(cluster.namespace(sender), socket.SOCK_STREAM, *place, TIMEOUT)

    with mode.open(cluster.namespace("n1"), family, OPTIONS) as proxier:
        try:
            proxier.resync(table, node)
            assert asked("other", nodeport=False) == f"remote {plan.pods['other'][1]}"
            assert asked("local", nodeport=False) == f"remote {plan.nodes['n1']}"
            assert asked("other", nodeport=True) == f"remote {plan.pods['other'][1]}"
            assert asked("client", nodeport=True) == "drop"
        finally:
            proxier.remove()
