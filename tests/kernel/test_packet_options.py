"""Options that move packets: on which addresses NodePorts answer, and whose address endpoints see."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from kernel import scenario
from kernel.modes import MODES, SuiteMode
from kernel.packets import Policy, Situation
from kernel.topology import CLIENT, NODES, PODS, EchoPods, Topology, ask, topology
from nodeport.forwarding.table import Family, ForwardingOptions

SECOND = IPv4Address("172.31.7.99")
PORT = scenario.service(Policy.CLUSTER, Situation.LOCAL)["spec"]["ports"][0]["nodePort"]
TIMEOUT = 3.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with topology() as made:
        made.ip("n1", f"addr add {SECOND}/32 dev eth0")
        pods = EchoPods(made)
        try:
            yield made
        finally:
            pods.close()


@pytest.fixture(scope="module", params=MODES, ids=str)
def mode(request: pytest.FixtureRequest, cluster: Topology) -> Iterator[SuiteMode]:
    used: SuiteMode = request.param
    missing = used.lacks()
    if missing:
        pytest.skip(missing)
    yield used
    with used.open(cluster.namespace("n1"), Family.IPV4, ForwardingOptions()) as proxier:
        proxier.remove()


def program(
    made: Topology, mode: SuiteMode, *nodeport_addresses: str, options: ForwardingOptions | None = None
) -> None:
    node = scenario.facts(*nodeport_addresses)
    used = options or ForwardingOptions()
    with mode.open(made.namespace("n1"), Family.IPV4, used) as proxier:
        proxier.resync(scenario.table(node, used), node)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
@pytest.mark.parametrize("sender", ["client", "other", "n1"])
@pytest.mark.parametrize(
    ("wanted", "answering"),
    [
        (("primary",), {NODES["n1"]}),
        (("172.31.7.99/32",), {SECOND}),
        (("172.31.7.0/24",), {NODES["n1"], SECOND}),
        (("0.0.0.0/0",), {NODES["n1"], SECOND}),
        (("10.0.0.0/8",), set()),
    ],
    ids=["primary", "one", "network", "all", "elsewhere"],
)
def test_node_ports_answer_on_the_wanted_addresses_only(
    cluster: Topology,
    mode: SuiteMode,
    wanted: tuple[str, ...],
    answering: set[IPv4Address],
    sender: str,
    kind: socket.SocketKind,
) -> None:
    program(cluster, mode, *wanted)
    for address in (NODES["n1"], SECOND):
        answer = ask(cluster.namespace(sender), kind, address, PORT, TIMEOUT)
        assert answer.split()[0] == ("local" if address in answering else "reject")


def test_a_network_wider_than_the_node_does_not_catch_what_only_passes_through(
    cluster: Topology, mode: SuiteMode
) -> None:
    """The address is inside ``--nodeport-addresses`` but not the node's: it is another machine's business."""
    program(cluster, mode, "0.0.0.0/0")
    answer = ask(cluster.namespace("other"), socket.SOCK_STREAM, CLIENT, PORT, TIMEOUT)
    assert answer == "reject"


@pytest.mark.parametrize(
    ("options", "sender", "address", "seen"),
    [
        (ForwardingOptions(), "client", NODES["n1"], CLIENT),
        (ForwardingOptions(keep_client_address=False), "client", NODES["n1"], NODES["n1"]),
        (ForwardingOptions(keep_client_address=False), "other", IPv4Address("10.96.1.2"), PODS["other"][1]),
        (ForwardingOptions(masquerade_all=True), "other", IPv4Address("10.96.1.2"), NODES["n1"]),
        (ForwardingOptions(masquerade_all=True), "client", NODES["n1"], NODES["n1"]),
    ],
    ids=["kept", "not kept", "pods keep theirs", "all of them", "all of them, from outside"],
)
def test_endpoints_see_the_address_that_the_options_say(
    cluster: Topology,
    mode: SuiteMode,
    options: ForwardingOptions,
    sender: str,
    address: IPv4Address,
    seen: IPv4Address,
) -> None:
    assert scenario.index(Policy.CLUSTER, Situation.LOCAL) == 2
    program(cluster, mode, "primary", options=options)
    port = PORT if address == NODES["n1"] else 80
    assert ask(cluster.namespace(sender), socket.SOCK_STREAM, address, port, TIMEOUT) == f"local {seen}"


def test_packets_leave_without_a_mark_and_without_a_priority(cluster: Topology, mode: SuiteMode) -> None:
    """Somebody else's rules see neither: the class in ``meta priority`` is gone when the packet leaves."""
    program(cluster, mode, "primary")
    rules = (
        "table ip watch { chain seen { type filter hook postrouting priority 200; policy accept; "
        'ip daddr 10.244.1.2 tcp dport 8080 meta mark 0 meta priority none counter comment "clean"; '
        'ip daddr 10.244.1.2 tcp dport 8080 meta mark != 0 counter comment "marked"; '
        'ip daddr 10.244.1.2 tcp dport 8080 meta priority != none counter comment "classed"; }; }'
    )
    cluster.nft("n1", rules)
    try:
        for sender in ("client", "other", "n1"):
            answer = ask(cluster.namespace(sender), socket.SOCK_STREAM, NODES["n1"], PORT, TIMEOUT)
            assert answer.startswith("local")
        listing = cluster.nft("n1", "list", "table", "ip", "watch")
    finally:
        cluster.nft("n1", "delete", "table", "ip", "watch")
    lines = {line.rsplit('"', 2)[1]: line for line in listing.splitlines() if "comment" in line}
    assert "packets 0" not in lines["clean"]
    assert "packets 0" in lines["marked"]
    assert "packets 0" in lines["classed"]
