"""The mode at work: brings the kernel's chains to what the forwarding table wants, and keeps them there.

It knows what it sent last, so a change sends the chains it changes and no others. It trusts that knowledge only as long
as nobody else changed the tables, see ``witness.py``.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from nodeport.forwarding.table import (
    Change,
    Family,
    ForwardingOptions,
    ForwardingTable,
    IPAddress,
    NodeFacts,
)
from nodeport.proxy.iptables.layout import FILTER, JUMPS, Spot, answers_on_loopback, martian_rule
from nodeport.proxy.iptables.programs import Iptables, set_route_localnet
from nodeport.proxy.iptables.render import (
    Rendered,
    local_rules,
    put_leaf,
    remove_leaf,
    render,
    render_forwarding,
)
from nodeport.proxy.iptables.restore import (
    Section,
    difference,
    removal,
    restore_text,
    touched_section,
)
from nodeport.proxy.iptables.ruleset import Listing, Ruleset, Table
from nodeport.proxy.iptables.slots import ChainSlots
from nodeport.proxy.iptables.variants import choose_variant, listing
from nodeport.proxy.iptables.verify import Comparison
from nodeport.proxy.iptables.witness import Sight, Witness, open_witness
from nodeport.proxy.options import ProxyOptions, Variant
from nodeport.proxy.proxier import Discrepancy, Proxier, RuleCounts, SlotMemory, UnsupportedMode

_FRAME: Final = 2
"""Entries that the kernel adds to the rules of every chain: its name in front, a return at the end."""


class IptablesProxier:
    """Programs the chains ``NODEPORT-*`` through ``programs``; ``witness`` watches the same tables.

    ``resync`` first; then ``apply`` for every change. Errors: IptablesError and other OSErrors, NetlinkError.
    """

    def __init__(self, programs: Iptables, witness: Witness, options: ForwardingOptions) -> None:
        self._programs = programs
        self._witness = witness
        self._options = options
        self._ruleset = Ruleset(JUMPS)
        self._local: Counter[IPAddress] = Counter()
        self._lengths: dict[tuple[str, str], int] = {}
        self._rules: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._seen: Sight | None = None
        self._alone = False

    def slots(self) -> SlotMemory:
        """In which order the kernel's chains try endpoints now: a restarted proxy leaves them so."""
        return ChainSlots(self._programs.read().get(Table.NAT, Listing()).ours())

    def resync(self, table: ForwardingTable, node: NodeFacts) -> int:
        """Reads the kernel's chains and sends those that differ; returns how many rules and chains that took.

        The first time, what the other variant of the programs may have of ours goes after that.
        """
        ruleset, local = render(table.items(), node, self._options)
        self._seen = self._witness.look()
        there = self._programs.read()
        self._lengths = {
            (kind, name): len(rules)
            for kind in Table
            for name, rules in there.get(kind, Listing()).ours().items()
        }
        self._rules.clear()
        for (kind, _), length in self._lengths.items():
            self._rules[kind] += length
        for kind, listed in there.items():
            self._rules[kind] += len(listed.jumps())
        sent = self._send(difference(ruleset, there))
        if answers_on_loopback(node):
            set_route_localnet(
                self._programs.netns, on=True
            )  # not before neighbours are kept off what listens there
        for chains in ruleset.chains.values():
            chains.touched.clear()
        self._ruleset, self._local = ruleset, local
        if not self._alone:
            remove_iptables(self._programs.family, self._programs.netns, keep=self._programs.variant)
            self._alone = True
        return sent

    def apply(self, changes: Sequence[Change], node: NodeFacts) -> int:
        """Sends the chains that ``changes`` change; returns how many rules and chains that took.

        New refusals are there before the translations that they replace go, and old ones go when their successors are
        there: a packet is translated or refused, never neither.
        """
        old, new = Rendered(), Rendered()
        growth: Counter[IPAddress] = Counter()
        for change in changes:
            for forwarding, rendered, sign in ((change.old, old, -1), (change.new, new, 1)):
                if forwarding is not None:
                    one = render_forwarding(change.name, forwarding, node, self._options)
                    rendered.chains.update(one.chains)
                    rendered.leaves.update(one.leaves)
                    growth.update(dict.fromkeys(one.local, sign))
        for (spot, key), rules in new.leaves.items():
            put_leaf(self._ruleset, spot, key, rules, node)
        sections = [touched_section(self._ruleset, Table.FILTER)]
        for spot, key in old.leaves.keys() - new.leaves.keys():
            remove_leaf(self._ruleset, spot, key, node)
        self._put_chains(old, new)
        self._count_local(growth, node)
        sections += [touched_section(self._ruleset, Table.NAT), touched_section(self._ruleset, Table.FILTER)]
        return self._send(sections)

    def _put_chains(self, old: Rendered, new: Rendered) -> None:
        nat = self._ruleset.chains[Table.NAT]
        for name in old.chains.keys() - new.chains.keys():
            nat.remove_own(name)
        for name, rules in new.chains.items():
            nat.put_own(name, rules)

    def _count_local(self, growth: Counter[IPAddress], node: NodeFacts) -> None:
        """The rules about a local endpoint come with the first Service port that has it and go with the last."""
        for address, number in growth.items():
            before = self._local[address]
            after = self._local[address] = before + number
            if after and not before:
                rules = local_rules(address, node, self._options)
                put_leaf(self._ruleset, Spot.LOCAL, (int(address),), rules, node)
            elif before and not after:
                remove_leaf(self._ruleset, Spot.LOCAL, (int(address),), node)

    def _send(self, sections: list[Section]) -> int:
        wanted = [section for section in sections if section]
        if not wanted:
            return 0
        before, self._seen = self._seen, None
        self._programs.restore(restore_text(wanted))
        growth = self._grow(wanted)
        after = self._witness.look()
        if before is not None and self._witness.explains(before, after, growth, len(wanted)):
            self._seen = after
        return sum(section.size() for section in wanted)

    def _grow(self, sections: Sequence[Section]) -> dict[str, int]:
        """By how many entries the kernel's tables have grown, now that they have ``sections``."""
        growth: dict[str, int] = dict.fromkeys(Table, 0)
        written: Counter[str] = Counter()
        for section in sections:
            table = section.table
            chains = 0
            more = len(section.added) - len(section.removed)
            for name in section.dead:
                before = self._lengths.pop((table, name), None)
                chains -= before is not None
                more -= before or 0
            for name, rules in section.chains.items():
                before = self._lengths.get((table, name))
                chains += before is None
                more += len(rules) - (before or 0)
                self._lengths[table, name] = len(rules)
            growth[table] += more + _FRAME * chains
            self._rules[table] += more
            written[table] += len(section.added) + sum(map(len, section.chains.values()))
        self._written = written
        return growth

    def rule_counts(self) -> Mapping[str, RuleCounts]:
        return {table: RuleCounts(self._rules[table], self._written[table]) for table in Table}

    def is_undisturbed(self) -> bool:
        """Whether nobody but us changed anything since the last look: a system call or two."""
        return self._seen is not None and self._witness.look() == self._seen

    def is_intact(self) -> bool:
        """Whether our chains, and the jumps to them, are as we left them. Costs a listing."""
        sight = self._witness.look()
        there = self._programs.read()
        if any(difference(self._ruleset, there)):
            return False
        self._seen = sight
        return True

    def verify(self, table: ForwardingTable, node: NodeFacts) -> list[Discrepancy]:
        """Every chain in which the kernel and ``table`` differ, rule by rule, and who would notice."""
        wanted, _ = render(table.items(), node, self._options)
        there = self._programs.read()
        return Comparison(wanted, there, table.items(), node, self._options).discrepancies()

    def remove(self) -> None:
        """Takes away every chain and jump of ours, whichever variant of the programs made them."""
        self._seen = None
        remove_iptables(self._programs.family, self._programs.netns)


def remove_iptables(family: Family, netns: Path | None, *, keep: Variant | None = None) -> None:
    """Takes our chains away from both variants, but not from ``keep``. Makes no table that was not there.

    With the chain that keeps neighbours off loopback goes what lets the kernel route there.
    """
    for variant in Variant:
        there = {} if variant is keep else listing(family, netns, variant)
        if keep is None and martian_rule(family) in there.get(Table.FILTER, Listing()).chains.get(FILTER, ()):
            set_route_localnet(netns, on=False)
        sections = removal(there)
        if any(sections):
            Iptables(family, netns, variant).restore(restore_text(sections))


@contextlib.contextmanager
def open_iptables(family: Family, netns: Path | None, options: ProxyOptions) -> Iterator[Proxier]:
    """The mode in one namespace, ``None`` for the current one. Raises UnsupportedMode, OSError."""
    variant = options.iptables_variant or choose_variant(family, netns)
    programs = Iptables(family, netns, variant)
    if not programs.is_installed():
        raise UnsupportedMode(
            f"proxy mode iptables needs the programs of iptables ({variant}): install iptables"
        )
    try:
        witness = open_witness(variant, family, netns)
    except OSError as error:
        raise UnsupportedMode(f"proxy mode iptables cannot use iptables ({variant}) here: {error}") from error
    try:
        yield IptablesProxier(programs, witness, options.forwarding)
    finally:
        witness.close()
