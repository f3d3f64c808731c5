"""A pod can send from its own addresses only: small tables of ours, ``nodeport-sources``, drop what comes from a pod's
link unless the way back leads there.

On a local node IPv4 needs none: the kernel sees to it (``rp_filter``). A machine's settings are its own, and it has
links that are no pod's, so there those of pods are known by their group.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.expressions import Code, Expression, VerdictData, expression, register
from nodeport.netlink.nftables.kernel import Nftables, Request
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, MessageType, Rule, Table

TABLE: Final = Table("nodeport-sources", objects.FAMILY_IPV6)
MACHINE_TABLES: Final = (Table(TABLE.name, objects.FAMILY_IPV4), TABLE)
POD_LINKS: Final = 78
"""The group of links that our pods' links are in (``ip link show group 78``)."""
RAW: Final = -300
_LOOPBACK_INDEX: Final = 1


def ensure(netns: Path, uplink: int) -> None:
    """Have the node's kernel heed it; ``uplink``: the index of the link to the other nodes. Raises OSError,
    NetlinkError."""
    with Nftables(netns) as kernel:
        kernel.commit(list(requests(uplink)))


def ensure_machine(netns: Path | None) -> None:
    """Have a machine's kernel heed it, in both families. Raises OSError, NetlinkError."""
    from_pods = (
        expression("meta", dreg=register(0), key=nft.META_IIFGROUP),
        expression("cmp", sreg=register(0), op=nft.CMP_EQ, data=struct.pack("=I", POD_LINKS)),
    )
    with Nftables(netns) as kernel:
        kernel.commit([each for table in MACHINE_TABLES for each in _replaced(table, _rule(from_pods))])


def remove_machine(netns: Path | None) -> None:
    """Raises OSError, NetlinkError."""
    with Nftables(netns) as kernel:
        kernel.commit([each for table in MACHINE_TABLES for each in _cleared(table)])


def requests(uplink: int) -> Iterator[Request]:
    """The batch that replaces the table of a local node. Pure."""
    from_pods = (
        expression("meta", dreg=register(0), key=nft.META_IIF),
        *(
            expression("cmp", sreg=register(0), op=nft.CMP_NEQ, data=struct.pack("=I", index))
            for index in (_LOOPBACK_INDEX, uplink)
        ),
    )
    return _replaced(TABLE, _rule(from_pods))


def _cleared(table: Table) -> Iterator[Request]:
    yield MessageType.NEWTABLE, codec.NLM_F_CREATE, table.address
    yield MessageType.DELTABLE, 0, table.address


def _replaced(table: Table, rule: Rule) -> Iterator[Request]:
    create = codec.NLM_F_CREATE
    yield from _cleared(table)
    yield MessageType.NEWTABLE, create, table.address
    chain = Chain("prerouting", (rule,), BaseHook("filter", Hook.PREROUTING, RAW))
    yield MessageType.NEWCHAIN, create, objects.chain_payload(table, chain)
    payload = objects.rule_payload(table, chain.name, rule)
    yield MessageType.NEWRULE, create | codec.NLM_F_APPEND, payload


def _rule(from_pods: tuple[Expression, ...]) -> Rule:
    """``… fib saddr . iif oif missing drop``"""
    no_way_back = (
        expression("fib", dreg=register(0), result=nft.FIB_OIF, flags=nft.FIB_SADDR | nft.FIB_IIF),
        expression("cmp", sreg=register(0), op=nft.CMP_EQ, data=bytes(4)),
    )
    drop = expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(Code.DROP))
    return Rule((*from_pods, *no_way_back, drop), "a pod sends from its own addresses only")
