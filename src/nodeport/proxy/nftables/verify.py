"""What the kernel has against what the forwarding table wants, and a packet that would notice the difference. Pure.

Equality of every chain, set and element proves that the kernel does what was rendered. Where they differ, packets that
have to do with the difference are put to the oracle and followed through the kernel's ruleset, until one fares
differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Final, TypeVar

from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import Forwarding, IPAddress, NodeFacts, Protocol, ServicePortName
from nodeport.netlink.nftables.objects import Chain, Set, SetFlag
from nodeport.proxy.counterexamples import Counterexamples, Difference
from nodeport.proxy.nftables.evaluate import Balance, UnknownExpression, fates
from nodeport.proxy.nftables.layout import Role
from nodeport.proxy.nftables.render import render_forwarding
from nodeport.proxy.nftables.ruleset import Ruleset
from nodeport.proxy.nftables.words import FieldValue, chain_words, data_words, fields, key_words, set_words
from nodeport.proxy.proxier import Discrepancy
from nodeport.proxy.questions import LOOPBACK, Fate, Questions

MOST_ELEMENTS: Final = 50
"""So many elements of one set are told apart; what is wrong beyond them is only counted."""
_MOST_QUESTIONS: Final = 5000
"""So many packets are tried for one difference."""

_T = TypeVar("_T", Chain, Set)


@dataclass(frozen=True, slots=True)
class Spread:
    """Beside IPVS: among which endpoints it should spread a packet, and among which it does.

    With it, what is wanted is asked of the rendered ruleset: the oracle knows nothing of held addresses.
    """

    wanted: Balance
    there: Balance


def discrepancies(
    wanted: Ruleset,
    there: Ruleset | None,
    table: Iterable[tuple[ServicePortName, Forwarding]],
    node: NodeFacts,
    spread: Spread | None = None,
) -> list[Discrepancy]:
    """Where ``there`` (``None``: it is gone) differs from ``wanted``, the rendered ``table``; empty: nowhere."""
    comparison = _Comparison(wanted, there or Ruleset(), table, node, spread)
    if there is None:
        gone = Difference("the table", "there", "gone", comparison.questions.samples())
        return [comparison.counterexamples.tell(gone)]
    return [comparison.counterexamples.tell(difference) for difference in comparison.differences()]


@dataclass
class _Comparison:
    wanted: Ruleset
    there: Ruleset
    table: Iterable[tuple[ServicePortName, Forwarding]]
    node: NodeFacts
    spread: Spread | None = None

    @cached_property
    def questions(self) -> Questions:
        return Questions(self.table, self.node)

    def differences(self) -> Iterator[Difference]:
        if self.there.dormant:
            yield Difference("the table", "in action", "dormant", self.questions.samples())
        yield from self._objects("chain", self.wanted.chains, self.there.chains, chain_words)
        yield from self._objects("set", self.wanted.sets, self.there.named().sets, _set_words)
        for name in sorted(self.wanted.sets.keys() & self.there.sets.keys()):
            if self.wanted.elements_of(name) != self.there.elements_of(name):
                yield from self._elements(self.wanted.sets[name])

    def _objects(
        self,
        kind: str,
        ours: Mapping[str, _T],
        theirs: Mapping[str, _T],
        words: Callable[[_T | None, _T | None], tuple[str, str]],
    ) -> Iterator[Difference]:
        for name in sorted(ours.keys() | theirs.keys()):
            mine, other = ours.get(name), theirs.get(name)
            if mine != other:
                yield Difference(f"{kind} {name}", *words(mine, other), self.questions.samples())

    def _elements(self, item: Set) -> Iterator[Difference]:
        ours, theirs = self.wanted.elements_of(item.name), self.there.elements_of(item.name)
        keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        for key in keys[:MOST_ELEMENTS]:
            wanted, found = (
                data_words(item, elements[key]) if key in elements else "absent"
                for elements in (ours, theirs)
            )
            yield Difference(
                f"{key_words(item, key)} in {item.name}", wanted, found, self._packets(item, key)
            )
        left = keys[MOST_ELEMENTS:]
        if left:
            packets = (packet for key in left[:MOST_ELEMENTS] for packet in self._packets(item, key))
            yield Difference(f"{len(left)} more elements of {item.name}", "as rendered", "other", packets)

    def _packets(self, item: Set, key: bytes) -> Iterator[Packet]:
        """Those that have to do with an element: of the Service ports that need it, or of what it names itself.

        What a Service port needs is no other packet's business: one that fares differently does so for another reason.
        """
        owners = self._owners.get((item.name, key), ())
        for name in owners:
            yield from self.questions.about(name)
        yield from self._named(item, key)
        if not owners:
            yield from self.questions.samples()

    @cached_property
    def _owners(self) -> Mapping[tuple[str, bytes], list[ServicePortName]]:
        owners: dict[tuple[str, bytes], list[ServicePortName]] = {}
        for name, forwarding in self.questions.forwardings.items():
            role = Role.BESIDE_IPVS if self.spread is not None else Role.ALONE
            rendered = render_forwarding(name, forwarding, self.node, role)
            own = ((item, key) for item, elements in rendered.own.items() for key in elements)
            for element in (*own, *rendered.shared):
                owners.setdefault(element, []).append(name)
        return owners

    def _named(self, item: Set, key: bytes) -> Iterator[Packet]:
        if item.flags & SetFlag.INTERVAL:
            yield from self._around(item, key)
            return
        values = fields(item, key)
        addresses = [value for value in values if isinstance(value, IPAddress)]
        ports = [value.port for value in values if isinstance(value, FieldValue) and value.port]
        protocols = [Protocol(value) for value in _protocols(values)] or list(Protocol)
        for port in ports:
            for protocol in protocols:
                for address in addresses:
                    yield from self.questions.to(address, protocol, port)
                if not addresses:
                    yield from self.questions.to_port(protocol, port)
        for address in dict.fromkeys(addresses):
            yield from self.questions.of_address(address)

    def _around(self, item: Set, key: bytes) -> Iterator[Packet]:
        """Both edges of an interval, from inside and from outside, as senders and as destinations."""
        for address in _edges(item, key):
            yield from self.questions.by_sender(address)
            yield from self.questions.of_address(address)
            for place in list(self.questions.ports()):
                yield from self.questions.to(address, *place)

    @cached_property
    def counterexamples(self) -> Counterexamples:
        return Counterexamples(self.questions, self._wanted, self._found, _MOST_QUESTIONS)

    def _wanted(self, packet: Packet) -> frozenset[Fate]:
        if self.spread is None:
            return self.questions.fates(packet)
        return fates(self.wanted, packet, self._local, self.spread.wanted)

    @cached_property
    def _local(self) -> frozenset[IPAddress]:
        return frozenset({*self.node.addresses, LOOPBACK[int(self.node.family)]})

    def _found(self, packet: Packet) -> frozenset[Fate] | str:
        balance = self.spread.there if self.spread is not None else None
        try:
            return fates(self.there, packet, self._local, balance)
        except (UnknownExpression, LookupError, TypeError, ValueError) as error:  # others may say anything
            return f"meets an expression that is not ours ({error})"


def _set_words(wanted: Set | None, found: Set | None) -> tuple[str, str]:
    """Where two are told alike, they differ in what is there for nft's eyes only."""
    ours, theirs = set_words(wanted), set_words(found)
    return (ours, f"{theirs}, with other hints for nft") if ours == theirs else (ours, theirs)


def _protocols(values: Iterable[object]) -> Iterator[int]:
    known = {protocol.value for protocol in Protocol}
    for value in values:
        if isinstance(value, FieldValue) and value.protocol in known:
            yield value.protocol


def _edges(item: Set, key: bytes) -> Iterator[IPAddress]:
    length = item.key_length
    if length not in (4, 16):
        return
    first = ip_address(key[:length])
    last_number = int.from_bytes(key[length:], "big") - 1 if len(key) > length else (1 << 8 * length) - 1
    for number in (int(first), last_number, int(first) - 1, last_number + 1):
        if 0 <= number < 1 << 8 * length:
            yield ip_address(number.to_bytes(length, "big"))
