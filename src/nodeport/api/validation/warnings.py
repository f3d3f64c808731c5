"""What the API accepts with a warning (header ``Warning: 299``)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from nodeport.api import ip, services
from nodeport.api.meta import JsonObject, labels
from nodeport.api.meta import annotations as annotations_of
from nodeport.api.resources import Resource
from nodeport.api.services import EXTERNAL_NAME

_HINTS = "service.kubernetes.io/topology-aware-hints"
_MODE = "service.kubernetes.io/topology-mode"
_SLICE_MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
_SLICE_MANAGERS = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")


def warnings(resource: Resource, new: JsonObject, old: JsonObject | None = None) -> list[str]:
    """Texts for a write of ``new`` over ``old`` (None on creation), in order, each once."""
    match resource.group, resource.kind:
        case "", "Service":
            return list(dict.fromkeys(_service(new)))
        case "discovery.k8s.io", "EndpointSlice":
            return list(dict.fromkeys(_endpoint_slice(new, old)))
        case "", "Endpoints":
            return list(dict.fromkeys(_endpoints(new)))
    return []


def _service(service: JsonObject) -> Iterator[str]:
    spec, headless = services.spec_of(service), services.is_headless(service)
    if _HINTS in annotations_of(service):
        yield f"annotation {_HINTS} is deprecated, please use {_MODE} instead"
    if headless:
        if spec.get("loadBalancerIP"):
            yield "spec.loadBalancerIP is ignored for headless services"
        if spec.get("externalIPs"):
            yield "spec.externalIPs is ignored for headless services"
        if spec.get("sessionAffinity") not in (None, "None"):
            yield "spec.SessionAffinity is ignored for headless services"
    yield from _addresses(spec)
    is_external_name = services.type_of(service) == EXTERNAL_NAME
    if spec.get("externalIPs"):
        if is_external_name:
            yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
        yield "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    if spec.get("externalName") and not is_external_name:
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'
    if spec.get("trafficDistribution") == "PreferClose":
        yield 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


def _addresses(spec: JsonObject) -> Iterator[str]:
    for field in ("clusterIPs", "externalIPs"):
        for index, text in enumerate(spec.get(field) or []):
            yield from _not_canonical(text, f"spec.{field}[{index}]")
    if spec.get("loadBalancerIP"):
        yield from _not_canonical(spec["loadBalancerIP"], "spec.loadBalancerIP")
    for index, text in enumerate(spec.get("loadBalancerSourceRanges") or []):
        yield from _cidr_not_canonical(text, f"spec.loadBalancerSourceRanges[{index}]")


def _not_canonical(text: str, path: str) -> Iterator[str]:
    address = ip.sloppy_ip(text)
    if address is None or str(address) == text:
        return
    mapped = address.ipv4_mapped if address.version == 6 else None
    if address.version == 4 or mapped is not None:
        yield f'{path}: non-standard IP address "{text}" is invalid: use "{mapped or address}"'
    else:
        yield f'{path}: IPv6 address "{text}" should be in RFC 5952 canonical format ("{address}")'


def _endpoint_slice(obj: JsonObject, old: JsonObject | None) -> Iterator[str]:
    """Our own controllers write addresses in canonical form: theirs are not looked at."""
    if obj.get("addressType") == "FQDN" and old is None:
        yield "spec.addressType: FQDN endpoints are deprecated"
    if labels(obj).get(_SLICE_MANAGER_LABEL) in _SLICE_MANAGERS:
        return
    for index, endpoint in enumerate(obj.get("endpoints") or []):
        for number, address in enumerate(endpoint.get("addresses") or []):
            yield from _not_canonical(address, f"endpoints[{index}].addresses[{number}]")


def _endpoints(obj: JsonObject) -> Iterator[str]:
    if labels(obj).get("endpoints.kubernetes.io/managed-by") == "endpoint-controller":
        return
    for index, subset in enumerate(obj.get("subsets") or []):
        for field in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(field) or []):
                yield from _not_canonical(address.get("ip") or "", f"subsets[{index}].{field}[{number}].ip")


def _cidr_not_canonical(text: str, path: str) -> Iterator[str]:
    """Of a CIDR that was stored before the strict rules, what to write instead."""
    head, _, prefix = text.partition("/")
    address = ip.sloppy_ip(head)
    if address is None or not prefix.isdecimal() or int(prefix) > address.max_prefixlen:
        return
    network = ip_network(f"{address}/{int(prefix)}", strict=False)
    if network.network_address != address:
        whole = f"{address}/{address.max_prefixlen}"
        yield f'{path}: CIDR value "{text}" is ambiguous in this context (should be "{network}" or "{whole}"?)'
    if ip.cidr_complaints(text) and "leading 0s" in ip.cidr_complaints(text)[0]:
        yield f'{path}: non-standard CIDR value "{text}" is invalid: use "{network}"'
    elif network.version == 6 and network.network_address == address and str(network) != text:
        yield f'{path}: IPv6 CIDR value "{text}" should be in RFC 5952 canonical format ("{network}")'
