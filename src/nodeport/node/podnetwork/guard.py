"""A table of ours that lets nobody but the nodes speak VXLAN to this machine: VXLAN itself knows no authentication.

::

    table ip nodeport-vxlan { set nodes { 192.0.2.2, 192.0.2.3 }
                              input: udp dport 4789 ip saddr != @nodes drop }

In family ``ip6`` where the nodes' addresses are of IPv6. It is replaced as a whole, in one batch.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.elements import element_payloads
from nodeport.netlink.nftables.expressions import Code, Expression, VerdictData, expression, register
from nodeport.netlink.nftables.kernel import Nftables, Request
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, MessageType, Rule, Set, Table
from nodeport.netlink.route import IPAddress

NAME: Final = "nodeport-vxlan"
TABLES: Final = {4: Table(NAME, objects.FAMILY_IPV4), 6: Table(NAME, objects.FAMILY_IPV6)}
BEFORE_FILTERS: Final = -1
"""Before the machine's own filters, which need not know of this."""
_ADDRESS_TYPES, _ADDRESS_BYTES, _SOURCE_AT = {4: 7, 6: 8}, {4: 4, 6: 16}, {4: 12, 6: 8}
_CREATE: Final = codec.NLM_F_CREATE
_APPEND: Final = codec.NLM_F_CREATE | codec.NLM_F_APPEND


def apply(netns: Path | None, version: int, port: int, nodes: Iterable[IPAddress]) -> None:
    """Only ``nodes``, of that IP version, reach the UDP port from now on. Raises OSError, NetlinkError."""
    with Nftables(netns) as kernel:
        kernel.commit([*cleared(), *guarded(version, port, nodes)])


def remove(netns: Path | None) -> None:
    """Raises OSError, NetlinkError."""
    with Nftables(netns) as kernel:
        kernel.commit(list(cleared()))


def cleared() -> Iterator[Request]:
    """The requests after which there is no table of ours. Pure."""
    for table in TABLES.values():
        yield MessageType.NEWTABLE, _CREATE, table.address
        yield MessageType.DELTABLE, 0, table.address


def guarded(version: int, port: int, nodes: Iterable[IPAddress]) -> Iterator[Request]:
    """Those that make the table. Pure."""
    table = TABLES[version]
    allowed = Set("nodes", _ADDRESS_TYPES[version], _ADDRESS_BYTES[version])
    chain = Chain(
        "input", (Rule(tuple(_strangers(version, port))),), BaseHook("filter", Hook.INPUT, BEFORE_FILTERS)
    )
    yield MessageType.NEWTABLE, _CREATE, table.address
    yield MessageType.NEWSET, _CREATE, objects.set_payload(table, allowed, 1)
    yield MessageType.NEWCHAIN, _CREATE, objects.chain_payload(table, chain)
    for rule in chain.rules:
        yield MessageType.NEWRULE, _APPEND, objects.rule_payload(table, chain.name, rule)
    for payload in element_payloads(
        table, allowed, {each.packed: b"" for each in nodes if each.version == version}
    ):
        yield MessageType.NEWSETELEM, _CREATE, payload


def _strangers(version: int, port: int) -> Iterator[Expression]:
    source = _SOURCE_AT[version], _ADDRESS_BYTES[version]
    yield expression("meta", dreg=register(0), key=nft.META_L4PROTO)
    yield expression("cmp", sreg=register(0), op=nft.CMP_EQ, data=bytes((socket.IPPROTO_UDP,)))
    yield expression("payload", dreg=register(0), base=nft.TRANSPORT_HEADER, offset=2, length=2)
    yield expression("cmp", sreg=register(0), op=nft.CMP_EQ, data=port.to_bytes(2, "big"))
    yield expression("payload", dreg=register(0), base=nft.NETWORK_HEADER, offset=source[0], length=source[1])
    yield expression("lookup", set="nodes", sreg=register(0), flags=nft.LOOKUP_INVERTED)
    yield expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(Code.DROP))
