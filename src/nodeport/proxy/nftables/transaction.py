"""From one ruleset to another: the difference, and the batches that make it so. Pure.

The order inside a batch is such that it may be cut anywhere between two groups and still never send a packet astray:
what is pointed to comes before what points to it, and goes after it. A packet that is in a hook when
a batch takes effect sees the old rules there to the end, but the new elements at once. So what it might see one half of
comes in a batch of its own before, and goes in one after: see ``stages``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.elements import element_payloads
from nodeport.netlink.nftables.expressions import Data
from nodeport.netlink.nftables.kernel import Request
from nodeport.netlink.nftables.objects import Chain, MessageType, Set, SetFlag, Table
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.ruleset import Elements, Ruleset

Group = list[Request]
"""Requests that must not be separated."""

_CREATE: Final = codec.NLM_F_CREATE
_APPEND: Final = codec.NLM_F_CREATE | codec.NLM_F_APPEND
_LATE: Final = tuple(
    lookup.classes for lookup in (layout.OUTSIDE_IPS, layout.OUTSIDE_NODEPORTS, layout.IPS, layout.NODEPORTS)
)
"""The maps that lead packets on: filled last, emptied first; among them the exceptions before what they except from."""
_VERDICTS: Final = tuple(lookup.verdicts for lookup in layout.LOOKUPS)
"""The maps that lead to chains."""
_OUTSIDE: Final = (layout.OUTSIDE_IPS, layout.OUTSIDE_NODEPORTS)
_DECIDING: Final = (
    *(lookup.classes for lookup in _OUTSIDE),
    layout.RESTRICTED_IPS,
    layout.RESTRICTED_NODEPORTS,
)
"""What is in one of these fares otherwise there than what goes for everybody says."""
_EXCEPTIONS: Final = (
    *(name for lookup in _OUTSIDE for name in (lookup.endpoints, lookup.choices, lookup.seats)),
    *_DECIDING,
)
"""Those, and what they lead to, in the order in which they come."""
_MESSAGE: Final = 20
"""Bytes of a message beyond its payload, padding included."""
_FRAME: Final = 64
"""Bytes of a batch beyond its messages: its begin, with the generation, and its end."""
_EXCHANGED: Final = 256
"""How many elements change their data in one group."""


@dataclass(slots=True)
class Transaction:
    """What to add, to change and to remove. Empty: nothing differs.

    ``rebuild``: the table is of another make and is replaced whole, in one batch. ``sets`` knows the definition of
    every set that is named in the element changes.
    """

    table: Table
    sets: Mapping[str, Set]
    new_table: bool = False
    rebuild: bool = False
    new_chains: list[Chain] = field(default_factory=list)
    new_sets: list[Set] = field(default_factory=list)
    changed_chains: list[Chain] = field(default_factory=list)
    added: Elements = field(default_factory=dict)
    changed: Elements = field(default_factory=dict)
    removed: Elements = field(default_factory=dict)
    replaced: dict[str, tuple[Mapping[bytes, Data], Mapping[bytes, Data]]] = field(default_factory=dict)
    """Interval sets: all that was, all that will be. Intervals may not overlap even for a moment."""
    old_chains: list[str] = field(default_factory=list)
    old_sets: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not any(self.stages())

    def stages(self) -> list[list[Group]]:
        """The requests in order: each stage in one batch where possible, else cut between groups.

        Chains that packets will be led to; who will be led elsewhere, or nowhere, by more than what goes for everybody;
        all the rest; what nothing leads to any more. Most transactions are one stage, and a new table is: no packet is
        in it.
        """
        chains, rest, ruins = list(self._new_chains()), list(self._rest()), list(self._ruins())
        exceptions = list(self._exceptions())
        if self.new_table or self.rebuild:
            return [[*chains, *exceptions, *rest, *ruins]]
        if any(name in self.added for name in _DECIDING):
            stages = [chains, exceptions, rest, ruins]
        else:
            stages = [chains, [*exceptions, *rest], ruins]
        return [stage for stage in stages if stage]

    def _exceptions(self) -> Iterator[Group]:
        for chain in self.changed_chains:
            if chain.rules:
                address = objects.rules_of_payload(self.table, chain.name)
                yield [(MessageType.DELRULE, 0, address), *self._rules(chain)]
        yield from self._exchanges(gone=False)
        for name in _EXCEPTIONS:
            if name in self.added:
                yield from self._additions(self.sets[name])

    def _rest(self) -> Iterator[Group]:
        """Endpoints before the frontends that lead to them, and away after them; base chains, which let packets in at
        all, when everything else is there.
        """
        for name in _ordered(self.added.keys() | self.changed.keys()):
            item = self.sets[name]
            yield from self._changes(item)
            if name not in _VERDICTS and name not in _EXCEPTIONS:
                yield from self._additions(item)
        yield from self._entrances()
        late = self._removed_late()
        for name in reversed(_ordered(self.removed)):
            if name not in late:
                yield from self._removals(name)
        yield from self._exchanges(gone=True)
        for chain in self.changed_chains:
            if not chain.rules:
                yield [(MessageType.DELRULE, 0, objects.rules_of_payload(self.table, chain.name))]

    def _removed_late(self) -> Collection[str]:
        """The maps of which a packet may still ask for something that goes, once it is told so."""
        late = set(_VERDICTS)
        for lookup in _OUTSIDE:
            if lookup.classes in self.removed:
                late |= {lookup.endpoints, lookup.choices, lookup.seats}
        return late & self.removed.keys()

    def _exchanges(self, *, gone: bool) -> Iterator[Group]:
        """Of interval sets; ``gone``: what nothing takes the place of, which goes after what asks for it."""
        for name, (old, new) in self.replaced.items():
            item = self.sets[name]
            for before, after in _by_frontend(item, old, new):
                if bool(after) is not gone:
                    yield list(self._exchange(item, before, after))

    def _additions(self, item: Set) -> Iterator[Group]:
        for payload in element_payloads(self.table, item, self.added.get(item.name, {})):
            yield [(MessageType.NEWSETELEM, _CREATE, payload)]

    def _removals(self, name: str) -> Iterator[Group]:
        for payload in element_payloads(self.table, _keys_only(self.sets[name]), self.removed[name]):
            yield [(MessageType.DELSETELEM, 0, payload)]

    def _new_chains(self) -> Iterator[Group]:
        if self.new_table or self.rebuild:
            address = self.table.address
            group: Group = [(MessageType.DELTABLE, 0, address)] if self.rebuild else []
            group.append((MessageType.NEWTABLE, _CREATE, address))
            yield group
        for identity, item in enumerate(self.new_sets, 1):
            yield [(MessageType.NEWSET, _CREATE, objects.set_payload(self.table, item, identity))]
        inner = [chain for chain in self.new_chains if chain.hook is None]
        for chain in inner:
            yield [(MessageType.NEWCHAIN, _CREATE, objects.chain_payload(self.table, chain))]
        for chain in inner:
            if chain.rules:
                yield list(self._rules(chain))
        for name in _VERDICTS:
            if name in self.added:
                yield from self._additions(self.sets[name])

    def _entrances(self) -> Iterator[Group]:
        """New base chains with their rules, all at once: translating without masquerading would lose packets."""
        group: Group = []
        for chain in self.new_chains:
            if chain.hook is not None:
                group.append((MessageType.NEWCHAIN, _CREATE, objects.chain_payload(self.table, chain)))
                group.extend(self._rules(chain))
        if group:
            yield group

    def _rules(self, chain: Chain) -> Iterator[Request]:
        for rule in chain.rules:
            yield MessageType.NEWRULE, _APPEND, objects.rule_payload(self.table, chain.name, rule)

    def _changes(self, item: Set) -> Iterator[Group]:
        """A few at a time: each group takes out what it puts in again."""
        changed = iter(self.changed.get(item.name, {}).items())
        while part := dict(islice(changed, _EXCHANGED)):
            yield list(self._exchange(item, part, part))

    def _exchange(self, item: Set, old: Mapping[bytes, Data], new: Mapping[bytes, Data]) -> Iterator[Request]:
        """Data of an element cannot be changed in place: out and in again, which nobody sees happen."""
        for payload in element_payloads(self.table, _keys_only(item), old):
            yield MessageType.DELSETELEM, 0, payload
        for payload in element_payloads(self.table, item, new):
            yield MessageType.NEWSETELEM, _CREATE, payload

    def _ruins(self) -> Iterator[Group]:
        """Rules go before chains, since chains may jump to one another; sets go when no rule reads them."""
        for name in sorted(self._removed_late()):
            yield from self._removals(name)
        if not self.old_chains and not self.old_sets:
            return
        group: Group = [
            (MessageType.DELRULE, 0, objects.rules_of_payload(self.table, name)) for name in self.old_chains
        ]
        group += [
            (MessageType.DELCHAIN, 0, objects.chain_name_payload(self.table, name))
            for name in self.old_chains
        ]
        group += [
            (MessageType.DELSET, 0, objects.set_name_payload(self.table, name)) for name in self.old_sets
        ]
        yield group


def difference(table: Table, old: Ruleset | None, new: Ruleset) -> Transaction:
    """What leads from ``old`` (``None``: no such table) to ``new``."""
    if old is not None and _is_other_make(old, new):
        return rebuilt(table, new)
    known = old.named() if old is not None else Ruleset()
    transaction = Transaction(table, {**known.sets, **new.sets}, new_table=old is None)
    transaction.new_sets = [item for name, item in new.sets.items() if name not in known.sets]
    transaction.old_sets = [name for name in known.sets if name not in new.sets]
    for name, chain in new.chains.items():
        there = known.chains.get(name)
        if there is None:
            transaction.new_chains.append(chain)
        elif there.rules != chain.rules:
            transaction.changed_chains.append(chain)
    transaction.old_chains = [name for name in known.chains if name not in new.chains]
    for name in new.sets.keys() | known.sets.keys():
        compare_elements(transaction, name, known.elements_of(name), new.elements_of(name))
    return transaction


def rebuilt(table: Table, new: Ruleset) -> Transaction:
    """``new`` in place of whatever is there."""
    whole = difference(table, None, new)
    whole.new_table, whole.rebuild = False, True
    return whole


def compare_elements(
    transaction: Transaction, name: str, old: Mapping[bytes, Data], new: Mapping[bytes, Data]
) -> None:
    """Adds to ``transaction`` what leads from the elements ``old`` to ``new`` in one set."""
    if old == new:
        return
    flags = transaction.sets[name].flags
    if flags & SetFlag.CONCAT:  # ranges may not overlap even for a moment, but keep their bounds
        gone = {key: data for key, data in old.items() if key not in new}
        transaction.replaced[name] = (gone, {key: data for key, data in new.items() if key not in old})
        return
    if flags & SetFlag.INTERVAL:
        transaction.replaced[name] = (old, new)
        return
    if not old:
        _put(transaction.added, name, new)
        return
    added = {key: data for key, data in new.items() if key not in old}
    removed = {key: data for key, data in old.items() if key not in new}
    changed = {key: data for key, data in new.items() if key in old and old[key] != data}
    _put(transaction.added, name, added)
    _put(transaction.removed, name, removed)
    _put(transaction.changed, name, changed)


def batches(transaction: Transaction, limit: int) -> Iterator[list[Request]]:
    """The transaction in batches of at most ``limit`` bytes."""
    for stage in transaction.stages():
        yield from portions(stage, limit)


def portions(stage: Iterable[Group], limit: int) -> Iterator[list[Request]]:
    """A stage as one batch, or as several where one of ``limit`` bytes cannot hold it."""
    batch: list[Request] = []
    size = _FRAME
    for group in stage:
        length = sum(len(payload) + _MESSAGE for _, _, payload in group)
        if batch and size + length > limit:
            yield batch
            batch, size = [], _FRAME
        batch.extend(group)
        size += length
    if batch:
        yield batch


def _by_frontend(
    item: Set, old: Mapping[bytes, Data], new: Mapping[bytes, Data]
) -> Iterable[tuple[dict[bytes, Data], dict[bytes, Data]]]:
    """What goes and what comes, in portions that must not be cut: all of it, or that of one frontend after the other.

    Ranges overlap only where all fields before the last are the same.
    """
    if not item.fields:
        return [(dict(old), dict(new))]
    front = sum((length + 3) // 4 * 4 for length in item.fields[:-1])
    portions: dict[bytes, tuple[dict[bytes, Data], dict[bytes, Data]]] = {}
    for elements, which in ((old, 0), (new, 1)):
        for key, data in elements.items():
            portions.setdefault(key[:front], ({}, {}))[which][key] = data
    return portions.values()


def _put(elements: Elements, name: str, items: Mapping[bytes, Data]) -> None:
    if not items:
        return
    if name in elements:
        elements[name].update(items)
    else:
        elements[name] = dict(items)


def _is_other_make(old: Ruleset, new: Ruleset) -> bool:
    """Whether a set or a base chain would have to change its nature, which only a new table can do."""
    if old.dormant or any(name in old.sets and old.sets[name] != item for name, item in new.sets.items()):
        return True
    return any(
        name in old.chains and old.chains[name].hook != chain.hook for name, chain in new.chains.items()
    )


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (_LATE.index(name) + 1 if name in _LATE else 0, name))


def _keys_only(item: Set) -> Set:
    return Set(item.name, item.key_type, item.key_length, item.flags & ~SetFlag.MAP)
