"""Options that move packets: on which addresses NodePorts answer, and whose address endpoints see."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from kernel import scenario
from kernel.modes import MODES, SuiteMode
from kernel.packets import Policy, Situation
from kernel.topology import NODES, PLANS, EchoPods, Topology, ask, topology
from nodeport.forwarding.table import Family, ForwardingOptions

SECOND = {Family.IPV4: ip_address("172.31.7.99"), Family.IPV6: ip_address("fd00:31:7::99")}
LAST_CHOICE = {Family.IPV4: "", Family.IPV6: "preferred_lft 0"}
"""The kernel masquerades with a node's newest IPv6 address unless that is deprecated."""
CLUSTER_IPS = {Family.IPV4: ip_address("10.96.1.2"), Family.IPV6: ip_address("fd00:96::1:2")}
PORT = scenario.service(Policy.CLUSTER, Situation.LOCAL)["spec"]["ports"][0]["nodePort"]
TIMEOUT = 3.0
both_families = pytest.mark.parametrize("family", Family, ids=str)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with topology() as made:
        made.ip(
            "n1",
            *(
                f"addr add {address}/{address.max_prefixlen} dev eth0 {LAST_CHOICE[family]}"
                for family, address in SECOND.items()
            ),
        )
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
    for family in Family:
        with used.open(cluster.namespace("n1"), family, ForwardingOptions()) as proxier:
            proxier.remove()


def program(
    made: Topology,
    mode: SuiteMode,
    family: Family,
    *nodeport_addresses: str,
    options: ForwardingOptions | None = None,
) -> None:
    node = scenario.facts(*nodeport_addresses, family=family)
    used = options or ForwardingOptions()
    with mode.open(made.namespace("n1"), family, used) as proxier:
        proxier.resync(scenario.table(node, used), node)


NETWORKS = {
    "primary": (("primary",), {"first"}),
    "one": (("172.31.7.99/32", "fd00:31:7::99/128"), {"second"}),
    "network": (("172.31.7.0/24", "fd00:31:7::/64"), {"first", "second"}),
    "all": (("0.0.0.0/0", "::/0"), {"first", "second"}),
    "elsewhere": (("10.0.0.0/8", "2001:db8::/32"), set()),
}


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
@pytest.mark.parametrize("sender", ["client", "other", "n1"])
@pytest.mark.parametrize("wanted", NETWORKS)
@both_families
def test_node_ports_answer_on_the_wanted_addresses_only(
    cluster: Topology, mode: SuiteMode, wanted: str, sender: str, kind: socket.SocketKind, family: Family
) -> None:
    """Also after others were wanted: what was withdrawn refuses."""
    networks, answering = NETWORKS[wanted]
    program(cluster, mode, family, *networks)
    for name, address in {"first": PLANS[family].nodes["n1"], "second": SECOND[family]}.items():
        answer = ask(cluster.namespace(sender), kind, address, PORT, TIMEOUT)
        assert answer.split()[0] == ("local" if name in answering else "reject"), name


@both_families
def test_a_network_wider_than_the_node_does_not_catch_what_only_passes_through(
    cluster: Topology, mode: SuiteMode, family: Family
) -> None:
    """The address is inside ``--nodeport-addresses`` but not the node's: it is another machine's business."""
    program(cluster, mode, family, "0.0.0.0/0", "::/0")
    answer = ask(cluster.namespace("other"), socket.SOCK_STREAM, PLANS[family].client, PORT, TIMEOUT)
    assert answer == "reject"


@pytest.mark.parametrize(
    ("options", "sender", "asked", "seen"),
    [
        (ForwardingOptions(), "client", "node", "client"),
        (ForwardingOptions(keep_client_address=False), "client", "node", "node"),
        (ForwardingOptions(keep_client_address=False), "other", "ClusterIP", "other"),
        (ForwardingOptions(masquerade_all=True), "other", "ClusterIP", "node"),
        (ForwardingOptions(masquerade_all=True), "client", "node", "node"),
    ],
    ids=["kept", "not kept", "pods keep theirs", "all of them", "all of them, from outside"],
)
@both_families
def test_endpoints_see_the_address_that_the_options_say(
    cluster: Topology,
    mode: SuiteMode,
    options: ForwardingOptions,
    sender: str,
    asked: str,
    seen: str,
    family: Family,
) -> None:
    assert scenario.index(Policy.CLUSTER, Situation.LOCAL) == 2
    program(cluster, mode, family, "primary", options=options)
    plan = PLANS[family]
    node = plan.nodes["n1"]
    address, port = (node, PORT) if asked == "node" else (CLUSTER_IPS[family], 80)
    told = {"client": plan.client, "node": node, "other": plan.pods["other"][1]}[seen]
    assert ask(cluster.namespace(sender), socket.SOCK_STREAM, address, port, TIMEOUT) == f"local {told}"


def test_packets_leave_without_a_mark_and_without_a_priority(cluster: Topology, mode: SuiteMode) -> None:
    """Somebody else's rules see neither: the class in ``meta priority`` is gone when the packet leaves."""
    program(cluster, mode, Family.IPV4, "primary")
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
