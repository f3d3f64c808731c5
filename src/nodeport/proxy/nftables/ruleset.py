"""A whole table as values: what is wanted, or what the kernel has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodeport.netlink.nftables.expressions import Data
from nodeport.netlink.nftables.kernel import ListedTable
from nodeport.netlink.nftables.objects import Chain, Set

Elements = dict[str, dict[bytes, Data]]
"""Set name -> key -> data (``b""`` in plain sets)."""


@dataclass(slots=True)
class Ruleset:
    """Chains with their rules, sets and maps, and their elements, by name; ``dormant``: all of it is out of action."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Set] = field(default_factory=dict)
    elements: Elements = field(default_factory=dict)
    dormant: bool = False

    @classmethod
    def of_listing(cls, listed: ListedTable) -> Ruleset:
        sets = {name: item.set for name, item in listed.sets.items()}
        elements = {name: dict(items) for name, items in listed.elements.items()}
        return cls(dict(listed.chains), sets, elements, listed.dormant)

    def named(self) -> Ruleset:
        """Without the sets that are part of a rule, which go with it."""
        sets = {name: item for name, item in self.sets.items() if not item.is_anonymous}
        elements = {name: items for name, items in self.elements.items() if name in sets}
        return Ruleset(self.chains, sets, elements, self.dormant)

    def elements_of(self, name: str) -> Mapping[bytes, Data]:
        return self.elements.get(name, {})
