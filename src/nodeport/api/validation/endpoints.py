"""Rules on Endpoints and EndpointSlices."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nodeport.api import ip, names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, FieldErrorType, duplicate, invalid, not_supported, required
from nodeport.api.validation.meta import immutable
from nodeport.api.validation.ports import PROTOCOLS, validate_port

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_FEWEST_LABELS = 2
MOST_ENDPOINTS, MOST_ADDRESSES, MOST_PORTS, MOST_HINTS = 1000, 100, 20000, 8


def _too_many(path: str, count: int, most: int) -> FieldError:
    return FieldError(FieldErrorType.TOO_MANY, path, count, f"must have at most {most} items")


def validate_endpoints(obj: JsonObject, known: Collection[str] = ()) -> Iterator[FieldError]:
    """``known``: addresses that were stored before today's rules and may stay."""
    for index, subset in enumerate(obj.get("subsets") or []):
        yield from _subset(subset, f"subsets[{index}]", known)


def validate_endpoints_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    if new.get("subsets") != old.get("subsets"):
        known = {address.get("ip") or "" for address in subset_addresses(old)}
        yield from validate_endpoints(new, known)


def subset_addresses(obj: JsonObject) -> Iterator[JsonObject]:
    """Every address of an Endpoints object, ready or not."""
    for subset in obj.get("subsets") or []:
        yield from subset.get("addresses") or []
        yield from subset.get("notReadyAddresses") or []


def _subset(subset: JsonObject, path: str, known: Collection[str]) -> Iterator[FieldError]:
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        yield required(path, "must specify `addresses` or `notReadyAddresses`")
    for field in ("addresses", "notReadyAddresses"):
        for index, address in enumerate(subset.get(field) or []):
            yield from _endpoint_address(address, f"{path}.{field}[{index}]", known)
    ports = subset.get("ports") or []
    for index, port in enumerate(ports):
        yield from _endpoint_port(port, f"{path}.ports[{index}]", needs_name=len(ports) > 1)


def _endpoint_address(address: JsonObject, path: str, known: Collection[str]) -> Iterator[FieldError]:
    text = address.get("ip") or ""
    if text not in known:
        yield from (invalid(f"{path}.ip", text, why) for why in ip.ip_complaints(text))
    if address.get("hostname"):
        yield from (invalid(f"{path}.hostname", address["hostname"], why)
                    for why in names.dns_label(address["hostname"]))  # fmt: skip
    if address.get("nodeName") is not None:
        yield from (invalid(f"{path}.nodeName", address["nodeName"], why)
                    for why in names.dns_subdomain(address["nodeName"]))  # fmt: skip
    # Kubernetes says it of one that is no address a second time, in fewer words
    special = ip.special_ip_complaints(text) if ip.sloppy_ip(text) else ("must be a valid IP address",)
    yield from (invalid(f"{path}.ip", text, why) for why in special)


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


def validate_endpoint_slice(obj: JsonObject, known: Collection[str] = ()) -> Iterator[FieldError]:
    """``known``: addresses that were stored before today's rules and may stay."""
    kind = obj.get("addressType") or ""
    if not kind:
        yield required("addressType")
    elif kind not in _ADDRESS_TYPES:
        yield not_supported("addressType", kind, _ADDRESS_TYPES)
    endpoints = obj.get("endpoints") or []
    if len(endpoints) > MOST_ENDPOINTS:
        yield _too_many("endpoints", len(endpoints), MOST_ENDPOINTS)
    else:
        for index, endpoint in enumerate(endpoints):
            yield from _endpoint(endpoint, kind, f"endpoints[{index}]", known)
    yield from _slice_ports(obj.get("ports") or [])


def validate_endpoint_slice_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    known = {text for endpoint in old.get("endpoints") or [] for text in endpoint.get("addresses") or []}
    yield from validate_endpoint_slice(new, known)
    yield from immutable(new.get("addressType") or "", old.get("addressType") or "", "addressType")


def _endpoint(endpoint: JsonObject, kind: str, path: str, known: Collection[str]) -> Iterator[FieldError]:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        yield required(f"{path}.addresses", "must contain at least 1 address")
    elif len(addresses) > MOST_ADDRESSES:
        yield _too_many(f"{path}.addresses", len(addresses), MOST_ADDRESSES)
    for index, address in enumerate(addresses):
        where = f"{path}.addresses[{index}]"
        yield from _fqdn(address, where) if kind == "FQDN" else _address(address, kind, where, known)
    if endpoint.get("nodeName") is not None:
        yield from (invalid(f"{path}.nodeName", endpoint["nodeName"], why)
                    for why in names.dns_subdomain(endpoint["nodeName"]))  # fmt: skip
    if endpoint.get("hostname") is not None:
        yield from (invalid(f"{path}.hostname", endpoint["hostname"], why)
                    for why in names.dns_label(endpoint["hostname"]))  # fmt: skip
    yield from _hints(endpoint.get("hints") or {}, f"{path}.hints")


def _address(address: str, kind: str, path: str, known: Collection[str]) -> Iterator[FieldError]:
    """Of an address type without rules of its own nothing is checked: the type is the error."""
    if kind not in ("IPv4", "IPv6"):
        return
    complaints = () if address in known else ip.ip_complaints(address)
    if not complaints:
        if ip.family(address) != kind:
            complaints = (f"must be an {kind} address",)
        complaints += ip.special_ip_complaints(address)
    yield from (invalid(path, address, why) for why in complaints)


def _fqdn(name: str, path: str) -> Iterator[FieldError]:
    """A domain of two labels or more; a dot at its end is no fault. Only the first fault is told."""
    if not name:
        yield required(path)
        return
    name = name.removesuffix(".")
    labels = name.split(".")
    if complaints := names.dns_subdomain(name):
        yield invalid(path, name, ",".join(complaints))
    elif len(labels) < _FEWEST_LABELS:
        yield invalid(path, name, "should be a domain with at least two segments separated by dots")
    else:
        faulty = next((label for label in labels if names.dns_label(label)), None)
        if faulty is not None:
            yield invalid(path, faulty, ",".join(names.dns_label(faulty)))


def _hints(hints: JsonObject, path: str) -> Iterator[FieldError]:
    for field in ("forZones", "forNodes"):
        entries = hints.get(field) or []
        if len(entries) > MOST_HINTS:
            yield _too_many(f"{path}.{field}", len(entries), MOST_HINTS)
            return
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
