"""Forwardings spelled as chains and rules. Pure.

    NODEPORT-INT-…    the endpoints for ClusterIPs      NODEPORT-SRC-…   who sends decides, for policy Local
    NODEPORT-EXT-…    those for other frontends         NODEPORT-FW-…    who may send, where there are source ranges
    NODEPORT-OUT-…    those for senders outside         NODEPORT-SEP-…   one endpoint, where affinity remembers clients

Lists that are the same are one chain. What several Service ports need at once (a local endpoint) is counted by whoever
applies it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Final

from nodeport.forwarding.sources import allowed_sources
from nodeport.forwarding.table import (
    ClusterIP,
    Endpoint,
    Forwarding,
    ForwardingOptions,
    Frontend,
    IPAddress,
    IPNetwork,
    Masquerade,
    NodeFacts,
    NodePort,
    Route,
    Routes,
    ServicePortName,
    Verdict,
)
from nodeport.proxy.iptables import layout
from nodeport.proxy.iptables.layout import Senders, Spot
from nodeport.proxy.iptables.ruleset import PREFIX, Key, Rules, Ruleset, Table
from nodeport.proxy.iptables.trees import digest, port_match

INTERNAL: Final = "INT"
EXTERNAL: Final = "EXT"
OUTSIDE: Final = "OUT"
_HERE_IT_ENDS: Final = "ACCEPT"
"""Not translated, and not looked at any further here; the filter table refuses it."""

_NOBODY: Final[Senders] = (False, False, False)

Leaf = tuple[Spot, Key]


@dataclass(slots=True)
class Rendered:
    """What one Service port needs: chains of its own (all in nat), rules in shared ones, and local endpoints."""

    chains: dict[str, Rules] = field(default_factory=dict)
    leaves: dict[Leaf, Rules] = field(default_factory=dict)
    local: set[IPAddress] = field(default_factory=set)


def render_forwarding(
    name: ServicePortName, forwarding: Forwarding, node: NodeFacts, options: ForwardingOptions
) -> Rendered:
    """The rules of one Service port on ``node``."""
    speller = _Speller(name, forwarding, node, options)
    for frontend in forwarding.frontends:
        speller.spell(frontend)
    return speller.rendered


def render(
    table: Iterable[tuple[ServicePortName, Forwarding]], node: NodeFacts, options: ForwardingOptions
) -> tuple[Ruleset, Counter[IPAddress]]:
    """The whole ruleset for a table, and how many Service ports have each local endpoint."""
    ruleset = layout.constant_ruleset(node, options)
    local: Counter[IPAddress] = Counter()
    nat = ruleset.chains[Table.NAT]
    for name, forwarding in table:
        rendered = render_forwarding(name, forwarding, node, options)
        nat.own.update(rendered.chains)
        for (spot, key), rules in rendered.leaves.items():
            put_leaf(ruleset, spot, key, rules, node)
        local.update(rendered.local)
    for address in local:
        put_leaf(ruleset, Spot.LOCAL, (int(address),), local_rules(address, node, options), node)
    nat.touched.update(nat.own)
    return ruleset, local


def put_leaf(ruleset: Ruleset, spot: Spot, key: Key, rules: Rules, node: NodeFacts) -> None:
    tree = layout.trees(node.family)[spot]
    tree.put(ruleset.chains[tree.table], key, rules)


def remove_leaf(ruleset: Ruleset, spot: Spot, key: Key, node: NodeFacts) -> None:
    tree = layout.trees(node.family)[spot]
    tree.remove(ruleset.chains[tree.table], key)


def local_rules(address: IPAddress, node: NodeFacts, options: ForwardingOptions) -> Rules:
    """Masquerading towards an endpoint on this node: a hairpin always, and nobody else unless the options say so."""
    here = f"{address}/{address.max_prefixlen}"
    hairpin = () if address in node.addresses else (f"-s {here} -d {here} -j MASQUERADE",)
    keep = (f"-d {here} -j RETURN",) if layout.keeps_client_address(options) else ()
    return (*hairpin, *keep)


def list_chain(name: ServicePortName, role: str) -> str:
    """The chain with the endpoints of a Service port for ``INTERNAL``, ``EXTERNAL`` or ``OUTSIDE``."""
    return f"{PREFIX}{role}-{_identity(name)}"


@cache
def probabilities(count: int) -> tuple[str, ...]:
    """How likely each rule but the last of ``count`` must take a packet so that all take as many.

    As the kernel keeps them, in 31 bits, and as iptables prints that.
    """
    rounded = (round((1 << 31) / left) / (1 << 31) for left in range(count, 1, -1))
    return tuple(f"-m statistic --mode random --probability {value:.11f}" for value in rounded)


def _identity(name: ServicePortName) -> str:
    return digest(f"{name}/{name.protocol.name}", 15)


class _Speller:
    def __init__(
        self, name: ServicePortName, forwarding: Forwarding, node: NodeFacts, options: ForwardingOptions
    ) -> None:
        self.rendered = Rendered()
        self._name = name
        self._forwarding = forwarding
        self._node = node
        self._options = options
        self._identity = _identity(name)
        self._protocol = name.protocol
        self._word = name.protocol.name.lower()
        self._comment = f'-m comment --comment "{name}"'
        self._lists: list[tuple[tuple[Endpoint, ...], str]] = []
        self._targets: dict[str, str] = {}

    def spell(self, frontend: Frontend) -> None:
        routes = self._forwarding.routes(frontend)
        key, match = self._place(frontend)
        by_port = isinstance(frontend, NodePort)
        ranges = allowed_sources(self._forwarding, frontend, self._node)
        senders = None if ranges is None else _senders_within(ranges, by_port=by_port)
        target = self._target(INTERNAL if isinstance(frontend, ClusterIP) else EXTERNAL, routes)
        if senders is not None and target != _HERE_IT_ENDS:
            target = self._guarded(target, senders, "NFW" if by_port else "FW")
        if target != _HERE_IT_ENDS or self._may_be_a_nodeport_too(frontend):
            self._leaf(Spot.PORT if by_port else Spot.SERVICE, key, (f"{match} -j {target}",))
        refusals = self._refusals(match, routes, senders)
        if refusals and not (routes.node.verdict is Verdict.REJECT and self._is_in_service_network(frontend)):
            self._leaf(Spot.REFUSED_PORT if by_port else Spot.REFUSED, key, refusals)
        self._masquerade(frontend, routes, key)
        for route in (routes.node, routes.outside):
            self.rendered.local.update(item.address for item in route.endpoints if item.is_local)

    def _is_in_service_network(self, frontend: Frontend) -> bool:
        """What nobody translates is refused there anyway."""
        networks = self._node.service_networks
        return isinstance(frontend, ClusterIP) and any(frontend.address in network for network in networks)

    def _may_be_a_nodeport_too(self, frontend: Frontend) -> bool:
        """Whether a packet to it, left alone, could be taken for one to a NodePort of the same number."""
        if isinstance(frontend, NodePort) or self._is_in_service_network(frontend):
            return False
        return any(frontend.address in network for network in self._node.nodeport_networks)

    def _leaf(self, spot: Spot, key: Key, rules: Rules) -> None:
        self.rendered.leaves[spot, key] = rules

    def _place(self, frontend: Frontend) -> tuple[Key, str]:
        """The frontend's key in the trees of its kind, and what a packet to it looks like."""
        match = f"-p {self._word} {self._comment} -m {self._word} --dport {frontend.port}"
        if isinstance(frontend, NodePort):
            return (self._protocol.value, frontend.port), match
        address = frontend.address
        key = (int(address), frontend.port, self._protocol.value)
        return key, f"-d {address}/{address.max_prefixlen} {match}"

    def _target(self, role: str, routes: Routes) -> str:
        """Where a packet for these routes goes: made once for all the frontends that share them."""
        known = self._targets.get(role)
        if known is None:
            known = self._targets[role] = self._new_target(role, routes)
        return known

    def _new_target(self, role: str, routes: Routes) -> str:
        inside, outside = routes.node, routes.outside
        target = self._endpoints(role, inside)
        if (inside.verdict, inside.endpoints) == (outside.verdict, outside.endpoints):
            return target
        chain = f"{PREFIX}SRC-{self._identity}"
        self.rendered.chains[chain] = (
            f"{layout.FROM_NODE} -j {target}",
            *(f"{match} -j {target}" for match in layout.pod_matches(self._node)),
            f"-j {self._endpoints(OUTSIDE, outside)}",
        )
        return chain

    def _endpoints(self, role: str, route: Route) -> str:
        """The chain that spreads connections over a route's endpoints."""
        if route.verdict is not Verdict.FORWARD:
            return _HERE_IT_ENDS
        for endpoints, chain in self._lists:
            if endpoints == route.endpoints:
                return chain
        chain = f"{PREFIX}{role}-{self._identity}"
        self._lists.append((route.endpoints, chain))
        affinity = self._forwarding.affinity
        spread = (
            self._direct(route.endpoints) if affinity is None else self._sticky(route.endpoints, affinity)
        )
        self.rendered.chains[chain] = spread
        return chain

    def _direct(self, endpoints: tuple[Endpoint, ...]) -> Rules:
        start = f"-p {self._word}"
        targets = [f"-j DNAT --to-destination {destination(item)}" for item in endpoints]
        chosen = zip(probabilities(len(endpoints)), targets, strict=False)
        return (*(f"{start} {chance} {target}" for chance, target in chosen), f"{start} {targets[-1]}")

    def _sticky(self, endpoints: tuple[Endpoint, ...], timeout: timedelta) -> Rules:
        """A client goes where it was last, if that is not too long ago; each new connection counts."""
        chains = [self._endpoint(item) for item in endpoints]
        seconds = int(timeout.total_seconds())
        mask = self._mask()
        remembered = (
            f"-m recent --rcheck --seconds {seconds} --reap --name {chain} {mask} --rsource -j {chain}"
            for chain in chains
        )
        chosen = zip(probabilities(len(endpoints)), chains, strict=False)
        return (*remembered, *(f"{chance} -j {chain}" for chance, chain in chosen), f"-j {chains[-1]}")

    def _endpoint(self, endpoint: Endpoint) -> str:
        there = destination(endpoint)
        chain = f"{PREFIX}SEP-{digest(f'{self._identity} {there}', 15)}"
        self.rendered.chains[chain] = (
            f"-p {self._word} -m recent --set --name {chain} {self._mask()} --rsource "
            f"-j DNAT --to-destination {there}",
        )
        return chain

    def _mask(self) -> str:
        return "--mask 255.255.255.255" if self._node.family == 4 else f"--mask {':'.join(['ffff'] * 8)}"

    def _guarded(self, target: str, senders: Rules, kind: str) -> str:
        """In front of ``target``: only ``senders`` get there."""
        chain = f"{PREFIX}{kind}-{self._identity}"
        self.rendered.chains[chain] = (
            *(f"{sender} -j {target}".lstrip() for sender in senders),
            f"-j {_HERE_IT_ENDS}",
        )
        return chain

    def _refusals(self, match: str, routes: Routes, senders: Rules | None) -> Rules:
        """For what arrives untranslated at the filter table, though it was addressed to this frontend."""
        verdicts = [route.verdict for route in (routes.outside, routes.node)]
        verdict = next((item for item in verdicts if item is not Verdict.FORWARD), None)
        if senders is None:
            return () if verdict is None else (f"{match} {self._refuse(verdict)}",)
        stranger = f"{match} {self._refuse(Verdict.DROP)}"
        if verdict is None or verdict is Verdict.DROP:
            return (stranger,)
        refusal = self._refuse(verdict)
        return (*(f"{layout.joined(sender, match)} {refusal}" for sender in senders), stranger)

    def _refuse(self, verdict: Verdict) -> str:
        return layout.refuse(verdict, self._protocol, self._node.family)

    def _masquerade(self, frontend: Frontend, routes: Routes, key: Key) -> None:
        senders = _senders(routes)
        if senders is None:
            return
        if isinstance(frontend, NodePort):
            if any(senders):
                match = port_match(self._protocol, frontend.port, original=True)
                rules = layout.masquerade_rules(match, senders, self._node, final=False)
                self._leaf(Spot.MASQUERADED_PORT, key, rules)
            return
        presumed = self._presumed(frontend.address)
        if senders != presumed:
            match = (
                f"-p {self._word} -m conntrack --ctorigdst {frontend.address} --ctorigdstport {frontend.port}"
            )
            rules = layout.masquerade_rules(match, senders, self._node, final=presumed != _NOBODY)
            self._leaf(Spot.ORIGINAL, key, rules)

    def _presumed(self, address: IPAddress) -> Senders | None:
        """Whose address is replaced if no rule is about this frontend alone; ``None``: other rules may match it."""
        if any(address in network for network in self._node.service_networks):
            return layout.cluster_ip_senders(self._node, self._options)
        if any(address in network for network in self._node.nodeport_networks):
            return None  # a NodePort of the same number may be
        return _NOBODY


def _senders(routes: Routes) -> Senders | None:
    """``None``: nothing is forwarded."""
    if all(route.verdict is not Verdict.FORWARD for route in (routes.node, routes.outside)):
        return None
    node, pod, outside = (
        route.masquerade is not Masquerade.NEVER for route in (routes.node, routes.pod, routes.outside)
    )
    return (node, pod, outside)


def _senders_within(ranges: tuple[IPNetwork, ...], *, by_port: bool) -> Rules:
    """Each of them: somebody who may use a frontend with source ranges. A NodePort is never closed to its node.

    iptables prints no match for a network that is everything.
    """
    networks = (f"-s {network}" if network.prefixlen else "" for network in ranges)
    return (*((layout.FROM_NODE,) if by_port else ()), *networks)


def destination(endpoint: Endpoint) -> str:
    """An endpoint as DNAT wants it."""
    address, port = endpoint.place
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
