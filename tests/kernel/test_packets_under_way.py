"""Packets that are in the midst of the rules while those change: so many calls that some always are, and none refused."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import pytest

from kernel import scenario
from kernel.modes import MODES, SuiteMode
from kernel.packets import Policy, Situation
from kernel.test_proxy_switch import MODES as SWITCHED
from kernel.test_proxy_switch import skip_where_there_is_no
from kernel.topology import NODES, Topology
from nodeport.api.meta import NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Family, ForwardingOptions, ForwardingTable
from nodeport.proxy.modes import open_proxier, remove_mode

OPTIONS = ForwardingOptions()
NODE = scenario.facts()
SERVICE = scenario.service(Policy.CLUSTER, Situation.BOTH)
NODE_PORT = SERVICE["spec"]["ports"][0]["nodePort"]
CLUSTER_IP = SERVICE["spec"]["clusterIP"]
READY = {"ready": True}
SECONDS = 2.0
CALLER = """
import select, socket, sys
address, port = sys.argv[1], int(sys.argv[2])
calls = refused = 0
print("calling", flush=True)
while calls < 20_000:
    if calls % 16 == 0 and select.select([sys.stdin], [], [], 0)[0]:
        break
    with socket.socket() as calling:
        calling.settimeout(5)
        calls += 1
        try:
            calling.connect((address, port))
        except ConnectionRefusedError:
            refused += 1
print(calls, refused)
"""


class Caller:
    """A process of its own in the namespace ``sender`` that connects without a pause, until ``end``."""

    def __init__(self, made: Topology, sender: str, address: str, port: int) -> None:
        command = [sys.executable, "-c", CALLER, address, str(port)]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", made.namespace(sender).name, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "calling\n"

    def end(self) -> tuple[int, int]:
        """How many calls there were, and how many of them were refused."""
        told, _ = self._process.communicate("\n", timeout=30)
        calls, refused = map(int, told.split())
        return calls, refused

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def refusals_while(made: Topology, change: Callable[[], None]) -> list[int]:
    """Of calls from outside and of the node itself, while ``change`` is made again and again."""
    with ExitStack() as stack:
        callers = [
            Caller(made, "client", str(NODES["n1"]), NODE_PORT),
            Caller(made, "n1", CLUSTER_IP, 80),
        ]
        for caller in callers:
            stack.callback(caller.kill)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            change()
        ended = [caller.end() for caller in callers]
    assert all(calls > 20 for calls, _ in ended)
    return [refused for _, refused in ended]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_no_call_is_refused_while_endpoints_come_and_go(mode: SuiteMode, made: Topology) -> None:
    """Numbers of endpoints that were not there before among them, and such as nobody has any more."""
    if mode.lacks():
        pytest.skip(mode.lacks())
    table, identity = ForwardingTable(), NamespacedName.of(SERVICE)
    with mode.open(made.namespace("n1"), Family.IPV4, OPTIONS) as proxier:

        def put(pods: Sequence[str]) -> None:
            slices = scenario.slices(SERVICE, dict.fromkeys(pods, READY))
            built = build_service(SERVICE, slices, NODE, OPTIONS)
            before = table.wanted(identity)
            settled = {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
            proxier.apply(table.replace(identity, settled), NODE)

        proxier.resync(table, NODE)
        put(["local"])
        turns = itertools.cycle([["local", "remote"], ["local"], ["remote", "local", "far"], ["remote"]])
        assert refusals_while(made, lambda: put(next(turns))) == [0, 0]
        proxier.remove()


PAIRS = [
    pair
    for other in ("iptables-legacy", "iptables-nft")
    for pair in (("nftables", other), (other, "nftables"))
]
"""Mode iptables has one variant of the programs at a time."""


@pytest.mark.parametrize(("kept", "coming"), PAIRS, ids=["-beside-".join(reversed(pair)) for pair in PAIRS])
def test_no_call_is_refused_while_another_mode_comes_and_goes(kept: str, coming: str, made: Topology) -> None:
    netns = made.namespace("n1")
    for name in (kept, coming):
        skip_where_there_is_no(name, netns)
    stays, goes = SWITCHED[kept], SWITCHED[coming]

    def come_and_go() -> None:
        with open_proxier(goes.mode, Family.IPV4, netns, goes) as proxier:
            proxier.resync(scenario.table(NODE), NODE)
            proxier.remove()

    with open_proxier(stays.mode, Family.IPV4, netns, stays) as proxier:
        proxier.resync(scenario.table(NODE), NODE)
        assert refusals_while(made, come_and_go) == [0, 0]
    remove_mode(stays.mode, Family.IPV4, netns, stays)
