"""Every row of the packet suite through the oracle; through what each mode rendered; as real packets in each mode."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest

from kernel import scenario
from kernel.modes import MODES, SuiteMode, Trace
from kernel.packets import ROWS, FrontendKind, Policy, Row, Sender, Situation
from kernel.topology import PODS, EchoPods, Topology, ask, topology
from nodeport.forwarding.decide import decide
from nodeport.forwarding.table import Family, ForwardingOptions, ForwardingTable, Protocol, Verdict

PROTOCOLS = [Protocol.TCP, Protocol.UDP]
SOCKETS = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM}
PODS_BY_ADDRESS = {address: name for name, (_, address) in PODS.items()}
NODE = scenario.facts()
OPTIONS = ForwardingOptions()
DROP_TIMEOUT = 0.3
ANSWER_TIMEOUT = 3.0
PATIENCE = 10.0
"""Seconds until every endpoint that may answer must have done so."""
AT_ONCE = 24

Seen = Callable[[Row, Protocol], set[str]]

every_row = pytest.mark.parametrize("row", ROWS, ids=str)
both_protocols = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
every_tracer = pytest.mark.parametrize("traced", [mode for mode in MODES if mode.tracer], ids=str)


def answers(verdict: Verdict, outcomes: list[tuple[str, bool]], row: Row) -> set[str]:
    """Oracle's and tracer's replies in the words of ``scenario.expected_answers``."""
    if verdict is not Verdict.FORWARD:
        return {verdict.value}
    return {
        f"{pod} {scenario.address_of(Sender.NODE if masqueraded else row.sender)}"
        for pod, masqueraded in outcomes
    }


def test_the_suite_has_no_hole() -> None:
    wanted = set(itertools.product(Sender, FrontendKind, Policy, Situation))
    assert {(row.sender, row.frontend, row.policy, row.situation) for row in ROWS} == wanted
    assert len(ROWS) == len(wanted)


@cache
def table() -> ForwardingTable:
    return scenario.table(NODE, OPTIONS)


@cache
def trace_of(mode: SuiteMode) -> Trace:
    assert mode.tracer is not None
    return mode.tracer(table(), NODE, OPTIONS, scenario.LOCAL_ADDRESSES)


@both_protocols
@every_row
def test_the_oracle_decides_as_the_row_says(row: Row, protocol: Protocol) -> None:
    decision = decide(table().items(), NODE, scenario.packet(row, protocol))
    outcomes = [(PODS_BY_ADDRESS[item.endpoint.address], item.masquerade) for item in decision.outcomes]
    assert answers(decision.verdict, outcomes, row) == scenario.expected_answers(row)


@both_protocols
@every_row
@every_tracer
def test_the_rendered_ruleset_does_as_the_row_says(traced: SuiteMode, row: Row, protocol: Protocol) -> None:
    found: set[str] = set()
    for fate in trace_of(traced)(scenario.packet(row, protocol)):
        outcomes = [(PODS_BY_ADDRESS[fate.destination[0]], fate.masquerade)] if fate.destination else []
        found |= answers(fate.verdict, outcomes, row)
    assert found == scenario.expected_answers(row)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with topology() as made:
        pods = EchoPods(made)
        try:
            yield made
        finally:
            pods.close()


@pytest.fixture(scope="module", params=MODES, ids=str)
def mode(request: pytest.FixtureRequest, cluster: Topology) -> Iterator[SuiteMode]:
    """Rules of one mode, there as long as its tests run; they must go without a trace."""
    used: SuiteMode = request.param
    missing = used.lacks()
    if missing:
        pytest.skip(missing)
    before = cluster.nft("n1", "list", "ruleset")
    with used.open(cluster.namespace("n1"), Family.IPV4, OPTIONS) as proxier:
        proxier.resync(table(), NODE)
        yield used
        proxier.remove()
    assert cluster.nft("n1", "list", "ruleset") == before


@pytest.fixture(scope="module")
def seen(mode: SuiteMode, cluster: Topology) -> Seen:
    """What came of every row, asked many at a time: waiting for what is dropped would take minutes."""
    rows = list(itertools.product(ROWS, PROTOCOLS))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = dict(zip(rows, threads.map(lambda row: send(cluster, *row), rows), strict=True))
    return lambda row, protocol: found[row, protocol]


def send(cluster: Topology, row: Row, protocol: Protocol) -> set[str]:
    """All the answers to real packets, until every expected one was seen, or any other."""
    expected = scenario.expected_answers(row)
    namespace = cluster.namespace(scenario.SENDERS[row.sender])
    address, port = scenario.frontend(row)
    timeout = DROP_TIMEOUT if expected == {"drop"} else ANSWER_TIMEOUT
    found: set[str] = set()
    deadline = time.monotonic() + PATIENCE
    while found < expected and time.monotonic() < deadline:
        found.add(ask(namespace, SOCKETS[protocol], address, port, timeout))
    return found


@both_protocols
@every_row
def test_real_packets_do_as_the_row_says(row: Row, protocol: Protocol, seen: Seen) -> None:
    assert seen(row, protocol) == scenario.expected_answers(row)


@both_protocols
@pytest.mark.parametrize("sender", Sender, ids=lambda sender: sender.value)
@pytest.mark.parametrize(
    ("address", "port"), [("10.96.200.200", 80), ("10.96.1.4", 81)], ids=["unallocated", "wrong-port"]
)
def test_a_cluster_ip_nobody_has_is_refused_at_once(
    mode: SuiteMode, sender: Sender, protocol: Protocol, address: str, port: int, cluster: Topology
) -> None:
    namespace = cluster.namespace(scenario.SENDERS[sender])
    answer = ask(namespace, SOCKETS[protocol], scenario.IPv4Address(address), port, ANSWER_TIMEOUT)
    assert answer == "reject"
