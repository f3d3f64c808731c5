"""A pod of a local node can send from its own addresses only: in IPv4 the kernel sees to it (``rp_filter``), in IPv6 a
small table of ours, ``ip6 nodeport-sources``: what comes from a pod's link is dropped unless the way back leads there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.expressions import Code, VerdictData, expression, register
from nodeport.netlink.nftables.kernel import Nftables, Request
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, MessageType, Rule, Table

TABLE: Final = Table("nodeport-sources", objects.FAMILY_IPV6)
RAW: Final = -300
_LOOPBACK_INDEX: Final = 1


def ensure(netns: Path, uplink: int) -> None:
    """Have the node's kernel heed it; ``uplink``: the index of the link to the other nodes. Raises OSError,
    NetlinkError."""
    with Nftables(netns) as kernel:
        kernel.commit(list(requests(uplink)))


def requests(uplink: int) -> Iterator[Request]:
    """The batch that replaces the table. Pure."""
    create = codec.NLM_F_CREATE
    yield MessageType.NEWTABLE, create, TABLE.address
    yield MessageType.DELTABLE, 0, TABLE.address
    yield MessageType.NEWTABLE, create, TABLE.address
    chain = Chain("prerouting", (_rule(uplink),), BaseHook("filter", Hook.PREROUTING, RAW))
    yield MessageType.NEWCHAIN, create, objects.chain_payload(TABLE, chain)
    for rule in chain.rules:
        payload = objects.rule_payload(TABLE, chain.name, rule)
        yield MessageType.NEWRULE, create | codec.NLM_F_APPEND, payload


def _rule(uplink: int) -> Rule:
    """``iif != { lo, eth0 } fib saddr . iif oif missing drop``"""
    from_pods = (
        expression("meta", dreg=register(0), key=nft.META_IIF),
        *(
            expression("cmp", sreg=register(0), op=nft.CMP_NEQ, data=struct.pack("=I", index))
            for index in (_LOOPBACK_INDEX, uplink)
        ),
    )
    no_way_back = (
        expression("fib", dreg=register(0), result=nft.FIB_OIF, flags=nft.FIB_SADDR | nft.FIB_IIF),
        expression("cmp", sreg=register(0), op=nft.CMP_EQ, data=bytes(4)),
    )
    drop = expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(Code.DROP))
    return Rule((*from_pods, *no_way_back, drop), "a pod sends from its own addresses only")
