"""The chains that are there without any Service, the trees that grow on them, and the jumps that lead to them. Pure.

README.md draws how a packet passes through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum, auto
from functools import cache
from ipaddress import collapse_addresses
from typing import Final

from nodeport.forwarding.build import LOOPBACK
from nodeport.forwarding.table import (
    Family,
    ForwardingOptions,
    IPNetwork,
    Masquerade,
    NodeFacts,
    Protocol,
    Verdict,
)
from nodeport.proxy.iptables.ruleset import PREFIX, Branch, Jump, Rules, Ruleset, Table
from nodeport.proxy.iptables.trees import AddressTree, OriginalAddressTree, PortTree, Tree

SERVICES: Final = PREFIX + "SERVICES"
PORTS: Final = PREFIX + "PORTS"
MASQUERADE: Final = PREFIX + "MASQ"
REMOTE: Final = PREFIX + "REMOTE"
RANGES: Final = PREFIX + "RANGES"
CLUSTER_IPS: Final = PREFIX + "CLUSTERIPS"
MASQUERADED_PORTS: Final = PREFIX + "MASQ-PORTS"
FILTER: Final = PREFIX + "FILTER"
REFUSED_PORTS: Final = PREFIX + "REFUSE-PORTS"

FROM_NODE: Final = "-m addrtype --src-type LOCAL"
TO_NODE: Final = "-m addrtype --dst-type LOCAL"
TRANSLATED: Final = "-m conntrack --ctstate DNAT"

JUMPS: Final = (
    Jump(Table.NAT, "PREROUTING", f'-m comment --comment "nodeport: Services" -j {SERVICES}'),
    Jump(Table.NAT, "OUTPUT", f'-m comment --comment "nodeport: Services" -j {SERVICES}'),
    Jump(
        Table.NAT,
        "POSTROUTING",
        f'{TRANSLATED} -m comment --comment "nodeport: masquerading" -j {MASQUERADE}',
    ),
    *(
        Jump(
            Table.FILTER,
            chain,
            f'-m conntrack --ctstate NEW -m comment --comment "nodeport: refusing" -j {FILTER}',
        )
        for chain in ("INPUT", "FORWARD", "OUTPUT")
    ),
)


class Spot(Enum):
    """Where Service ports put rules next to those of others; each is a tree of chains."""

    SERVICE = auto()
    """An address, protocol and port that is forwarded: (address, port, protocol)."""
    PORT = auto()
    """A NodePort that is forwarded: (protocol, port)."""
    LOCAL = auto()
    """An endpoint on this node: (address,)."""
    ORIGINAL = auto()
    """Masquerading of what was addressed to (address, port, protocol)."""
    MASQUERADED_PORT = auto()
    """Masquerading of what was addressed to a NodePort: (protocol, port)."""
    REFUSED = auto()
    """Refusing what was addressed to (address, port, protocol)."""
    REFUSED_PORT = auto()
    """Refusing what was addressed to a NodePort: (protocol, port)."""


@cache
def trees(family: Family) -> dict[Spot, Tree]:
    nat, refusing = Table.NAT, Table.FILTER
    return {
        Spot.SERVICE: AddressTree(nat, SERVICES, PREFIX + "IP", levels=2, family=family),
        Spot.PORT: PortTree(nat, PORTS, PREFIX + "PORT"),
        Spot.LOCAL: AddressTree(nat, MASQUERADE, PREFIX + "LOCAL", REMOTE, levels=1, family=family),
        Spot.ORIGINAL: OriginalAddressTree(nat, REMOTE, PREFIX + "ORIG", RANGES, family=family),
        Spot.MASQUERADED_PORT: PortTree(nat, MASQUERADED_PORTS, PREFIX + "MASQPORT", original=True),
        Spot.REFUSED: AddressTree(refusing, FILTER, PREFIX + "REFUSE", levels=2, family=family),
        Spot.REFUSED_PORT: PortTree(refusing, REFUSED_PORTS, PREFIX + "NOPORT"),
    }


def constant_ruleset(node: NodeFacts, options: ForwardingOptions) -> Ruleset:
    """Everything that does not depend on any Service."""
    ruleset = Ruleset(JUMPS)
    nat, refusing = ruleset.chains[Table.NAT], ruleset.chains[Table.FILTER]
    nat.branches[SERVICES] = _root(tail=tuple(f"{match} -j {PORTS}" for match in node_port_matches(node)))
    nat.branches[PORTS] = _root()
    nat.branches[MASQUERADE] = _root(head=tuple(_loopback(node)), tail=(f"-g {REMOTE}",))
    nat.branches[REMOTE] = _root(tail=(f"-g {RANGES}",))
    nat.branches[MASQUERADED_PORTS] = _root()
    nat.own[RANGES] = (
        *(f"-m conntrack --ctorigdst {_bare(str(item))} -g {CLUSTER_IPS}" for item in node.service_networks),
        *(
            f"-m conntrack {negated}--ctorigdst {_bare(str(network))} -j {MASQUERADED_PORTS}"
            for negated, network in _nodeport_networks(node)
        ),
    )
    nat.own[CLUSTER_IPS] = masquerade_rules("", cluster_ip_senders(node, options), node, final=False)
    refusing.branches[FILTER] = _root(
        head=(f"{TRANSLATED} -j RETURN", *_martians(node)),
        tail=(
            *(f"{match} -j {REFUSED_PORTS}" for match in node_port_matches(node)),
            *(
                refusal
                for item in node.service_networks
                for refusal in (
                    f"-d {item} -p tcp {refuse(Verdict.REJECT, Protocol.TCP, node.family)}",
                    f"-d {item} {refuse(Verdict.REJECT, Protocol.UDP, node.family)}",
                )
            ),
        ),
    )
    refusing.branches[REFUSED_PORTS] = _root()
    for chains in (nat, refusing):
        chains.touched.update(chains.branches, chains.own)
    return ruleset


def _root(*, head: Rules = (), tail: Rules = ()) -> Branch:
    return Branch(head, tail, lasting=True)


def node_port_matches(node: NodeFacts) -> Iterable[str]:
    """What is addressed to a NodePort, its port aside."""
    for negated, network in _nodeport_networks(node):
        yield f"{negated}-d {network} {TO_NODE}"
    if answers_on_loopback(node):
        loopback = LOOPBACK[node.family]
        yield f"-s {loopback} -d {loopback} {TO_NODE}"


def _nodeport_networks(node: NodeFacts) -> list[tuple[str, IPNetwork]]:
    """As few comparisons as say the same: everything but loopback is many networks, or one that it is not in."""
    loopback = LOOPBACK[node.family]
    together: list[IPNetwork] = list(collapse_addresses([*node.nodeport_networks, loopback]))  # type: ignore[type-var]
    if together[0].prefixlen == 0:
        return [("! ", loopback)]
    return [("", network) for network in node.nodeport_networks]


def _bare(network: str) -> str:
    """A network as ``--ctorigdst`` prints it: a single address without its length."""
    return network.removesuffix("/32" if "." in network else "/128")


def answers_on_loopback(node: NodeFacts) -> bool:
    """The kernel has no way from ``::1`` to anywhere else, so this is for IPv4."""
    return node.localhost_nodeports and node.family is Family.IPV4


def _loopback(node: NodeFacts) -> Iterable[str]:
    """No other machine, and no pod, can reply to a loopback address, whatever the policies say."""
    if answers_on_loopback(node):
        loopback = LOOPBACK[node.family]
        yield f"-s {loopback} -m conntrack --ctorigdst {loopback} -j {MASQUERADED_PORTS}"


def _martians(node: NodeFacts) -> Rules:
    return (martian_rule(node.family),) if answers_on_loopback(node) else ()


def martian_rule(family: Family) -> str:
    """NodePorts on loopback need ``route_localnet``, which would let neighbours reach what listens on loopback."""
    return f"! -s {LOOPBACK[family]} -d {LOOPBACK[family]} -j DROP"


def pod_matches(node: NodeFacts) -> Rules:
    """Each of them: sent by a pod of this node."""
    if not node.pod_interfaces:
        return tuple(f"-s {network}" for network in node.pod_networks)
    return tuple(f"-i {re.sub(r'[*]$', '+', name)}" for name in node.pod_interfaces)


Senders = tuple[bool, bool, bool]
"""Whose address is replaced: the node's own, that of its pods, that of everybody else."""


def cluster_ip_senders(node: NodeFacts, options: ForwardingOptions) -> Senders:
    """What ``forwarding.build`` decides for every ClusterIP alike."""
    others = options.masquerade_all or node.tells_pods
    return (others, options.masquerade_all, others)


def keeps_client_address(options: ForwardingOptions) -> bool:
    return options.masquerade is Masquerade.REMOTE


def masquerade_rules(match: str, senders: Senders, node: NodeFacts, *, final: bool) -> Rules:
    """For what ``match`` says: MASQUERADE for these senders, RETURN for the others.

    ``final``: rules further on say otherwise about those others, and must not be reached.
    """
    from_node, from_pod, from_outside = senders
    rows = [(FROM_NODE, from_node), *((item, from_pod) for item in pod_matches(node)), ("", from_outside)]
    while len(rows) > 1 and rows[-2][1] is from_outside:
        del rows[-2]
    if not final and not from_outside:
        del rows[-1]
    return tuple(
        f"{joined(sender, match)} -j {'MASQUERADE' if masquerade else 'RETURN'}".lstrip()
        for sender, masquerade in rows
    )


def joined(sender: str, match: str) -> str:
    """Both, as iptables prints them: addresses and interfaces go before protocols and extensions."""
    parts = (match, sender) if sender.startswith("-m") else (sender, match)
    return " ".join(part for part in parts if part)


def refuse(verdict: Verdict, protocol: Protocol, family: Family) -> str:
    """The target of a refusal: at once, or by silence."""
    if verdict is Verdict.DROP:
        return "-j DROP"
    if protocol is Protocol.TCP:
        return "-j REJECT --reject-with tcp-reset"
    return f"-j REJECT --reject-with {'icmp' if family is Family.IPV4 else 'icmp6'}-port-unreachable"
