"""Every row of the packet suite, three times: the oracle, the rendered ruleset, real packets."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator

import pytest

from kernel import scenario
from kernel.packets import ROWS, FrontendKind, Policy, Row, Sender, Situation
from kernel.topology import NODES, PODS, EchoPods, Topology, ask, topology
from nodeport.forwarding.decide import decide
from nodeport.forwarding.table import ForwardingOptions, Protocol, Verdict
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.nftables.evaluate import fates
from nodeport.proxy.nftables.proxier import NftablesProxier
from nodeport.proxy.nftables.render import render

PROTOCOLS = [Protocol.TCP, Protocol.UDP]
SOCKETS = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM}
PODS_BY_ADDRESS = {address: name for name, (_, address) in PODS.items()}
DROP_TIMEOUT = 0.3
ANSWER_TIMEOUT = 3.0

every_row = pytest.mark.parametrize("row", ROWS, ids=str)
both_protocols = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)


def answers(verdict: Verdict, outcomes: list[tuple[str, bool]], row: Row) -> set[str]:
    """Oracle's and evaluator's replies in the words of ``scenario.expected_answers``."""
    if verdict is not Verdict.FORWARD:
        return {verdict.value}
    sender = scenario.SENDERS[row.sender][1]
    return {f"{pod} {NODES['n1'] if masqueraded else sender}" for pod, masqueraded in outcomes}


def test_the_suite_has_no_hole() -> None:
    wanted = set(itertools.product(Sender, FrontendKind, Policy, Situation))
    assert {(row.sender, row.frontend, row.policy, row.situation) for row in ROWS} == wanted
    assert len(ROWS) == len(wanted)


@both_protocols
@every_row
def test_the_oracle_decides_as_the_row_says(row: Row, protocol: Protocol) -> None:
    node = scenario.facts()
    decision = decide(scenario.table(node).items(), node, scenario.packet(row, protocol))
    outcomes = [(PODS_BY_ADDRESS[item.endpoint.address], item.masquerade) for item in decision.outcomes]
    assert answers(decision.verdict, outcomes, row) == scenario.expected_answers(row)


@both_protocols
@every_row
def test_the_rendered_ruleset_does_as_the_row_says(row: Row, protocol: Protocol) -> None:
    node = scenario.facts()
    ruleset, _, _ = render(scenario.table(node).items(), node, ForwardingOptions())
    found: set[str] = set()
    for fate in fates(ruleset, scenario.packet(row, protocol), scenario.LOCAL_ADDRESSES):
        outcomes = [(PODS_BY_ADDRESS[fate.destination[0]], fate.masquerade)] if fate.destination else []
        found |= answers(fate.verdict, outcomes, row)
    assert found == scenario.expected_answers(row)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with topology() as made:
        pods = EchoPods(made)
        try:
            with Nftables(made.namespace("n1")) as kernel:
                proxier = NftablesProxier(kernel, ForwardingOptions())
                node = scenario.facts()
                proxier.resync(scenario.table(node), node)
            yield made
        finally:
            pods.close()


@both_protocols
@every_row
def test_real_packets_do_as_the_row_says(row: Row, protocol: Protocol, cluster: Topology) -> None:
    expected = scenario.expected_answers(row)
    namespace = cluster.namespace(scenario.SENDERS[row.sender][0])
    address, port = scenario.frontend(row)
    timeout = DROP_TIMEOUT if expected == {"drop"} else ANSWER_TIMEOUT
    seen: set[str] = set()
    deadline = time.monotonic() + 10
    while seen != expected and time.monotonic() < deadline:
        seen.add(ask(namespace, SOCKETS[protocol], address, port, timeout))
        assert seen <= expected
    assert seen == expected


@both_protocols
@pytest.mark.parametrize("sender", Sender, ids=lambda sender: sender.value)
@pytest.mark.parametrize(
    ("address", "port"), [("10.96.200.200", 80), ("10.96.1.4", 81)], ids=["unallocated", "wrong-port"]
)
def test_a_cluster_ip_nobody_has_is_refused_at_once(
    sender: Sender, protocol: Protocol, address: str, port: int, cluster: Topology
) -> None:
    namespace = cluster.namespace(scenario.SENDERS[sender][0])
    answer = ask(namespace, SOCKETS[protocol], scenario.IPv4Address(address), port, ANSWER_TIMEOUT)
    assert answer == "reject"
