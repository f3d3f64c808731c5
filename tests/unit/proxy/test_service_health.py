"""Which Services want a health-check server, where it listens, and what it says."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.build import nodeport_networks
from nodeport.forwarding.table import Family
from nodeport.proxy.servicehealth import Wanted, hosts, respond, wanted_server


def service(**spec: Any) -> dict[str, Any]:
    standard = {
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000, "clusterIP": "10.96.0.9"
    }  # fmt: skip
    return {"metadata": {"namespace": "a", "name": "b"}, "spec": {**standard, **spec}}


def endpoints(*rows: tuple[str, str, dict[str, bool]], kind: str = "IPv4") -> dict[str, Any]:
    made = [{"addresses": [ip], "nodeName": node, "conditions": conditions} for ip, node, conditions in rows]
    return {"metadata": {"namespace": "a", "name": "b-1"}, "addressType": kind, "endpoints": made}


def test_distinct_ready_endpoints_of_this_node_are_counted() -> None:
    slices = [
        endpoints(
            ("10.1.0.1", "n1", {"ready": True}), ("10.1.0.2", "n1", {}), ("10.1.0.3", "n2", {"ready": True}),
            ("10.1.0.4", "n1", {"ready": False, "serving": True, "terminating": True}),
        ),
        endpoints(("10.1.0.1", "n1", {"ready": True})),
        endpoints(("fd00::1", "n1", {"ready": True}), kind="IPv6"),
    ]  # fmt: skip
    both = service(clusterIPs=["10.96.0.9", "fd00:96::9"])
    assert wanted_server(both, slices, "n1", Family.IPV4) == Wanted(32000, 2)
    assert wanted_server(both, slices, "n1", Family.IPV6) == Wanted(32000, 1)


def test_a_service_of_one_family_wants_none_in_the_other() -> None:
    """A load balancer that asked over the other would take the node for one without endpoints."""
    one = service(clusterIPs=["10.96.0.9"])
    assert wanted_server(one, [], "n1", Family.IPV4) == Wanted(32000, 0)
    assert wanted_server(one, [], "n1", Family.IPV6) is None


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "NodePort"},
        {"externalTrafficPolicy": "Cluster"},
        {"healthCheckNodePort": 0},
        {"clusterIP": "None"},
    ],
)
def test_other_services_want_none(spec: dict[str, Any]) -> None:
    assert wanted_server(service(**spec), [], "n1", Family.IPV4) is None
    assert wanted_server(None, [], "n1", Family.IPV4) is None


def test_servers_listen_where_node_ports_answer() -> None:
    own = [ip_address(text) for text in ("10.0.0.1", "192.168.7.1", "172.16.0.1")]

    def listening(*wanted: str) -> tuple[str, ...]:
        networks = nodeport_networks(wanted, (own[0],), Family.IPV4)
        return hosts(networks, Family.IPV4, lambda: own)

    assert listening("primary") == ("10.0.0.1",)
    assert listening("10.0.0.0/8", "192.168.0.0/16") == ("10.0.0.1", "192.168.7.1")
    assert listening() == ("0.0.0.0",)
    assert hosts((ip_network("::/0"),), Family.IPV6, list) == ("::",)


@pytest.mark.parametrize(("count", "healthy", "status"), [(0, True, 503), (3, True, 200), (3, False, 503)])
def test_the_answer_is_kube_proxys_to_the_byte(count: int, healthy: bool, status: int) -> None:
    response = respond(NamespacedName("a", "b"), count, healthy=healthy)
    assert response.status == status
    assert ("X-Load-Balancing-Endpoint-Weight", str(count)) in response.headers
    assert json.loads(response.body) == {
        "service": {"namespace": "a", "name": "b"},
        "localEndpoints": count,
        "serviceProxyHealthy": healthy,
    }
    assert response.body.startswith(
        b'{\n\t"service": {\n\t\t"namespace": "a",\n\t\t"name": "b"\n\t},\n\t"localEndpoints": '
    )
