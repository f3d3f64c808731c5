"""Services: defaults, normalisation, allocated values, what a change of type drops."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api import services
from nodeport.api.defaulting import apply_defaults
from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.resources import SERVICES


def service(**spec: Any) -> JsonObject:
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}


def defaulted(**spec: Any) -> JsonObject:
    obj = service(**spec)
    apply_defaults(SERVICES, obj)
    again = deep_copy(obj)
    apply_defaults(SERVICES, again)
    assert again == obj, "defaulting must be idempotent"
    return obj


def test_a_plain_service_gets_every_default() -> None:
    assert defaulted(ports=[{"port": 80}, {"port": 81, "targetPort": ""}])["spec"] == {
        "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 81, "protocol": "TCP", "targetPort": 81}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "policy"),
    [
        ({"type": "NodePort"}, "Cluster"), ({"type": "LoadBalancer"}, "Cluster"), ({"type": "ClusterIP"}, None),
        ({"type": "ClusterIP", "externalIPs": ["1.2.3.4"]}, "Cluster"), ({"type": "ExternalName"}, None),
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, "Local"),
    ],
)  # fmt: skip
def test_only_externally_accessible_services_get_an_external_policy(
    spec: JsonObject, policy: str | None
) -> None:
    assert defaulted(**spec)["spec"].get("externalTrafficPolicy") == policy


def test_an_external_name_has_no_internal_policy() -> None:
    assert "internalTrafficPolicy" not in defaulted(type="ExternalName")["spec"]


def test_session_affinity_config_follows_the_affinity() -> None:
    config = {"clientIP": {"timeoutSeconds": 5}}
    assert "sessionAffinityConfig" not in defaulted(sessionAffinityConfig=config)["spec"]
    for given in ({}, {"sessionAffinityConfig": {"clientIP": {}}}, {"sessionAffinityConfig": None}):
        spec = defaulted(sessionAffinity="ClientIP", **given)["spec"]
        assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert (
        defaulted(sessionAffinity="ClientIP", sessionAffinityConfig=config)["spec"]["sessionAffinityConfig"]
        == config
    )


def test_load_balancers_allocate_node_ports_and_have_an_ip_mode() -> None:
    assert defaulted(type="LoadBalancer")["spec"]["allocateLoadBalancerNodePorts"] is True
    kept = defaulted(type="LoadBalancer", allocateLoadBalancerNodePorts=False)
    assert kept["spec"]["allocateLoadBalancerNodePorts"] is False
    obj = service(type="LoadBalancer") | {
        "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}, {"hostname": "a"}]}}
    }
    apply_defaults(SERVICES, obj)
    assert obj["status"]["loadBalancer"]["ingress"] == [{"ip": "1.1.1.1", "ipMode": "VIP"}, {"hostname": "a"}]


def normalized(new: JsonObject, old: JsonObject | None = None) -> Any:
    obj = service(**new)
    services.normalize_cluster_ips(obj, None if old is None else service(**old))
    return obj["spec"].get("clusterIPs")


def test_cluster_ips_follow_cluster_ip_on_creation_but_not_the_other_way() -> None:
    assert normalized({"clusterIP": "10.0.0.1"}) == ["10.0.0.1"]
    assert normalized({"clusterIP": "None"}) == ["None"]
    assert normalized({}) is None
    obj = service(clusterIPs=["10.0.0.1"])
    services.normalize_cluster_ips(obj)
    assert "clusterIP" not in obj["spec"]


OLD = {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}


@pytest.mark.parametrize(
    ("new", "addresses"),
    [
        ({"clusterIP": "10.0.0.1"}, ["10.0.0.1", "fd00::1"]),
        ({"clusterIP": "", "clusterIPs": ["10.0.0.1", "fd00::1"]}, None),
        ({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1", "fd00::1"]}, ["10.0.0.2"]),
        ({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.3"]}, ["10.0.0.3"]),
        ({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}, ["10.0.0.1"]),
    ],
)
def test_cluster_ips_follow_cluster_ip_on_update(new: JsonObject, addresses: Any) -> None:
    assert normalized(new, OLD) == addresses


def patched(new: JsonObject, old: JsonObject) -> Any:
    obj = service(**new)
    services.patch_allocated_values(obj, service(**old))
    return obj["spec"]


ALLOCATED = {
    "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
    "ports": [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}],
}  # fmt: skip


def test_applying_the_original_manifest_again_keeps_addresses_and_ports() -> None:
    spec = patched(
        {"type": "NodePort", "ports": [{"name": "b", "port": 81}, {"name": "a", "port": 8080}]}, ALLOCATED
    )
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("10.0.0.1", ["10.0.0.1"])
    assert [port["nodePort"] for port in spec["ports"]] == [30002, 30001]


def test_a_node_port_that_another_port_now_has_is_not_given_again() -> None:
    spec = patched({"type": "NodePort", "ports": [{"name": "x", "port": 1, "nodePort": 30001}, {"name": "a", "port": 80}]},
                   ALLOCATED)  # fmt: skip
    assert "nodePort" not in spec["ports"][1]


def test_nothing_is_filled_in_when_the_type_needs_none() -> None:
    assert "clusterIP" not in patched({"type": "ExternalName"}, ALLOCATED)
    assert (
        "nodePort"
        not in patched({"type": "ClusterIP", "ports": [{"name": "a", "port": 80}]}, ALLOCATED)["ports"][0]
    )


def test_the_health_check_port_is_kept() -> None:
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    assert patched(local, {**local, "healthCheckNodePort": 31000})["healthCheckNodePort"] == 31000


def dropped(new: JsonObject, old: JsonObject) -> Any:
    obj = service(**deep_copy(new))
    services.drop_type_dependent_fields(obj, service(**old))
    return obj["spec"]


def test_becoming_an_external_name_drops_the_addresses() -> None:
    old = {
        **ALLOCATED,
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "externalTrafficPolicy": "Cluster",
    }
    assert dropped({**old, "type": "ExternalName", "externalName": "a.b"}, old) == {
        "type": "ExternalName", "externalName": "a.b", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}],
    }  # fmt: skip
    changed = dropped({**old, "type": "ExternalName", "clusterIP": "10.0.0.9"}, old)
    assert changed["clusterIP"] == "10.0.0.9", "what the client set itself is left for validation to refuse"


def test_becoming_a_cluster_ip_drops_node_ports_unless_the_client_set_new_ones() -> None:
    spec = dropped({**ALLOCATED, "type": "ClusterIP"}, ALLOCATED)
    assert all("nodePort" not in port for port in spec["ports"])
    mine = dropped({**ALLOCATED, "type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30099}]}, ALLOCATED)
    assert mine["ports"] == [{"port": 80, "nodePort": 30099}]


def test_leaving_the_load_balancer_type_drops_its_fields_and_status() -> None:
    old = {
        **ALLOCATED, "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
        "allocateLoadBalancerNodePorts": True, "loadBalancerClass": "x/y",
    }  # fmt: skip
    obj = service(**{**deep_copy(old), "type": "NodePort"}) | {
        "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}
    }
    services.drop_type_dependent_fields(obj, service(**old))
    assert obj["status"] == {"loadBalancer": {}}
    assert obj["spec"] == {**ALLOCATED, "externalTrafficPolicy": "Local"}
    kept = dropped({**old, "type": "NodePort", "allocateLoadBalancerNodePorts": False}, old)
    assert kept["allocateLoadBalancerNodePorts"] is False


def test_node_port_and_load_balancer_share_their_ports() -> None:
    assert dropped({**ALLOCATED, "type": "LoadBalancer"}, ALLOCATED)["ports"] == ALLOCATED["ports"]


def test_old_objects_are_completed_on_reading() -> None:
    old = service(type="ClusterIP", clusterIP="10.0.0.1")
    assert services.default_on_read(old)["spec"] == {
        "type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }  # fmt: skip
    assert "clusterIPs" not in old["spec"]
    headless = services.default_on_read(service(clusterIP="None"))["spec"]
    assert (headless["ipFamilies"], headless["ipFamilyPolicy"]) == (["IPv4", "IPv6"], "RequireDualStack")
    selecting = services.default_on_read(service(clusterIP="None", selector={"a": "b"}))["spec"]
    assert (selecting["ipFamilies"], selecting["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert services.default_on_read(service(type="ExternalName", internalTrafficPolicy="Cluster"))[
        "spec"
    ] == {"type": "ExternalName"}
