"""The rules of the table ``nodeport``. They never change while the proxy runs, with two exceptions: every number of
endpoints in use (and every timeout of session affinity) has a chain of its own, and what only a few Services need is
there only while they do.

What carries a number from one lookup to the next is ``meta priority``, set back before the packet leaves: no packet
mark is used. README.md draws the hooks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network
from typing import Final

from nodeport.forwarding.table import ForwardingOptions, NodeFacts, Protocol
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables.expressions import Code, Expression, expression, register
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, Rule
from nodeport.proxy.nftables import dialect as say
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.dialect import Dialect, Expressions
from nodeport.proxy.nftables.layout import (
    IPS,
    NODEPORTS,
    OUTSIDE_IPS,
    OUTSIDE_NODEPORTS,
    Lookup,
    Role,
)

_SOMEWHERE: Final = (IPv4Network("0.0.0.0/0"),)
DSTNAT: Final = -100
SRCNAT: Final = 100
_GONE_MEANWHILE: Final = "its endpoint went while the packet was here"
_MASQUERADING: Final = "masquerading"
_MASQUERADE_NODEPORTS: Final = "masquerade-nodeports"
_MASQUERADE_EXTERNAL: Final = "masquerade-external"
_RESTRICT_IPS: Final = "restrict-ips"
_RESTRICT_NODEPORTS: Final = "restrict-nodeports"


def constant_chains(node: NodeFacts, options: ForwardingOptions, role: Role = Role.ALONE) -> dict[str, Chain]:
    """Every chain that is always there; the optional ones among them empty."""
    pods = _SOMEWHERE if node.pod_networks else ()
    alike = NodeFacts("", family=node.family, pod_networks=pods, pod_interfaces=node.pod_interfaces)
    return dict(_constant_chains(alike, options, role))


@lru_cache(maxsize=64)
def _constant_chains(node: NodeFacts, options: ForwardingOptions, role: Role) -> dict[str, Chain]:
    """For all nodes that ``node`` is like: rules name sets, not what is in them."""
    words = say.dialect(node.family)
    made = (
        *_base_chains(words, node, role),
        *_dispatching(words, role),
        Chain(layout.REFUSE, tuple(refusing(words))),
        Chain(_MASQUERADING, tuple(_masquerading(words, node, options))),
        Chain(_MASQUERADE_NODEPORTS, tuple(_masquerade_nodeports())),
        *(optional.chain(in_use=False) for optional in optional_chains(node)),
    )
    return {chain.name: chain for chain in made}


@dataclass(frozen=True, slots=True)
class OptionalChain:
    """A chain that has its rules only while there are elements in one of its ``sets``.

    So it costs nothing where nobody needs it; and nft before 1.1 lists some of these rules but cannot read them back.
    """

    name: str
    sets: tuple[str, ...]
    rules: tuple[Rule, ...]

    def chain(self, *, in_use: bool) -> Chain:
        return Chain(self.name, self.rules if in_use else ())


def optional_chains(node: NodeFacts) -> tuple[OptionalChain, ...]:
    return _optional_chains(say.dialect(node.family))


@lru_cache(maxsize=2)
def _optional_chains(words: Dialect) -> tuple[OptionalChain, ...]:
    return (
        OptionalChain(
            _MASQUERADE_EXTERNAL,
            (layout.MASQUERADE_IPS, layout.MASQUERADE_NODE_IPS),
            tuple(_masquerade_external(words)),
        ),
        OptionalChain(_RESTRICT_IPS, (layout.RESTRICTED_IPS,), tuple(_restrict_ips(words))),
        OptionalChain(_RESTRICT_NODEPORTS, (layout.RESTRICTED_NODEPORTS,), tuple(_restrict_nodeports(words))),
    )


@lru_cache(maxsize=1024)
def size_chain(words: Dialect, lookup: Lookup, size: int, timeout: int = 0) -> Chain:
    """The chain that spreads connections over ``size`` endpoints, whoever's they are; ``timeout``: and remembers."""
    name = lookup.chain_name(size, timeout)
    if timeout:
        return Chain(name, tuple(_sticky(words, lookup, size, timeout)))
    anybody = _to_endpoint(words, lookup, size, say.clear_priority())
    instead = _to_endpoint(words, lookup, 1)
    return Chain(name, (Rule(anybody), Rule(instead, _GONE_MEANWHILE), Rule((say.verdict(Code.DROP),))))


def _to_endpoint(words: Dialect, lookup: Lookup, size: int, before: Expressions = ()) -> Expressions:
    """To one of the first ``size`` endpoints."""
    return (
        say.protocol(),
        say.in_set(layout.PROTOCOLS),
        *before,
        *words.frontend(by_address=lookup.by_address),
        say.random_below(size, words.frontend_words(by_address=lookup.by_address)),
        say.mapped(lookup.endpoints),
        *words.dnat(),
    )


def _sticky(words: Dialect, lookup: Lookup, size: int, timeout: int) -> Iterable[Rule]:
    """Session affinity: draw a ticket, but keep the one that the client has, if its seat is still there.

    The last rule is for when no more clients can be remembered.
    """
    by_address = lookup.by_address
    slot = words.frontend_words(by_address=by_address)
    draw = Rule(
        (
            *words.frontend(by_address=by_address),
            say.random_below(size, slot),
            say.mapped(lookup.choices),
            say.set_priority(),
        )
    )
    keep = (
        Rule((*_client(words), say.load_priority(words.address_words + 1), _dynset(words, timeout))),
        Rule((*_client(words), say.mapped(layout.AFFINITY), say.set_priority())),
        Rule(
            (
                say.protocol(),
                say.in_set(layout.PROTOCOLS),
                *words.frontend(by_address=by_address),
                say.load_priority(slot),
                say.mapped(lookup.seats),
                *words.dnat(),
            )
        ),
    )
    forget = (*_client(words), say.load_priority(words.address_words + 1), _dynset(words))
    yield draw
    yield from keep
    yield Rule(forget, "its endpoint is gone")
    yield draw
    yield from keep
    yield Rule((say.goto(lookup.chain_name(size)),), "no room to remember")


def _client(words: Dialect) -> Expressions:
    """``saddr . meta priority & mask``: the client, and what a ticket tells about the Service port."""
    word = words.address_words
    return (*words.source(), say.load_priority(word), say.masked(word, layout.number(layout.IDENTITY_MASK)))


def _dynset(words: Dialect, timeout: int = 0) -> Expression:
    """Remembers the ticket for the client at the first word for ``timeout`` seconds; 0: forgets the client."""
    return expression(
        "dynset",
        set=layout.AFFINITY,
        op=nft.DYNSET_UPDATE if timeout else nft.DYNSET_DELETE,
        sreg_key=register(0),
        sreg_data=register(words.address_words + 1),
        timeout=1000 * timeout,
    )


def _base_chains(words: Dialect, node: NodeFacts, role: Role) -> Iterable[Chain]:
    restrict = Rule((say.jump(_RESTRICT_IPS),), "load-balancer IPs with source ranges")
    pods: list[Expressions] = [say.through(name) for name in node.pod_interfaces]
    pods = pods or [(*words.source(), say.in_set(layout.POD_NETWORKS))]
    prerouting = (
        restrict,
        *(Rule((*pod, say.goto("pods")), "pods of this node") for pod in pods),
        Rule((say.goto("outside"),), "everybody else: traffic policy Local first"),
    )
    yield Chain("prerouting", prerouting, BaseHook("nat", Hook.PREROUTING, DSTNAT))
    output = (restrict, Rule((say.goto("services"),), "the node itself"))
    yield Chain("output", output, BaseHook("nat", Hook.OUTPUT, DSTNAT))
    masquerading = [Rule((*say.translated(), *say.clear_priority(), say.jump(_MASQUERADING)))]
    if role is Role.BESIDE_IPVS:
        masquerading.append(Rule((say.jump(_MASQUERADING),), "IPVS leaves no sign that it translated"))
    yield Chain("postrouting", tuple(masquerading), BaseHook("nat", Hook.POSTROUTING, SRCNAT))


def _dispatching(words: Dialect, role: Role) -> Iterable[Chain]:
    """An address goes before a NodePort; what policy Local says differently, before what goes for all."""
    ips, nodeports = _dispatch(words, IPS), _dispatch(words, NODEPORTS)
    restrict = Rule((say.jump(_RESTRICT_NODEPORTS),), "NodePorts with source ranges")
    unknown = Rule(
        (*words.destination(), say.in_set(layout.SERVICE_NETWORKS), say.goto(layout.REFUSE)),
        "no such ClusterIP, or no such port on it",
    )
    last = [unknown]
    if role is Role.BESIDE_IPVS:
        yield Chain(layout.ELSEWHERE, (Rule((*say.clear_priority(), say.verdict(Code.ACCEPT))),))
        held = (*words.destination(), say.in_set(layout.HELD_ADDRESSES), say.goto(layout.REFUSE))
        last.append(Rule(held, "no Service at that port, and nobody else on this node either"))
    yield Chain("services", (ips, nodeports, *last))
    yield Chain("pods", (ips, restrict, nodeports, *last))
    outside_ips, outside_nodeports = _dispatch(words, OUTSIDE_IPS), _dispatch(words, OUTSIDE_NODEPORTS)
    yield Chain("outside", (outside_ips, ips, restrict, outside_nodeports, nodeports, *last))


def _dispatch(words: Dialect, lookup: Lookup) -> Rule:
    """Frontend -> class -> chain of that class. A miss in either map leaves the rule."""
    return Rule(
        (
            *(() if lookup.by_address else _to_nodeport_address(words)),
            *words.frontend(by_address=lookup.by_address),
            say.mapped(lookup.classes),
            say.set_priority(),
            say.load_priority(),
            say.verdict_of(lookup.verdicts),
        )
    )


def _to_nodeport_address(words: Dialect) -> Expressions:
    return (
        *words.destination(),
        say.in_set(layout.NODEPORT_ADDRESSES),
        *say.address_type_is_local(nft.FIB_DADDR),
    )


def _restrict_ips(words: Dialect) -> Iterable[Rule]:
    frontend = words.frontend(by_address=True)
    source = words.source(words.frontend_words(by_address=True))
    yield Rule((*frontend, say.in_set(layout.RESTRICTED_IPS, inverted=True), say.verdict(Code.RETURN)))
    yield Rule((*frontend, *source, say.in_set(layout.ALLOWED_SOURCES), say.verdict(Code.RETURN)))
    yield Rule((say.verdict(Code.DROP),))


def _restrict_nodeports(words: Dialect) -> Iterable[Rule]:
    frontend = words.frontend(by_address=False)
    source = words.source(words.frontend_words(by_address=False))
    yield Rule((*frontend, say.in_set(layout.RESTRICTED_NODEPORTS, inverted=True), say.verdict(Code.RETURN)))
    yield Rule((*frontend, *source, say.in_set(layout.ALLOWED_NODEPORT_SOURCES), say.verdict(Code.RETURN)))
    yield Rule((*_to_nodeport_address(words), say.verdict(Code.DROP)))


def refusing(words: Dialect) -> Iterable[Rule]:
    """What a chain that refuses says: TCP gets a reset, everything else an ICMP error."""
    tcp = bytes((Protocol.TCP.value,))
    yield Rule((say.protocol(), say.equals(tcp), expression("reject", type=nft.REJECT_TCP_RESET)))
    yield Rule(words.refuse())


def _masquerading(words: Dialect, node: NodeFacts, options: ForwardingOptions) -> Iterable[Rule]:
    hairpin = (*words.source(), *words.destination(words.address_words), say.in_set(layout.HAIRPINS))
    yield Rule((*hairpin, say.masquerade()), "a pod through its own Service")
    if not options.masquerade_all and options.keep_client_address:
        yield Rule(
            (*words.destination(), say.in_set(layout.LOCAL_ENDPOINTS), say.verdict(Code.RETURN)),
            "replies pass this node: keep the client's address",
        )
    yield from _masquerade_cluster_ips(words, node, options)
    yield Rule((say.jump(_MASQUERADE_EXTERNAL),))
    to_node = (*words.original_destination(), say.in_set(layout.NODEPORT_ADDRESSES))
    yield Rule((*to_node, say.jump(_MASQUERADE_NODEPORTS)))


def _masquerade_cluster_ips(words: Dialect, node: NodeFacts, options: ForwardingOptions) -> Iterable[Rule]:
    to_cluster_ip = (*words.original_destination(), say.in_set(layout.CLUSTER_IPS))
    if options.masquerade_all:
        yield Rule((*to_cluster_ip, say.masquerade()))
    elif node.pod_interfaces:
        for name in node.pod_interfaces:
            yield Rule((*say.through(name), *to_cluster_ip, say.verdict(Code.RETURN)), "pods of this node")
        yield Rule((*to_cluster_ip, say.masquerade()), "a ClusterIP, from no pod of this node")
    elif node.pod_networks:
        foreign = (*words.source(), say.in_set(layout.POD_NETWORKS, inverted=True))
        yield Rule((*to_cluster_ip, *foreign, say.masquerade()), "a ClusterIP, from no pod of this node")
    yield Rule((*to_cluster_ip, say.verdict(Code.RETURN)), "what is left of ClusterIPs comes back by itself")


def _masquerade_external(words: Dialect) -> Iterable[Rule]:
    """For external and load-balancer IPs."""
    frontend = words.original_frontend()
    node_only = (*frontend, say.in_set(layout.MASQUERADE_NODE_IPS))
    yield Rule((*frontend, say.in_set(layout.MASQUERADE_IPS), say.masquerade()))
    yield Rule((*say.from_node(), *node_only, say.masquerade()))
    yield Rule((*node_only, say.verdict(Code.ACCEPT)), "its port may be a NodePort too")


def _masquerade_nodeports() -> Iterable[Rule]:
    for node_only in (False, True):
        for protocol in Protocol:
            yield Rule(
                (
                    *(say.from_node() if node_only else ()),
                    say.protocol(),
                    say.equals(bytes((protocol.value,))),
                    say.original_port(),
                    say.in_set(layout.masquerade_set(protocol, node_only=node_only)),
                    say.masquerade(),
                )
            )
