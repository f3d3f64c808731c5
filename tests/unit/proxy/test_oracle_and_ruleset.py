"""Random Services, random packets: the rendered ruleset does what the oracle says, whatever the options."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.decide import Packet, decide
from nodeport.forwarding.table import (
    ForwardingOptions,
    ForwardingTable,
    NodeFacts,
    NodePort,
    Protocol,
    Verdict,
)
from nodeport.proxy.iptables import evaluate as iptables_evaluate
from nodeport.proxy.iptables import render as iptables_render
from nodeport.proxy.nftables.evaluate import fates
from nodeport.proxy.nftables.render import render
from nodeport.proxy.questions import Fate

NODE_ADDRESS = IPv4Address("172.31.7.11")
SECOND_ADDRESS = IPv4Address("172.31.8.11")
LOCAL_ADDRESSES = frozenset({NODE_ADDRESS, SECOND_ADDRESS, IPv4Address("127.0.0.1")})
PODS = {"10.244.1.2": "n1", "10.244.1.3": "n1", "10.244.2.2": "n2", "10.244.2.3": "n2", "172.31.7.12": "n2"}
SENDERS = [IPv4Address(raw) for raw in (*PODS, "10.244.1.9", "198.51.100.7")]
PORTS = [80, 81, 30001]
NODE_PORTS = [30001, 30002, 30003]

conditions = st.sampled_from(
    [
        {},
        {"ready": True},
        {"ready": False},
        {"ready": False, "serving": True, "terminating": True},
        {"ready": False, "serving": False, "terminating": True},
        {"ready": None, "serving": None, "terminating": None},
    ]
)


@st.composite
def endpoints(draw: st.DrawFn) -> JsonObject:
    address = draw(st.sampled_from(sorted(PODS)))
    return {"addresses": [address], "nodeName": PODS[address], "conditions": draw(conditions)}


@st.composite
def services(draw: st.DrawFn) -> tuple[JsonObject, list[JsonObject]]:
    number = draw(st.integers(1, 3))
    protocol = draw(st.sampled_from(["TCP", "UDP"]))
    spec: dict[str, Any] = {
        "type": draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"])),
        "clusterIP": f"10.96.0.{number}",
        "externalTrafficPolicy": draw(st.sampled_from(["Cluster", "Local"])),
        "internalTrafficPolicy": draw(st.sampled_from(["Cluster", "Local"])),
        "externalIPs": draw(st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2"]), max_size=2, unique=True)),
        "ports": [
            {
                "port": draw(st.sampled_from(PORTS)),
                "nodePort": draw(st.sampled_from(NODE_PORTS)),
                "protocol": protocol,
            }
        ],
    }
    service = {"metadata": {"namespace": "default", "name": f"s{number}"}, "spec": spec}
    slices = [
        {
            "metadata": {"name": f"s{number}-{index}"},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080, "protocol": protocol}],
            "endpoints": draw(st.lists(endpoints(), max_size=4)),
        }
        for index in range(draw(st.integers(0, 2)))
    ]
    return service, slices


nodes = st.builds(
    lambda cidr, addresses: node_facts(
        "n1",
        {
            "metadata": {"name": "n1"},
            "spec": {"podCIDR": "10.244.1.0/24"} if cidr else {},
            "status": {"addresses": [{"type": "InternalIP", "address": str(NODE_ADDRESS)}]},
        },
        nodeport_addresses=addresses,
        service_networks=(IPv4Network("10.96.0.0/16"),),
    ),
    st.booleans(),
    st.sampled_from([("primary",), (), ("172.31.8.0/24",), ("10.0.0.0/8", "127.0.0.0/8")]),
)
options = st.builds(ForwardingOptions, st.booleans(), st.booleans())


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    destination = IPv4Address(
        draw(
            st.sampled_from(
                [
                    "10.96.0.1",
                    "10.96.0.2",
                    "10.96.0.3",
                    "10.96.0.9",
                    "192.0.2.1",
                    "192.0.2.2",
                    "172.31.7.11",
                    "172.31.8.11",
                    "127.0.0.1",
                    "203.0.113.1",
                ]
            )
        )
    )
    from_node = draw(st.booleans())
    return Packet(
        NODE_ADDRESS if from_node else draw(st.sampled_from(SENDERS)),
        destination,
        draw(st.sampled_from([Protocol.TCP, Protocol.UDP])),
        draw(st.sampled_from(sorted({*PORTS, *NODE_PORTS}))),
        from_node=from_node,
        to_node=destination in LOCAL_ADDRESSES,
    )


def table_of(
    made: list[tuple[JsonObject, list[JsonObject]]], node: NodeFacts, option: ForwardingOptions
) -> ForwardingTable:
    table = ForwardingTable()
    for service, slices in made:
        table.replace(NamespacedName.of(service), build_service(service, slices, node, option))
    return table


@settings(max_examples=200)
@given(st.lists(services(), max_size=3), nodes, options, st.lists(packets(), min_size=1, max_size=8))
def test_the_ruleset_does_what_the_oracle_says(
    made: list[tuple[JsonObject, list[JsonObject]]],
    node: NodeFacts,
    option: ForwardingOptions,
    sent: list[Packet],
) -> None:
    table = table_of(made, node, option)
    ruleset, _, _ = render(table.items(), node, option)
    chains = iptables_evaluate.tables_of(iptables_render.render(table.items(), node, option)[0])
    for packet in sent:
        decision = decide(table.items(), node, packet)
        expected = {
            Fate(Verdict.FORWARD, (item.endpoint.address, item.endpoint.port), item.masquerade)
            for item in decision.outcomes
        } or {Fate(decision.verdict)}
        assert fates(ruleset, packet, LOCAL_ADDRESSES) == expected
        assert iptables_evaluate.fates(chains, packet, LOCAL_ADDRESSES) == expected


@settings(max_examples=100)
@given(st.lists(services(), max_size=6), nodes)
def test_every_frontend_of_the_table_belongs_to_one_service_port(
    made: list[tuple[JsonObject, list[JsonObject]]], node: NodeFacts
) -> None:
    table = table_of(made, node, ForwardingOptions())
    claims = [
        (frontend, name.protocol) for name, forwarding in table.items() for frontend in forwarding.frontends
    ]
    assert len(claims) == len(set(claims))
    wanted = {
        (frontend, name.protocol)
        for service in table.services()
        for name, forwarding in table.wanted(service).items()
        for frontend in forwarding.frontends
    }
    assert set(claims) == wanted
    assert all(isinstance(frontend, NodePort) or frontend.port in PORTS for frontend, _ in claims)


def test_an_external_ip_may_have_the_port_of_somebody_elses_node_port() -> None:
    """Found by the property above: the NodePort's masquerading took the external IP's connections along."""
    node = node_facts("n1", None, nodeport_addresses=(), service_networks=())
    local = {"addresses": ["10.244.1.2"], "nodeName": "n1"}
    slices = [
        {"metadata": {}, "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": [local]}
    ]
    specs: list[dict[str, Any]] = [
        {"type": "NodePort", "clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 30001}]},
        {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.2",
            "externalIPs": ["192.0.2.1"],
            "externalTrafficPolicy": "Local",
            "ports": [{"port": 30001}],
        },
    ]
    made = [
        ({"metadata": {"namespace": "default", "name": f"s{index}"}, "spec": spec}, slices)
        for index, spec in enumerate(specs)
    ]
    option = ForwardingOptions(keep_client_address=False)
    ruleset, _, _ = render(table_of(made, node, option).items(), node, option)
    packet = Packet(IPv4Address("198.51.100.7"), IPv4Address("192.0.2.1"), Protocol.TCP, 30001)
    kept = Fate(Verdict.FORWARD, (IPv4Address("10.244.1.2"), 8080), masquerade=False)
    assert fates(ruleset, packet, LOCAL_ADDRESSES) == {kept}
