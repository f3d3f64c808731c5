"""Source ranges with real packets, in every mode and both families: who may use a load-balancer IP, who a NodePort."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest

from kernel import scenario
from kernel.modes import MODES, SuiteMode
from kernel.packets import Policy, Situation
from kernel.topology import PLANS, Topology, answering_topology, ask
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.sources import NODEPORT_SOURCE_RANGES
from nodeport.forwarding.table import Family, ForwardingOptions, ForwardingTable

ANSWER_TIMEOUT = 20.0
DROP_TIMEOUT = 0.3
SENDERS = ("client", "far", "other", "n1")
OPTIONS = ForwardingOptions()
PORT = 30100 + scenario.index(Policy.CLUSTER, Situation.LOCAL)

ROWS = """
VIP ranges     NodePort ranges   VIP                        NodePort                   ClusterIP
-              -                 client far other n1        client far other n1        client far other n1
client         -                 client                     client far other n1        client far other n1
client,n1      -                 client n1                  client far other n1        client far other n1
pods           -                 far other                  client far other n1        client far other n1
client,all     -                 client far other n1        client far other n1        client far other n1
foreign        -                 client far other n1        client far other n1        client far other n1
-              client            client far other n1        client n1                  client far other n1
-              far,other         client far other n1        far other n1               client far other n1
-              foreign           client far other n1        n1                         client far other n1
-              nonsense          client far other n1        n1                         client far other n1
client         far               client                     far n1                     client far other n1
"""
"""Ranges of the VIP (``loadBalancerSourceRanges``), ranges of the NodePort (annotation), and who is answered where.

Rules: VIPs are closed to pods and the node as well, unless they are in a range; a range of length 0, or none of the
packet's family, is no restriction (kube-proxy). NodePorts are never closed to the node itself (ours).
"""


def _read() -> list[tuple[str, str, dict[str, set[str]]]]:
    rows = []
    for line in ROWS.strip().splitlines()[1:]:
        vip, nodeport, *answered = (cell.strip() for cell in line.split("  ") if cell.strip())
        who = {
            name: set(cell.split())
            for name, cell in zip(("VIP", "NodePort", "ClusterIP"), answered, strict=True)
        }
        rows.append((vip, nodeport, who))
    return rows


def networks(words: str, family: Family) -> list[str]:
    """CIDRs for the words of a cell."""
    plan = PLANS[family.value]
    known = {
        "client": f"{plan.client}/{plan.host_bits}",
        "n1": f"{plan.nodes['n1']}/{plan.host_bits}",
        "far": f"{plan.pods['far'][1]}/{plan.host_bits}",
        "other": f"{plan.pods['other'][1]}/{plan.host_bits}",
        "pods": "10.244.0.0/16" if family is Family.IPV4 else "fd00:244::/32",
        "all": "0.0.0.0/0" if family is Family.IPV4 else "::/0",
        "foreign": "2001:db8::/32" if family is Family.IPV4 else "198.51.100.0/24",
        "nonsense": "everybody",
    }
    return [known[word] for word in words.split(",")] if words != "-" else []


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with answering_topology() as made:
        yield made


@pytest.fixture(params=MODES, ids=str)
def mode(request: pytest.FixtureRequest) -> SuiteMode:
    used: SuiteMode = request.param
    missing = used.lacks()
    if missing:
        pytest.skip(missing)
    return used


def service(family: Family, ranges: str, annotation: str) -> JsonObject:
    item = scenario.service(Policy.CLUSTER, Situation.LOCAL, family=family.value)
    item["spec"]["loadBalancerSourceRanges"] = networks(ranges, family)
    if annotation != "-":
        item["metadata"]["annotations"] = {NODEPORT_SOURCE_RANGES: ", ".join(networks(annotation, family))}
    return item


@pytest.mark.parametrize("family", Family, ids=str)
@pytest.mark.parametrize(("ranges", "annotation", "answered"), _read(), ids=lambda cell: str(cell)[:20])
def test_only_those_in_a_range_are_answered(
    cluster: Topology,
    mode: SuiteMode,
    family: Family,
    ranges: str,
    annotation: str,
    answered: dict[str, set[str]],
) -> None:
    item = service(family, ranges, annotation)
    node = node_facts("n1", scenario.NODE, family=family, service_networks=())
    table = ForwardingTable()
    found = scenario.slices(item, {"local": {"ready": True}}, family=family.value)
    table.replace(NamespacedName.of(item), build_service(item, found, node, OPTIONS))
    places = {
        "VIP": (ip_address(item["status"]["loadBalancer"]["ingress"][0]["ip"]), 80),
        "NodePort": (PLANS[family.value].nodes["n1"], PORT),
        "ClusterIP": (ip_address(item["spec"]["clusterIP"]), 80),
    }
    questions = [(frontend, sender) for frontend in places for sender in SENDERS]

    def answer(frontend: str, sender: str) -> str:
        timeout = ANSWER_TIMEOUT if sender in answered[frontend] else DROP_TIMEOUT
        return ask(cluster.namespace(sender), socket.SOCK_STREAM, *places[frontend], timeout).split()[0]

    with mode.open(cluster.namespace("n1"), family, OPTIONS) as proxier, ThreadPoolExecutor() as threads:
        try:
            proxier.resync(table, node)
            answers = list(threads.map(answer, *zip(*questions, strict=True)))
        finally:
            proxier.remove()
    wanted = ["local" if sender in answered[frontend] else "drop" for frontend, sender in questions]
    assert dict(zip(questions, answers, strict=True)) == dict(zip(questions, wanted, strict=True))
