"""The mode at work: brings the kernel's table to what the forwarding table wants, and keeps it there.

It knows what it committed last, so a change costs what it changes. It trusts that knowledge only as long as nobody
else committed anything in this namespace: the kernel counts commits, we count ours.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nodeport.forwarding.table import Change, Family, ForwardingOptions, ForwardingTable, NodeFacts
from nodeport.netlink.nftables.expressions import Code, VerdictData
from nodeport.netlink.nftables.kernel import ListedTable, Nftables
from nodeport.netlink.nftables.objects import Chain, MessageType, Set, SetFlag, rules_of_payload
from nodeport.netlink.socket import KernelRefused
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.chains import OptionalChain, optional_chains, size_chain
from nodeport.proxy.nftables.dialect import dialect
from nodeport.proxy.nftables.layout import Role
from nodeport.proxy.nftables.render import (
    Rendered,
    SharedElement,
    SizeClass,
    render,
    render_forwarding,
    spare_sizes,
    with_sizes,
    without_affinity,
)
from nodeport.proxy.nftables.ruleset import Elements, Ruleset
from nodeport.proxy.nftables.slots import KernelSlots
from nodeport.proxy.nftables.transaction import (
    Transaction,
    batches,
    compare_elements,
    difference,
    portions,
    rebuilt,
)
from nodeport.proxy.nftables.verify import Spread, discrepancies
from nodeport.proxy.options import ProxyOptions
from nodeport.proxy.portions import halves
from nodeport.proxy.proxier import Discrepancy, Proxier

_ATTEMPTS: Final = 10
MOST_SPARES: Final = 64
"""So many chains for numbers of endpoints that no Service has now are kept for when one has them again."""
_UNDER_WAY: Final = 0.02
"""Seconds: longer than a packet spends in a hook, even on a processor that is taken away from it meanwhile."""


@contextmanager
def open_nftables(family: Family, netns: Path | None, options: ProxyOptions) -> Iterator[Proxier]:
    """The mode as ``proxy.modes`` opens it."""
    with Nftables(netns) as kernel:
        yield NftablesProxier(kernel, options.forwarding, family)


class NftablesProxier:
    """Programs the table ``nodeport`` of one family, in the namespace that ``kernel`` is connected to.

    ``resync`` first; then ``apply`` for every change. When ``apply`` raises, nothing was changed and a ``resync`` is
    due. Errors: KernelRefused, DumpInterrupted, OSError.
    """

    def __init__(
        self,
        kernel: Nftables,
        options: ForwardingOptions,
        family: Family = Family.IPV4,
        role: Role = Role.ALONE,
    ) -> None:
        self._kernel = kernel
        self._table = layout.table(family, role)
        self._role = role
        self._options = options
        self._sets: dict[str, Set] = {}
        self._shared: Counter[SharedElement] = Counter()
        self._sizes: Counter[SizeClass] = Counter()
        self._spare: dict[SizeClass, None] = {}
        self._chains: dict[str, Chain] = {}
        self._words = dialect(family)
        self._optional: dict[str, OptionalChain] = {}
        self._counts: Counter[str] = Counter()
        self._generation = 0
        self._read: tuple[ListedTable | None, int] | None = None
        self._beside: Sequence[NftablesProxier] = ()
        self._limit = kernel.send_limit()

    def slots(self) -> KernelSlots:
        """Where the kernel's endpoints sit now: a restarted proxy leaves them there."""
        self._read = self._kernel.list_table(self._table)
        listed, _ = self._read
        return KernelSlots(dict(listed.elements) if listed else {})

    def resync(self, table: ForwardingTable, node: NodeFacts) -> int:
        """Reads the kernel's table and sends what differs; returns how many requests that took (0: all was well).

        Whoever commits in between makes the kernel refuse our batch as a whole; then it is read again. Where it refuses
        although nobody did, something that others put into our table is in the way: then the table is made anew.
        """
        rendered, shared, sizes = render(table.items(), node, self._options, self._role)
        in_the_way = False
        for attempt in range(_ATTEMPTS):
            listed, generation = self._read_anew()
            there = Ruleset.of_listing(listed) if listed else None
            spare = spare_sizes(there, sizes, self._words) if there is not None else []
            wanted = with_sizes(rendered, spare, self._words)
            whole = in_the_way and there is not None
            transaction = rebuilt(self._table, wanted) if whole else difference(self._table, there, wanted)
            try:
                requests, generation = self._commit(transaction, generation)
                break
            except KernelRefused:
                alone = self._kernel.generation() == generation
                if attempt == _ATTEMPTS - 1 or (alone and whole):
                    raise
                in_the_way = in_the_way or alone
        self._sets, self._shared, self._sizes = wanted.sets, shared, sizes
        self._spare = dict.fromkeys(spare)
        self._counts = Counter({name: len(items) for name, items in wanted.elements.items()})
        self._chains = wanted.chains
        self._optional = {name: chain for chain in optional_chains(node) for name in chain.sets}
        self._generation = generation
        return requests

    def _read_anew(self) -> tuple[ListedTable | None, int]:
        """The kernel's table and generation: as they were told for the slots, if nobody has committed since."""
        known, self._read = self._read, None
        if known is not None and known[1] == self._kernel.generation():
            return known
        return self._kernel.list_table(self._table)

    def _commit(self, transaction: Transaction, generation: int) -> tuple[int, int]:
        """Sends a difference against the kernel as it was in ``generation``; returns requests sent, new generation."""
        requests = 0
        for batch in batches(transaction, self._limit):
            self._kernel.commit(batch, generation=generation)
            requests += len(batch)
            generation = _next(generation)
            self._tell()
        return requests, generation

    def apply(self, changes: Sequence[Change], node: NodeFacts) -> int:
        """Sends what ``changes`` change; returns the number of requests.

        As one batch, and so all of it or nothing, but for chains that are new: those stand there before. Where the
        socket does not take that, whole Services in one batch each; a Service too large for one is added from its
        endpoints to its frontends, and removed the other way round.
        """
        transaction = Transaction(self._table, self._sets)
        old, new = Elements(), Elements()
        shared: Counter[SharedElement] = Counter()
        sizes: Counter[SizeClass] = Counter()
        for change in changes:
            for forwarding, elements, sign in ((change.old, old, -1), (change.new, new, 1)):
                if forwarding is not None:
                    rendered = render_forwarding(change.name, forwarding, node, self._role, elements)
                    _count(rendered, shared, sizes, sign)
        for name in {*old, *new}:
            compare_elements(transaction, name, old.get(name, {}), new.get(name, {}))
        self._share(transaction, shared)
        dropped = self._resize(transaction, sizes)
        growth = _growth(transaction)
        transaction.changed_chains = self._optional_chains(growth)
        requests, stages = 0, [list(portions(stage, self._limit)) for stage in transaction.stages()]
        first, second = halves(changes) if any(len(stage) > 1 for stage in stages) else (changes, [])
        if second:
            return self.apply(first, node) + self.apply(second, node)
        for batch in itertools.chain.from_iterable(stages):
            self._kernel.commit(batch)
            self._generation = _next(self._generation)
            self._tell()
            requests += len(batch)
        self._shared.update(shared)
        self._count_sizes(sizes, dropped)
        self._counts.update(growth)
        for item in (*transaction.new_chains, *transaction.changed_chains):
            self._chains[item.name] = item
        for name in transaction.old_chains:
            del self._chains[name]
        return requests

    def _optional_chains(self, growth: Counter[str]) -> list[Chain]:
        """Those that somebody needs from now on, and those that nobody needs any more."""
        touched = {chain.name: chain for name, chain in self._optional.items() if growth[name]}
        changed: list[Chain] = []
        for chain in touched.values():
            before = sum(self._counts[name] for name in chain.sets)
            after = before + sum(growth[name] for name in chain.sets)
            if bool(before) != bool(after):
                changed.append(chain.chain(in_use=bool(after)))
        return changed

    def _share(self, transaction: Transaction, growth: Counter[SharedElement]) -> None:
        """Shared elements come with their first user and go with their last."""
        for element, number in growth.items():
            before = self._shared[element]
            if bool(before) == bool(before + number):
                continue
            name, key = element
            where = transaction.removed if before else transaction.added
            where.setdefault(name, {})[key] = b""

    def _resize(self, transaction: Transaction, growth: Counter[SizeClass]) -> list[SizeClass]:
        """Puts the chains for so many endpoints that nobody needed so far, and the verdicts that lead there.

        Those that nobody needs any more stay as spares: the same number comes again soon, and packets may be on their
        way through. When one is made, the longest unneeded of too many spares go; returns those.
        """
        new = [item for item, number in growth.items() if number > 0 and not self._sizes[item]]
        made = [item for item in new if item not in self._spare]
        kept = [item for item in self._spare if item not in new] if made else []
        dropped = _longest_unneeded(kept, len(kept) - MOST_SPARES)
        for items, where in ((made, transaction.added), (dropped, transaction.removed)):
            for lookup, size, timeout in items:
                verdict = VerdictData(Code.GOTO, lookup.chain_name(size, timeout))
                where.setdefault(lookup.verdicts, {})[layout.class_key(size, timeout)] = verdict
        transaction.new_chains += [size_chain(self._words, *item) for item in made]
        transaction.old_chains += [lookup.chain_name(size, timeout) for lookup, size, timeout in dropped]
        return dropped

    def _count_sizes(self, growth: Counter[SizeClass], dropped: Iterable[SizeClass]) -> None:
        self._sizes.update(growth)
        for item in growth:
            self._spare.pop(item, None)
            if not self._sizes[item]:
                self._spare[item] = None
        for item in dropped:
            del self._spare[item]

    def sizes(self) -> Mapping[str, int]:
        """The elements of each set."""
        return self._counts

    def is_undisturbed(self) -> bool:
        """Whether only we have committed anything since the last look: one small request."""
        return self._kernel.generation() == self._generation

    def stand_beside(self, others: Sequence[NftablesProxier]) -> None:
        """Those of other families in the same namespace, whose commits are not somebody else's."""
        self._beside = others

    def _tell(self) -> None:
        for other in self._beside:
            other.expect_commit()

    def expect_commit(self) -> None:
        """One of ours has committed to another table."""
        self._generation = _next(self._generation)

    def is_intact(self) -> bool:
        """Whether our table still has our chains, rules and sets, and each set as many elements as we gave it.

        Costs a listing without the elements. What it cannot see is one element exchanged for another.
        """
        listed, generation = self._kernel.list_table(self._table, elements=False)
        if listed is None:
            return False
        there = Ruleset.of_listing(listed)
        if there.dormant or (there.sets, there.chains) != (self._sets, self._chains):
            return False
        for name, item in listed.sets.items():
            if item.set.is_dynamic:
                continue
            count = item.count
            if count is None or item.set.flags & SetFlag.INTERVAL:
                count = len(self._kernel.list_elements(self._table, item))
            if count != self._counts[name]:
                return False
        self._generation = generation
        return True

    def verify(
        self, table: ForwardingTable, node: NodeFacts, spread: Spread | None = None
    ) -> list[Discrepancy]:
        """Every chain, set and element in which the kernel and ``table`` differ, and who would notice.

        ``spread``: what IPVS does, where this table stands beside it.
        """
        wanted, _, sizes = render(table.items(), node, self._options, self._role)
        listed, _ = self._kernel.list_table(self._table)
        there = Ruleset.of_listing(listed) if listed else None
        if there is not None:
            wanted = with_sizes(wanted, spare_sizes(there, sizes, self._words), self._words)
        return discrepancies(wanted, there, table.items(), node, spread)

    def remove(self) -> None:
        """Takes the table away, with everything in it.

        Its entrances first. Another mode may forward meanwhile, and a packet that is on its way through these rules
        when their maps go would find itself in a service network without a Service, and be refused.
        """
        if self._kernel.table_handle(self._table) is None:
            return
        listed, _ = self._kernel.list_table(self._table, elements=False)
        entrances = [chain.name for chain in listed.chains.values() if chain.hook] if listed else []
        flush = [(MessageType.DELRULE, 0, rules_of_payload(self._table, name)) for name in entrances]
        if flush:
            self._kernel.commit(flush)
            time.sleep(_UNDER_WAY)
        self._kernel.commit([(MessageType.DELTABLE, 0, self._table.address)])


def _longest_unneeded(spare: Sequence[SizeClass], number: int) -> list[SizeClass]:
    """The first ``number``, and with a chain those that fall back on it when no more clients can be remembered."""
    gone = set(spare[: max(0, number)])
    return [item for item in spare if item in gone or without_affinity(item) in gone]


def _count(rendered: Rendered, shared: Counter[SharedElement], sizes: Counter[SizeClass], sign: int) -> None:
    for element in rendered.shared:
        shared[element] += sign
    for size in rendered.sizes:
        sizes[size] += sign


def _growth(transaction: Transaction) -> Counter[str]:
    """How many elements each set gains; negative where it loses."""
    growth: Counter[str] = Counter()
    for name, items in transaction.added.items():
        growth[name] += len(items)
    for name, items in transaction.removed.items():
        growth[name] -= len(items)
    for name, (old, new) in transaction.replaced.items():
        growth[name] += len(new) - len(old)
    return growth


def _next(generation: int) -> int:
    """The kernel's counter after one commit: 32 bits, never zero."""
    return (generation + 1) & 0xFFFFFFFF or 1
