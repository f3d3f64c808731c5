"""Services and where they lead."""

from __future__ import annotations

from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    UNSET,
    Cells,
    Column,
    Printer,
    age,
    joined,
    name_of,
    pairs,
    wide,
)

MAX_SHOWN = 3
PENDING = "<pending>"


def _service(obj: JsonObject, now: datetime) -> Cells:
    spec = obj.get("spec") or {}
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [
        name_of(obj), spec.get("type") or "ClusterIP", addresses[0] if addresses else NONE, external_ips(obj),
        service_ports(spec.get("ports") or []), age(obj, now), pairs(spec.get("selector")),
    ]  # fmt: skip


def external_ips(service: JsonObject) -> str:
    """Where the Service answers from outside: never cut, however many there are."""
    spec = service.get("spec") or {}
    given = list(spec.get("externalIPs") or [])
    match spec.get("type"):
        case "LoadBalancer":
            entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
            found = sorted({each.get("ip") or each.get("hostname") or "" for each in entries} - {""})
            return joined([*found, *given], PENDING)
        case "ExternalName":
            return spec.get("externalName") or ""
        case _:
            return joined(given)


def service_ports(ports: list[JsonObject]) -> str:
    shown = []
    for port in ports:
        number = f"{port.get('port')}"
        if port.get("nodePort"):
            number = f"{number}:{port['nodePort']}"
        shown.append(f"{number}/{port.get('protocol') or 'TCP'}")
    return joined(shown)


def _endpoints(obj: JsonObject, now: datetime) -> Cells:
    return [name_of(obj), endpoints_text(obj.get("subsets") or []), age(obj, now)]


def endpoints_text(subsets: list[JsonObject]) -> str:
    """Up to three ``address:port``; empty when there are subsets but nothing in them is ready."""
    if not subsets:
        return NONE
    found: list[str] = []
    for subset in subsets:
        addresses = [each.get("ip", "") for each in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        if ports:
            found.extend(f"{address}:{port.get('port')}" for port in ports for address in addresses)
        else:
            found.extend(addresses)
    return _some(found)


def _some(found: list[str]) -> str:
    text = ",".join(found[:MAX_SHOWN])
    return f"{text} + {len(found) - MAX_SHOWN} more..." if len(found) > MAX_SHOWN else text


def _endpoint_slice(obj: JsonObject, now: datetime) -> Cells:
    ports = [
        str(port.get("port")) if port.get("port") is not None else "*" for port in obj.get("ports") or []
    ]
    addresses = [address for each in obj.get("endpoints") or [] for address in each.get("addresses") or []]
    return [
        name_of(obj), obj.get("addressType") or "", _some(ports) or UNSET, _some(addresses) or UNSET, age(obj, now),
    ]  # fmt: skip


def _ingress(obj: JsonObject, now: datetime) -> Cells:
    spec = obj.get("spec") or {}
    rules = spec.get("rules") or []
    return [
        name_of(obj), spec.get("ingressClassName") or NONE, ingress_hosts(rules), _balancer_addresses(obj),
        "80, 443" if spec.get("tls") else "80", age(obj, now),
    ]  # fmt: skip


def ingress_hosts(rules: list[JsonObject]) -> str:
    """Up to three hosts; ``*`` when no rule names one."""
    hosts = [rule["host"] for rule in rules if rule.get("host")]
    return _some(hosts) or "*"


def _balancer_addresses(obj: JsonObject) -> str:
    entries = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return ",".join(sorted({each.get("ip") or each.get("hostname") or "" for each in entries} - {""}))


def _ingress_class(obj: JsonObject, now: datetime) -> Cells:
    spec = obj.get("spec") or {}
    parameters = spec.get("parameters")
    shown = NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") is not None else ""
        shown = f"{parameters.get('kind') or ''}{group}/{parameters.get('name') or ''}"
    return [name_of(obj), spec.get("controller") or "", shown, age(obj, now)]


def _service_cidr(obj: JsonObject, now: datetime) -> Cells:
    return [name_of(obj), ",".join((obj.get("spec") or {}).get("cidrs") or []), age(obj, now)]


def _ip_address(obj: JsonObject, now: datetime) -> Cells:
    parent = (obj.get("spec") or {}).get("parentRef")
    if not parent:
        return [name_of(obj), NONE]
    group = f".{parent['group']}" if parent.get("group") else ""
    steps = (f"{parent.get('resource') or ''}{group}", parent.get("namespace"), parent.get("name"))
    return [name_of(obj), "/".join(step for step in steps if step)]


SERVICE = Printer(
    (
        NAME, Column("Type"), Column("Cluster-IP"), Column("External-IP"), Column("Port(s)"), AGE, wide("Selector"),
    ),
    _service,
)  # fmt: skip
ENDPOINTS_PRINTER = Printer((NAME, Column("Endpoints"), AGE), _endpoints)
ENDPOINT_SLICE = Printer(
    (NAME, Column("AddressType"), Column("Ports"), Column("Endpoints"), AGE), _endpoint_slice
)
INGRESS = Printer((NAME, Column("Class"), Column("Hosts"), Column("Address"), Column("Ports"), AGE), _ingress)
INGRESS_CLASS = Printer((NAME, Column("Controller"), Column("Parameters"), AGE), _ingress_class)
SERVICE_CIDR = Printer((NAME, Column("CIDRs"), AGE), _service_cidr)
IP_ADDRESS = Printer((NAME, Column("ParentRef")), _ip_address)
