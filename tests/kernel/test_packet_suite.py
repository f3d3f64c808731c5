"""Every row of the packet suite through the oracle; through what each mode rendered; as real packets in each mode.

All of it in both families of addresses. ``packet_results`` keeps what came of it for the documentation.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from ipaddress import ip_address

import pytest

from kernel import scenario
from kernel.aspects import ASPECT_ROWS, Aspect, AspectRow
from kernel.modes import MODES, SuiteMode, Trace
from kernel.packets import ROWS, FrontendKind, Policy, Row, Sender, Situation
from kernel.topology import PLANS, ClientPorts, Topology, answering_topology, ask
from nodeport.forwarding.decide import decide
from nodeport.forwarding.table import (
    Family,
    ForwardingOptions,
    ForwardingTable,
    NodeFacts,
    Protocol,
    Verdict,
)
from nodeport.netlink.namespace import open_in

PROTOCOLS = [Protocol.TCP, Protocol.UDP]
SOCKETS = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM}
PODS_BY_ADDRESS = {address: name for plan in PLANS.values() for name, (_, address) in plan.pods.items()}
OPTIONS = ForwardingOptions()
EVERY_ROW: list[Row | AspectRow] = [*ROWS, *ASPECT_ROWS]
DROP_TIMEOUT = 0.3
"""Seconds to wait where nobody is expected to answer."""
ANSWER_TIMEOUT = 20.0
"""Seconds to wait for an answer that must come; a busy machine may hold it up."""
PATIENCE = 60.0
"""Seconds until every endpoint that may answer must have done so."""
AT_ONCE = 24
CLIENT_PORTS = ClientPorts()
STICKY_QUESTIONS = 6

Question = tuple[Row | AspectRow, Protocol]

every_row = pytest.mark.parametrize("row", EVERY_ROW, ids=str)
both_protocols = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
both_families = pytest.mark.parametrize("family", Family, ids=str)
every_tracer = pytest.mark.parametrize("traced", [mode for mode in MODES if mode.tracer], ids=str)


def answers(
    verdict: Verdict, outcomes: list[tuple[str, bool]], row: Row | AspectRow, family: Family
) -> set[str]:
    """Oracle's and tracer's replies in the words of ``scenario.expected_answers``."""
    if verdict is not Verdict.FORWARD:
        return {verdict.value}
    return {
        f"{pod} {scenario.address_of(Sender.NODE if masqueraded else row.sender, family=family)}"
        for pod, masqueraded in outcomes
    }


def test_the_suite_has_no_hole() -> None:
    wanted = set(itertools.product(Sender, FrontendKind, Policy, Situation))
    assert {(row.sender, row.frontend, row.policy, row.situation) for row in ROWS} == wanted
    assert len(ROWS) == len(wanted)
    aspects = set(itertools.product(Aspect, Sender, FrontendKind))
    assert {(row.aspect, row.sender, row.frontend) for row in ASPECT_ROWS} == aspects
    assert len(ASPECT_ROWS) == len(aspects)


def test_every_service_of_the_suite_has_a_number_of_its_own() -> None:
    numbers = {scenario.index(policy, situation) for policy in Policy for situation in Situation}
    numbers |= {row.number for row in ASPECT_ROWS}
    assert len(numbers) == len(Policy) * len(Situation) + len(Aspect)
    assert max(numbers) < 255


@cache
def facts(family: Family) -> NodeFacts:
    return scenario.facts(family=family)


@cache
def table(family: Family) -> ForwardingTable:
    return scenario.whole_table(facts(family), OPTIONS)


@cache
def trace_of(mode: SuiteMode, family: Family) -> Trace:
    assert mode.tracer is not None
    return mode.tracer(table(family), facts(family), OPTIONS, scenario.local_addresses(family))


@both_protocols
@both_families
@every_row
def test_the_oracle_decides_as_the_row_says(row: Row | AspectRow, family: Family, protocol: Protocol) -> None:
    decision = decide(table(family).items(), facts(family), scenario.packet(row, protocol, family=family))
    outcomes = [(PODS_BY_ADDRESS[item.endpoint.address], item.masquerade) for item in decision.outcomes]
    assert answers(decision.verdict, outcomes, row, family) == scenario.expected_answers(row, family=family)


@both_protocols
@both_families
@every_row
@every_tracer
def test_the_rendered_rules_do_as_the_row_says(
    traced: SuiteMode, row: Row | AspectRow, family: Family, protocol: Protocol
) -> None:
    found: set[str] = set()
    for fate in trace_of(traced, family)(scenario.packet(row, protocol, family=family)):
        outcomes = [(PODS_BY_ADDRESS[fate.destination[0]], fate.masquerade)] if fate.destination else []
        found |= answers(fate.verdict, outcomes, row, family)
    assert found == scenario.expected_answers(row, family=family)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with answering_topology() as made:
        yield made


Programmed = tuple[SuiteMode, Family]


@pytest.fixture(
    scope="module",
    params=list(itertools.product(MODES, Family)),
    ids=lambda made: f"{made[0]}-{made[1]}",
)
def programmed(request: pytest.FixtureRequest, cluster: Topology) -> Iterator[Programmed]:
    """Rules of one mode and family, there as long as its tests run; they must go without a trace."""
    mode, family = request.param
    missing = mode.lacks()
    if missing:
        pytest.skip(missing)
    before = cluster.nft("n1", "list", "ruleset")
    with mode.open(cluster.namespace("n1"), family, OPTIONS) as proxier:
        proxier.resync(table(family), facts(family))
        yield mode, family
        proxier.remove()
    assert cluster.nft("n1", "list", "ruleset") == before


@pytest.fixture(scope="module")
def seen(programmed: Programmed, cluster: Topology) -> dict[Question, set[str]]:
    """What came of every row, asked many at a time: waiting for what is dropped would take minutes."""
    _, family = programmed
    questions = list(itertools.product(EVERY_ROW, PROTOCOLS))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = threads.map(lambda question: send(cluster, family, *question), questions)
        return dict(zip(questions, found, strict=True))


def send(cluster: Topology, family: Family, row: Row | AspectRow, protocol: Protocol) -> set[str]:
    """All the answers to real packets, until every expected one was seen, or any other."""
    expected = scenario.expected_answers(row, family=family)
    namespace = cluster.namespace(scenario.SENDERS[row.sender])
    address, port = scenario.frontend(row, family=family)
    timeout = DROP_TIMEOUT if expected <= {"drop", "pass"} else ANSWER_TIMEOUT

    def question() -> str:
        answer = ask(namespace, SOCKETS[protocol], address, port, timeout, ports=CLIENT_PORTS)
        left_alone = expected == {"pass"} and answer in ("drop", "unreachable")
        return "pass" if left_alone else answer

    if "|" in row.expected:
        return {question() for _ in range(STICKY_QUESTIONS)}
    found: set[str] = set()
    deadline = time.monotonic() + PATIENCE
    while found < expected and time.monotonic() < deadline:  # until all, or any other
        found.add(question())
    return found


@both_protocols
@every_row
def test_real_packets_do_as_the_row_says(
    row: Row | AspectRow, protocol: Protocol, programmed: Programmed, seen: dict[Question, set[str]]
) -> None:
    expected = scenario.expected_answers(row, family=programmed[1])
    found = seen[row, protocol]
    if "|" in row.expected:
        assert found <= expected
        assert len(found) == 1
    else:
        assert found == expected


UNKNOWN = {
    Family.IPV4: {"unallocated": ("10.96.200.200", 80), "wrong-port": ("10.96.1.4", 81)},
    Family.IPV6: {"unallocated": ("fd00:96::f:f", 80), "wrong-port": ("fd00:96::1:4", 81)},
}


@both_protocols
@pytest.mark.parametrize("sender", Sender, ids=lambda sender: sender.value)
@pytest.mark.parametrize("place", ["unallocated", "wrong-port"])
def test_a_cluster_ip_nobody_has_is_refused_at_once(
    programmed: Programmed, sender: Sender, protocol: Protocol, place: str, cluster: Topology
) -> None:
    address, port = UNKNOWN[programmed[1]][place]
    namespace = cluster.namespace(scenario.SENDERS[sender])
    assert ask(namespace, SOCKETS[protocol], ip_address(address), port, ANSWER_TIMEOUT) == "reject"


@both_protocols
@pytest.mark.parametrize("sender", Sender, ids=lambda sender: sender.value)
def test_affinity_holds_across_all_frontends_of_a_service_port(
    programmed: Programmed, sender: Sender, protocol: Protocol, seen: dict[Question, set[str]]
) -> None:
    rows = [row for row in ASPECT_ROWS if row.aspect is Aspect.AFFINITY and row.sender is sender]
    assert len(rows) == len(FrontendKind)
    assert len({answer.split()[0] for row in rows for answer in seen[row, protocol]}) == 1


@both_protocols
def test_a_client_may_use_one_port_for_two_frontends_of_an_endpoint(
    programmed: Programmed, protocol: Protocol, cluster: Topology
) -> None:
    """Both connections live at the same time, and each gets its own answers."""
    mode, family = programmed
    if mode.name == "ipvs":
        pytest.skip("IPVS takes the answers of the first for those of the second")
    kind = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    rows = [
        Row(Sender.OUTSIDE, frontend, Policy.CLUSTER, Situation.LOCAL, "L")
        for frontend in (FrontendKind.EXTERNAL_IP, FrontendKind.LOAD_BALANCER_IP)
    ]
    with contextlib.ExitStack() as opened:
        asking = []
        port = 0
        for row in rows:
            made = opened.enter_context(
                open_in(cluster.namespace("client"), lambda: socket.socket(kind, SOCKETS[protocol]))
            )
            made.settimeout(ANSWER_TIMEOUT)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("", port))
            port = made.getsockname()[1]
            address, number = scenario.frontend(row, family=family)
            made.connect((str(address), number))
            asking.append(made)
        for _ in range(2):
            for made in asking:
                made.sendall(b"who?")
                assert (
                    made.recv(2048).decode() == f"local {scenario.address_of(Sender.OUTSIDE, family=family)}"
                )


def test_every_question_was_asked(seen: dict[Question, set[str]]) -> None:
    assert len(seen) == len(EVERY_ROW) * len(PROTOCOLS)
    assert all(seen.values())
