"""From Services to the table: which Services, which frontends, who wins, what changes."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts, nodeport_networks
from nodeport.forwarding.diff import settle, settle_forwarding
from nodeport.forwarding.table import (
    Change,
    ClusterIP,
    Endpoint,
    ExternalIP,
    Forwarding,
    ForwardingOptions,
    ForwardingTable,
    LoadBalancerIP,
    Masquerade,
    NodeFacts,
    NodePort,
    Protocol,
    ServicePortName,
    Verdict,
)

NODE = NodeFacts("n1", (IPv4Address("172.30.0.11"),), (IPv4Network("10.244.1.0/24"),))
OPTIONS = ForwardingOptions()


def service(name: str = "web", labels: dict[str, str] | None = None, **spec: Any) -> JsonObject:
    plain = {"type": "NodePort", "clusterIP": "10.96.0.10", "ports": [{"port": 80, "nodePort": 30007}]}
    return {"metadata": {"namespace": "default", "name": name, "labels": labels}, "spec": {**plain, **spec}}


def slices(*addresses: str) -> list[JsonObject]:
    endpoints = [{"addresses": [address], "nodeName": "n1"} for address in addresses]
    return [
        {"metadata": {}, "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": endpoints}
    ]


def build(item: JsonObject, *addresses: str, options: ForwardingOptions = OPTIONS) -> Forwarding | None:
    """The forwarding of the only port."""
    built = list(build_service(item, slices(*addresses), NODE, options).values())
    assert len(built) <= 1
    return built[0] if built else None


@pytest.mark.parametrize(
    "item",
    [
        service(clusterIP="None"),
        service(clusterIP=""),
        service(type="ExternalName", clusterIP=None),
        service(clusterIP="fd00::1"),
        service(labels={"service.kubernetes.io/service-proxy-name": "other"}),
        service(labels={"service.kubernetes.io/headless": ""}),
        service(ports=[]),
        service(ports=[{"port": 80, "protocol": "ICMP"}]),
        service(ports=[{"port": 65536, "nodePort": 30007}]),
        service(ports=[{"port": "80", "nodePort": 30007}]),
    ],
    ids=[
        "headless",
        "no address yet",
        "ExternalName",
        "IPv6",
        "other proxy",
        "headless label",
        "no port",
        "ICMP",
        "beyond the last port",
        "a text for a port",
    ],
)
def test_services_that_are_not_for_this_proxy_have_no_forwarding(item: JsonObject) -> None:
    assert build(item, "10.244.1.2") is None


def test_what_is_no_port_is_no_frontend_and_no_endpoint() -> None:
    built = build(service(ports=[{"port": 80, "nodePort": 99999}]), "10.244.1.2")
    assert built is not None
    assert built.frontends == (ClusterIP(IPv4Address("10.96.0.10"), 80),)
    numbered = [{**slices("10.244.1.2")[0], "ports": [{"name": "", "port": 70000}]}]
    (alone,) = build_service(service(), numbered, NODE, OPTIONS).values()
    assert alone.serving == ()


def test_slices_with_the_headless_label_do_not_count() -> None:
    (item,) = slices("10.244.1.2")
    item["metadata"]["labels"] = {"service.kubernetes.io/headless": ""}
    (forwarding,) = build_service(service(), [item], NODE, OPTIONS).values()
    assert forwarding.internal.pod.verdict is Verdict.REJECT


def test_every_way_to_address_a_service_is_a_frontend() -> None:
    item = service(type="LoadBalancer", externalIPs=["192.0.2.1", "2001:db8::1", "192.0.2.1"])
    ingress = [{"ip": "192.0.2.9"}, {"hostname": "lb"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}]
    item["status"] = {"loadBalancer": {"ingress": ingress}}
    forwarding = build(item)
    assert forwarding is not None
    assert forwarding.frontends == (
        ClusterIP(IPv4Address("10.96.0.10"), 80),
        NodePort(30007),
        ExternalIP(IPv4Address("192.0.2.1"), 80),
        LoadBalancerIP(IPv4Address("192.0.2.9"), 80),
    )


def test_the_ipv4_address_of_a_dual_stack_service_is_used_wherever_it_stands() -> None:
    forwarding = build(service(clusterIP="fd00::1", clusterIPs=["fd00::1", "10.96.0.7"], type="ClusterIP"))
    assert forwarding is not None
    assert forwarding.frontends == (ClusterIP(IPv4Address("10.96.0.7"), 80),)


def test_masquerading_everything_leaves_no_exception() -> None:
    forwarding = build(service(), "10.244.1.2", options=ForwardingOptions(masquerade_all=True))
    assert forwarding is not None
    assert forwarding.internal.pod.masquerade is Masquerade.ALWAYS
    assert forwarding.external.outside.masquerade is Masquerade.ALWAYS


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, None),
        ({"sessionAffinity": "None"}, None),
        ({"sessionAffinity": "ClientIP"}, timedelta(hours=3)),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}},
            timedelta(minutes=1),
        ),
    ],
)
def test_affinity_is_carried_with_its_timeout(spec: dict[str, Any], expected: timedelta | None) -> None:
    forwarding = build(service(**spec))
    assert forwarding is not None
    assert forwarding.affinity == expected


def put(table: ForwardingTable, item: JsonObject, *addresses: str) -> list[Change]:
    return table.replace(NamespacedName.of(item), build_service(item, slices(*addresses), NODE, OPTIONS))


def test_only_what_differs_is_a_change() -> None:
    table = ForwardingTable()
    assert [change.old for change in put(table, service(), "10.244.1.2")] == [None]
    assert put(table, service(), "10.244.1.2") == []
    (change,) = put(table, service(), "10.244.1.3")
    assert change.old is not None
    assert change.new is not None
    (gone,) = table.replace(NamespacedName("default", "web"), {})
    assert gone.new is None
    assert len(table) == 0


def test_a_contested_frontend_belongs_to_the_first_name_until_it_is_free() -> None:
    table = ForwardingTable()
    external = ["192.0.2.1"]
    first, second = (
        service("a", externalIPs=external),
        service("b", clusterIP="10.96.0.11", externalIPs=external),
    )
    second["spec"]["ports"] = [{"port": 80}]
    contested = ExternalIP(IPv4Address("192.0.2.1"), 80)

    def owners() -> list[str]:
        return [name.service.name for name, forwarding in table.items() if contested in forwarding.frontends]

    put(table, second)
    assert owners() == ["b"]
    changes = put(table, first)
    assert {change.name.service.name for change in changes} == {"a", "b"}
    assert owners() == ["a"]
    changes = table.replace(NamespacedName("default", "a"), {})
    assert {change.name.service.name for change in changes} == {"a", "b"}
    assert owners() == ["b"]


def test_nobody_takes_an_allocated_address_away_by_naming_it_external() -> None:
    """Whoever may write a Service may name any external IP: that of the API server's Service, for example."""
    victim = service("web", clusterIP="10.96.0.10")
    victim["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    victim["spec"]["type"] = "LoadBalancer"
    thief = service("a-thief", clusterIP="10.96.0.11", externalIPs=["10.96.0.10", "192.0.2.1"])
    thief["spec"]["ports"] = [{"port": 80}]

    def owners(table: ForwardingTable, address: str) -> list[str]:
        return [
            name.service.name
            for name, forwarding in table.items()
            for frontend in forwarding.frontends
            if getattr(frontend, "address", None) == IPv4Address(address)
        ]

    for order in ((victim, thief), (thief, victim)):
        table = ForwardingTable()
        for item in order:
            put(table, item)
        assert [owners(table, address) for address in ("10.96.0.10", "192.0.2.1")] == [["web"], ["web"]]
        table.replace(NamespacedName.of(victim), {})
        assert [owners(table, address) for address in ("10.96.0.10", "192.0.2.1")] == [
            ["a-thief"],
            ["a-thief"],
        ]


def test_a_protocol_does_not_contest_another() -> None:
    table = ForwardingTable()
    both = [{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]
    put(table, service(ports=both))
    assert [len(forwarding.frontends) for _, forwarding in table.items()] == [1, 1]
    names = [
        ServicePortName(NamespacedName("default", "web"), *rest)
        for rest in (("t", Protocol.TCP), ("u", Protocol.UDP))
    ]
    assert list(table) == names
    assert str(names[0]) == "default/web:t"


def test_ports_of_one_service_can_exchange_their_frontends() -> None:
    def with_ports(first: int, second: int) -> JsonObject:
        return service(ports=[{"name": "a", "port": first}, {"name": "b", "port": second}])

    table = ForwardingTable()
    put(table, with_ports(80, 81))
    changes = put(table, with_ports(81, 80))
    assert [change.name.port for change in changes] == ["a", "b"]
    found = [[frontend.port for frontend in forwarding.frontends] for _, forwarding in table.items()]
    assert found == [[81], [80]]
    put(table, service(name="web", ports=[]))
    put(table, service(name="other", ports=[{"name": "c", "port": 80}]))
    assert [name.port for name in table] == ["c"]


def endpoint(number: int) -> Endpoint:
    return Endpoint.of(IPv4Address(number), 80, is_local=False)


def test_endpoints_keep_their_slots() -> None:
    before = [(IPv4Address(number).packed, 80) for number in (1, 2, 3, 4)]
    assert settle(before, tuple(map(endpoint, (1, 3, 4)))) == tuple(map(endpoint, (1, 4, 3)))
    assert settle(before, tuple(map(endpoint, (0, 1, 2, 3, 4)))) == tuple(map(endpoint, (1, 2, 3, 4, 0)))
    assert settle(before, tuple(map(endpoint, (5, 6)))) == tuple(map(endpoint, (5, 6)))
    assert settle([], tuple(map(endpoint, (2, 1)))) == tuple(map(endpoint, (2, 1)))


def test_another_order_is_no_difference() -> None:
    before, after = build(service(), "10.244.1.2", "10.244.1.3"), build(service(), "10.244.1.3")
    assert before is not None
    assert after is not None
    shrunk = settle_forwarding(before, after)
    grown = settle_forwarding(shrunk, before)
    assert grown != before
    assert settle_forwarding(grown, before) == grown


@pytest.mark.parametrize(
    ("wanted", "networks"),
    [
        (("primary",), ["172.30.0.11/32"]),
        (("172.30.0.0/24",), ["172.30.0.0/24"]),
        (("172.30.0.11/24",), ["172.30.0.0/24"]),
        (("172.030.000.0/24",), ["172.30.0.0/24"]),
        (("127.0.0.0/8",), []),
        (("127.0.0.1/32", "10.0.0.0/8"), ["10.0.0.0/8"]),
    ],
)
def test_nodeport_addresses_are_networks_without_loopback(
    wanted: tuple[str, ...], networks: list[str]
) -> None:
    assert [str(item) for item in nodeport_networks(wanted, NODE.addresses)] == networks


@pytest.mark.parametrize("wanted", [(), ("0.0.0.0/0",), ("::/0",)])
def test_all_addresses_are_all_but_loopback(wanted: tuple[str, ...]) -> None:
    networks = nodeport_networks(wanted, NODE.addresses)
    assert sum(network.num_addresses for network in networks) == 2**32 - 2**24
    assert not any(IPv4Address("127.0.0.1") in network for network in networks)


def test_a_bad_cidr_is_an_error() -> None:
    with pytest.raises(ValueError, match="bogus"):
        nodeport_networks(("bogus",), ())


def test_facts_come_from_the_node_object_internal_address_first() -> None:
    node = {
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "east"}},
        "spec": {"podCIDRs": ["fd00::/64", "10.244.1.0/24"]},
        "status": {
            "addresses": [
                {"type": "ExternalIP", "address": "203.0.113.5"},
                {"type": "Hostname", "address": "n1"},
                {"type": "InternalIP", "address": "172.30.0.11"},
            ]
        },
    }
    facts = node_facts("n1", node, service_networks=())
    assert [str(address) for address in facts.addresses] == ["172.30.0.11", "203.0.113.5"]
    assert facts.pod_networks == (IPv4Network("10.244.1.0/24"),)
    assert facts.nodeport_networks == (IPv4Network("172.30.0.11/32"),)
    assert facts.zone == "east"
    assert node_facts("n1", None, service_networks=()).nodeport_networks == ()


def test_networks_of_a_node_from_before_strictness_count_and_nonsense_does_not() -> None:
    node = {"spec": {"podCIDRs": ["10.244.001.1/24", "junk"]}}
    assert node_facts("n1", node, service_networks=()).pod_networks == (IPv4Network("10.244.1.0/24"),)
