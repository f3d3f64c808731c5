"""A table of nf_tables that the mode has for one purpose of its own, beside the one that decides about Services."""

from __future__ import annotations

from collections.abc import Callable

from nodeport.netlink.nftables.kernel import Nftables
from nodeport.netlink.nftables.objects import MessageType, Table
from nodeport.proxy.nftables.ruleset import Ruleset
from nodeport.proxy.nftables.transaction import Transaction, batches, difference


class SideTable:
    """Keeps ``table`` in the namespace of ``kernel``. Raises KernelRefused, DumpInterrupted, OSError.

    ``committed`` is told of every commit: who counts them must not take ours for somebody else's.
    """

    def __init__(self, table: Table, kernel: Nftables, committed: Callable[[], None]) -> None:
        self._table = table
        self._kernel = kernel
        self._committed = committed
        self._wanted: Ruleset | None = None

    def compare(self, wanted: Ruleset | None) -> int:
        """Reads the kernel's table and sends what differs (``None``: no table); returns how many requests that took."""
        self._wanted = wanted
        if wanted is None:
            return self._remove()
        return self._commit(difference(self._table, self._there(), wanted))

    def become(self, wanted: Ruleset | None) -> int:
        """The same from what was sent last, without reading."""
        before, self._wanted = self._wanted, wanted
        if wanted is None:
            return self._remove() if before is not None else 0
        return self._commit(difference(self._table, before, wanted))

    def is_intact(self) -> bool:
        return self.has(self._wanted)

    def has(self, wanted: Ruleset | None) -> bool:
        """Whether the kernel's table says the same as ``wanted``."""
        there = self._there()
        if there is None or wanted is None:
            return there is wanted
        return difference(self._table, there, wanted).empty

    def remove(self) -> None:
        self._wanted = None
        self._remove()

    def _remove(self) -> int:
        if self._kernel.table_handle(self._table) is None:
            return 0
        self._kernel.commit([(MessageType.DELTABLE, 0, self._table.address)])
        self._committed()
        return 1

    def _there(self) -> Ruleset | None:
        listed, _ = self._kernel.list_table(self._table)
        return Ruleset.of_listing(listed) if listed else None

    def _commit(self, transaction: Transaction) -> int:
        done = 0
        for batch in batches(transaction, self._kernel.send_limit()):
            self._kernel.commit(batch)
            self._committed()
            done += len(batch)
        return done
