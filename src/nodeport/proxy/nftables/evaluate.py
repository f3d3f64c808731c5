"""What a rendered ruleset does with a packet, computed without a kernel.

A machine for the few expressions that we use, on the very bytes that we send. Tests hold it against the oracle on one
side and against the kernel on the other; ``trace`` can ask it which rule decided. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import IPAddress, Verdict
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables.expressions import Code, Data, Expression, VerdictData
from nodeport.netlink.nftables.objects import Chain, Hook, SetFlag
from nodeport.proxy.nftables.ruleset import Ruleset
from nodeport.proxy.questions import Fate


class UnknownExpression(Exception):
    """The ruleset holds an expression that this machine does not know."""


Balance = Callable[[Packet], Sequence[tuple[IPAddress, int]]]
"""Among which endpoints somebody else (IPVS) spreads what the rules let pass; nothing: he lets it pass as well."""


def fates(
    ruleset: Ruleset,
    packet: Packet,
    local_addresses: frozenset[IPAddress],
    balance: Balance | None = None,
) -> frozenset[Fate]:
    """All that can become of ``packet``, over every random choice. ``local_addresses``: all the node has."""
    first = _Machine(ruleset, packet, local_addresses, 0, balance)
    found = {first.run()}
    for choice in range(1, first.modulus):
        found.add(_Machine(ruleset, packet, local_addresses, choice, balance).run())
    return frozenset(found)


def fate(ruleset: Ruleset, packet: Packet, local_addresses: frozenset[IPAddress], choice: int) -> Fate:
    """What becomes of ``packet`` where every random choice is ``choice``, modulo the number of what there is."""
    return _Machine(ruleset, packet, local_addresses, choice, None).run()


_REJECT: Final = "reject"
_TRANSLATED: Final = "translated"
_MASQUERADED: Final = "masqueraded"
_ADDRESSES: Final = {4: (12, 16), 6: (8, 24)}
"""Where the source and the destination address begin in the network header."""
_Outcome = Code | str | None
"""How a chain ended: a terminal verdict, what a terminal statement did, or ``None`` when it ran out of rules."""


@dataclass(slots=True)
class _Machine:
    ruleset: Ruleset
    packet: Packet
    local_addresses: frozenset[IPAddress]
    choice: int
    balance: Balance | None = None
    balanced: bool = False
    modulus: int = 1
    priority: bytes = bytes(4)
    destination: tuple[IPAddress, int] | None = None
    masquerade: bool = False
    words: dict[int, bytes] = field(default_factory=dict)
    remembered: dict[str, dict[bytes, Data]] = field(default_factory=dict)

    def run(self) -> Fate:
        for hook in self._path():
            outcome = self._hook(hook)
            if outcome == _REJECT:
                return Fate(Verdict.REJECT)
            if outcome is Code.DROP:
                return Fate(Verdict.DROP)
        if self.destination is None:
            return Fate(Verdict.PASS, None, self.masquerade)
        return Fate(Verdict.FORWARD, self.destination, self.masquerade)

    def _path(self) -> Iterator[Hook]:
        """The hooks in the packet's way; where it goes next is decided by the destination it has by then."""
        yield Hook.OUTPUT if self.packet.from_node else Hook.PREROUTING
        self._spread()
        address, _ = self.destination or (self.packet.destination, 0)
        is_local = address in self.local_addresses
        if self.packet.from_node or not is_local:
            if not self.packet.from_node:
                yield Hook.FORWARD
            yield Hook.POSTROUTING
        if is_local:
            yield Hook.INPUT

    def _spread(self) -> None:
        if self.destination is not None or self.balance is None:
            return
        endpoints = self.balance(self.packet)
        if endpoints:
            self.modulus, self.balanced = len(endpoints), True
            self.destination = endpoints[self.choice % self.modulus]

    def _hook(self, hook: Hook) -> _Outcome:
        """A hook's base chains by priority; once the packet is translated, its other nat chains are over."""
        translated = False
        for chain in _base_chains(self.ruleset, hook):
            if translated and chain.hook is not None and chain.hook.type == "nat":
                continue
            outcome = self._chain(chain.name)
            if outcome is None and chain.hook is not None:
                outcome = chain.hook.policy
            if outcome in (_REJECT, Code.DROP):
                return outcome
            translated = translated or outcome in (_TRANSLATED, _MASQUERADED)
            self.masquerade = self.masquerade or outcome == _MASQUERADED
        return None

    def _chain(self, name: str) -> _Outcome:
        for rule in self.ruleset.chains[name].rules:
            outcome = self._rule(rule.expressions)
            match outcome:
                case VerdictData(Code.GOTO, chain):
                    return self._chain(chain)
                case VerdictData(Code.JUMP, chain):
                    inner = self._chain(chain)
                    if inner is not None:
                        return inner
                case VerdictData(Code.RETURN):
                    return None
                case VerdictData(code):
                    return code
                case str():
                    return outcome
        return None

    def _rule(self, expressions: tuple[Expression, ...]) -> VerdictData | str | None:
        """Runs expressions until one does not match (``None``) or one ends the rule."""
        for item in expressions:
            result = self._expression(item)
            if result is False:
                return None
            if not isinstance(result, bool):
                return result
        return None

    def _expression(self, item: Expression) -> bool | VerdictData | str:
        """True: go on; False: the rule does not match; else what the rule decides."""
        loaded = self._loaded(item)
        if loaded is not None:
            return self._load(item, loaded)
        match item.name:
            case "meta":
                return self._meta(item)
            case "bitwise":
                return self._bitwise(item)
            case "cmp":
                data = item["data"]
                assert isinstance(data, bytes)
                equal = self._read(item.number("sreg"), len(data)) == data
                return equal is (item.number("op") == nft.CMP_EQ)
            case "immediate":
                return self._immediate(item)
            case "lookup":
                return self._lookup(item)
            case "nat":
                self.destination = self._translation(item)
                return _TRANSLATED
            case "masq":
                return _MASQUERADED
            case "reject":
                return _REJECT
            case "dynset":
                self._remember(item)
                return True
        raise UnknownExpression(item.name)

    def _loaded(self, item: Expression) -> bytes | None:
        """The value of an expression that does nothing but load one."""
        match item.name:
            case "payload":
                return self._payload(item)
            case "ct":
                return self._conntrack(item)
            case "fib":
                return self._fib(item)
            case "numgen":
                modulus = item.number("modulus")
                self.modulus = max(self.modulus, modulus)
                return struct.pack("=I", self.choice % modulus)
        return None

    def _payload(self, item: Expression) -> bytes:
        address, port = self.destination or (self.packet.destination, self.packet.port)
        source, destination = _ADDRESSES[address.version]
        match item.number("base"), item.number("offset"):
            case nft.NETWORK_HEADER, offset if offset == source:
                return self.packet.source.packed
            case nft.NETWORK_HEADER, offset if offset == destination:
                return address.packed
            case nft.TRANSPORT_HEADER, 2:
                return port.to_bytes(2, "big")
        raise UnknownExpression(str(item))

    def _meta(self, item: Expression) -> bool:
        if any(name == "sreg" for name, _ in item.values):
            self.priority = self._read(item.number("sreg"), 4)
            return True
        if item.number("key") == nft.META_L4PROTO:
            return self._load(item, bytes((self.packet.protocol.value,)))
        if item.number("key") == nft.META_IIFNAME:
            return self._load(item, self.packet.interface.encode().ljust(16, b"\0"))
        return self._load(item, self.priority)

    def _conntrack(self, item: Expression) -> bytes:
        match item.number("key"):
            case nft.CT_STATUS:
                return struct.pack("=I", nft.IPS_DST_NAT if self.destination and not self.balanced else 0)
            case nft.CT_DST_IP | nft.CT_DST_IP6:
                return self.packet.destination.packed
            case nft.CT_PROTO_DST:
                return self.packet.port.to_bytes(2, "big")
        raise UnknownExpression(str(item))

    def _fib(self, item: Expression) -> bytes:
        if item.number("flags") == nft.FIB_DADDR:
            address, _ = self.destination or (self.packet.destination, 0)
        else:
            address = self.packet.source
        kind = nft.RTN_LOCAL if address in self.local_addresses else nft.RTN_LOCAL - 1
        return struct.pack("=I", kind)

    def _bitwise(self, item: Expression) -> bool:
        length, mask = item.number("length"), item["mask"]
        assert isinstance(mask, bytes)
        value = int.from_bytes(self._read(item.number("sreg"), length), "big") & int.from_bytes(mask, "big")
        return self._load(item, value.to_bytes(length, "big"))

    def _immediate(self, item: Expression) -> bool | VerdictData:
        data = item["data"]
        if isinstance(data, VerdictData):
            return data
        assert isinstance(data, bytes)
        return self._load(item, data)

    def _lookup(self, item: Expression) -> bool | VerdictData:
        name = str(item["set"])
        definition = self.ruleset.sets[name]
        key = self._read(item.number("sreg"), definition.key_length)
        elements = self.remembered.get(name) or self.ruleset.elements_of(name)
        if definition.flags & SetFlag.CONCAT:
            data: Data | None = b"" if _in_ranges(elements, key, definition.fields) else None
        elif definition.flags & SetFlag.INTERVAL:
            data = b"" if _in_interval(elements, key) else None
        else:
            data = elements.get(key)
        if not definition.flags & SetFlag.MAP:
            return (data is not None) is (item.number("flags") != nft.LOOKUP_INVERTED)
        if data is None or isinstance(data, VerdictData):
            return data or False
        return self._load(item, data)

    def _remember(self, item: Expression) -> None:
        """What a rule does to a set that packets fill: in ``remembered``, over what the ruleset holds."""
        name = str(item["set"])
        definition = self.ruleset.sets[name]
        key = self._read(item.number("sreg_key"), definition.key_length)
        known = self.remembered.setdefault(name, dict(self.ruleset.elements_of(name)))
        if item.number("op") == nft.DYNSET_DELETE:
            known.pop(key, None)
        else:
            known.setdefault(key, self._read(item.number("sreg_data"), definition.data_length))

    def _translation(self, item: Expression) -> tuple[IPAddress, int]:
        length = len(self.packet.destination.packed)
        address = ip_address(self._read(item.number("address"), length))
        return address, int.from_bytes(self._read(item.number("port"), 2), "big")

    def _load(self, item: Expression, data: bytes) -> bool:
        start = nft.word_of(item.number("dreg"))
        for offset in range(0, len(data), 4):
            self.words[start + offset // 4] = data[offset : offset + 4].ljust(4, b"\0")
        return True

    def _read(self, register: int, length: int) -> bytes:
        start = nft.word_of(register)
        words = (self.words.get(start + index, bytes(4)) for index in range((length + 3) // 4))
        return b"".join(words)[:length]


def _base_chains(ruleset: Ruleset, hook: Hook) -> list[Chain]:
    if ruleset.dormant:
        return []
    there = [chain for chain in ruleset.chains.values() if chain.hook is not None and chain.hook.hook is hook]
    return sorted(there, key=lambda chain: chain.hook.priority if chain.hook else 0)


def _in_interval(elements: Mapping[bytes, Data], key: bytes) -> bool:
    length = len(key)
    return any(item[:length] <= key and (len(item) == length or key < item[length:]) for item in elements)


def _in_ranges(elements: Mapping[bytes, Data], key: bytes, fields: tuple[int, ...]) -> bool:
    """Whether each field of ``key`` lies between those of the first and the last key of some element."""
    length = len(key)
    return any(
        all(
            item[at : at + size] <= key[at : at + size] <= item[length + at : length + at + size]
            for at, size in _places(fields)
        )
        for item in elements
    )


def _places(fields: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Where each field of a concatenation begins, and its length: all are padded to words."""
    at = 0
    for size in fields:
        yield at, size
        at += (size + 3) // 4 * 4
