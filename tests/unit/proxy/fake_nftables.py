"""nf_tables in memory, fed with the very bytes that the kernel gets; it remembers what it had after every batch."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from copy import copy

from nodeport.netlink import codec
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.elements import decode_elements
from nodeport.netlink.nftables.kernel import ListedTable, Nftables, Request
from nodeport.netlink.nftables.objects import Chain, ListedSet, MessageType, Set, SetFlag, Table
from nodeport.netlink.socket import KernelRefused, Refusal
from nodeport.proxy.nftables.ruleset import Elements, Ruleset

_NAME = {MessageType.NEWSET: 2, MessageType.DELSET: 2, MessageType.DELCHAIN: 3, MessageType.DELRULE: 2}


class FakeNftables(Nftables):
    """One namespace with at most one table. ``history``: the table after each batch that took effect."""

    def __init__(self, *, send_limit: int = 1 << 28) -> None:
        self.table: Ruleset | None = None
        self.history: list[Ruleset | None] = []
        self._limit = send_limit
        self._commits = 1

    def send_limit(self) -> int:
        return self._limit

    def generation(self) -> int:
        return self._commits

    def table_handle(self, table: Table) -> int | None:
        return None if self.table is None else 1

    def list_table(self, table: Table, *, elements: bool = True) -> tuple[ListedTable | None, int]:
        if self.table is None:
            return None, self._commits
        there = _copy(self.table)
        sets = {name: ListedSet(item, 1, len(there.elements_of(name))) for name, item in there.sets.items()}
        listed = {name: dict(there.elements_of(name)) for name in there.sets}
        return ListedTable(1, there.chains, {}, sets, listed if elements else {}), self._commits

    def list_elements(self, table: Table, listed: ListedSet) -> dict[bytes, objects.Data]:
        assert self.table is not None
        return dict(self.table.elements_of(listed.set.name))

    def commit(self, requests: Sequence[Request], *, generation: int | None = None) -> None:
        if not requests:
            return
        size = sum(len(codec.message(kind.number, flags, 1, payload)) for kind, flags, payload in requests)
        assert size + 48 <= self._limit, "the batch does not fit"
        if generation is not None and generation != self._commits:
            raise refused(errno.ERESTART, "others committed meanwhile")
        changed = _copy(self.table) if self.table is not None else None
        for kind, _, payload in requests:
            changed = _Step(changed, kind, payload).done()
        _check(changed)
        self.table = changed
        self._commits += 1
        self.history.append(_copy(changed) if changed is not None else None)


def refused(number: int, text: str) -> KernelRefused:
    return KernelRefused([Refusal(1, number, text)])


def _copy(ruleset: Ruleset) -> Ruleset:
    elements: Elements = {name: dict(items) for name, items in ruleset.elements.items()}
    return Ruleset(dict(ruleset.chains), dict(ruleset.sets), elements)


class _Step:
    """One request of a batch against the table as the requests before it left it."""

    def __init__(self, table: Ruleset | None, kind: MessageType, payload: bytes) -> None:
        self._table = table
        self._kind = kind
        self._payload = payload

    @property
    def _there(self) -> Ruleset:
        if self._table is None:
            raise refused(errno.ENOENT, "no table")
        return self._table

    def done(self) -> Ruleset | None:
        match self._kind:
            case MessageType.NEWTABLE:
                return self._table or Ruleset()
            case MessageType.DELTABLE:
                assert self._there is not None
                return None
            case MessageType.NEWSET:
                item = objects.decode_set(self._payload).set
                self._there.sets[item.name] = item
                self._there.elements.setdefault(item.name, {})
            case MessageType.DELSET:
                name = self._name(2)
                self._pop(self._there.sets, name)
                self._there.elements.pop(name, None)
            case MessageType.NEWCHAIN:
                chain = objects.decode_chain(self._payload)
                self._there.chains[chain.name] = chain
            case MessageType.DELCHAIN:
                self._pop(self._there.chains, self._name(3))
            case MessageType.NEWRULE:
                listed = objects.decode_rule(self._payload + codec.u64be(3, 1))
                self._set_rules(listed.chain, (*self._chain(listed.chain).rules, listed.rule))
            case MessageType.DELRULE:
                self._set_rules(self._name(2), ())
            case MessageType.NEWSETELEM | MessageType.DELSETELEM:
                self._elements()
            case _:
                raise AssertionError(f"{self._kind.name} is not for a batch")
        return self._table

    def _elements(self) -> None:
        item = self._there.sets.get(self._name(2))
        if item is None:
            raise refused(errno.ENOENT, "no set")
        known = self._there.elements.setdefault(item.name, {})
        if self._kind is MessageType.DELSETELEM:
            bare = copy_without_data(item)
            for key in decode_elements(bare, [self._payload]):
                self._pop(known, key)
            return
        for key, data in decode_elements(item, [self._payload]).items():
            if key in known and known[key] != data:
                raise refused(errno.EEXIST, f"{key.hex()} of {item.name} has other data")
            known[key] = data

    def _chain(self, name: str) -> Chain:
        if name not in self._there.chains:
            raise refused(errno.ENOENT, f"no chain {name}")
        return self._there.chains[name]

    def _set_rules(self, name: str, rules: tuple[objects.Rule, ...]) -> None:
        chain = copy(self._chain(name))
        self._there.chains[name] = Chain(chain.name, rules, chain.hook)

    def _name(self, attribute: int) -> str:
        return codec.text(codec.parse(self._payload[4:])[attribute])

    def _pop(self, where: dict[object, object], key: object) -> None:
        if key not in where:
            raise refused(errno.ENOENT, f"{key!r} is not there")
        del where[key]


def copy_without_data(item: Set) -> Set:
    return Set(item.name, item.key_type, item.key_length, item.flags & ~SetFlag.MAP)


def _check(table: Ruleset | None) -> None:
    """Nothing may lead to what is not there: the kernel keeps what is in use."""
    if table is None:
        return
    targets = [data for items in table.elements.values() for data in items.values()]
    for chain in table.chains.values():
        for rule in chain.rules:
            for item in rule.expressions:
                targets += [value for _, value in item.values]
                if item.name == "lookup" and item["set"] not in table.sets:
                    raise refused(errno.EBUSY, f"set {item['set']} is in use")
    for target in targets:
        chain_name = getattr(target, "chain", "")
        if chain_name and chain_name not in table.chains:
            raise refused(errno.EBUSY, f"chain {chain_name} is in use")
