"""Tables of ours that lose packets of a node's link at random, one for each IP family.

::

    table ip nodeport-loss { prerouting (raw): iifname eth0 numgen random mod 10000 < N drop
                             postrouting: oifname eth0 numgen random mod 10000 < N drop }

What finds neighbours is spared in IPv6 (ICMPv6 types 133 to 137 are accepted first), as ARP is in IPv4: a lossy link
loses packets, it does not forget who is on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nodeport.netlink import codec
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.expressions import Code, VerdictData, expression, register
from nodeport.netlink.nftables.kernel import Nftables, Request
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, MessageType, Rule, Table
from nodeport.node.network import UPLINK

NAME = "nodeport-loss"
TABLES = (Table(NAME, objects.FAMILY_IPV4), Table(NAME, objects.FAMILY_IPV6))
PARTS = 10_000
"""A hundredth of a percent is the least that can be asked for."""
RAW, LAST = -300, 300
_NAME_BYTES = 16
_ICMPV6, _ROUTER_SOLICITATION, _REDIRECT = 58, 133, 137
_CREATE = codec.NLM_F_CREATE
_APPEND = codec.NLM_F_CREATE | codec.NLM_F_APPEND


def apply(netns: Path | None, percent: float) -> None:
    """Lose so many packets each way from now on; none with 0. Raises OSError, NetlinkError."""
    with Nftables(netns) as kernel:
        kernel.commit(list(requests(percent)))


def requests(percent: float) -> Iterator[Request]:
    """The batch that replaces the tables; none is left without loss. Pure."""
    lost = round(percent * PARTS / 100)
    for table in TABLES:
        yield MessageType.NEWTABLE, _CREATE, table.address
        yield MessageType.DELTABLE, 0, table.address
        if lost:
            yield from _table(table, lost)


def _table(table: Table, lost: int) -> Iterator[Request]:
    yield MessageType.NEWTABLE, _CREATE, table.address
    for chain in _chains(table.family, lost):
        yield MessageType.NEWCHAIN, _CREATE, objects.chain_payload(table, chain)
        for rule in chain.rules:
            yield MessageType.NEWRULE, _APPEND, objects.rule_payload(table, chain.name, rule)


def _chains(family: int, lost: int) -> Iterator[Chain]:
    spared = (Rule(tuple(_spare_neighbours())),) if family == objects.FAMILY_IPV6 else ()
    comes = Rule(tuple(_lose(nft.META_IIFNAME, lost)))
    goes = Rule(tuple(_lose(nft.META_OIFNAME, lost)))
    yield Chain("prerouting", (*spared, comes), BaseHook("filter", Hook.PREROUTING, RAW))
    yield Chain("postrouting", (*spared, goes), BaseHook("filter", Hook.POSTROUTING, LAST))


def _spare_neighbours() -> Iterator[nft.Expression]:
    yield expression("meta", dreg=register(0), key=nft.META_L4PROTO)
    yield expression("cmp", sreg=register(0), op=nft.CMP_EQ, data=bytes([_ICMPV6]))
    yield expression("payload", dreg=register(0), base=nft.TRANSPORT_HEADER, offset=0, length=1)
    yield expression("cmp", sreg=register(0), op=nft.CMP_GTE, data=bytes([_ROUTER_SOLICITATION]))
    yield expression("cmp", sreg=register(0), op=nft.CMP_LTE, data=bytes([_REDIRECT]))
    yield expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(Code.ACCEPT))


def _lose(link: int, lost: int) -> Iterator[nft.Expression]:
    yield expression("meta", dreg=register(0), key=link)
    yield expression("cmp", sreg=register(0), op=nft.CMP_EQ, data=UPLINK.encode().ljust(_NAME_BYTES, b"\0"))
    yield expression("numgen", dreg=register(0), modulus=PARTS, type=nft.NUMGEN_RANDOM)
    yield expression("byteorder", sreg=register(0), dreg=register(0), op=nft.HTON, length=4, size=4)
    yield expression("cmp", sreg=register(0), op=nft.CMP_LT, data=lost.to_bytes(4, "big"))
    yield expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(Code.DROP))
