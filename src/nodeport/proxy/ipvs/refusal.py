"""Refuses new connections to frontends of the node that are gone, while IPVS still has old ones: a table of its own.

Such a virtual service has only destinations that take nothing new. IPVS would answer with an ICMP error, which clients
may have to ask for twice (IPv6) or never get (where the kernel rations them); the other modes refuse with a reset.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from nodeport.forwarding.table import Family, NodeFacts
from nodeport.netlink.ipvs.messages import ServiceKey
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, Rule, Table
from nodeport.proxy.ipvs.sidetable import SideTable
from nodeport.proxy.nftables import dialect as say
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.chains import refusing
from nodeport.proxy.nftables.dialect import dialect
from nodeport.proxy.nftables.layout import Role
from nodeport.proxy.nftables.ruleset import Ruleset

NAME: Final = "nodeport-ipvs-leaving"
FRONTENDS: Final = "leaving"
_BEFORE_OURS: Final = -101
"""Just before the table that decides about Services; as there, only the first packet of a connection comes by."""


def ruleset(family: Family, frontends: Collection[ServiceKey]) -> Ruleset:
    words = dialect(family)
    leaving = Rule(
        (*words.frontend(by_address=True), say.in_set(FRONTENDS), say.goto(layout.REFUSE)),
        "gone, but for connections that IPVS has",
    )
    hooks = {"prerouting": Hook.PREROUTING, "output": Hook.OUTPUT}
    chains = [Chain(name, (leaving,), BaseHook("nat", hook, _BEFORE_OURS)) for name, hook in hooks.items()]
    chains.append(Chain(layout.REFUSE, tuple(refusing(words))))
    shape = layout.sets(NodeFacts("", family=family, service_networks=()), Role.BESIDE_IPVS)
    made = replace(shape[layout.RESTRICTED_IPS], name=FRONTENDS)
    wanted = Ruleset({chain.name: chain for chain in chains}, {made.name: made})
    wanted.elements[FRONTENDS] = {_element(key): b"" for key in frontends}
    return wanted


def _element(key: ServiceKey) -> bytes:
    return key.address + bytes((key.protocol, 0, 0, 0)) + key.port.to_bytes(2, "big") + bytes(2)


class Refusal(SideTable):
    """Keeps that table as long as there is something to refuse."""

    def __init__(self, family: Family, kernel: Nftables, committed: Callable[[], None]) -> None:
        super().__init__(Table(NAME, dialect(family).netfilter_family), kernel, committed)
        self._family = family
        self._refused: frozenset[ServiceKey] = frozenset()

    def resync(self, frontends: Collection[ServiceKey]) -> int:
        """Reads the kernel's table and sends what differs; returns how many requests that took."""
        self._refused = frozenset(frontends)
        return self.compare(self._ruleset())

    def refuse(self, frontends: Collection[ServiceKey]) -> int:
        """These, and no others any more."""
        if self._refused == frozenset(frontends):
            return 0
        self._refused = frozenset(frontends)
        return self.become(self._ruleset())

    def change(self, looked_at: Collection[ServiceKey], gone: Collection[ServiceKey]) -> int:
        """Of those that were looked at, these are to be refused."""
        if not gone and not self._refused:
            return 0
        return self.refuse(self._refused.difference(looked_at).union(gone))

    def _ruleset(self) -> Ruleset | None:
        return ruleset(self._family, self._refused) if self._refused else None
