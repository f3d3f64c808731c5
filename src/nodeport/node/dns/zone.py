"""The cluster's domain: a question to an answer, out of caches that others keep. Pure.

Rule source: Kubernetes DNS-based service discovery, version 1.1.0; negative answers: RFC 2308.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from nodeport.api.clusterdns import CLUSTER_DOMAIN, NAMESPACE, SERVICE
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.node.dns.message import INTERNET, Answer, Code, Data, Query, Record, Soa, Srv, Text, Type
from nodeport.node.dns.records import (
    IPAddress,
    ServiceNames,
    address_type,
    is_sendable,
    names_of,
    parsed,
    whole_name,
)

TTL = 5
SPECIFICATION = b"1.1.0"
LONGEST_CHAIN = 8
"""Aliases that lead from one to the next: more is taken for a circle."""
NAME_SERVER = whole_name(NamespacedName(NAMESPACE, SERVICE))
_REVERSE = {4: "in-addr.arpa", 6: "ip6.arpa"}
_NOTHING = ServiceNames()
_TRANSFERS = (Type.AXFR, Type.IXFR)
_Network = IPv4Network | IPv6Network


class Networks:
    """Which addresses are the cluster's own; a look-up costs one step for each length of prefix."""

    def __init__(self, networks: Iterable[_Network] = ()) -> None:
        self._known: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            self._known.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)

    def __contains__(self, address: IPAddress) -> bool:
        return any(
            version == address.version and int(address) >> shift in known
            for (version, shift), known in self._known.items()
        )


@dataclass(frozen=True, slots=True)
class Caches:
    """Where objects are found: a Service, its slices, whether a namespace has Services, and which Services may have
    a name for an address, as `service_addresses` and `slice_addresses` say."""

    service: Callable[[NamespacedName], JsonObject | None]
    slices: Callable[[NamespacedName], Iterable[JsonObject]]
    has_services: Callable[[str], bool]
    at_address: Callable[[IPAddress], Iterable[NamespacedName]]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What another server is to be asked; ``so_far`` are the aliases that led there."""

    name: str
    so_far: tuple[Record, ...] = ()


class Zone:
    """``mark`` a Service when it or a slice of it has changed: its names are forgotten, and made when somebody asks.

    ``places``: the addresses of nodes and pods. ``services``: the ranges of ClusterIPs.
    """

    def __init__(self, caches: Caches, services: Iterable[_Network] = ()) -> None:
        self._caches = caches
        self._ranges = tuple(services)
        self._names: dict[NamespacedName, ServiceNames] = {}
        self._serial = 1
        self.set_places(())

    def set_places(self, networks: Iterable[_Network]) -> None:
        found = tuple(networks)
        self.places = Networks(found)
        self._own = Networks((*found, *self._ranges))

    def mark(self, service: NamespacedName) -> None:
        self._names.pop(service, None)
        self._serial += 1

    # --- questions

    def answer(self, query: Query) -> Answer | Elsewhere:
        if query.klass != INTERNET or query.type in _TRANSFERS:
            return Answer(Code.REFUSED, authoritative=False)
        if _is_below(query.name, CLUSTER_DOMAIN):
            return self._inside(query)
        for version, domain in _REVERSE.items():
            if _is_below(query.name, domain):
                return self._of_address(query, reverse_address(query.name, version), domain)
        return Elsewhere(query.name)

    def _inside(self, query: Query) -> Answer | Elsewhere:
        """Follows the aliases of ExternalName Services as far as they stay in the cluster."""
        chain: list[Record] = []
        name = query.name
        while len(chain) < LONGEST_CHAIN:
            found = self._find(name)
            if not isinstance(found, str):
                return self._made(query, name, found, tuple(chain))
            if not is_sendable(found):
                return Answer(Code.SERVFAIL)
            chain.append(Record(name, Type.CNAME, found, TTL))
            if query.type in (Type.CNAME, Type.ANY):
                return Answer(answers=tuple(chain))
            if not _is_below(found, CLUSTER_DOMAIN):
                return Elsewhere(found, tuple(chain))
            name = found
        return Answer(Code.SERVFAIL)

    def _made(
        self, query: Query, name: str, found: Mapping[Type, list[Data]] | None, chain: tuple[Record, ...]
    ) -> Answer:
        if found is None:
            return Answer(Code.NXDOMAIN, chain, (self._soa(CLUSTER_DOMAIN),))
        kinds = tuple(found) if query.type == Type.ANY else (query.type,)
        records = [Record(name, kind, data, TTL) for kind in found if kind in kinds for data in found[kind]]
        if not records:
            return Answer(Code.NOERROR, chain, (self._soa(CLUSTER_DOMAIN),))
        return Answer(
            answers=(*chain, *_turned(records, query.number)), additional=tuple(self._glue(records))
        )

    def _glue(self, records: Iterable[Record]) -> Iterator[Record]:
        """The addresses of what SRV and NS records lead to."""
        targets = {item.data.target for item in records if isinstance(item.data, Srv)}
        targets |= {str(item.data) for item in records if item.type == Type.NS}
        for target in sorted(targets):
            found = self._find(target)
            for kind in (Type.A, Type.AAAA):
                known = found.get(kind, ()) if found and not isinstance(found, str) else ()
                yield from (Record(target, kind, data, TTL) for data in known)

    def _find(self, name: str) -> Mapping[Type, list[Data]] | str | None:
        """What is known by a name of the domain; an alias; None: there is no such name."""
        match name.removesuffix(CLUSTER_DOMAIN).rstrip(".").split("."):
            case [""]:
                return {Type.SOA: [self._soa(CLUSTER_DOMAIN).data], Type.NS: [NAME_SERVER]}
            case ["dns-version"]:
                return {Type.TXT: [Text(SPECIFICATION)]}
            case ["svc"] | ["pod"]:
                return {}
            case [namespace, "svc" | "pod"]:
                return {} if self._caches.has_services(namespace) else None
            case [*rest, service, namespace, "svc"]:
                return self._of_service(NamespacedName(namespace, service), ".".join(rest))
            case [label, _, "pod"]:
                return self._of_pod(label)
        return None

    def _of_service(self, key: NamespacedName, rest: str) -> Mapping[Type, list[Data]] | str | None:
        known = self._known(key)
        return known.alias if known.alias and not rest else known.names.get(rest)

    def _of_pod(self, label: str) -> Mapping[Type, list[Data]] | None:
        """The address that the label spells, if a pod or a node can have it."""
        address = _spelled(label)
        if address is None or address not in self.places:
            return None
        return {address_type(address): [address]}

    def _of_address(self, query: Query, address: IPAddress | None, domain: str) -> Answer | Elsewhere:
        if address is None:
            return Elsewhere(query.name)
        keys = dict.fromkeys(self._caches.at_address(address))
        names = [name for key in keys for name in self._known(key).reverse.get(address, ())]
        if names and query.type in (Type.PTR, Type.ANY):
            return Answer(answers=tuple(Record(query.name, Type.PTR, name, TTL) for name in names))
        if not names and address not in self._own:
            return Elsewhere(query.name)
        return Answer(Code.NOERROR if names else Code.NXDOMAIN, authority=(self._soa(domain),))

    def _soa(self, domain: str) -> Record:
        data = Soa(NAME_SERVER, f"hostmaster.{CLUSTER_DOMAIN}", self._serial & 0xFFFFFFFF, TTL)
        return Record(domain, Type.SOA, data, TTL)

    # --- what is known

    def _known(self, key: NamespacedName) -> ServiceNames:
        """Nothing, for a Service that is not there."""
        found = self._names.get(key)
        if found is None:
            service = self._caches.service(key)
            if service is None:
                return _NOTHING
            self._names[key] = found = names_of(service, self._caches.slices(key))
        return found


def reverse_address(name: str, version: int) -> IPAddress | None:
    """The address that a name below in-addr.arpa or ip6.arpa is about; None for one of a network."""
    labels = name.removesuffix(_REVERSE[version]).rstrip(".").split(".")[::-1]
    try:
        if version == 4:
            return IPv4Address(".".join(labels))
        if len(labels) != 32 or any(len(label) != 1 for label in labels):
            return None
        return IPv6Address(int("".join(labels), 16))
    except ValueError:
        return None


def _spelled(label: str) -> IPAddress | None:
    """``10-244-1-2`` or ``fd00--1`` as an address."""
    for mark in (".", ":"):
        if address := parsed(label.replace("-", mark)):
            return address
    return None


def _is_below(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


def _turned(records: list[Record], number: int) -> list[Record]:
    """Each question gets another address first, so that clients that take the first are spread."""
    at = number % len(records)
    return records[at:] + records[:at]
