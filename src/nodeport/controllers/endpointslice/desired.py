"""What the endpoints of a Service should be: pure, from the Service, its pods and their nodes.

Rules: the EndpointSlice controller of Kubernetes 1.36; also used for the older Endpoints object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from nodeport.api import ip
from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
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
class PortGroup:
    """The endpoints that serve the same ``ports``, which are in the Service's order."""

    ports: Ports
    endpoints: dict[EndpointKey, JsonObject] = field(default_factory=dict)


@dataclass(slots=True)
class DesiredEndpoints:
    """Endpoints of one address type by the ports they serve, sorted: their order is no difference.

    ``nodeless`` says which pods were left out because nobody knows their node.
    """

    groups: dict[Ports, PortGroup] = field(default_factory=dict)
    nodeless: list[str] = field(default_factory=list)


def desired_endpoints(
    service: JsonObject, pods: Iterable[JsonObject], zones: Mapping[str, str], family: str
) -> DesiredEndpoints:
    """``zones``: every node's name with its zone, empty when it has none; ``family``: IPv4 or IPv6."""
    desired = DesiredEndpoints()
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    ports_of = port_resolver(service)
    for pod in pods:
        addresses = pod_addresses(pod, family)
        if is_finished(pod) or not addresses:
            continue
        if pod["spec"].get("nodeName", "") not in zones and not publish:
            # its node may not have reached our cache: look again rather than publish a half-known endpoint
            desired.nodeless.append(_nodeless(service, pod))
            continue
        ports = ports_of(pod)
        endpoint = _endpoint(service, pod, addresses, zones, publish=publish)
        group = desired.groups.setdefault(tuple(sorted(ports)), PortGroup(ports))
        group.endpoints[key_of(endpoint)] = endpoint
    return desired


def _nodeless(service: JsonObject, pod: JsonObject) -> str:
    node = pod["spec"].get("nodeName") or ""
    name, key = pod["metadata"]["name"], NamespacedName.of(service)
    return f"skipping Pod {name} for Service {key}: Node {node} Not Found"


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
    listed = [entry.get("ip") or "" for entry in status.get("podIPs") or ()] or [status.get("podIP") or ""]
    return [text for kind, text in map(canonical_ip, listed) if kind == family]


@lru_cache(maxsize=65536)
def canonical_ip(text: str) -> tuple[str, str]:
    """The address's family and its usual form: ``("IPv4", "10.0.0.1")``; both empty when it is none."""
    found = ip.sloppy_ip(text)
    if found is None:
        return "", ""
    plain = (found.ipv4_mapped if found.version == 6 else None) or found
    return f"IPv{plain.version}", str(plain)


def port_resolver(service: JsonObject) -> Callable[[JsonObject], Ports]:
    """The Service's ports as a pod serves them; a named port that the pod lacks is left out."""
    wanted = [
        (port.get("targetPort") or port["port"],
         Port(port.get("name") or "", port.get("protocol") or "TCP", 0, port.get("appProtocol") or ""))
        for port in service["spec"].get("ports") or ()
    ]  # fmt: skip
    if all(isinstance(target, int) for target, _ in wanted):
        fixed = tuple(replace(port, number=int(target)) for target, port in wanted)
        return lambda _pod: fixed

    def resolve(pod: JsonObject) -> Ports:
        named = ((_target_number(target, port.protocol, pod), port) for target, port in wanted)
        return tuple(replace(port, number=number) for number, port in named if number is not None)

    return resolve


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
    endpoint: JsonObject = {
        "addresses": addresses,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": target_reference(pod),
    }
    optional = {"hostname": hostname_of(service, pod), "nodeName": node, "zone": zones.get(node, "")}
    endpoint.update((name, value) for name, value in optional.items() if value)
    return endpoint
