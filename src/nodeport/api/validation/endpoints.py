"""Rules on Endpoints and EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import ip, names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, FieldErrorType, duplicate, invalid, not_supported, required
from nodeport.api.validation.meta import immutable
from nodeport.api.validation.ports import PROTOCOLS, validate_port

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
MOST_ENDPOINTS, MOST_ADDRESSES, MOST_PORTS, MOST_HINTS = 1000, 100, 20000, 8


def _too_many(path: str, count: int, most: int) -> FieldError:
    return FieldError(FieldErrorType.TOO_MANY, path, count, f"must have at most {most} items")


def validate_endpoints(obj: JsonObject) -> Iterator[FieldError]:
    for index, subset in enumerate(obj.get("subsets") or []):
        yield from _subset(subset, f"subsets[{index}]")


def validate_endpoints_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    if new.get("subsets") != old.get("subsets"):
        yield from validate_endpoints(new)


def _subset(subset: JsonObject, path: str) -> Iterator[FieldError]:
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        yield required(path, "must specify `addresses` or `notReadyAddresses`")
    for field in ("addresses", "notReadyAddresses"):
        for index, address in enumerate(subset.get(field) or []):
            yield from _endpoint_address(address, f"{path}.{field}[{index}]")
    ports = subset.get("ports") or []
    for index, port in enumerate(ports):
        yield from _endpoint_port(port, f"{path}.ports[{index}]", needs_name=len(ports) > 1)


def _endpoint_address(address: JsonObject, path: str) -> Iterator[FieldError]:
    text = address.get("ip") or ""
    complaints = ip.ip_complaints(text) or ip.special_ip_complaints(text)
    yield from (invalid(f"{path}.ip", text, why) for why in complaints)
    if address.get("hostname"):
        yield from (invalid(f"{path}.hostname", address["hostname"], why)
                    for why in names.dns_label(address["hostname"]))  # fmt: skip
    if address.get("nodeName") is not None:
        yield from (invalid(f"{path}.nodeName", address["nodeName"], why)
                    for why in names.dns_subdomain(address["nodeName"]))  # fmt: skip


def _endpoint_port(port: JsonObject, path: str, *, needs_name: bool) -> Iterator[FieldError]:
    name = port.get("name") or ""
    if needs_name and not name:
        yield required(f"{path}.name")
    elif name:
        yield from (invalid(f"{path}.name", name, why) for why in names.dns_label(name))
    yield from validate_port(port.get("port") or 0, f"{path}.port")
    yield from _protocol(port, path)
    yield from _app_protocol(port, path)


def _protocol(port: JsonObject, path: str) -> Iterator[FieldError]:
    if not port.get("protocol"):
        yield required(f"{path}.protocol")
    elif port["protocol"] not in PROTOCOLS:
        yield not_supported(f"{path}.protocol", port["protocol"], PROTOCOLS)


def _app_protocol(port: JsonObject, path: str) -> Iterator[FieldError]:
    value = port.get("appProtocol")
    if value is not None:
        yield from (invalid(f"{path}.appProtocol", value, why) for why in names.qualified_name(value))


def validate_endpoint_slice(obj: JsonObject, old: JsonObject | None = None) -> Iterator[FieldError]:
    kind = obj.get("addressType") or ""
    if not kind:
        yield required("addressType")
    elif kind not in _ADDRESS_TYPES:
        yield not_supported("addressType", kind, _ADDRESS_TYPES)
    if old is not None:
        yield from immutable(kind, old.get("addressType") or "", "addressType")
    endpoints = obj.get("endpoints") or []
    if len(endpoints) > MOST_ENDPOINTS:
        yield _too_many("endpoints", len(endpoints), MOST_ENDPOINTS)
    else:
        for index, endpoint in enumerate(endpoints):
            yield from _endpoint(endpoint, kind, f"endpoints[{index}]")
    yield from _slice_ports(obj.get("ports") or [])


def validate_endpoint_slice_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    return validate_endpoint_slice(new, old)


def _endpoint(endpoint: JsonObject, kind: str, path: str) -> Iterator[FieldError]:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        yield required(f"{path}.addresses", "must contain at least 1 address")
    elif len(addresses) > MOST_ADDRESSES:
        yield _too_many(f"{path}.addresses", len(addresses), MOST_ADDRESSES)
    for index, address in enumerate(addresses):
        yield from _address(address, kind, f"{path}.addresses[{index}]")
    if endpoint.get("nodeName") is not None:
        yield from (invalid(f"{path}.nodeName", endpoint["nodeName"], why)
                    for why in names.dns_subdomain(endpoint["nodeName"]))  # fmt: skip
    if endpoint.get("hostname") is not None:
        yield from (invalid(f"{path}.hostname", endpoint["hostname"], why)
                    for why in names.dns_label(endpoint["hostname"]))  # fmt: skip
    yield from _hints(endpoint.get("hints") or {}, f"{path}.hints")


def _address(address: str, kind: str, path: str) -> Iterator[FieldError]:
    if kind == "FQDN":
        yield from (invalid(path, address, why) for why in names.dns_subdomain(address))
        return
    complaints = ip.ip_complaints(address)
    if not complaints and kind in ("IPv4", "IPv6"):
        found = ip.sloppy_ip(address)
        if ip.family(address) != kind:
            complaints = (f"must be an {kind} address",)
        elif kind == "IPv6" and str(found) != address:
            complaints = (f'must be in canonical form ("{found}")',)
        else:
            complaints = ip.special_ip_complaints(address)
    yield from (invalid(path, address, why) for why in complaints)


def _hints(hints: JsonObject, path: str) -> Iterator[FieldError]:
    for field in ("forZones", "forNodes"):
        entries = hints.get(field) or []
        if len(entries) > MOST_HINTS:
            yield _too_many(f"{path}.{field}", len(entries), MOST_HINTS)
            continue
        seen: set[str] = set()
        for index, entry in enumerate(entries):
            where, name = f"{path}.{field}[{index}].name", entry.get("name") or ""
            if name in seen:
                yield duplicate(where, name)
            seen.add(name)
            rule = names.label_value if field == "forZones" else names.dns_subdomain
            yield from (invalid(where, name, why) for why in rule(name))


def _slice_ports(ports: list[JsonObject]) -> Iterator[FieldError]:
    if len(ports) > MOST_PORTS:
        yield _too_many("ports", len(ports), MOST_PORTS)
        return
    seen: set[str] = set()
    for index, port in enumerate(ports):
        path, name = f"ports[{index}]", port.get("name") or ""
        if name:
            yield from (invalid(f"{path}.name", name, why) for why in names.dns_label(name))
        if name in seen:
            yield duplicate(f"{path}.name", name)
        seen.add(name)
        yield from _protocol(port, path)
        yield from _app_protocol(port, path)
