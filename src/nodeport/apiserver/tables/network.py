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
