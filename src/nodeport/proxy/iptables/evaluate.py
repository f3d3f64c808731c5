"""What rules do with a packet, computed without a kernel from their very text: what we send, or what was printed.

It knows the matches and targets that we use and refuses all others. Tests hold it against the oracle on one side and
against the kernel on the other; ``verify`` looks for packets with it. Pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import IPAddress, Protocol, Verdict
from nodeport.proxy.iptables.ruleset import Rules, Ruleset, Table
from nodeport.proxy.questions import Fate

Tables = Mapping[Table, Mapping[str, Rules]]
"""Chains by table, the built-in ones that lead to ours among them."""
Clients = Mapping[str, frozenset[IPAddress]]
"""Which clients the lists of ``-m recent`` remember, by list."""
Place = tuple[IPAddress, int]
"""An address and a port."""


class UnknownRule(Exception):
    """A rule says something that this machine does not know."""


def tables_of(ruleset: Ruleset) -> dict[Table, dict[str, Rules]]:
    """A ruleset as the kernel would list it, had it nobody else's."""
    tables = {table: dict(chains.everything()) for table, chains in ruleset.chains.items()}
    for jump in ruleset.jumps:
        tables[jump.table][jump.chain] = (*tables[jump.table].get(jump.chain, ()), jump.rule)
    return tables


def fates(
    tables: Tables,
    packet: Packet,
    local_addresses: frozenset[IPAddress],
    *,
    remembered: Clients | None = None,
) -> frozenset[Fate]:
    """All that can become of ``packet``, over every random choice.

    ``local_addresses``: all the node has.
    """
    machine = _Machine(tables, packet, local_addresses, remembered or {})
    return frozenset(machine.run())


@dataclass(frozen=True, slots=True)
class Rule:
    """``matches``: name of a test, what it is given, whether it is negated. ``target`` with its options."""

    matches: tuple[tuple[str, str, bool], ...]
    chance: float
    target: str
    goes: bool
    options: Mapping[str, str] = field(default_factory=dict)


_FLAGS: Final = frozenset({"--rsource", "--reap", "--rcheck", "--set"})
_PLAIN: Final = {
    "-s": "source",
    "-d": "destination",
    "-i": "interface",
    "-p": "protocol",
    "--dport": "port",
    "--ctorigdst": "original",
    "--ctorigdstport": "original port",
    "--ctstate": "state",
    "--src-type": "source type",
    "--dst-type": "destination type",
}
_IGNORED: Final = frozenset({"-m", "--comment", "--mode", "--seconds", "--mask"})
_TARGETED: Final = frozenset({"--to-destination", "--reject-with"})


@lru_cache(maxsize=100_000)
def parse_rule(text: str) -> Rule:
    """A rule as ``iptables-save`` prints it; raises UnknownRule."""
    words = iter(shlex.split(text))
    matches: list[tuple[str, str, bool]] = []
    options: dict[str, str] = {}
    target, goes, chance, negated, recent = "", False, 1.0, False, ""
    for word in words:
        if word == "!":
            negated = True
            continue
        if word in _FLAGS:
            recent = word if word in ("--rcheck", "--set") else recent
            continue
        value = next(words)
        if word in _PLAIN:
            matches.append((_PLAIN[word], value, negated))
        elif word in ("-j", "-g"):
            target, goes = value, word == "-g"
        elif word == "--probability":
            chance = float(value)
        elif word == "--name":
            matches.append((recent, value, negated))
        elif word in _TARGETED:
            options[word] = value
        elif word not in _IGNORED:
            raise UnknownRule(f"{word} in: {text}")
        negated = False
    return Rule(tuple(matches), chance, target, goes, options)


_Outcome = tuple[str, Place | None]
"""How a packet left a table: ACCEPT, DROP, REJECT, DNAT or MASQUERADE; with DNAT, where to."""
_THROUGH: Final[_Outcome] = ("ACCEPT", None)
_RETURNED: Final[_Outcome] = ("RETURN", None)


@dataclass(slots=True)
class _Machine:
    tables: Tables
    packet: Packet
    local_addresses: frozenset[IPAddress]
    remembered: Clients
    translated: Place | None = None

    def run(self) -> Iterator[Fate]:
        entry = "OUTPUT" if self.packet.from_node else "PREROUTING"
        for kind, place in set(self._hook(Table.NAT, entry)):
            self.translated = place if kind == "DNAT" else None
            for verdict, _ in set(self._hook(Table.FILTER, self._filter_hook())):
                yield from self._beyond_filter(verdict)

    def _filter_hook(self) -> str:
        if self.packet.from_node:
            return "OUTPUT"
        return "INPUT" if self._destination()[0] in self.local_addresses else "FORWARD"

    def _beyond_filter(self, verdict: str) -> Iterator[Fate]:
        if verdict in ("DROP", "REJECT"):
            yield Fate(Verdict.DROP if verdict == "DROP" else Verdict.REJECT)
            return
        for kind, _ in set(self._hook(Table.NAT, "POSTROUTING")):
            masquerade = kind == "MASQUERADE"
            if self.translated is None:
                yield Fate(Verdict.PASS, None, masquerade)
            else:
                yield Fate(Verdict.FORWARD, self.translated, masquerade)

    def _hook(self, table: Table, chain: str) -> Iterator[_Outcome]:
        for outcome in self._chain(table, chain, 0):
            yield _THROUGH if outcome == _RETURNED else outcome

    def _chain(self, table: Table, chain: str, start: int) -> Iterator[_Outcome]:
        """All ways on from one rule of a chain; ``_RETURNED`` when it runs out of rules."""
        rules = self.tables[table].get(chain)
        if rules is None:
            if table is Table.FILTER or (chain.isupper() and "-" not in chain):
                yield _RETURNED
                return
            raise UnknownRule(f"no chain {chain} in table {table}")
        for index in range(start, len(rules)):
            rule = parse_rule(rules[index])
            if not self._matches(rule):
                continue
            ways = list(self._target(table, rule))
            for way in ways:
                if way == _RETURNED and not rule.goes and rule.target != "RETURN":
                    yield from self._chain(table, chain, index + 1)
                else:
                    yield way
            if rule.chance >= 1:
                return
        yield _RETURNED

    def _target(self, table: Table, rule: Rule) -> Iterator[_Outcome]:
        match rule.target:
            case "DNAT":
                yield "DNAT", _place(rule.options["--to-destination"])
            case "ACCEPT" | "DROP" | "REJECT" | "MASQUERADE":
                yield rule.target, None
            case "RETURN":
                yield _RETURNED
            case chain:
                yield from self._chain(table, chain, 0)

    def _matches(self, rule: Rule) -> bool:
        return all(_TESTS[test](self, value) is not negated for test, value, negated in rule.matches)

    def _destination(self) -> Place:
        return self.translated or (self.packet.destination, self.packet.port)

    def state(self, value: str) -> bool:
        now = {"NEW"} | ({"DNAT"} if self.translated else set())
        return bool(now & set(value.split(",")))

    def recent(self, value: str) -> bool:
        return self.packet.source in self.remembered.get(value, frozenset())

    def is_local(self, address: IPAddress, kind: str) -> bool:
        if kind != "LOCAL":
            raise UnknownRule(f"type {kind}")
        return address in self.local_addresses or address.is_loopback

    def came_in(self, name: str) -> bool:
        interface = self.packet.interface
        return interface.startswith(name[:-1]) if name.endswith("+") else interface == name

    destination = property(_destination)


_TESTS: Final[Mapping[str, Callable[[_Machine, str], bool]]] = {
    "source": lambda machine, value: _within(machine.packet.source, value),
    "destination": lambda machine, value: _within(machine.destination[0], value),
    "interface": lambda machine, value: machine.came_in(value),
    "protocol": lambda machine, value: machine.packet.protocol is Protocol[value.upper()],
    "port": lambda machine, value: _in_range(machine.destination[1], value),
    "original": lambda machine, value: _within(machine.packet.destination, value),
    "original port": lambda machine, value: _in_range(machine.packet.port, value),
    "state": lambda machine, value: machine.state(value),
    "source type": lambda machine, value: machine.is_local(machine.packet.source, value),
    "destination type": lambda machine, value: machine.is_local(machine.destination[0], value),
    "--rcheck": lambda machine, value: machine.recent(value),
    "--set": lambda machine, value: True,
}


def _within(address: IPAddress, value: str) -> bool:
    """``value``: an address, with a length or a mask of whatever bits."""
    wanted, _, mask = value.partition("/")
    bits = address.max_prefixlen
    if not mask:
        number = (1 << bits) - 1
    elif mask.isdigit():
        number = (1 << bits) - (1 << bits - int(mask))
    else:
        number = int(ip_address(mask))
    return int(address) & number == int(ip_address(wanted)) & number


def _in_range(port: int, value: str) -> bool:
    first, _, last = value.partition(":")
    return int(first) <= port <= int(last or first)


def _place(text: str) -> Place:
    """``1.2.3.4:80`` or ``[fd00::1]:80``"""
    host, _, port = text.rpartition(":")
    return ip_address(host.strip("[]")), int(port)
