"""No answer to ARP for addresses that are the node's only for the sake of Services: a table of family arp.

The kernel answers for every address that it delivers to itself, on every link. In the other modes nobody does, so that
an external address may be announced by whoever owns it; here requests for ours are dropped. IPv6 needs nothing: there a
node answers only for addresses of the very link that is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from nodeport.forwarding.table import Family, IPNetwork
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables.expressions import Code, Expression, expression, register
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, Rule, Set, SetFlag, Table
from nodeport.proxy.ipvs.sidetable import SideTable
from nodeport.proxy.nftables import dialect as say
from nodeport.proxy.nftables import typeof
from nodeport.proxy.nftables.layout import Role, intervals
from nodeport.proxy.nftables.ruleset import Ruleset
from nodeport.proxy.nftables.transaction import Transaction

FAMILY_ARP: Final = 3
TABLE: Final = Table(Role.BESIDE_IPVS.value, FAMILY_ARP)
NETWORKS: Final = "service-networks"
ADDRESSES: Final = "held-addresses"
_ADDRESS: Final = 7
_OPERATION: Final = 6
_TARGET: Final = 24
"""Offsets into an ARP packet for Ethernet and IPv4."""
_REQUEST: Final = bytes((0, 1))


def ruleset(networks: Iterable[IPNetwork], addresses: Iterable[bytes]) -> Ruleset:
    """The table that keeps silent about ``networks`` and single ``addresses`` (packed)."""
    order = typeof.network_order()
    rules = tuple(Rule((*_request_for_set(name), say.verdict(Code.DROP))) for name in (NETWORKS, ADDRESSES))
    chain = Chain("input", rules, BaseHook("filter", Hook(0), 0))
    sets = (
        Set(NETWORKS, _ADDRESS, 4, SetFlag.INTERVAL, userdata=order),
        Set(ADDRESSES, _ADDRESS, 4, userdata=order),
    )
    wanted = Ruleset({chain.name: chain}, {item.name: item for item in sets})
    wanted.elements[NETWORKS] = intervals(networks, Family.IPV4)
    wanted.elements[ADDRESSES] = dict.fromkeys(addresses, b"")
    return wanted


def _request_for_set(name: str) -> tuple[Expression, ...]:
    return (*_field(_OPERATION, 2), say.equals(_REQUEST), *_field(_TARGET, 4), say.in_set(name))


def _field(offset: int, length: int) -> tuple[Expression, ...]:
    return (expression("payload", dreg=register(0), base=nft.NETWORK_HEADER, offset=offset, length=length),)


class Silence(SideTable):
    """Keeps that table."""

    def __init__(self, kernel: Nftables, committed: Callable[[], None]) -> None:
        super().__init__(TABLE, kernel, committed)

    def resync(self, networks: Iterable[IPNetwork], addresses: Iterable[bytes]) -> int:
        """Reads the kernel's table and sends what differs; returns how many requests that took."""
        return self.compare(ruleset(networks, addresses))

    def change(self, added: Iterable[bytes], removed: Iterable[bytes]) -> int:
        """Addresses that come and go."""
        wanted = self._wanted if self._wanted is not None else Ruleset()
        transaction = Transaction(TABLE, wanted.sets)
        known = wanted.elements[ADDRESSES]
        new = {address: b"" for address in added if address not in known}
        old = {address: b"" for address in removed if address in known}
        if new:
            transaction.added[ADDRESSES] = dict(new)
        if old:
            transaction.removed[ADDRESSES] = dict(old)
        done = self._commit(transaction)
        known.update(new)
        for address in old:
            del known[address]
        return done
