"""Rows about NodePorts on 127.0.0.1 and ::1: every mode has them, some by rules and some by relaying.

Loopback is the node's own, so a row says what the node's row about its address says; the endpoint sees the node's
address, as nobody could answer to loopback.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from random import Random

import pytest

from kernel import scenario
from kernel.modes import MODES, SuiteMode
from kernel.packets import ROWS, FrontendKind, Row, Sender
from kernel.test_packet_suite import ANSWER_TIMEOUT, PATIENCE, SOCKETS
from kernel.topology import ClientPorts, Topology, answering_topology, ask
from nodeport.forwarding.table import Family, ForwardingTable, Protocol
from nodeport.kit.clock import SystemClock
from nodeport.proxy.localhost import LOOPBACK, LocalhostPorts
from nodeport.proxy.modes import Mode, open_proxier
from nodeport.proxy.options import ProxyOptions

OWN_ROWS = [row for row in ROWS if row.sender is Sender.NODE and row.frontend is FrontendKind.NODE_PORT]
PORTS = ClientPorts()


@dataclass(frozen=True)
class Programmed:
    made: Topology
    family: Family


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with answering_topology() as made:
        yield made


@pytest.fixture(
    scope="module",
    params=list(itertools.product(MODES, Family)),
    ids=lambda given: f"{given[0]}-{given[1]}",
)
def programmed(request: pytest.FixtureRequest, cluster: Topology) -> Iterator[Programmed]:
    mode: SuiteMode
    family: Family
    mode, family = request.param
    if mode.lacks():
        pytest.skip(mode.lacks())
    netns = cluster.namespace("n1")
    options = ProxyOptions(mode=Mode(mode.name), localhost_nodeports=True)
    node = replace(scenario.facts(family=family), localhost_nodeports=True)
    table = scenario.table(node)
    with open_proxier(options.mode, family, netns, options) as proxier:
        proxier.resync(table, node)
        if options.relays_loopback(family):
            with relaying(cluster, family, table):
                yield Programmed(cluster, family)
        else:
            yield Programmed(cluster, family)
        proxier.remove()


@contextmanager
def relaying(made: Topology, family: Family, table: ForwardingTable) -> Iterator[None]:
    """The relay at work in a thread of its own, listening for all that have endpoints."""
    wanted = 2 * sum(row.expected != "reject" for row in OWN_ROWS)
    loop = asyncio.new_event_loop()
    ports = LocalhostPorts(family, made.namespace("n1"), table, SystemClock(), Random(1))
    running = loop.create_task(ports.run())

    def serve() -> None:
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(running)
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while len(ports.ports) < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield
    finally:
        loop.call_soon_threadsafe(running.cancel)
        thread.join()


def test_every_policy_and_situation_has_a_row() -> None:
    assert len(OWN_ROWS) == 2 * 7


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("row", OWN_ROWS, ids=lambda row: f"{row.policy.value}-{row.situation.value}")
def test_node_ports_on_loopback_do_as_the_row_says(
    row: Row, protocol: Protocol, programmed: Programmed
) -> None:
    family = programmed.family
    node = scenario.address_of(Sender.NODE, family=family)
    told = scenario.expected_answers(row, family=family)
    expected = told if told == {"reject"} else {f"{answer.split()[0]} {node}" for answer in told}
    _, port = scenario.frontend(row, family=family)
    namespace, loopback = programmed.made.namespace("n1"), ip_address(LOOPBACK[family])
    found: set[str] = set()
    deadline = time.monotonic() + PATIENCE
    while found < expected and time.monotonic() < deadline:
        found.add(ask(namespace, SOCKETS[protocol], loopback, port, ANSWER_TIMEOUT, ports=PORTS))
    assert found == expected
