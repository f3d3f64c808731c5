"""The names of one Service: from the Service and its EndpointSlices. Pure.

Rule source: Kubernetes DNS-based service discovery, version 1.1.0, sections 2.3 to 2.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from nodeport.api.clusterdns import CLUSTER_DOMAIN
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.services import EXTERNAL_NAME, is_headless, spec_of, type_of
from nodeport.node.dns.message import Data, Srv, Type

IPAddress = IPv4Address | IPv6Address
LONGEST_LABEL = 63
_ADDRESS_TYPES = ("IPv4", "IPv6")


@dataclass(slots=True)
class ServiceNames:
    """``names``: what stands before the Service's own name (nothing, an endpoint's host name, ``_port._protocol``) ->
    what is known by it; a name with nothing known exists all the same. ``alias``: of an ExternalName Service.
    ``reverse``: addresses -> whole names."""

    names: dict[str, dict[Type, list[Data]]] = field(default_factory=dict)
    alias: str = ""
    reverse: dict[IPAddress, list[str]] = field(default_factory=dict)

    def add(self, name: str, kind: Type, data: Data) -> None:
        """Adds the name and those between it and the Service."""
        known = self.names.setdefault(name, {}).setdefault(kind, [])
        if data not in known:
            known.append(data)
        _, dot, above = name.partition(".")
        if dot:
            self.names.setdefault(above, {})


@dataclass(frozen=True, slots=True)
class _Endpoint:
    address: IPAddress
    host: str
    is_named: bool
    ports: tuple[tuple[str, str, int], ...]
    """(name, protocol, number)"""


def whole_name(service: NamespacedName) -> str:
    return f"{service.name}.{service.namespace}.svc.{CLUSTER_DOMAIN}"


def names_of(service: JsonObject, slices: Iterable[JsonObject]) -> ServiceNames:
    found, key = ServiceNames(), NamespacedName.of(service)
    if type_of(service) == EXTERNAL_NAME:
        found.alias = str(spec_of(service).get("externalName") or "").rstrip(".").lower()
        return found
    found.names[""] = {}
    endpoints = _endpoints(service, slices)
    if is_headless(service):
        _add_headless(found, whole_name(key), endpoints)
    else:
        _add_cluster_ips(found, whole_name(key), service)
        _add_hosts(found, whole_name(key), (each for each in endpoints if each.is_named))
    return found


def service_addresses(service: JsonObject) -> list[IPAddress]:
    """The addresses that a Service has its name for."""
    return list(filter(None, map(parsed, spec_of(service).get("clusterIPs") or ())))


def slice_addresses(item: JsonObject) -> list[IPAddress]:
    """The addresses that endpoints may have names for."""
    named = (raw["addresses"][0] for raw in item.get("endpoints") or () if raw.get("hostname"))
    return list(filter(None, map(parsed, named)))


def is_sendable(name: str) -> bool:
    """Whether a name fits into a message: ExternalNames may have labels that do not."""
    return 0 < len(name) <= 253 and all(0 < len(label) <= LONGEST_LABEL for label in name.split("."))


def _add_cluster_ips(found: ServiceNames, name: str, service: JsonObject) -> None:
    for address in service_addresses(service):
        found.add("", address_type(address), address)
        found.reverse[address] = [name]
    if not found.reverse:
        return
    for port in spec_of(service).get("ports") or ():
        if port.get("name"):
            found.add(_service_label(port["name"], port.get("protocol")), Type.SRV, Srv(port["port"], name))


def _add_headless(found: ServiceNames, name: str, endpoints: Sequence[_Endpoint]) -> None:
    """All addresses under the Service's name, and each under a name of its own, which SRV records lead to."""
    for endpoint in endpoints:
        found.add("", address_type(endpoint.address), endpoint.address)
        for port, protocol, number in endpoint.ports:
            found.add(_service_label(port, protocol), Type.SRV, Srv(number, f"{endpoint.host}.{name}"))
    _add_hosts(found, name, endpoints)


def _add_hosts(found: ServiceNames, name: str, endpoints: Iterable[_Endpoint]) -> None:
    for endpoint in endpoints:
        found.add(endpoint.host, address_type(endpoint.address), endpoint.address)
        if endpoint.is_named:
            whole, known = f"{endpoint.host}.{name}", found.reverse.setdefault(endpoint.address, [])
            if whole not in known:
                known.append(whole)


def _endpoints(service: JsonObject, slices: Iterable[JsonObject]) -> list[_Endpoint]:
    """The ready ones, or all of a Service that publishes those that are not; in the order of their addresses."""
    everyone = bool(spec_of(service).get("publishNotReadyAddresses"))
    found = [endpoint for item in slices for endpoint in _of_slice(item, everyone=everyone)]
    return sorted(found, key=lambda each: (each.address.version, int(each.address)))


def _of_slice(item: JsonObject, *, everyone: bool) -> Iterator[_Endpoint]:
    if item.get("addressType") not in _ADDRESS_TYPES:
        return
    ports = tuple(
        (port["name"], port.get("protocol") or "TCP", port["port"])
        for port in item.get("ports") or ()
        if port.get("name") and port.get("port")
    )
    for raw in item.get("endpoints") or ():
        if not everyone and (raw.get("conditions") or {}).get("ready") is False:
            continue
        for text in (raw.get("addresses") or ())[:1]:  # the others are fungible, and deprecated
            address, host = parsed(text), raw.get("hostname") or ""
            if address is not None:
                yield _Endpoint(address, (host or dashed(address)).lower(), bool(host), ports)


def parsed(text: str) -> IPAddress | None:
    """The API lets through spellings from former days, such as those with leading zeros, that mean nothing here."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def address_type(address: IPAddress) -> Type:
    return Type.A if address.version == 4 else Type.AAAA


def dashed(address: IPAddress) -> str:
    """An address as one label."""
    return str(address).replace(".", "-").replace(":", "-")


def _service_label(port: str, protocol: str | None) -> str:
    return f"_{port}._{protocol or 'TCP'}".lower()
