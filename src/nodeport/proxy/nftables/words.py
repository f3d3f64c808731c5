"""Chains, keys and data in words close to nft's own, for those who must be told what differs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import takewhile
from typing import Final

from nodeport.forwarding.table import IPAddress, Protocol
from nodeport.netlink.nftables.expressions import Data, Expression, VerdictData
from nodeport.netlink.nftables.objects import Chain, Rule, Set, SetFlag
from nodeport.proxy.nftables.ruletext import Unspeakable, rule_text

_ADDRESSES: Final = {7: 4, 8: 16}
_PROTOCOL: Final = 12
_PORT: Final = 13
_CLASS: Final = 23
_LENGTHS: Final = {**_ADDRESSES, _PROTOCOL: 1, _PORT: 2, _CLASS: 4}
"""nft's type number -> bytes that count; every field takes up a multiple of four."""


@dataclass(frozen=True, slots=True)
class FieldValue:
    """A field that is no address: ``protocol`` and ``port`` where it is one, ``number`` in any case."""

    number: int
    protocol: int | None = None
    port: int | None = None

    def __str__(self) -> str:
        known = {protocol.value: protocol.name.lower() for protocol in Protocol}
        return known.get(self.number, str(self.number)) if self.protocol is not None else str(self.number)


def fields(item: Set, key: bytes) -> list[IPAddress | FieldValue]:
    """The fields of a key (of a set that is no interval set), as far as its types are known."""
    return list(_fields(item.key_type, key))


def _fields(kind: int, raw: bytes) -> Iterator[IPAddress | FieldValue]:
    offset = 0
    for part in _parts(kind):
        length = _LENGTHS.get(part, 4)
        value = raw[offset : offset + length]
        offset += (length + 3) // 4 * 4
        if part in _ADDRESSES and len(value) == length:
            yield ip_address(value)
        elif part == _PROTOCOL:
            yield FieldValue(int.from_bytes(value, "big"), protocol=int.from_bytes(value, "big"))
        elif part == _PORT:
            yield FieldValue(int.from_bytes(value, "big"), port=int.from_bytes(value, "big"))
        else:
            yield FieldValue(int.from_bytes(value, "little"))


def _parts(kind: int) -> list[int]:
    """A concatenation's number holds six bits per field."""
    parts: list[int] = []
    while kind:
        parts.insert(0, kind & 0x3F)
        kind >>= 6
    return parts


_TYPES: Final = {
    1: "verdict", 4: "integer", 7: "ipv4_addr", 8: "ipv6_addr", 12: "inet_proto", 13: "inet_service", 19: "mark",
    23: "classid",
}  # fmt: skip
"""nft's names of its type numbers, those that we use and their like."""
_FLAGS: Final = {
    SetFlag.INTERVAL: "interval", SetFlag.TIMEOUT: "timeout", SetFlag.EVAL: "dynamic",
}  # fmt: skip
_VERDICT: Final = 0xFFFFFF00


def set_words(item: Set | None) -> str:
    """What a set or map is made for, as nft says it."""
    if item is None:
        return "absent"
    told = f"type {_type_words(item.key_type)}"
    if item.flags & SetFlag.MAP:
        told += f" : {'verdict' if item.data_type == _VERDICT else _type_words(item.data_type)}"
    flags = [word for flag, word in _FLAGS.items() if item.flags & flag]
    told += f"; flags {','.join(flags)}" if flags else ""
    told += f"; size {item.size}" if item.size else ""
    return f"{told}; counter" if item.counts else told


def _type_words(kind: int) -> str:
    return " . ".join(_TYPES.get(part, f"type {part}") for part in _parts(kind))


def key_words(item: Set, key: bytes) -> str:
    if item.flags & SetFlag.INTERVAL:
        length = item.key_length
        edges = [key[start : start + length] for start in range(0, len(key), length)]
        return " up to, without, ".join(" . ".join(map(str, _fields(item.key_type, edge))) for edge in edges)
    return " . ".join(map(str, fields(item, key)))


def data_words(item: Set, data: Data) -> str:
    if isinstance(data, VerdictData):
        return f"{data.code.name.lower()} {data.chain}".strip()
    return " . ".join(map(str, _fields(item.data_type, data))) if data else "present"


def chain_words(wanted: Chain | None, found: Chain | None) -> tuple[str, str]:
    """In what two chains differ, for each of them: how they are hooked, if in that, and the rules between those that
    both begin and end with.
    """
    if wanted is None or found is None:
        return _whole(wanted), _whole(found)
    ours, theirs = wanted.rules, found.rules
    same = sum(1 for _ in takewhile(_alike, zip(ours, theirs, strict=False)))
    rest = min(len(ours), len(theirs)) - same
    backwards = zip(reversed(ours), reversed(theirs), strict=False)
    last = min(rest, sum(1 for _ in takewhile(_alike, backwards)))
    hooks = (f"{_hook_words(item)}: " if wanted.hook != found.hook else "" for item in (wanted, found))
    parts = (rules[same : len(rules) - last] for rules in (ours, theirs))
    told = [hook + _rules_words(part, same) for hook, part in zip(hooks, parts, strict=True)]
    return told[0], told[1]


def _alike(pair: tuple[Rule, Rule]) -> bool:
    return pair[0] == pair[1]


def _whole(chain: Chain | None) -> str:
    return "absent" if chain is None else f"{_hook_words(chain)}: {_rules_words(chain.rules, 0)}"


def _hook_words(chain: Chain) -> str:
    if chain.hook is None:
        return "no hook"
    hook = chain.hook
    return f"{hook.type} {hook.hook.name.lower()} {hook.priority}, policy {hook.policy.name.lower()}"


def _rules_words(rules: Sequence[Rule], before: int) -> str:
    """``before``: how many rules of the chain are in front of these."""
    told = (f"rule {number}: {_rule_words(rule)}" for number, rule in enumerate(rules, before + 1))
    return "; ".join(told) or "no rule"


def _rule_words(rule: Rule) -> str:
    """As nft lists it; what nobody of us says, in the kernel's words."""
    try:
        return rule_text(rule)
    except Unspeakable:
        pass
    comment = f'"{rule.comment}" ' if rule.comment else ""
    return comment + " ".join(map(_expression_words, rule.expressions))


def _expression_words(item: Expression) -> str:
    values = (f"{name}={_value_words(value)}" for name, value in item.values)
    return f"{item.name}({', '.join(values)})"


def _value_words(value: int | str | Data) -> str:
    if isinstance(value, VerdictData):
        return f"{value.code.name.lower()} {value.chain}".strip()
    return value.hex() if isinstance(value, bytes) else str(value)
