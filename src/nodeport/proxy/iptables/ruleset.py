"""What the kernel shall hold: chains of rules, in the very words in which ``iptables-save`` prints them. Pure.

A chain of ours either belongs to one Service port alone, or it is a branch (of a tree, see ``trees.py``) whose rules
come from many of them and are kept by key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

PREFIX: Final = "NODEPORT-"
"""Of every chain of ours, and of nobody else's."""

Rules = tuple[str, ...]
"""Rules without the leading ``-A CHAIN``."""
Key = tuple[int, ...]
"""What orders the rules of a branch: a fresh start renders them as history did."""


def is_ours(chain: str) -> bool:
    return chain.startswith(PREFIX)


class Table(StrEnum):
    """The tables we put chains into."""

    NAT = "nat"
    FILTER = "filter"


@dataclass(slots=True)
class Branch:
    """A chain whose rules come from several Service ports: those of ``items`` by key, between ``head`` and ``tail``.

    A ``lasting`` one is there even when it bears nothing.
    """

    head: Rules = ()
    tail: Rules = ()
    lasting: bool = False
    items: dict[Key, Rules] = field(default_factory=dict)

    def rules(self) -> Rules:
        middle = (rule for _, rules in sorted(self.items.items()) for rule in rules)
        return (*self.head, *middle, *self.tail)


@dataclass(slots=True)
class Chains:
    """All our chains in one table. ``touched``: those that changed since somebody last emptied it."""

    own: dict[str, Rules] = field(default_factory=dict)
    branches: dict[str, Branch] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)

    def put_own(self, name: str, rules: Rules) -> None:
        if self.own.get(name) != rules:
            self.own[name] = rules
            self.touched.add(name)

    def remove_own(self, name: str) -> None:
        if self.own.pop(name, None) is not None:
            self.touched.add(name)

    def put_item(self, name: str, key: Key, rules: Rules, tail: Rules = ()) -> bool:
        """Whether that made the chain, which then ends in ``tail``."""
        branch = self.branches.get(name)
        made = branch is None
        if branch is None:
            branch = self.branches[name] = Branch(tail=tail)
        if branch.items.get(key) != rules:
            branch.items[key] = rules
            self.touched.add(name)
        return made

    def remove_item(self, name: str, key: Key) -> bool:
        """Whether that emptied the chain, which is gone then."""
        branch = self.branches.get(name)
        if branch is None or branch.items.pop(key, None) is None:
            return False
        self.touched.add(name)
        if branch.items or branch.lasting:
            return False
        del self.branches[name]
        return True

    def rules(self, name: str) -> Rules | None:
        """``None``: no such chain."""
        own = self.own.get(name)
        if own is not None:
            return own
        branch = self.branches.get(name)
        return branch.rules() if branch is not None else None

    def everything(self) -> dict[str, Rules]:
        return {**{name: branch.rules() for name, branch in self.branches.items()}, **self.own}


@dataclass(frozen=True, slots=True)
class Jump:
    """A rule of ours in a chain that is not ours."""

    table: Table
    chain: str
    rule: str


@dataclass(slots=True)
class Ruleset:
    """Our chains in both tables; ``jumps`` lead into them."""

    jumps: tuple[Jump, ...]
    chains: dict[Table, Chains] = field(default_factory=lambda: {table: Chains() for table in Table})


@dataclass(frozen=True, slots=True)
class Listing:
    """One table as ``iptables-save`` printed it: every chain with its rules, other people's too."""

    chains: Mapping[str, Rules] = field(default_factory=dict)

    def ours(self) -> dict[str, Rules]:
        return {name: rules for name, rules in self.chains.items() if is_ours(name)}

    def jumps(self, into: Callable[[str], bool] = is_ours) -> list[tuple[str, str]]:
        """Chain and rule, wherever a chain of which ``into`` is false leads to one of which it is true."""
        return [
            (name, rule)
            for name, rules in self.chains.items()
            if not into(name)
            for rule in rules
            if into(target_of(rule) or "")
        ]


def target_of(rule: str) -> str | None:
    """The target of a rule, or the chain that it leads to; ``None``: it only counts."""
    words = rule.split()
    for option in ("-j", "-g"):
        if option in words[:-1]:
            return words[words.index(option) + 1]
    return None


def read_listings(text: str) -> dict[str, Listing]:
    """The output of ``iptables-save``, by table."""
    tables: dict[str, Listing] = {}
    table, chains = "", dict[str, list[str]]()
    for line in text.splitlines():
        if line.startswith("-A "):
            _, name, rule = f"{line} ".split(" ", 2)
            chains.setdefault(name, []).append(rule.rstrip(" "))
        elif line.startswith(":"):
            chains.setdefault(line[1:].split(" ", 1)[0], [])
        elif line.startswith("*"):
            table, chains = line[1:], {}
        elif line == "COMMIT":
            tables[table] = Listing({name: tuple(rules) for name, rules in chains.items()})
    return tables
