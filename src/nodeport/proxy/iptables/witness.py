"""Has anybody else touched the tables? Asked twice a second, so it must cost next to nothing.

The legacy interface tells how many entries a table has, and we know how many came or went with what we sent. The other
one counts commits, and we know how many ours were.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from nodeport.forwarding.table import Family
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.iptables.programs import LegacyTables
from nodeport.proxy.iptables.ruleset import Table
from nodeport.proxy.options import Variant

Sight = tuple[int, ...]
"""What the kernel said when it was asked; equal to an earlier one: nobody changed anything in between."""


class Witness(Protocol):
    def look(self) -> Sight: ...

    def explains(self, before: Sight, after: Sight, growth: Mapping[str, int], commits: int) -> bool:
        """Whether our ``commits`` alone lead from one sight to the other; ``growth``: entries that tables gained."""

    def close(self) -> None: ...


def open_witness(variant: Variant, family: Family, netns: Path | None) -> Witness:
    """Raises OSError."""
    return LegacyWitness(family, netns) if variant is Variant.LEGACY else CommitWitness(netns)


class LegacyWitness:
    """Entries and bytes of each table."""

    def __init__(self, family: Family, netns: Path | None) -> None:
        self._tables = LegacyTables(family, netns)

    def look(self) -> Sight:
        return tuple(number for table in Table for number in self._tables.entries(table))

    def explains(self, before: Sight, after: Sight, growth: Mapping[str, int], commits: int) -> bool:
        grown = (before[2 * place] + growth.get(table, 0) for place, table in enumerate(Table))
        return tuple(grown) == after[::2]

    def close(self) -> None:
        self._tables.close()


class CommitWitness:
    """How often anything was committed to nf_tables in this namespace."""

    def __init__(self, netns: Path | None) -> None:
        self._kernel = Nftables(netns)

    def look(self) -> Sight:
        return (self._kernel.generation(),)

    def explains(self, before: Sight, after: Sight, growth: Mapping[str, int], commits: int) -> bool:
        return after[0] == before[0] + commits

    def close(self) -> None:
        self._kernel.close()
