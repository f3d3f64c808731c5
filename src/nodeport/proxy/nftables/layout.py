"""The table ``ip nodeport``: its sets, its maps and its constant rules.

Rules never change while the proxy runs, except that every number of endpoints in use has a chain of its own. What
carries that number from one lookup to the next is ``meta priority``, set back before the packet leaves: no packet mark
is used. README.md draws the hooks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nodeport.forwarding.table import Family, ForwardingOptions, IPNetwork, NodeFacts, Protocol
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables.expressions import Code, Expression, Register, VerdictData, expression
from nodeport.netlink.nftables.objects import (
    FAMILY_IPV4,
    FAMILY_IPV6,
    BaseHook,
    Chain,
    Hook,
    Rule,
    Set,
    SetFlag,
    Table,
)
from nodeport.proxy.nftables import typeof
from nodeport.proxy.nftables.ruleset import Ruleset

TABLE: Final = "nodeport"
DSTNAT: Final = -100
SRCNAT: Final = 100
REJECT_CLASS: Final = 0xFFFE
DROP_CLASS: Final = 0xFFFF
MAXIMUM_ENDPOINTS: Final = 0xFF00
"""Classes above are reserved; a route with more endpoints uses the first so many."""

POD_NETWORKS: Final = "pod-networks"
SERVICE_NETWORKS: Final = "service-networks"
NODEPORT_ADDRESSES: Final = "nodeport-addresses"
CLUSTER_IPS: Final = "cluster-ips"
LOCAL_ENDPOINTS: Final = "local-endpoints"
HAIRPINS: Final = "hairpins"
PROTOCOLS: Final = "protocols"
MASQUERADE_IPS: Final = "masquerade-ips"
MASQUERADE_NODE_IPS: Final = "masquerade-node-ips"
MASQUERADING: Final = "masquerading"
REFUSE: Final = "refuse"


@dataclass(frozen=True, slots=True)
class Lookup:
    """The three maps that serve one kind of frontend for one kind of sender, and the prefix of their chains.

    ``classes``: frontend -> class; ``verdicts``: class -> chain or drop; ``endpoints``: frontend . slot -> endpoint.
    """

    classes: str
    verdicts: str
    endpoints: str
    chain: str
    by_address: bool

    def chain_name(self, size: int) -> str:
        return f"{self.chain}-{size}"


IPS: Final = Lookup("service-ips", "service-classes", "service-endpoints", "service", True)
NODEPORTS: Final = Lookup("nodeports", "nodeport-classes", "nodeport-endpoints", "nodeport", False)
OUTSIDE_IPS: Final = Lookup("outside-ips", "outside-classes", "outside-endpoints", "outside", True)
OUTSIDE_NODEPORTS: Final = Lookup(
    "outside-nodeports", "outside-nodeport-classes", "outside-nodeport-endpoints", "outside-nodeport", False
)
LOOKUPS: Final = (IPS, NODEPORTS, OUTSIDE_IPS, OUTSIDE_NODEPORTS)

_ADDRESS: Final = 7
_PROTOCOL: Final = 12
_PORT: Final = 13
_CLASS: Final = 23
_INTEGER: Final = 4
_VERDICT: Final = 0xFFFFFF00


def table(family: Family) -> Table:
    """The one table of this mode in a family."""
    return Table(TABLE, FAMILY_IPV4 if family is Family.IPV4 else FAMILY_IPV6)


def masquerade_set(protocol: Protocol, *, node_only: bool) -> str:
    """The set of NodePorts of one protocol whose connections are masqueraded: all, or only the node's own."""
    return f"masquerade-{'node-' if node_only else ''}{protocol.name.lower()}"


def class_key(size: int) -> bytes:
    """A class as ``meta priority`` holds it: 32 bits, host-endian."""
    return struct.pack("=I", size)


def constant_ruleset(node: NodeFacts, options: ForwardingOptions) -> Ruleset:
    """Everything that does not depend on any Service."""
    chains = {chain.name: chain for chain in _constant_chains(node, options)}
    sets = {item.name: item for item in _sets()}
    ruleset = Ruleset(chains, sets)
    ruleset.elements[PROTOCOLS] = {bytes((protocol.value,)): b"" for protocol in Protocol}
    ruleset.elements[POD_NETWORKS] = intervals(node.pod_networks)
    ruleset.elements[SERVICE_NETWORKS] = intervals(node.service_networks)
    ruleset.elements[NODEPORT_ADDRESSES] = intervals(node.nodeport_networks)
    for lookup in LOOKUPS:
        ruleset.elements[lookup.verdicts] = {
            class_key(REJECT_CLASS): VerdictData(Code.GOTO, REFUSE),
            class_key(DROP_CLASS): VerdictData(Code.DROP),
        }
    return ruleset


def intervals(networks: Iterable[IPNetwork]) -> dict[bytes, nft.Data]:
    """Networks as elements of an interval set; touching and overlapping ones become one."""
    merged: list[list[int]] = []
    for network in sorted(networks):
        first, after = int(network.network_address), int(network.broadcast_address) + 1
        if merged and first <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], after)
        else:
            merged.append([first, after])
    return {
        first.to_bytes(4, "big") + (after.to_bytes(4, "big") if after < 1 << 32 else b""): b""
        for first, after in merged
    }


def size_chain(lookup: Lookup, size: int) -> Chain:
    """The chain that spreads connections over ``size`` endpoints, whoever's they are."""
    rule = Rule(
        (
            expression("meta", dreg=Register.WORD_0, key=nft.META_L4PROTO),
            expression("lookup", set=PROTOCOLS, sreg=Register.WORD_0),
            expression("immediate", dreg=Register.WORD_0, data=bytes(4)),
            expression("meta", key=nft.META_PRIORITY, sreg=Register.WORD_0),
            *_frontend(by_address=lookup.by_address),
            expression(
                "numgen",
                dreg=Register.WORD_3 if lookup.by_address else Register.WORD_2,
                modulus=size,
                type=nft.NUMGEN_RANDOM,
            ),
            expression("lookup", set=lookup.endpoints, sreg=Register.WORD_0, dreg=Register.WORD_0),
            expression(
                "nat",
                type=nft.DNAT,
                family=nft.FAMILY_IPV4,
                address=Register.WORD_0,
                port=Register.WORD_1,
                flags=nft.NAT_ADDRESS_AND_PORT,
            ),
        )
    )
    return Chain(lookup.chain_name(size), (rule,))


def _sets() -> Iterable[Set]:
    network_order, no_order = typeof.network_order(), typeof.no_order()
    for name in (POD_NETWORKS, SERVICE_NETWORKS, NODEPORT_ADDRESSES):
        yield Set(name, _ADDRESS, 4, SetFlag.INTERVAL, userdata=network_order)
    yield Set(PROTOCOLS, _PROTOCOL, 1, userdata=no_order)
    for name in (CLUSTER_IPS, LOCAL_ENDPOINTS):
        yield Set(name, _ADDRESS, 4, userdata=network_order)
    yield Set(HAIRPINS, _joined(_ADDRESS, _ADDRESS), 8, userdata=no_order)
    for name in (MASQUERADE_IPS, MASQUERADE_NODE_IPS):
        yield Set(name, _joined(_ADDRESS, _PROTOCOL, _PORT), 12, userdata=no_order)
    for protocol in Protocol:
        for node_only in (False, True):
            yield Set(masquerade_set(protocol, node_only=node_only), _PORT, 2, userdata=network_order)
    for lookup in LOOKUPS:
        fields = (_ADDRESS, _PROTOCOL, _PORT) if lookup.by_address else (_PROTOCOL, _PORT)
        length = 4 * len(fields)
        yield Set(lookup.classes, _joined(*fields), length, SetFlag.MAP, _CLASS, 4, typeof.class_data())
        yield Set(lookup.verdicts, _CLASS, 4, SetFlag.MAP, _VERDICT, userdata=typeof.class_verdicts())
        yield Set(
            lookup.endpoints,
            _joined(*fields, _INTEGER),
            length + 4,
            SetFlag.MAP,
            _joined(_ADDRESS, _PORT),
            8,
            typeof.endpoint_map(by_address=lookup.by_address),
        )


def _joined(*types: int) -> int:
    """nft's number for a concatenation: six bits per field."""
    number = 0
    for kind in types:
        number = number << 6 | kind
    return number


def _constant_chains(node: NodeFacts, options: ForwardingOptions) -> Iterable[Chain]:
    yield Chain(
        "prerouting",
        (
            Rule((*_source(), _in_set(POD_NETWORKS), _goto("services")), "pods of this node"),
            Rule((_jump("outside"),), "everybody else: traffic policy Local first"),
            Rule((_goto("services"),)),
        ),
        BaseHook("nat", Hook.PREROUTING, DSTNAT),
    )
    yield Chain(
        "output",
        (Rule((_goto("services"),), "the node itself"),),
        BaseHook("nat", Hook.OUTPUT, DSTNAT),
    )
    yield Chain(
        "postrouting",
        (Rule((*_translated(), _jump(MASQUERADING))),),
        BaseHook("nat", Hook.POSTROUTING, SRCNAT),
    )
    yield Chain("outside", (_dispatch(OUTSIDE_IPS), _dispatch(OUTSIDE_NODEPORTS)))
    refuse_unknown = Rule(
        (*_destination(), _in_set(SERVICE_NETWORKS), _goto(REFUSE)),
        "no such ClusterIP, or no such port on it",
    )
    yield Chain("services", (_dispatch(IPS), _dispatch(NODEPORTS), refuse_unknown))
    yield Chain(REFUSE, tuple(_refuse()))
    yield Chain(MASQUERADING, tuple(_masquerading(node, options)))
    yield Chain("masquerade-nodeports", tuple(_masquerade_nodeports()))
    yield masquerade_ips_chain(in_use=False)


def masquerade_ips_chain(*, in_use: bool) -> Chain:
    """Masquerading for external and load-balancer IPs; empty until there are any.

    nft before 1.1 lists its rules but cannot read them back, so they are there only when they are needed.
    """
    rules = (
        Rule((*_original_frontend(), _in_set(MASQUERADE_IPS), _masquerade())),
        Rule((*_from_node(), *_original_frontend(), _in_set(MASQUERADE_NODE_IPS), _masquerade())),
        Rule(
            (*_original_frontend(), _in_set(MASQUERADE_NODE_IPS), _verdict(Code.ACCEPT)),
            "its port may be a NodePort too",
        ),
    )
    return Chain("masquerade-external", rules if in_use else ())


def _masquerading(node: NodeFacts, options: ForwardingOptions) -> Iterable[Rule]:
    yield Rule(
        (*_source(), *_destination(Register.WORD_1), _in_set(HAIRPINS), _masquerade()),
        "a pod through its own Service",
    )
    if not options.masquerade_all and options.keep_client_address:
        yield Rule(
            (*_destination(), _in_set(LOCAL_ENDPOINTS), _verdict(Code.RETURN)),
            "replies pass this node: keep the client's address",
        )
    to_cluster_ip = (*_original_destination(), _in_set(CLUSTER_IPS))
    if options.masquerade_all:
        yield Rule((*to_cluster_ip, _masquerade()))
    elif node.pod_networks:
        foreign = (*_source(), _in_set(POD_NETWORKS, inverted=True))
        yield Rule((*to_cluster_ip, *foreign, _masquerade()), "a ClusterIP, from no pod of this node")
    yield Rule((*to_cluster_ip, _verdict(Code.RETURN)), "what is left of ClusterIPs comes back by itself")
    yield Rule((_jump("masquerade-external"),))
    yield Rule((*_original_destination(), _in_set(NODEPORT_ADDRESSES), _jump("masquerade-nodeports")))


def _masquerade_nodeports() -> Iterable[Rule]:
    for node_only in (False, True):
        for protocol in Protocol:
            yield Rule(
                (
                    *(_from_node() if node_only else ()),
                    expression("meta", dreg=Register.WORD_0, key=nft.META_L4PROTO),
                    _equals(bytes((protocol.value,))),
                    _original_port(Register.WORD_0),
                    _in_set(masquerade_set(protocol, node_only=node_only)),
                    _masquerade(),
                )
            )


def _refuse() -> Iterable[Rule]:
    yield Rule(
        (
            expression("meta", dreg=Register.WORD_0, key=nft.META_L4PROTO),
            _equals(bytes((Protocol.TCP.value,))),
            expression("reject", type=nft.REJECT_TCP_RESET),
        )
    )
    yield Rule((expression("reject", type=nft.REJECT_ICMP, code=nft.ICMP_PORT_UNREACHABLE),))


def _dispatch(lookup: Lookup) -> Rule:
    """Frontend -> class -> chain of that class. A miss in either map leaves the rule."""
    local: tuple[Expression, ...] = ()
    if not lookup.by_address:
        local = (
            *_destination(),
            _in_set(NODEPORT_ADDRESSES),
            expression("fib", dreg=Register.WORD_0, result=nft.FIB_ADDRESS_TYPE, flags=nft.FIB_DADDR),
            _equals(struct.pack("=I", nft.RTN_LOCAL)),
        )
    return Rule(
        (
            *local,
            *_frontend(by_address=lookup.by_address),
            expression("lookup", set=lookup.classes, sreg=Register.WORD_0, dreg=Register.WORD_0),
            expression("meta", key=nft.META_PRIORITY, sreg=Register.WORD_0),
            expression("meta", dreg=Register.WORD_0, key=nft.META_PRIORITY),
            expression("lookup", set=lookup.verdicts, sreg=Register.WORD_0, dreg=Register.VERDICT),
        )
    )


def _frontend(*, by_address: bool) -> tuple[Expression, ...]:
    """Loads ``[ip daddr .] meta l4proto . th dport`` into consecutive registers."""
    words = [Register.WORD_0, Register.WORD_1, Register.WORD_2]
    address = _destination(words.pop(0)) if by_address else ()
    return (
        *address,
        expression("meta", dreg=words[0], key=nft.META_L4PROTO),
        expression("payload", dreg=words[1], base=nft.TRANSPORT_HEADER, offset=2, length=2),
    )


def _source(word: Register = Register.WORD_0) -> tuple[Expression, ...]:
    return (expression("payload", dreg=word, base=nft.NETWORK_HEADER, offset=12, length=4),)


def _destination(word: Register = Register.WORD_0) -> tuple[Expression, ...]:
    return (expression("payload", dreg=word, base=nft.NETWORK_HEADER, offset=16, length=4),)


def _original_destination() -> tuple[Expression, ...]:
    """What the client asked for, before the translation."""
    return (expression("ct", dreg=Register.WORD_0, key=nft.CT_DST_IP, direction=nft.CT_ORIGINAL),)


def _original_port(word: Register) -> Expression:
    return expression("ct", dreg=word, key=nft.CT_PROTO_DST, direction=nft.CT_ORIGINAL)


def _original_frontend() -> tuple[Expression, ...]:
    return (
        *_original_destination(),
        expression("meta", dreg=Register.WORD_1, key=nft.META_L4PROTO),
        _original_port(Register.WORD_2),
    )


def _from_node() -> tuple[Expression, ...]:
    return (
        expression("fib", dreg=Register.WORD_0, result=nft.FIB_ADDRESS_TYPE, flags=nft.FIB_SADDR),
        _equals(struct.pack("=I", nft.RTN_LOCAL)),
    )


def _translated() -> tuple[Expression, ...]:
    """``ct status dnat``"""
    status = struct.pack("=I", nft.IPS_DST_NAT)
    return (
        expression("ct", dreg=Register.WORD_0, key=nft.CT_STATUS),
        expression(
            "bitwise", sreg=Register.WORD_0, dreg=Register.WORD_0, length=4, mask=status, xor=bytes(4)
        ),
        expression("cmp", sreg=Register.WORD_0, op=nft.CMP_NEQ, data=bytes(4)),
    )


def _in_set(name: str, *, inverted: bool = False) -> Expression:
    return expression("lookup", set=name, sreg=Register.WORD_0, flags=nft.LOOKUP_INVERTED if inverted else 0)


def _equals(value: bytes) -> Expression:
    return expression("cmp", sreg=Register.WORD_0, op=nft.CMP_EQ, data=value)


def _masquerade() -> Expression:
    return expression("masq")


def _jump(chain: str) -> Expression:
    return expression("immediate", dreg=Register.VERDICT, data=VerdictData(Code.JUMP, chain))


def _verdict(code: Code) -> Expression:
    return expression("immediate", dreg=Register.VERDICT, data=VerdictData(code))


def _goto(chain: str) -> Expression:
    return expression("immediate", dreg=Register.VERDICT, data=VerdictData(Code.GOTO, chain))
