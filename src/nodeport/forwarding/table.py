"""The forwarding table: for every port of every Service, who may be sent where.

``ServicePortName -> Forwarding``. All values are frozen and compare by meaning. The order of a route's endpoints
carries no preference; it is the order of slots in the kernel, kept stable so that small changes stay small.

There are very many of most of them: so they are Structs, made and compared by C, and of no interest to the garbage
collector, since none can lead back to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self, final

from msgspec import Struct
from msgspec.structs import replace

from nodeport.api.meta import NamespacedName

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


class Family(IntEnum):
    """Of addresses. Each family has a table, a proxier and facts of its own; the value is ``address.version``."""

    IPV4 = 4
    IPV6 = 6

    @property
    def bits(self) -> int:
        return 32 if self is Family.IPV4 else 128

    def __str__(self) -> str:
        return f"IPv{self.value}"


class Protocol(IntEnum):
    """The transport protocols that a Service port can have; the value is IANA's number."""

    TCP = 6
    UDP = 17
    SCTP = 132


class ServicePortName(Struct, frozen=True, gc=False):
    """Who a Service port is; ``port`` is its name, empty when the Service has a single unnamed port."""

    service: NamespacedName
    port: str
    protocol: Protocol

    def __str__(self) -> str:
        return f"{self.service}:{self.port}" if self.port else str(self.service)

    @property
    def order(self) -> tuple[str, str, str, int]:
        """Sorts: by namespace, Service, port, protocol."""
        return (self.service.namespace, self.service.name, self.port, self.protocol.value)


@final
class ClusterIP(Struct, frozen=True, gc=False):
    """The Service's own virtual address, meant for inside the cluster."""

    address: IPAddress
    port: int


@final
class NodePort(Struct, frozen=True, gc=False):
    """A port on the node's own addresses (which of them: ``NodeFacts.nodeport_networks``)."""

    port: int


class ExternalIP(Struct, frozen=True, gc=False):
    """An address of ``spec.externalIPs``, routed to the node by somebody else."""

    address: IPAddress
    port: int


class LoadBalancerIP(Struct, frozen=True, gc=False):
    """An address of ``status.loadBalancer.ingress`` with ipMode VIP."""

    address: IPAddress
    port: int


Frontend = ClusterIP | NodePort | ExternalIP | LoadBalancerIP
"""What a packet can be addressed to, next to its protocol."""


class Endpoint(Struct, frozen=True, gc=False):
    """One address and port that serves; ``is_local``: it runs on this node.

    ``packed`` is the address as packets carry it. There are more endpoints than anything else, and bytes are cheap to
    hash, to sort and to spell.
    """

    packed: bytes
    port: int
    is_local: bool

    @classmethod
    def of(cls, address: IPAddress, port: int, *, is_local: bool) -> Self:
        return cls(address.packed, port, is_local)

    @property
    def address(self) -> IPAddress:
        return IPv4Address(self.packed) if len(self.packed) == 4 else IPv6Address(self.packed)

    @property
    def place(self) -> tuple[IPAddress, int]:
        return (self.address, self.port)


class Source(Enum):
    """Who sends: a pod of this node, the node itself, or anybody else."""

    POD = "pod"
    NODE = "node"
    OUTSIDE = "outside"


class Verdict(Enum):
    FORWARD = "forward"
    REJECT = "reject"
    """Refused at once: TCP reset, ICMP port unreachable for everything else."""
    DROP = "drop"
    PASS = "pass"
    """Not addressed to any Service: none of our business. Only in answers of the oracle."""


class Masquerade(Enum):
    """When the sender's address is replaced by the node's, hairpins apart (those always are)."""

    NEVER = "never"
    REMOTE = "remote"
    """Only towards endpoints on other nodes, whose replies would not come back through this one."""
    ALWAYS = "always"


class Route(Struct, frozen=True, gc=False):
    """What happens to a packet; ``endpoints`` is empty unless the verdict is FORWARD, and then it never is."""

    verdict: Verdict
    endpoints: tuple[Endpoint, ...] = ()
    masquerade: Masquerade = Masquerade.NEVER


class Routes(Struct, frozen=True, gc=False):
    """A route per source. Pods and the node always share verdict and endpoints; masquerading may differ."""

    pod: Route
    node: Route
    outside: Route

    def of(self, source: Source) -> Route:
        match source:
            case Source.POD:
                return self.pod
            case Source.NODE:
                return self.node
            case Source.OUTSIDE:
                return self.outside


class Forwarding(Struct, frozen=True, gc=False):
    """Everything about one Service port on this node.

    ``serving`` holds every endpoint that still serves anywhere, whatever the policies say: connections to those need
    not be forgotten. ``affinity`` is the ClientIP timeout, ``None`` without affinity.
    ``source_ranges``: who may use the load-balancer IPs, ``nodeport_source_ranges``: who may use the NodePorts;
    ``None`` is everybody, and whoever may not is dropped.
    """

    frontends: tuple[Frontend, ...]
    internal: Routes
    external: Routes
    serving: tuple[Endpoint, ...] = ()
    affinity: timedelta | None = None
    source_ranges: tuple[IPNetwork, ...] | None = None
    nodeport_source_ranges: tuple[IPNetwork, ...] | None = None

    def routes(self, frontend: Frontend) -> Routes:
        return self.internal if isinstance(frontend, ClusterIP) else self.external


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What forwarding must know about the node it happens on, in one family: all addresses here are of ``family``.

    ``addresses`` are the node's own as its Node object tells them. Its pods are told from outsiders by
    ``pod_networks``, where they live, or by ``pod_interfaces``, through which they send (a name ending in ``*`` stands
    for all that begin so); neither: pods cannot be told. ``nodeport_networks``: on which of the local addresses
    NodePorts answer; ``localhost_nodeports``: whether they answer its processes on loopback too.
    ``service_networks``: the ranges of ClusterIPs.
    """

    name: str
    addresses: tuple[IPAddress, ...] = ()
    pod_networks: tuple[IPNetwork, ...] = ()
    nodeport_networks: tuple[IPNetwork, ...] = ()
    service_networks: tuple[IPNetwork, ...] = (IPv4Network("10.96.0.0/16"),)
    zone: str = ""
    family: Family = Family.IPV4
    pod_interfaces: tuple[str, ...] = ()
    localhost_nodeports: bool = False

    @property
    def tells_pods(self) -> bool:
        """Whether pods of this node can be told from everybody else."""
        return bool(self.pod_networks or self.pod_interfaces)


@dataclass(frozen=True, slots=True)
class ForwardingOptions:
    """``keep_client_address``: no masquerading towards local endpoints, whose replies pass this node anyway.

    ``masquerade_all``: every ClusterIP connection is masqueraded, and ``keep_client_address`` does not apply.
    """

    keep_client_address: bool = True
    masquerade_all: bool = False

    @property
    def masquerade(self) -> Masquerade:
        """When to masquerade a connection whose reply must return through this node."""
        keep = self.keep_client_address and not self.masquerade_all
        return Masquerade.REMOTE if keep else Masquerade.ALWAYS


class Change(Struct, frozen=True, gc=False):
    """One Service port before and after; ``None``: not there."""

    name: ServicePortName
    old: Forwarding | None
    new: Forwarding | None


Claim = tuple[int, int, int]
"""A frontend in short: address (as an integer, -1 for the node's own), port, protocol."""


def _claim(frontend: Frontend, protocol: Protocol) -> Claim:
    if type(frontend) is NodePort:  # faster than isinstance
        return (-1, frontend.port, protocol)
    return (int(frontend.address), frontend.port, protocol)


_RANKS: Mapping[type[Frontend], int] = {ClusterIP: 0, NodePort: 0, LoadBalancerIP: 1, ExternalIP: 2}


@dataclass(slots=True)
class ForwardingTable:
    """The table as it changes, Service by Service.

    Two Service ports can claim the same frontend (external IPs are nobody's to allocate). A ClusterIP, which the API
    allocated, goes before a load-balancer IP, which its controller reported, and both before an external IP, which
    anybody who may write a Service can name: nobody takes another's address away. Among equals, the one that sorts
    first has it; the others do without until it is free. So a change of one Service may change others: ``replace``
    returns them all.
    """

    _wanted: dict[NamespacedName, dict[ServicePortName, Forwarding]] = field(default_factory=dict)
    _effective: dict[ServicePortName, Forwarding] = field(default_factory=dict)
    _holders: dict[Claim, ServicePortName] = field(default_factory=dict)
    _contested: dict[Claim, list[ServicePortName]] = field(default_factory=dict)
    """What several want: all of them, whoever has it first."""

    def __len__(self) -> int:
        return len(self._effective)

    def __iter__(self) -> Iterator[ServicePortName]:
        return iter(self._effective)

    def get(self, name: ServicePortName) -> Forwarding | None:
        return self._effective.get(name)

    def items(self) -> Iterator[tuple[ServicePortName, Forwarding]]:
        return iter(self._effective.items())

    def snapshot(self) -> ForwardingTable:
        """All of it as it is now, to be read elsewhere while this one changes."""
        return ForwardingTable(dict(self._wanted), dict(self._effective))

    def services(self) -> Iterator[NamespacedName]:
        return iter(self._wanted)

    def wanted(self, service: NamespacedName) -> Mapping[ServicePortName, Forwarding]:
        """What was last asked for this Service, contested frontends included."""
        return self._wanted.get(service, {})

    def replace(
        self, service: NamespacedName, forwardings: Mapping[ServicePortName, Forwarding]
    ) -> list[Change]:
        """Makes ``forwardings`` (empty: none) all there is for ``service``; returns what that changes."""
        before = self._wanted.pop(service, {})
        if forwardings:
            self._wanted[service] = dict(forwardings)
        touched = {**before, **forwardings}
        moved: list[tuple[ServicePortName, Forwarding | None, Forwarding | None]] = []
        for name in touched:
            old, new = before.get(name), forwardings.get(name)
            if old is None or new is None or old.frontends != new.frontends:
                moved.append((name, old, new))
        rivals: set[ServicePortName] = set()
        for name, old, _ in moved:  # all of them first: ports of one Service may exchange their frontends
            if old is not None:
                self._release(name, old, rivals)
        for name, _, new in moved:
            if new is not None:
                self._claim(name, new, rivals)
        names = list(touched)
        if rivals:
            names.extend(sorted(rivals - touched.keys(), key=lambda name: name.order))
        return [change for change in map(self._settle, names) if change.old != change.new]

    def _release(self, name: ServicePortName, old: Forwarding, rivals: set[ServicePortName]) -> None:
        """Adds to ``rivals`` who else wants one of the frontends."""
        for frontend in old.frontends:
            claim = _claim(frontend, name.protocol)
            if claim in self._contested:
                rivals.update(self._give_up(name, claim))
            elif self._holders.get(claim) == name:
                del self._holders[claim]

    def _claim(self, name: ServicePortName, new: Forwarding, rivals: set[ServicePortName]) -> None:
        """Adds to ``rivals`` who else wants one of the frontends."""
        for frontend in new.frontends:
            claim = _claim(frontend, name.protocol)
            holder = self._holders.setdefault(claim, name)
            if holder is not name:
                rivals.update(self._contest(name, claim, holder))

    def _give_up(self, name: ServicePortName, claim: Claim) -> Iterable[ServicePortName]:
        """Leaves a contested claim to the others, and returns them."""
        others = [claimant for claimant in self._contested.pop(claim) if claimant != name]
        self._holders[claim] = others[0]
        if len(others) > 1:
            self._contested[claim] = others
        return others

    def _contest(
        self, name: ServicePortName, claim: Claim, holder: ServicePortName
    ) -> Iterable[ServicePortName]:
        claimants = self._contested.setdefault(claim, [holder])
        claimants.append(name)
        claimants.sort(key=lambda claimant: (self._rank(claim, claimant), claimant.order))
        self._holders[claim] = claimants[0]
        return claimants

    def _rank(self, claim: Claim, name: ServicePortName) -> int:
        """By what right ``name`` wants it: the lower, the better."""
        frontends = self._wanted[name.service][name].frontends
        return min(_RANKS[type(item)] for item in frontends if _claim(item, name.protocol) == claim)

    def _settle(self, name: ServicePortName) -> Change:
        old = self._effective.pop(name, None)
        new = self._wanted.get(name.service, {}).get(name)
        if new is not None:
            new = self._without_lost(name, new)
            self._effective[name] = new
        return Change(name, old, new)

    def _without_lost(self, name: ServicePortName, wanted: Forwarding) -> Forwarding:
        if not self._contested:
            return wanted
        won = tuple([item for item in wanted.frontends if self._holders[_claim(item, name.protocol)] == name])
        if len(won) == len(wanted.frontends):
            return wanted
        return replace(wanted, frontends=won)
