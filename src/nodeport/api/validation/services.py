"""Rules on Services, in the order in which the Kubernetes API reports them (``ValidateService`` and its update)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeport.api import ip, names, services
from nodeport.api.meta import JsonObject
from nodeport.api.meta import annotations as annotations_of
from nodeport.api.services import EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT
from nodeport.api.status import FieldError, duplicate, forbidden, invalid, not_supported, required
from nodeport.api.validation.meta import validate_labels
from nodeport.api.validation.ports import PROTOCOLS, validate_port, validate_port_reference
from nodeport.api.validation.serviceips import validate_cluster_ip_update, validate_cluster_ips

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_LB_ONLY = "may only be used when `type` is 'LoadBalancer'"
_MOST_AFFINITY_SECONDS = 86400
_HINTS = "service.kubernetes.io/topology-aware-hints"
_MODE = "service.kubernetes.io/topology-mode"
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"


def validate_service(service: JsonObject, old: JsonObject | None = None) -> Iterator[FieldError]:
    """Everything but the metadata of a defaulted Service. Addresses that ``old`` has already are not judged again."""
    spec = service.get("spec") or {}
    yield from _topology_annotations(service)
    yield from _type_specific(service, spec)
    yield from _ports(spec)
    yield from validate_labels(spec.get("selector") or {}, "spec.selector")
    yield from _session_affinity(spec)
    yield from validate_cluster_ips(service, old)
    yield from _external_ips(spec, services.spec_of(old or {}))
    if not spec.get("type"):
        yield required("spec.type")
    elif spec["type"] not in _TYPES:
        yield not_supported("spec.type", spec["type"], _TYPES)
    yield from _node_ports(spec)
    yield from _duplicate_ports(spec)
    yield from _source_ranges(service, spec)
    yield from _load_balancer_fields(spec)
    yield from _traffic_policies(service, spec)


def validate_service_update(service: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_cluster_ip_update(service, old)
    spec, before = services.spec_of(service), services.spec_of(old)
    stays_balancer = services.type_of(old) == services.type_of(service) == LOAD_BALANCER
    if stays_balancer and spec.get("loadBalancerClass") != before.get("loadBalancerClass"):
        yield invalid("spec.loadBalancerClass", spec.get("loadBalancerClass"), "may not change once set")
    yield from _balancer_class(spec)  # as the API does, which judges it again with all the rest
    stays_checked = services.needs_health_check_node_port(old) and services.needs_health_check_node_port(
        service
    )
    if stays_checked and (spec.get("healthCheckNodePort") or 0) != (before.get("healthCheckNodePort") or 0):
        yield forbidden("spec.healthCheckNodePort", "field is immutable")
    yield from validate_service(service, old)


def _topology_annotations(service: JsonObject) -> Iterator[FieldError]:
    found = annotations_of(service)
    if _MODE in found and _HINTS in found and found[_MODE] != found[_HINTS]:
        detail = f"must match annotations[{_HINTS}] when both are specified"
        yield invalid(f"metadata.annotations[{_MODE}]", found[_MODE], detail)


def _type_specific(service: JsonObject, spec: JsonObject) -> Iterator[FieldError]:
    kind, headless = spec.get("type"), services.is_headless(service)
    if not spec.get("ports") and not headless and kind != EXTERNAL_NAME:
        yield required("spec.ports")
    match kind:
        case services.LOAD_BALANCER:
            if headless:
                yield invalid(
                    "spec.clusterIPs[0]", "None", "may not be set to 'None' for LoadBalancer services"
                )
        case services.NODE_PORT:
            if headless:
                yield invalid("spec.clusterIPs[0]", "None", "may not be set to 'None' for NodePort services")
        case services.EXTERNAL_NAME:
            for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if spec.get(field):
                    yield forbidden(f"spec.{field}", "may not be set for ExternalName services")
            yield from _external_name(spec)


def _external_name(spec: JsonObject) -> Iterator[FieldError]:
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        yield required("spec.externalName")
    for why in names.dns_subdomain(name) if name else ():
        yield invalid("spec.externalName", name, why)


def _ports(spec: JsonObject) -> Iterator[FieldError]:
    ports = spec.get("ports") or []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        yield from _port(port, f"spec.ports[{index}]", seen, needs_name=len(ports) > 1)


def _port(port: JsonObject, path: str, seen: set[str], *, needs_name: bool) -> Iterator[FieldError]:
    name = port.get("name") or ""
    if name:
        for why in names.dns_label(name):
            yield invalid(f"{path}.name", name, why)
        if name in seen:
            yield duplicate(f"{path}.name", name)
        seen.add(name)
    elif needs_name:
        yield required(f"{path}.name")
    yield from validate_port(port.get("port") or 0, f"{path}.port")
    if not port.get("protocol"):
        yield required(f"{path}.protocol")
    elif port["protocol"] not in PROTOCOLS:
        yield not_supported(f"{path}.protocol", port["protocol"], PROTOCOLS)
    yield from validate_port_reference(port.get("targetPort", 0), f"{path}.targetPort")
    if port.get("appProtocol") is not None:
        for why in names.qualified_name(port["appProtocol"]):
            yield invalid(f"{path}.appProtocol", port["appProtocol"], why)


def _session_affinity(spec: JsonObject) -> Iterator[FieldError]:
    affinity, config = spec.get("sessionAffinity") or "", spec.get("sessionAffinityConfig")
    if not affinity:
        yield required("spec.sessionAffinity")
    elif affinity not in ("ClientIP", "None"):
        yield not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    path = "spec.sessionAffinityConfig"
    if affinity == "None" and config is not None:
        yield forbidden(path, "must not be set when session affinity is None")
    if affinity != "ClientIP":
        return
    seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
    if seconds is None:
        missing = path if config is None else f"{path}.clientIP"
        if (config or {}).get("clientIP") is not None:
            missing += ".timeoutSeconds"
        yield required(missing, "when session affinity type is ClientIP")
    elif not 0 < seconds <= _MOST_AFFINITY_SECONDS:
        detail = f"must be greater than 0 and less than {_MOST_AFFINITY_SECONDS}"
        yield invalid(f"{path}.clientIP.timeoutSeconds", seconds, detail)


def _external_ips(spec: JsonObject, before: JsonObject) -> Iterator[FieldError]:
    tolerated = before.get("externalIPs") or []
    for index, address in enumerate(spec.get("externalIPs") or []):
        path = f"spec.externalIPs[{index}]"
        complaints = ip.ip_complaints(address)
        if complaints and (address not in tolerated or ip.sloppy_ip(address) is None):
            yield from (invalid(path, address, why) for why in complaints)
        else:
            yield from (invalid(path, address, why) for why in ip.special_ip_complaints(address))


def _node_ports(spec: JsonObject) -> Iterator[FieldError]:
    """Not their range: only the allocator knows it."""
    seen: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.get("ports") or []):
        if port.get("nodePort") and spec.get("type") == services.CLUSTER_IP:
            yield forbidden(f"spec.ports[{index}].nodePort", "may not be used when `type` is 'ClusterIP'")
    for index, port in enumerate(spec.get("ports") or []):
        number = port.get("nodePort") or 0
        key = (port.get("protocol") or "", number)
        if number and key in seen:
            yield duplicate(f"spec.ports[{index}].nodePort", number)
        seen.add(key)


def _duplicate_ports(spec: JsonObject) -> Iterator[FieldError]:
    seen: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.get("ports") or []):
        key = (port.get("protocol") or "", port.get("port") or 0)
        if key in seen:
            shown = {
                "Name": "", "Protocol": key[0], "AppProtocol": None, "Port": key[1], "TargetPort": 0, "NodePort": 0,
            }  # fmt: skip
            yield duplicate(f"spec.ports[{index}]", shown)
        seen.add(key)


def _source_ranges(service: JsonObject, spec: JsonObject) -> Iterator[FieldError]:
    ranges = spec.get("loadBalancerSourceRanges")
    is_balancer = spec.get("type") == LOAD_BALANCER
    if ranges:
        path = "spec.LoadBalancerSourceRanges"
        if not is_balancer:
            yield forbidden(path, _LB_ONLY)
        for index, text in enumerate(ranges):
            yield from _cidr(text.strip(), f"{path}[{index}]")
        return
    text = annotations_of(service).get(_SOURCE_RANGES)
    if text is None:
        return
    path = f"metadata.annotations[{_SOURCE_RANGES}]"
    if not is_balancer:
        yield forbidden(path, _LB_ONLY)
    for part in text.strip().split(",") if text.strip() else ():
        yield from _cidr(part.strip(), path)


def _cidr(text: str, path: str) -> Iterator[FieldError]:
    return (invalid(path, text, why) for why in ip.cidr_complaints(text))


def _load_balancer_fields(spec: JsonObject) -> Iterator[FieldError]:
    is_balancer = spec.get("type") == LOAD_BALANCER
    allocate = spec.get("allocateLoadBalancerNodePorts")
    if allocate is not None and not is_balancer:
        yield forbidden("spec.allocateLoadBalancerNodePorts", _LB_ONLY)
    if allocate is None and is_balancer:
        yield required("allocateLoadBalancerNodePorts")  # as Kubernetes has it, without spec
    yield from _balancer_class(spec)


def _balancer_class(spec: JsonObject) -> Iterator[FieldError]:
    balancer_class = spec.get("loadBalancerClass")
    if balancer_class is None:
        return
    if spec.get("type") == LOAD_BALANCER:
        yield from (invalid("spec.loadBalancerClass", balancer_class, why)
                    for why in names.qualified_name(balancer_class))  # fmt: skip
    else:
        yield forbidden("spec.loadBalancerClass", _LB_ONLY)


def _traffic_policies(service: JsonObject, spec: JsonObject) -> Iterator[FieldError]:
    policies = ("Cluster", "Local")
    external, internal = spec.get("externalTrafficPolicy") or "", spec.get("internalTrafficPolicy")
    if not services.externally_accessible(service):
        if external:
            detail = "may only be set for externally-accessible services"
            yield invalid("spec.externalTrafficPolicy", external, detail)
    elif not external:
        yield required("spec.externalTrafficPolicy")
    elif external not in policies:
        yield not_supported("spec.externalTrafficPolicy", external, policies)
    yield from _health_check_port(service, spec)
    if internal is None and services.type_of(service) in ("ClusterIP", NODE_PORT, LOAD_BALANCER):
        yield required("spec.internalTrafficPolicy")
    elif internal is not None and internal not in policies:
        yield not_supported("spec.internalTrafficPolicy", internal, policies)
    distribution = spec.get("trafficDistribution")
    allowed = ("PreferClose", "PreferSameZone", "PreferSameNode")
    if distribution is not None and distribution not in allowed:
        yield not_supported("spec.trafficDistribution", distribution, allowed)


def _health_check_port(service: JsonObject, spec: JsonObject) -> Iterator[FieldError]:
    number, path = spec.get("healthCheckNodePort") or 0, "spec.healthCheckNodePort"
    if not services.needs_health_check_node_port(service):
        if number:
            detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            yield invalid(path, number, detail)
    elif not number:
        yield required(path)
    else:
        yield from validate_port(number, path)


def validate_service_status(service: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """``status.loadBalancer``."""
    path = "status.loadBalancer.ingress"
    entries: list[JsonObject] = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if entries and services.type_of(service) != LOAD_BALANCER:
        yield forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")
        return
    before: Any = ((old.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    tolerated = [entry.get("ip") for entry in before]
    for index, entry in enumerate(entries):
        yield from _ingress(entry, f"{path}[{index}]", tolerated)


def _ingress(entry: JsonObject, path: str, tolerated: list[Any]) -> Iterator[FieldError]:
    address, mode, hostname = entry.get("ip") or "", entry.get("ipMode"), entry.get("hostname") or ""
    if address and address not in tolerated:
        yield from (invalid(f"{path}.ip", address, why) for why in ip.ip_complaints(address))
    if mode is None:
        if address:
            yield required(f"{path}.ipMode", "must be specified when `ip` is set")
    elif not address:
        yield forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set")
    elif mode not in ("Proxy", "VIP"):
        yield not_supported(f"{path}.ipMode", mode, ("Proxy", "VIP"))
    if hostname:
        yield from (invalid(f"{path}.hostname", hostname, why) for why in names.dns_subdomain(hostname))
        if ip.sloppy_ip(hostname) is not None:
            yield invalid(f"{path}.hostname", hostname, "must be a DNS name, not an IP address")
