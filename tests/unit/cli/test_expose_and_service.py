from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.api.resources import DEPLOYMENTS, PODS, REPLICATION_CONTROLLERS, SERVICES, Resource
from nodeport.cli.errors import UserError
from nodeport.cli.expose import Wish, service_for
from nodeport.cli.service import doors_of


def deployment(*ports: JsonObject, **spec: object) -> JsonObject:
    pod = {"containers": [{"name": "app", "ports": list(ports)}]}
    return {
        "metadata": {"name": "web", "labels": {"team": "a"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": pod}, **spec},
    }


def exposed(obj: JsonObject, resource: Resource = DEPLOYMENTS, **wished: Any) -> JsonObject:
    empty: dict[str, Any] = {
        "name": "web", "type": "ClusterIP", "port": 0, "target_port": "", "node_port": 0, "protocol": "",
        "selector": "", "labels": "", "external_ip": (), "session_affinity": "", "cluster_ip": "",
    }  # fmt: skip
    return service_for(resource, obj, Wish(**{**empty, **wished}), "default")


def test_a_deployment_is_exposed_by_its_selector_with_its_labels() -> None:
    service = exposed(deployment(), type="NodePort", port=80, target_port="8080", node_port=30007)
    assert service["metadata"] == {"name": "web", "namespace": "default", "labels": {"team": "a"}}
    assert service["spec"] == {
        "type": "NodePort",
        "selector": {"app": "web"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30007}],
    }


def test_without_a_port_the_containers_ports_are_served() -> None:
    one = exposed(deployment({"containerPort": 8080}))
    assert one["spec"]["ports"] == [{"port": 8080, "protocol": "TCP", "targetPort": 8080}]
    two = exposed(deployment({"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}))
    assert [(port["name"], port["protocol"]) for port in two["spec"]["ports"]] == [
        ("port-1", "TCP"),
        ("port-2", "UDP"),
    ]


def test_the_protocol_is_that_of_the_container_s_port() -> None:
    service = exposed(deployment({"containerPort": 53, "protocol": "UDP"}), port=5353, target_port="53")
    assert service["spec"]["ports"][0]["protocol"] == "UDP"


def test_a_target_port_may_be_a_name() -> None:
    assert exposed(deployment(), port=80, target_port="http")["spec"]["ports"][0]["targetPort"] == "http"


def test_a_replication_controller_is_exposed_by_its_plain_selector() -> None:
    rc = deployment({"containerPort": 6379}, selector={"app": "redis"})
    service = exposed(rc, REPLICATION_CONTROLLERS, name="rm2", port=1234, target_port="6379")
    assert service["spec"]["selector"] == {"app": "redis"}
    assert service["spec"]["ports"] == [{"port": 1234, "protocol": "TCP", "targetPort": 6379}]


def test_a_pod_is_exposed_by_its_labels_and_a_service_by_its_selector() -> None:
    pod = {"metadata": {"name": "p", "labels": {"app": "p"}}, "spec": {"containers": []}}
    assert exposed(pod, PODS, port=80)["spec"]["selector"] == {"app": "p"}
    service = {"metadata": {"name": "s"}, "spec": {"selector": {"app": "s"}, "ports": [{"port": 81}]}}
    again = exposed(service, SERVICES, name="s2")
    assert (again["spec"]["selector"], again["spec"]["ports"][0]["port"]) == ({"app": "s"}, 81)


@pytest.mark.parametrize(
    ("obj", "wished", "message"),
    [
        (deployment(), {}, "couldn't find port"),
        (deployment(), {"port": 80, "node_port": 30007}, "--node-port needs"),
        (deployment(selector={"matchExpressions": [{}]}), {"port": 80}, "give --selector"),
        (deployment(selector={}), {"port": 80}, "give --selector"),
        (deployment(), {"port": 80, "labels": "oops"}, "key=value"),
    ],
)
def test_what_cannot_be_known_is_asked_for(obj: JsonObject, wished: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        exposed(obj, **wished)


def node(name: str, ready: str = "True", *addresses: str) -> JsonObject:
    return {
        "metadata": {"name": name},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "addresses": [{"type": "Hostname", "address": name}]
            + [{"type": "InternalIP", "address": address} for address in addresses],
        },
    }


NODES = [
    node("n1", "True", "10.0.0.1"),
    node("n2", "False", "10.0.0.2"),
    node("n3", "True", "fd00::3", "10.0.0.3"),
]


def node_port_service(*ports: JsonObject, families: Sequence[str] = ("IPv4",)) -> JsonObject:
    spec = {"type": "NodePort", "ports": list(ports), "ipFamilies": list(families)}
    return {"metadata": {"name": "web"}, "spec": spec}


@pytest.mark.parametrize(
    ("families", "urls"),
    [
        (["IPv4"], ["http://10.0.0.1:30007", "http://10.0.0.3:30007"]),
        (["IPv4", "IPv6"], ["http://10.0.0.1:30007", "http://10.0.0.3:30007"]),
        (["IPv6"], ["http://[fd00::3]:30007"]),
    ],
)
def test_there_is_one_url_for_each_ready_node_of_the_services_first_family(
    families: list[str], urls: list[str]
) -> None:
    service = node_port_service({"port": 80, "nodePort": 30007}, families=families)
    assert [door.url for door in doors_of(service, NODES, None)] == urls


def test_a_local_service_answers_only_where_it_has_endpoints() -> None:
    doors = doors_of(node_port_service({"port": 80, "nodePort": 30007}), NODES, {"n1", "n2"})
    assert [door.node for door in doors] == ["n1"]


@pytest.mark.parametrize(
    ("port", "scheme"),
    [({"port": 443}, "https"), ({"port": 8443, "name": "https"}, "https"), ({"port": 53, "protocol": "UDP"}, "udp"),
     ({"port": 1, "appProtocol": "https"}, "https"), ({"port": 8080, "protocol": "TCP"}, "http")],
)  # fmt: skip
def test_the_scheme_follows_the_port(port: JsonObject, scheme: str) -> None:
    (door,) = doors_of(node_port_service({**port, "nodePort": 30001}), NODES[:1], None)
    assert door.scheme == scheme


@pytest.mark.parametrize(
    ("service", "nodes", "local", "message"),
    [
        (
            {"metadata": {"name": "w"}, "spec": {"type": "ClusterIP", "ports": [{"port": 80}]}},
            NODES,
            None,
            "no node port",
        ),
        (node_port_service({"port": 80, "nodePort": 30001}), NODES[1:2], None, "no node is ready"),
        (node_port_service({"port": 80, "nodePort": 30001}), NODES, set(), "no ready endpoint"),
        (
            node_port_service({"port": 80, "nodePort": 30001}, families=["IPv6"]),
            NODES[:1],
            None,
            "has an IPv6 address, and no ready node has one",
        ),
    ],
)
def test_a_service_that_answers_nowhere_says_why(
    service: JsonObject, nodes: list[JsonObject], local: set[str] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        doors_of(service, nodes, local)
