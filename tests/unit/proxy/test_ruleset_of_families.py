"""Random Services of either family, with everything that may close or bind them: the ruleset does what the oracle says."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.decide import Packet, decide
from nodeport.forwarding.sources import NODEPORT_SOURCE_RANGES
from nodeport.forwarding.table import (
    Family,
    ForwardingOptions,
    ForwardingTable,
    NodeFacts,
    NodePort,
    Protocol,
    Verdict,
)
from nodeport.proxy.iptables import evaluate as iptables_evaluate
from nodeport.proxy.iptables import render as iptables_render
from nodeport.proxy.nftables.evaluate import Fate, fates
from nodeport.proxy.nftables.render import render


@dataclass(frozen=True)
class World:
    """The addresses of one family. ``pods``: address -> node."""

    family: Family
    node: str
    loopback: str
    pods: dict[str, str]
    pod_network: str
    outsiders: tuple[str, ...]
    cluster_ip: str
    external: tuple[str, ...]
    ranges: tuple[str, ...]
    service_network: str


V4 = World(
    Family.IPV4,
    "172.31.7.11",
    "127.0.0.1",
    {"10.244.1.2": "n1", "10.244.1.3": "n1", "10.244.2.2": "n2", "172.31.7.12": "n2"},
    "10.244.1.0/24",
    ("10.244.1.9", "198.51.100.7"),
    "10.96.0.{}",
    ("192.0.2.1", "192.0.2.2", "172.31.7.11"),
    ("198.51.100.0/24", "10.244.0.0/16", "172.31.7.0/24", "10.244.1.2/32", "0.0.0.0/0", "2001:db8::/32"),
    "10.96.0.0/16",
)
V6 = World(
    Family.IPV6,
    "fd00:31:7::11",
    "::1",
    {"fd00:244:0:1::2": "n1", "fd00:244:0:1::3": "n1", "fd00:244:0:2::2": "n2", "fd00:31:7::12": "n2"},
    "fd00:244:0:1::/64",
    ("fd00:244:0:1::9", "2001:db8:7::7"),
    "fd00:96::{}",
    ("2001:db8::1", "2001:db8::2", "fd00:31:7::11"),
    ("2001:db8:7::/48", "fd00:244::/32", "fd00:31:7::/64", "fd00:244:0:1::2/128", "::/0", "10.0.0.0/8"),
    "fd00:96::/112",
)
PORTS = (80, 30001)
NODE_PORTS = (30001, 30002)
conditions = st.sampled_from(
    [{}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}, {"ready": True}]
)


@st.composite
def services(draw: st.DrawFn, world: World) -> tuple[JsonObject, list[JsonObject]]:
    number = draw(st.integers(1, 3))
    protocol = draw(st.sampled_from(["TCP", "TCP", "UDP", "SCTP"]))
    cluster_ip = world.cluster_ip.format(number)
    ranges = st.lists(st.sampled_from(world.ranges), max_size=3, unique=True)
    spec: dict[str, Any] = {
        "type": draw(st.sampled_from(["LoadBalancer", "NodePort", "LoadBalancer"])),
        "clusterIPs": ["10.96.0.99" if ":" in cluster_ip else "fd00:96::99", cluster_ip],
        "externalTrafficPolicy": draw(st.sampled_from(["Cluster", "Local"])),
        "internalTrafficPolicy": draw(st.sampled_from(["Cluster", "Local"])),
        "sessionAffinity": draw(st.sampled_from(["None", "ClientIP"])),
        "externalIPs": draw(st.lists(st.sampled_from(world.external), max_size=2, unique=True)),
        "loadBalancerSourceRanges": draw(ranges),
        "ports": [
            {
                "port": draw(st.sampled_from(PORTS)),
                "nodePort": draw(st.sampled_from(NODE_PORTS)),
                "protocol": protocol,
            }
        ],
    }
    spec["clusterIP"] = spec["clusterIPs"][0]
    annotations = {}
    if draw(st.booleans()):
        annotations[NODEPORT_SOURCE_RANGES] = ",".join(draw(ranges))
    vips = draw(st.lists(st.sampled_from(world.external), max_size=2, unique=True))
    service = {
        "metadata": {"namespace": "default", "name": f"s{number}", "annotations": annotations},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": vip, "ipMode": "VIP"} for vip in vips]}},
    }
    endpoints = draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(world.pods)), conditions), max_size=4, unique_by=lambda it: it[0]
        )
    )
    found = {
        "metadata": {},
        "addressType": str(world.family),
        "ports": [{"name": "", "port": 8080, "protocol": protocol}],
        "endpoints": [
            {"addresses": [pod], "nodeName": world.pods[pod], "conditions": state} for pod, state in endpoints
        ],
    }
    return service, [found]


@st.composite
def nodes(draw: st.DrawFn, world: World) -> NodeFacts:
    return node_facts(
        "n1",
        {
            "metadata": {"name": "n1"},
            "spec": {"podCIDRs": [world.pod_network] if draw(st.booleans()) else []},
            "status": {"addresses": [{"type": "InternalIP", "address": world.node}]},
        },
        family=world.family,
        nodeport_addresses=draw(st.sampled_from([("primary",), (), ("10.0.0.0/8",), ("fd00::/8",)])),
        service_networks=(ip_network(world.service_network),),
        pod_interfaces=draw(st.sampled_from([(), ("cbr0",), ("cali*", "veth0")])),
    )


Target = tuple[str, int, Protocol]
"""Address, port, protocol."""


def targets(world: World, table: ForwardingTable) -> list[Target]:
    """All that the table answers for, and what is next to it."""
    frontends = [
        (
            world.node if isinstance(frontend, NodePort) else str(frontend.address),
            frontend.port,
            name.protocol,
        )
        for name, forwarding in table.items()
        for frontend in forwarding.frontends
    ]
    strangers = [world.cluster_ip.format(9), world.loopback, world.external[0]]
    return frontends + [(address, NODE_PORTS[0], Protocol.TCP) for address in strangers]


@st.composite
def packets(draw: st.DrawFn, world: World, target: Target) -> Packet:
    destination, port, protocol = target
    from_node = draw(st.booleans())
    source = world.node if from_node else draw(st.sampled_from([*world.pods, *world.outsiders]))
    return Packet(
        ip_address(source),
        ip_address(destination),
        protocol,
        port,
        from_node=from_node,
        to_node=destination in (world.node, world.loopback),
        interface="" if from_node else draw(st.sampled_from(["cbr0", "cali12", "veth0", "veth01", "eth0"])),
    )


@pytest.mark.parametrize("world", [V4, V6], ids=lambda world: str(world.family))
@settings(max_examples=150)
@given(st.data(), st.booleans(), st.booleans())
def test_the_ruleset_does_what_the_oracle_says(
    world: World, data: st.DataObject, keep_client_address: bool, masquerade_all: bool
) -> None:
    options = ForwardingOptions(keep_client_address, masquerade_all)
    node = data.draw(nodes(world))
    table = ForwardingTable()
    for service, slices in data.draw(st.lists(services(world), min_size=1, max_size=3)):
        table.replace(NamespacedName.of(service), build_service(service, slices, node, options))
    ruleset, _, _ = render(table.items(), node, options)
    chains = iptables_evaluate.tables_of(iptables_render.render(table.items(), node, options)[0])
    local = frozenset({ip_address(world.node), ip_address(world.loopback)})
    for target in targets(world, table):
        packet = data.draw(packets(world, target))
        decision = decide(table.items(), node, packet)
        expected = {
            Fate(Verdict.FORWARD, (item.endpoint.address, item.endpoint.port), item.masquerade)
            for item in decision.outcomes
        } or {Fate(decision.verdict)}
        assert fates(ruleset, packet, local) == expected
        assert iptables_evaluate.fates(chains, packet, local) == expected
