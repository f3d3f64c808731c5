"""Text for ``iptables-restore --noflush``: only the chains that change, each of them whole. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nodeport.proxy.iptables.ruleset import Jump, Listing, Rules, Ruleset, Table, is_ours


@dataclass(slots=True)
class Section:
    """What changes in one table, in one commit.

    ``chains`` are made, or emptied, and filled; ``dead`` are taken away; ``added`` and ``removed`` are rules in other
    people's chains.
    """

    table: str
    chains: dict[str, Rules] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    added: list[tuple[str, str]] = field(default_factory=list)
    removed: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.chains or self.dead or self.added or self.removed)

    def size(self) -> int:
        """How many rules and chains are sent."""
        return sum(map(len, self.chains.values())) + sum(
            map(len, (self.chains, self.dead, self.added, self.removed))
        )

    def lines(self) -> Iterable[str]:
        """A dead chain is emptied before any is deleted: they may lead to one another.

        In the order of their names, which spares the nft variant two thirds of its time.
        """
        yield f"*{self.table}"
        for name in sorted((*self.chains, *self.dead)):
            yield f":{name} - [0:0]"
        for name, rules in self.chains.items():
            for rule in rules:
                yield f"-A {name} {rule}" if rule else f"-A {name}"
        for chain, rule in self.removed:
            yield f"-D {chain} {rule}"
        for chain, rule in self.added:
            yield f"-I {chain} 1 {rule}"
        for name in self.dead:
            yield f"-X {name}"
        yield "COMMIT"


def restore_text(sections: Iterable[Section]) -> str:
    return "".join(f"{line}\n" for section in sections if section for line in section.lines())


def touched_section(ruleset: Ruleset, table: Table) -> Section:
    """What was touched in a table since the last time, which is forgotten."""
    chains = ruleset.chains[table]
    section = Section(table)
    for name in sorted(chains.touched):
        rules = chains.rules(name)
        if rules is None:
            section.dead.append(name)
        else:
            section.chains[name] = rules
    chains.touched.clear()
    return section


def difference(ruleset: Ruleset, there: Mapping[str, Listing]) -> list[Section]:
    """What brings the kernel from ``there`` to the ruleset.

    Refusals come first: they bite nobody who is translated. But where nothing of ours translates yet, translations do:
    somebody else may be forwarding until then, another proxy mode for one.
    """
    refusals, translations = (
        _table_difference(ruleset, table, there.get(table, Listing())) for table in (Table.FILTER, Table.NAT)
    )
    return [translations, refusals] if translations.added else [refusals, translations]


def _table_difference(ruleset: Ruleset, table: Table, there: Listing) -> Section:
    wanted, ours = ruleset.chains[table].everything(), there.ours()
    section = Section(table)
    section.chains = {name: rules for name, rules in wanted.items() if ours.get(name) != rules}
    section.dead = [name for name in ours if name not in wanted]
    section.added, section.removed = jump_difference(ruleset.jumps, table, there)
    return section


def jump_difference(
    jumps: Iterable[Jump], table: Table, there: Listing
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The rules to put first into other people's chains, and those to take out of them.

    Ours go first when they are put there. Where somebody has put his own before them since, they stay: who insists on
    the first place ends in a race with others who do.
    """
    wanted = [(jump.chain, jump.rule) for jump in jumps if jump.table is table]
    present = there.jumps()
    missing = [jump for jump in wanted if jump not in present]
    extra = list(present)
    for jump in wanted:
        if jump in extra:
            extra.remove(jump)
    return missing, extra


def removal(there: Mapping[str, Listing], dead: Callable[[str], bool] = is_ours) -> list[Section]:
    """What takes every chain of which ``dead`` is true away, and every rule that leads to one from another.

    Refusals go first: what they would refuse once nothing translates any more, somebody else may be forwarding.
    """
    ordered = sorted(there.items(), key=lambda item: item[0] != Table.FILTER)
    return [
        Section(table, dead=[name for name in listing.chains if dead(name)], removed=listing.jumps(dead))
        for table, listing in ordered
    ]
