"""One Service, two families: each sees its own addresses and nothing of the other's."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.forwarding.build import build_service, node_facts, nodeport_networks
from nodeport.forwarding.endpoints import parse_address
from nodeport.forwarding.table import Family, ForwardingOptions, NodeFacts

NODE: JsonObject = {
    "metadata": {"name": "n1"},
    "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:244:0:1::/64"]},
    "status": {
        "addresses": [
            {"type": "ExternalIP", "address": "203.0.113.11"},
            {"type": "InternalIP", "address": "172.31.7.11"},
            {"type": "InternalIP", "address": "fd00:31:7::11"},
            {"type": "Hostname", "address": "n1"},
        ]
    },
}
NETWORKS = (ip_network("10.96.0.0/16"), ip_network("fd00:96::/112"))
both_families = pytest.mark.parametrize("family", Family, ids=str)


def facts(family: Family, **asked: Any) -> NodeFacts:
    return node_facts("n1", NODE, family=family, service_networks=NETWORKS, **asked)


def service(*cluster_ips: str) -> JsonObject:
    spec = {
        "type": "LoadBalancer",
        "clusterIP": cluster_ips[0],
        "clusterIPs": list(cluster_ips),
        "externalIPs": ["192.0.2.1", "2001:db8::1"],
        "ports": [{"port": 80, "nodePort": 30007}],
    }
    ingress = [{"ip": "192.0.2.9", "ipMode": "VIP"}, {"ip": "2001:db8::9", "ipMode": "VIP"}]
    return {
        "metadata": {"namespace": "default", "name": "web"},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": ingress}},
    }


def slices() -> list[JsonObject]:
    addresses = {"IPv4": "10.244.1.2", "IPv6": "fd00:244:0:1::2", "FQDN": "pod.example.org"}
    return [
        {
            "metadata": {},
            "addressType": kind,
            "ports": [{"name": "", "port": 8080}],
            "endpoints": [{"addresses": [address], "nodeName": "n1"}],
        }
        for kind, address in addresses.items()
    ]


@both_families
def test_a_service_of_both_families_has_frontends_and_endpoints_of_each_in_its_own(family: Family) -> None:
    item = service("10.96.0.10", "fd00:96::10")
    (made,) = build_service(item, slices(), facts(family), ForwardingOptions()).values()
    found = [getattr(frontend, "address", None) for frontend in made.frontends]
    wanted = {
        Family.IPV4: ["10.96.0.10", None, "192.0.2.1", "192.0.2.9"],
        Family.IPV6: ["fd00:96::10", None, "2001:db8::1", "2001:db8::9"],
    }
    assert found == [ip_address(raw) if raw else None for raw in wanted[family]]
    (endpoint,) = made.internal.pod.endpoints
    assert endpoint.address.version == family
    assert endpoint.is_local


@pytest.mark.parametrize(("address", "family"), [("10.96.0.10", Family.IPV6), ("fd00:96::10", Family.IPV4)])
def test_a_service_without_a_cluster_ip_of_a_family_has_nothing_there(address: str, family: Family) -> None:
    assert build_service(service(address), slices(), facts(family), ForwardingOptions()) == {}


@both_families
def test_a_node_is_known_by_its_addresses_and_networks_of_a_family(family: Family) -> None:
    found = facts(family)
    every = (*found.addresses, *found.pod_networks, *found.nodeport_networks, *found.service_networks)
    assert {item.version for item in every} == {family}
    assert len(found.pod_networks) == len(found.service_networks) == len(found.nodeport_networks) == 1


def test_the_primary_address_is_the_first_internal_one_of_each_family() -> None:
    assert facts(Family.IPV4).nodeport_networks == (ip_network("172.31.7.11/32"),)
    assert facts(Family.IPV6).nodeport_networks == (ip_network("fd00:31:7::11/128"),)


def test_interfaces_of_pods_take_the_place_of_their_networks() -> None:
    found = facts(Family.IPV4, pod_interfaces=("cali*",))
    assert found.pod_networks == ()
    assert found.tells_pods


def test_pod_networks_of_one_family_only_leave_the_other_without() -> None:
    asked = (ip_network("10.0.0.0/8"),)
    assert facts(Family.IPV4, pod_networks=asked).pod_networks == asked
    assert not facts(Family.IPV6, pod_networks=asked).tells_pods


@pytest.mark.parametrize(
    ("wanted", "family", "found"),
    [
        (("10.0.0.0/8",), Family.IPV4, ["10.0.0.0/8"]),
        (("fd00::/8",), Family.IPV6, ["fd00::/8"]),
        (("127.0.0.0/8", "10.0.0.0/8"), Family.IPV4, ["10.0.0.0/8"]),
        (("::1/128", "fd00::/8"), Family.IPV6, ["fd00::/8"]),
        (("127.0.0.1/32",), Family.IPV4, []),
    ],
    ids=str,
)
def test_networks_for_nodeports(wanted: tuple[str, ...], family: Family, found: list[str]) -> None:
    assert nodeport_networks(wanted, (), family) == tuple(map(ip_network, found))


@pytest.mark.parametrize("wanted", [(), ("10.0.0.0/8",)], ids=str)
def test_without_a_network_of_its_family_every_address_answers_but_loopback(wanted: tuple[str, ...]) -> None:
    networks = nodeport_networks(wanted, (), Family.IPV6)
    assert any(ip_address("fd00::1") in network for network in networks)
    assert not any(ip_address("::1") in network for network in networks)


@pytest.mark.parametrize("raw", ["", "10.0.0.1", "fe80::1%eth0", "fd00::/64", "g::1", "1:2"])
def test_what_is_no_ipv6_address_is_none(raw: str) -> None:
    assert parse_address(raw, Family.IPV6) is None
