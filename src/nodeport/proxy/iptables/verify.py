"""What the kernel has against what the forwarding table wants, and a packet that would notice the difference. Pure.

Equality of every chain and jump proves that the kernel does what was rendered. Where they differ, packets that have to
do with the difference are put to the oracle and followed through the kernel's chains, until one fares differently.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address, ip_network
from itertools import chain as joined
from typing import Final

from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import (
    Forwarding,
    ForwardingOptions,
    IPAddress,
    NodeFacts,
    Protocol,
    ServicePortName,
)
from nodeport.proxy.counterexamples import Counterexamples, Difference
from nodeport.proxy.iptables.evaluate import UnknownRule, fates, parse_rule
from nodeport.proxy.iptables.render import render_forwarding
from nodeport.proxy.iptables.restore import jump_difference
from nodeport.proxy.iptables.ruleset import Listing, Rules, Ruleset, Table, is_ours, target_of
from nodeport.proxy.proxier import Discrepancy
from nodeport.proxy.questions import LOOPBACK, Fate, Questions

MOST_RULES: Final = 50
"""So many differing rules of one chain are told apart; what is wrong beyond them is only counted."""
_COMMENT: Final = re.compile('--comment "([^"]+)"')
_MOST_QUESTIONS: Final = 2000
"""So many packets are tried for one difference."""


@dataclass
class Comparison:
    """``there``: what ``iptables-save`` printed, by table; ``wanted``: the rendered ``forwardings``."""

    wanted: Ruleset
    there: Mapping[str, Listing]
    forwardings: Iterable[tuple[ServicePortName, Forwarding]]
    node: NodeFacts
    options: ForwardingOptions

    def discrepancies(self) -> list[Discrepancy]:
        """Empty: the kernel has what is wanted, and nothing else of ours."""
        counterexamples = Counterexamples(self._questions, self._questions.fates, self._seen, _MOST_QUESTIONS)
        return [
            counterexamples.tell(difference) for table in Table for difference in self._differences(table)
        ]

    @cached_property
    def _questions(self) -> Questions:
        return Questions(self.forwardings, self.node)

    def _differences(self, table: Table) -> Iterator[Difference]:
        there = self.there.get(table, Listing())
        ours, theirs = self.wanted.chains[table].everything(), there.ours()
        missing, extra = jump_difference(self.wanted.jumps, table, there)
        for name, rule in missing:
            yield Difference(f"chain {name} of table {table}", rule, "no such rule", self._samples())
        for name, rule in extra:
            yield Difference(f"chain {name} of table {table}", "no such rule", rule, self._samples())
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                yield from self._chain(
                    f"chain {name} of table {table}", name, ours.get(name), theirs.get(name)
                )

    def _chain(self, where: str, name: str, ours: Rules | None, theirs: Rules | None) -> Iterator[Difference]:
        if ours is None or theirs is None:
            wanted, found = ("no such chain" if it is None else f"{len(it)} rules" for it in (ours, theirs))
            yield Difference(where, wanted, found, self._packets(name, ours or theirs or ()))
            return
        missing, extra = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
        pairs = [(rule, "no such rule") for rule in missing] + [("no such rule", rule) for rule in extra]
        if not pairs:
            place = next(
                index for index, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]
            )
            pairs, where = [(ours[place], theirs[place])], f"{where}, rule {place + 1}"
        for wanted, found in pairs[:MOST_RULES]:
            yield Difference(where, wanted, found, self._packets(name, (wanted, found)))
        if left := pairs[MOST_RULES:]:
            packets = self._packets(name, [rule for pair in left[:MOST_RULES] for rule in pair])
            yield Difference(where, f"{len(left)} more rules", "others", packets)

    def _samples(self) -> Iterable[Packet]:
        return self._questions.samples()

    def _packets(self, chain: str, rules: Iterable[str]) -> Iterable[Packet]:
        """Those about the Service port whose chain it is; about what the rules name; and a bit of everything."""
        owners = self._owners.get(chain, ())
        told = {name: None for rule in rules for name in self._told_of(rule)}
        return joined(
            *(self._questions.about(name) for name in (*owners, *told)),
            *map(self._named, rules),
            self._samples(),
        )

    def _told_of(self, rule: str) -> Iterator[ServicePortName]:
        """The Service ports whose names are in the comments of a rule, and of those that it leads to."""
        for text in _COMMENT.findall(rule):
            yield from self._names.get(text, ())
        child = target_of(rule) or ""
        for table in Table:
            for below in (self.wanted.chains[table].rules(child) or ()) if is_ours(child) else ():
                yield from self._told_of(below)

    @cached_property
    def _names(self) -> Mapping[str, list[ServicePortName]]:
        """TCP and UDP of one number may have one name."""
        names: dict[str, list[ServicePortName]] = {}
        for name in self._questions.forwardings:
            names.setdefault(str(name), []).append(name)
        return names

    @cached_property
    def _owners(self) -> Mapping[str, list[ServicePortName]]:
        owners: dict[str, list[ServicePortName]] = {}
        for name, forwarding in self._questions.forwardings.items():
            for chain in render_forwarding(name, forwarding, self.node, self.options).chains:
                owners.setdefault(chain, []).append(name)
        return owners

    def _named(self, text: str) -> Iterator[Packet]:
        """About the single addresses and ports that a rule compares."""
        try:
            rule = parse_rule(text)
        except (UnknownRule, StopIteration, ValueError):
            return
        values = {test: value for test, value, _ in rule.matches}
        protocols = [Protocol[values["protocol"].upper()]] if "protocol" in values else list(Protocol)
        addresses = [_host(values[test]) for test in ("destination", "original", "source") if test in values]
        ports = [values[test] for test in ("port", "original port") if values.get(test, ":").isdigit()]
        for address in dict.fromkeys(item for item in addresses if item is not None):
            for port in ports:
                for protocol in protocols:
                    yield from self._questions.to(address, protocol, int(port))
            yield from self._questions.of_address(address)
        for port in ports:
            for protocol in protocols:
                yield from self._questions.to_port(protocol, int(port))

    def _seen(self, packet: Packet) -> frozenset[Fate] | str:
        local = frozenset({*self.node.addresses, LOOPBACK[packet.destination.version]})
        try:
            return fates(self._kernel, packet, local)
        except (UnknownRule, StopIteration, ValueError) as error:
            return f"meets a rule that is not ours ({error})"

    @cached_property
    def _kernel(self) -> dict[Table, dict[str, Rules]]:
        """Our chains as they are there, and of other people's what leads to them."""
        kernel: dict[Table, dict[str, Rules]] = {}
        for table in Table:
            there = self.there.get(table, Listing())
            chains = kernel[table] = there.ours()
            for name, rule in there.jumps():
                chains[name] = (*chains.get(name, ()), rule)
        return kernel


def _host(value: str) -> IPAddress | None:
    """The address that a match compares with, if it is a single one."""
    if "/" not in value:
        return ip_address(value)
    try:
        network = ip_network(value)
    except ValueError:  # a mask of single bits
        return None
    return network.network_address if network.num_addresses == 1 else None
