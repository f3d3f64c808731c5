"""Packets and bytes of each Service, counted by the elements of sets: a table of its own with rules that never change.

Every packet of a translated connection is looked up by what its client asked for: address, protocol and port, else
protocol and port alone (a NodePort). Packets that are sent on count in postrouting, those for the node's own processes
in input; what passes the loopback link would count twice and does not count on arrival. Replies count apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nodeport.forwarding.table import (
    Change,
    Family,
    Forwarding,
    ForwardingTable,
    NodeFacts,
    NodePort,
    ServicePortName,
)
from nodeport.kit.logs import get_logger
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables.expressions import Code, expression, register
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, MessageType, Rule, Set, Table
from nodeport.proxy.nftables import dialect as say
from nodeport.proxy.nftables import typeof
from nodeport.proxy.nftables.dialect import Dialect
from nodeport.proxy.nftables.render import frontend_key
from nodeport.proxy.nftables.ruleset import Elements, Ruleset
from nodeport.proxy.nftables.transaction import Transaction, batches, compare_elements, difference
from nodeport.proxy.proxier import (
    FAILURES,
    CountsElements,
    CountsRules,
    Discrepancy,
    Proxier,
    RuleCounts,
    SlotMemory,
    Traffic,
)

TABLE: Final = "nodeport-counters"
TO_IPS: Final = "to-ips"
TO_NODEPORTS: Final = "to-nodeports"
FROM_IPS: Final = "from-ips"
FROM_NODEPORTS: Final = "from-nodeports"
_BY_ADDRESS: Final = {TO_IPS: True, TO_NODEPORTS: False, FROM_IPS: True, FROM_NODEPORTS: False}
_MANGLE: Final = -150
_ORIGINAL: Final = 0
_PROTOCOL_TYPE, _PORT_TYPE = 12, 13
_log = get_logger(__name__)


def sets(words: Dialect) -> dict[str, Set]:
    """One for each direction and kind of frontend."""
    made = {}
    for name, by_address in _BY_ADDRESS.items():
        kind = _PROTOCOL_TYPE << 6 | _PORT_TYPE
        if by_address:
            kind |= words.address_type << 12
        length = words.frontend_length(by_address=by_address)
        made[name] = Set(name, kind, length, userdata=typeof.no_order(), counts=True)
    return made


def chains(words: Dialect) -> dict[str, Chain]:
    """Two hooks, and a chain for each direction that ends at the first set that knows the frontend."""
    by_direction = (
        Rule((*say.translated(), *_direction(_ORIGINAL), say.goto("to"))),
        Rule((*say.translated(), say.goto("from"))),
    )
    arrived = (Rule((*say.through("lo"), say.verdict(Code.RETURN))), *by_direction)
    made = (
        Chain("forwarded", by_direction, BaseHook("filter", Hook.POSTROUTING, _MANGLE)),
        Chain("arrived", arrived, BaseHook("filter", Hook.INPUT, _MANGLE)),
        Chain("to", tuple(_counting(words, TO_IPS, TO_NODEPORTS))),
        Chain("from", tuple(_counting(words, FROM_IPS, FROM_NODEPORTS))),
    )
    return {chain.name: chain for chain in made}


def _direction(direction: int) -> tuple[nft.Expression, ...]:
    load = expression("ct", dreg=register(0), key=nft.CT_DIRECTION)
    return (load, say.equals(bytes((direction,))))


def _counting(words: Dialect, ips: str, nodeports: str) -> Iterator[Rule]:
    yield Rule((*words.original_frontend(), say.in_set(ips), say.verdict(Code.RETURN)))
    yield Rule((say.protocol(0), say.original_port(1), say.in_set(nodeports)))


def keys(name: ServicePortName, forwarding: Forwarding | None) -> Iterator[tuple[bool, bytes]]:
    """The frontends of a Service port as the sets know them; ``True``: by address."""
    for frontend in forwarding.frontends if forwarding is not None else ():
        yield not isinstance(frontend, NodePort), frontend_key(name, frontend)


class ServiceCounters:
    """Keeps the table of one family in step with a forwarding table, and reads it. Counts outlive the process."""

    def __init__(self, kernel: Nftables, family: Family) -> None:
        self._kernel = kernel
        words = say.dialect(family)
        self._table = Table(TABLE, words.netfilter_family)
        self._sets, self._chains = sets(words), chains(words)
        self._limit = kernel.send_limit()
        self._names: dict[tuple[bool, bytes], ServicePortName] = {}

    def resync(self, table: ForwardingTable) -> int:
        """Makes the kernel's table what it should be; counts of what stays are kept."""
        self._names = {key: name for name, forwarding in table.items() for key in keys(name, forwarding)}
        listed, _ = self._kernel.list_table(self._table)
        there = Ruleset.of_listing(listed) if listed else None
        wanted = Ruleset(self._chains, self._sets, _elements(self._names))
        return self._commit(difference(self._table, there, wanted))

    def apply(self, changes: Iterable[Change]) -> int:
        """Frontends may go from one Service port to another within ``changes``."""
        gone: dict[tuple[bool, bytes], ServicePortName] = {}
        come: dict[tuple[bool, bytes], ServicePortName] = {}
        for change in changes:
            if change.old is None or change.new is None or change.old.frontends != change.new.frontends:
                gone |= dict.fromkeys(keys(change.name, change.old), change.name)
                come |= dict.fromkeys(keys(change.name, change.new), change.name)
        if not gone and not come:
            return 0
        before, after = _elements(gone), _elements(come)
        transaction = Transaction(self._table, self._sets)
        for name in self._sets:
            compare_elements(transaction, name, before.get(name, {}), after.get(name, {}))
        requests = self._commit(transaction)
        for key in gone.keys() - come.keys():
            self._names.pop(key, None)
        self._names |= come
        return requests

    def _commit(self, transaction: Transaction) -> int:
        requests = 0
        for batch in batches(transaction, self._limit):
            self._kernel.commit(batch)
            requests += len(batch)
        return requests

    def is_there(self) -> bool:
        return self._kernel.table_handle(self._table) is not None

    def remove(self) -> None:
        if self.is_there():
            self._kernel.commit([(MessageType.DELTABLE, 0, self._table.address)])

    def read(self, kernel: Nftables) -> dict[ServicePortName, Traffic]:
        """What was counted for each Service port, over all its frontends; ``kernel``: the reading thread's own."""
        names = dict(self._names)
        sums: dict[ServicePortName, list[int]] = {name: [0, 0, 0, 0] for name in names.values()}
        for set_name, by_address in _BY_ADDRESS.items():
            start = 0 if set_name in (TO_IPS, TO_NODEPORTS) else 2
            for key, (packets, size) in kernel.list_counts(self._table, set_name).items():
                name = names.get((by_address, key))
                if name is not None:
                    sums[name][start] += packets
                    sums[name][start + 1] += size
        return {name: Traffic(*counted) for name, counted in sums.items()}


def _elements(names: Iterable[tuple[bool, bytes]]) -> Elements:
    """In the sets of both directions."""
    made: Elements = {name: {} for name in _BY_ADDRESS}
    for by_address, key in names:
        for name in (TO_IPS, FROM_IPS) if by_address else (TO_NODEPORTS, FROM_NODEPORTS):
            made[name][key] = b""
    return made


class CountingProxier:
    """Another proxier, and counters beside it. Services go first: when counting fails, they are served all the same."""

    def __init__(self, inner: Proxier, counters: ServiceCounters, netns: Path | None) -> None:
        self._inner = inner
        self._netns = netns
        self._counters = counters
        self._due = False

    def slots(self) -> SlotMemory:
        return self._inner.slots()

    def resync(self, table: ForwardingTable, node: NodeFacts) -> int:
        requests = self._inner.resync(table, node)
        return requests + self._try(lambda: self._counters.resync(table))

    def apply(self, changes: Sequence[Change], node: NodeFacts) -> int:
        requests = self._inner.apply(changes, node)
        return requests if self._due else requests + self._try(lambda: self._counters.apply(changes))

    def _try(self, work: Callable[[], int]) -> int:
        """A failure is mended by the next comparison, which the guard asks for."""
        try:
            requests = work()
        except FAILURES as error:
            self._due = True
            _log.warning("counting of Services failed: %s", error)
            return 0
        self._due = False
        return requests

    def is_undisturbed(self) -> bool:
        return not self._due and self._inner.is_undisturbed()

    def is_intact(self) -> bool:
        return not self._due and self._inner.is_intact() and self._counters.is_there()

    def remove(self) -> None:
        """The mode's part; counters are not of any mode (``remove_counters``)."""
        self._inner.remove()

    def verify(self, table: ForwardingTable, node: NodeFacts) -> list[Discrepancy]:
        return self._inner.verify(table, node)

    def sizes(self) -> Mapping[str, int]:
        return self._inner.sizes() if isinstance(self._inner, CountsElements) else {}

    def rule_counts(self) -> Mapping[str, RuleCounts]:
        return self._inner.rule_counts() if isinstance(self._inner, CountsRules) else {}

    def traffic(self) -> Mapping[ServicePortName, Traffic]:
        """May be asked from any thread. Raises ``FAILURES``."""
        with Nftables(self._netns) as kernel:
            return self._counters.read(kernel)


@contextmanager
def counting(proxier: Proxier, family: Family, netns: Path | None) -> Iterator[Proxier]:
    """``proxier`` with counters beside it."""
    with Nftables(netns) as kernel:
        yield CountingProxier(proxier, ServiceCounters(kernel, family), netns)


def remove_counters(family: Family, netns: Path | None) -> None:
    with Nftables(netns) as kernel:
        ServiceCounters(kernel, family).remove()
