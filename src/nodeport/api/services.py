"""Rules on whole Services: what a type needs, what an update keeps and what a change of type drops.

All functions change the *new* object in place and read the old one. Rules: ``service-semantics`` of Kubernetes 1.36:
normalisation and patching of allocated values on writes, type-dependent fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodeport.api.ip import family
from nodeport.api.meta import JsonObject, deep_copy

CLUSTER_IP, NODE_PORT, LOAD_BALANCER, EXTERNAL_NAME = "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"
NO_CLUSTER_IP = "None"
SINGLE_STACK, PREFER_DUAL_STACK, REQUIRE_DUAL_STACK = "SingleStack", "PreferDualStack", "RequireDualStack"


def spec_of(service: Mapping[str, Any]) -> JsonObject:
    return service.get("spec") or {}


def type_of(service: Mapping[str, Any]) -> str:
    return spec_of(service).get("type") or CLUSTER_IP


def is_headless(service: Mapping[str, Any]) -> bool:
    """``clusterIPs`` is exactly ``["None"]``, whatever the type; before normalisation ``clusterIP`` says it."""
    spec = spec_of(service)
    addresses = spec.get("clusterIPs")
    return addresses == [NO_CLUSTER_IP] if addresses else spec.get("clusterIP") == NO_CLUSTER_IP


def externally_accessible(service: Mapping[str, Any]) -> bool:
    kind = type_of(service)
    return kind in (NODE_PORT, LOAD_BALANCER) or (
        kind == CLUSTER_IP and bool(spec_of(service).get("externalIPs"))
    )


def needs_cluster_ip(service: Mapping[str, Any]) -> bool:
    """Whether the fields ``clusterIP`` and ``clusterIPs`` have a meaning (headless counts)."""
    return type_of(service) in (CLUSTER_IP, NODE_PORT, LOAD_BALANCER)


def needs_node_ports(service: Mapping[str, Any]) -> bool:
    kind = type_of(service)
    return kind == NODE_PORT or (
        kind == LOAD_BALANCER and spec_of(service).get("allocateLoadBalancerNodePorts") is not False
    )


def may_have_node_ports(service: Mapping[str, Any]) -> bool:
    """Whether the field ``nodePort`` has a meaning, allocated or not."""
    return type_of(service) in (NODE_PORT, LOAD_BALANCER)


def needs_health_check_node_port(service: Mapping[str, Any]) -> bool:
    return type_of(service) == LOAD_BALANCER and spec_of(service).get("externalTrafficPolicy") == "Local"


def node_ports(service: Mapping[str, Any]) -> set[int]:
    """The node ports that are set."""
    return {port["nodePort"] for port in spec_of(service).get("ports") or [] if port.get("nodePort")}


def stays_preferring_dual_stack(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
    """A Service that prefers two families keeps what it got when it was made, whatever the cluster has come to offer:
    nothing but an explicit change adds or removes an address."""
    if old is None or type_of(new) != type_of(old) or not needs_cluster_ip(new):
        return False
    spec, before = spec_of(new), spec_of(old)
    return (
        spec.get("ipFamilyPolicy") == PREFER_DUAL_STACK
        and before.get("ipFamilyPolicy") in (None, PREFER_DUAL_STACK)
        and (spec.get("clusterIPs") or []) == (before.get("clusterIPs") or [])
        and (spec.get("ipFamilies") or []) == (before.get("ipFamilies") or [])
    )


def normalize_cluster_ips(new: JsonObject, old: JsonObject | None = None) -> None:
    """Derive ``clusterIPs`` from ``clusterIP`` for clients that manage only the latter."""
    spec, before = new.setdefault("spec", {}), spec_of(old or {})
    address, addresses = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if old is None:
        if address and not addresses:
            spec["clusterIPs"] = [address]
        return
    old_address, old_addresses = before.get("clusterIP") or "", before.get("clusterIPs") or []
    if old_addresses and not addresses and address == old_address:
        addresses = spec["clusterIPs"] = list(old_addresses)
    if address == old_address or addresses != old_addresses:
        return
    if address:
        spec["clusterIPs"] = [address]
    else:
        spec.pop("clusterIPs", None)


def patch_allocated_values(new: JsonObject, old: JsonObject) -> None:
    """Fill what the system had allocated and the client left out, so that applying a manifest again changes nothing."""
    spec, before = new.setdefault("spec", {}), spec_of(old)
    if needs_cluster_ip(old) and needs_cluster_ip(new):
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if (
            not spec.get("clusterIPs")
            and spec.get("clusterIP") == before.get("clusterIP")
            and before.get("clusterIPs")
        ):
            spec["clusterIPs"] = list(before["clusterIPs"])
    if may_have_node_ports(old) and may_have_node_ports(new):
        _patch_node_ports(spec, before, taken=node_ports(old) & node_ports(new))
    number = before.get("healthCheckNodePort")
    if number and needs_health_check_node_port(old) and needs_health_check_node_port(new):
        spec["healthCheckNodePort"] = spec.get("healthCheckNodePort") or number


def _patch_node_ports(spec: JsonObject, before: JsonObject, taken: set[int]) -> None:
    """Ports are the same when their names are; a number that the new object already gives to a port is not reused."""
    by_name = {port.get("name") or "": port.get("nodePort") or 0 for port in before.get("ports") or []}
    for port in spec.get("ports") or []:
        if not port.get("nodePort"):
            number = by_name.get(port.get("name") or "", 0)
            if number and number not in taken:
                port["nodePort"] = number


def drop_type_dependent_fields(new: JsonObject, old: JsonObject) -> None:
    """On a change of type, drop what no longer applies unless the client changed it as well."""
    spec, before = new.setdefault("spec", {}), spec_of(old)
    if needs_cluster_ip(old) and not needs_cluster_ip(new):
        if _same(spec, before, "clusterIP") and _same(spec, before, "clusterIPs"):
            _drop(spec, "clusterIP", "clusterIPs")
        _drop_unchanged(spec, before, "ipFamilies", "ipFamilyPolicy")
    if may_have_node_ports(old) and not may_have_node_ports(new) and node_ports(new) <= node_ports(old):
        for port in spec.get("ports") or []:
            port.pop("nodePort", None)
    if needs_health_check_node_port(old) and not needs_health_check_node_port(new):
        _drop_unchanged(spec, before, "healthCheckNodePort")
    if type_of(old) == LOAD_BALANCER and type_of(new) != LOAD_BALANCER:
        _drop_unchanged(spec, before, "allocateLoadBalancerNodePorts", "loadBalancerClass")
    if externally_accessible(old) and not externally_accessible(new):
        _drop_unchanged(spec, before, "externalTrafficPolicy")
    if type_of(new) != LOAD_BALANCER and (new.get("status") or {}).get("loadBalancer"):
        new["status"] = {**new["status"], "loadBalancer": {}}


def _same(spec: JsonObject, before: JsonObject, field: str) -> bool:
    """Equal, an absent value being the same as an empty one (but not as false)."""
    value, old = spec.get(field), before.get(field)
    return value == old or (value in (None, "", 0, []) and old in (None, "", 0, []) and value is not False)


def _drop(spec: JsonObject, *fields: str) -> None:
    for field in fields:
        spec.pop(field, None)


def _drop_unchanged(spec: JsonObject, before: JsonObject, *fields: str) -> None:
    _drop(spec, *(field for field in fields if _same(spec, before, field)))


def default_on_read(service: JsonObject, primary: str = "IPv4") -> JsonObject:
    """A stored Service with the fields that older writers left out; the same object when nothing is missing.

    ``primary`` is the cluster's primary family.
    """
    spec = spec_of(service)
    if type_of(service) == EXTERNAL_NAME:
        if "internalTrafficPolicy" not in spec:
            return service
        service = deep_copy(service)
        del service["spec"]["internalTrafficPolicy"]
        return service
    if spec.get("clusterIPs") and spec.get("ipFamilies") and spec.get("ipFamilyPolicy"):
        return service
    service = deep_copy(service)
    spec = service.setdefault("spec", {})
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    if not spec.get("ipFamilies"):
        _default_families(spec, primary)
    return service


def _default_families(spec: JsonObject, primary: str) -> None:
    addresses = spec.get("clusterIPs") or []
    if addresses == [NO_CLUSTER_IP]:
        secondary = "IPv6" if primary == "IPv4" else "IPv4"
        families = [primary] if spec.get("selector") else [primary, secondary]
    else:
        families = [family(address) for address in addresses if family(address)]
    if not families:
        return
    spec["ipFamilies"] = families
    spec.setdefault("ipFamilyPolicy", SINGLE_STACK if len(families) == 1 else REQUIRE_DUAL_STACK)
