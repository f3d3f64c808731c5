"""What the endpoints of a Service should be: pure, from the Service, its pods and their nodes.

Rules: the EndpointSlice controller of Kubernetes 1.36; also used for the older Endpoints object.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.controllers.selection import is_finished, is_ready

EndpointKey = tuple[tuple[str, ...], str, str, str]
"""An endpoint's identity: sorted addresses, hostname, and its target's namespace and name."""


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """One port of a slice. ``number`` is on the pod."""

    name: str
    protocol: str
    number: int
    app_protocol: str = ""

    def to_json(self) -> JsonObject:
        found: JsonObject = {"name": self.name, "protocol": self.protocol, "port": self.number}
        if self.app_protocol:
            found["appProtocol"] = self.app_protocol
        return found

    @classmethod
    def of(cls, port: Mapping[str, object]) -> Port:
        number = port.get("port")
        return cls(
            str(port.get("name") or ""),
            str(port.get("protocol") or "TCP"),
            number if isinstance(number, int) else 0,
            str(port.get("appProtocol") or ""),
        )


Ports = tuple[Port, ...]


@dataclass(slots=True)
class DesiredEndpoints:
    """Endpoints by the ports they serve, of one address type; ``is_missing_nodes``: a pod was left out for
    that.
    """

    groups: dict[Ports, dict[EndpointKey, JsonObject]] = field(default_factory=dict)
    is_missing_nodes: bool = False


def desired_endpoints(
    service: JsonObject, pods: Iterable[JsonObject], zones: Mapping[str, str], family: str
) -> DesiredEndpoints:
    """``zones``: every node's name with its zone, empty when it has none; ``family``: IPv4 or IPv6."""
    desired = DesiredEndpoints()
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    for pod in pods:
        addresses = pod_addresses(pod, family)
        if is_finished(pod) or not addresses:
            continue
        if pod["spec"].get("nodeName", "") not in zones and not publish:
            # its node may not have reached our cache: look again rather than publish a half-known endpoint
            desired.is_missing_nodes = True
            continue
        ports = tuple(resolve_ports(service, pod))
        endpoint = _endpoint(service, pod, addresses, zones, publish=publish)
        desired.groups.setdefault(ports, {})[key_of(endpoint)] = endpoint
    return desired


def key_of(endpoint: JsonObject) -> EndpointKey:
    target = endpoint.get("targetRef") or {}
    return (
        tuple(sorted(endpoint.get("addresses") or ())),
        endpoint.get("hostname") or "",
        target.get("namespace") or "",
        target.get("name") or "",
    )


def pod_addresses(pod: JsonObject, family: str) -> list[str]:
    """The pod's addresses of that family, in canonical form."""
    status = pod.get("status") or {}
    found = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    version = 6 if family == "IPv6" else 4
    return [str(ip) for ip in (_parsed(text) for text in found) if ip is not None and ip.version == version]


@lru_cache(maxsize=65536)
def _parsed(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text or "")
    except ValueError:
        return None


def resolve_ports(service: JsonObject, pod: JsonObject) -> Iterator[Port]:
    """The Service's ports as this pod serves them; a named port that the pod lacks is left out."""
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        number = _target_number(port.get("targetPort") or port["port"], protocol, pod)
        if number is not None:
            yield Port(port.get("name") or "", protocol, number, port.get("appProtocol") or "")


def _target_number(target: int | str, protocol: str, pod: JsonObject) -> int | None:
    if isinstance(target, int):
        return target
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in (*(spec.get("containers") or ()), *sidecars):
        for port in container.get("ports") or ():
            if port.get("name") == target and (port.get("protocol") or "TCP") == protocol:
                return int(port["containerPort"])
    return None


def hostname_of(service: JsonObject, pod: JsonObject) -> str:
    """A pod has a name of its own below a Service's when it names that Service as its subdomain."""
    spec = pod["spec"]
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        return str(spec["hostname"])
    return ""


def target_reference(pod: JsonObject) -> JsonObject:
    meta = pod["metadata"]
    return {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}


def _endpoint(
    service: JsonObject, pod: JsonObject, addresses: list[str], zones: Mapping[str, str], *, publish: bool
) -> JsonObject:
    serving, terminating = is_ready(pod), is_being_deleted(pod)
    ready = publish or (serving and not terminating)
    node = pod["spec"].get("nodeName") or ""
    zone = zones.get(node, "")
    endpoint: JsonObject = {
        "addresses": addresses,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": target_reference(pod),
    }
    hostname = hostname_of(service, pod)
    hints = _hints(service["spec"].get("trafficDistribution") or "", node, zone) if ready else {}
    optional = {"hostname": hostname, "nodeName": node, "zone": zone, "hints": hints}
    endpoint.update((name, value) for name, value in optional.items() if value)
    return endpoint


def _hints(distribution: str, node: str, zone: str) -> JsonObject:
    """``trafficDistribution``: an endpoint is for its own zone, with PreferSameNode for its own node as well."""
    if distribution not in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        return {}
    hints: JsonObject = {"forZones": [{"name": zone}]} if zone else {}
    if distribution == "PreferSameNode" and node:
        hints["forNodes"] = [{"name": node}]
    return hints
