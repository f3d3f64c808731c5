"""Chains, rules and sets as values, and the messages that make, list and remove them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.nftables.expressions import (
    Code,
    Expression,
    decode_expressions,
    encode_expressions,
)

SUBSYSTEM: Final = 10
FAMILY_IPV4: Final = 2
FAMILY_IPV6: Final = 10


class MessageType(IntEnum):
    NEWTABLE = 0
    GETTABLE = 1
    DELTABLE = 2
    NEWCHAIN = 3
    GETCHAIN = 4
    DELCHAIN = 5
    NEWRULE = 6
    GETRULE = 7
    DELRULE = 8
    NEWSET = 9
    GETSET = 10
    DELSET = 11
    NEWSETELEM = 12
    GETSETELEM = 13
    DELSETELEM = 14
    NEWGEN = 15
    GETGEN = 16

    @property
    def number(self) -> int:
        """The type as it stands in a netlink header."""
        return SUBSYSTEM << 8 | self


class Hook(IntEnum):
    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


@dataclass(frozen=True, slots=True)
class Table:
    """A table's address: its name in its family (``ip`` or ``ip6``, by netfilter's number)."""

    name: str
    family: int = FAMILY_IPV4

    @property
    def header(self) -> bytes:
        """``struct nfgenmsg`` of every message about an object of this family."""
        return bytes((self.family, 0, 0, 0))

    @property
    def address(self) -> bytes:
        """How every message about something in this table begins."""
        return self.header + codec.string(1, self.name)


@dataclass(frozen=True, slots=True)
class BaseHook:
    """Where a base chain hangs: chain type ("nat", "filter"), hook, priority; and what it does when no rule did."""

    type: str
    hook: Hook
    priority: int
    policy: Code = Code.ACCEPT


@dataclass(frozen=True, slots=True)
class Rule:
    """``comment`` is what nft shows behind the rule."""

    expressions: tuple[Expression, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    name: str
    rules: tuple[Rule, ...] = ()
    hook: BaseHook | None = None


class SetFlag(IntEnum):
    """Bits of ``Set.flags``, which is a plain integer: operations on IntFlag cost microseconds."""

    ANONYMOUS = 0x1
    """Part of a rule, as ``{ 22, 80 }`` is: it comes and goes with that."""
    INTERVAL = 0x4
    MAP = 0x8
    TIMEOUT = 0x10
    EVAL = 0x20
    """Rules add elements: what is in it is the packets' doing."""
    CONCAT = 0x80
    """With INTERVAL: ranges of a concatenation."""


@dataclass(frozen=True, slots=True)
class Set:
    """A set, or (with a data type) a map. Types are nft's numbers, lengths bytes; ``userdata`` is what nft needs to
    print it in its own syntax, and nothing to the kernel. ``size``: how many elements at most, 0: any number.
    ``fields``: the lengths of what a CONCAT set's key consists of. ``counts``: each element counts its matches.
    ``gc_interval``: with TIMEOUT, after how many milliseconds the kernel looks for what has expired, 0: as it likes.
    """

    name: str
    key_type: int
    key_length: int
    flags: int = 0
    data_type: int = 0
    data_length: int = 0
    userdata: bytes = b""
    size: int = 0
    fields: tuple[int, ...] = ()
    counts: bool = False
    gc_interval: int = 0

    @property
    def is_dynamic(self) -> bool:
        return bool(self.flags & SetFlag.EVAL)

    @property
    def is_anonymous(self) -> bool:
        return bool(self.flags & SetFlag.ANONYMOUS)


@dataclass(frozen=True, slots=True)
class ListedRule:
    """A rule as the kernel has it; ``handle`` is how it is addressed."""

    chain: str
    handle: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class ListedSet:
    """A set as the kernel has it; ``count`` of its elements where the kernel tells (from 6.17 on)."""

    set: Set
    handle: int
    count: int | None


_TABLE_NAME: Final = 1
_TABLE_FLAGS: Final = 2
_DORMANT: Final = 1
_TABLE_HANDLE: Final = 4
_CHAIN_NAME: Final = 3
_CHAIN_HOOK: Final = 4
_CHAIN_POLICY: Final = 5
_CHAIN_TYPE: Final = 7
_RULE_CHAIN: Final = 2
_RULE_HANDLE: Final = 3
_RULE_EXPRESSIONS: Final = 4
_RULE_USERDATA: Final = 7
_SET_NAME: Final = 2
_SET_FLAGS: Final = 3
_SET_KEY_TYPE: Final = 4
_SET_KEY_LENGTH: Final = 5
_SET_DATA_TYPE: Final = 6
_SET_DATA_LENGTH: Final = 7
_SET_DESCRIPTION: Final = 9
_DESCRIPTION_SIZE: Final = 1
_DESCRIPTION_FIELDS: Final = 2
_SET_ID: Final = 10
_SET_GC_INTERVAL: Final = 12
_SET_USERDATA: Final = 13
_SET_HANDLE: Final = 16
_SET_EXPRESSION: Final = 17
_SET_COUNT: Final = 20
_VERDICT_TYPE: Final = 0xFFFFFF00
_USERDATA_COMMENT: Final = 0


def table_name(payload: bytes) -> str:
    return codec.text(codec.parse(payload[4:]).get(_TABLE_NAME, b""))


def is_dormant(payload: bytes) -> bool:
    """Whether a listed table has been put out of action as a whole."""
    return bool(_number(codec.parse(payload[4:]), _TABLE_FLAGS) & _DORMANT)


def table_handle(payload: bytes) -> int:
    return int.from_bytes(codec.parse(payload[4:]).get(_TABLE_HANDLE, b""), "big")


def chain_payload(table: Table, chain: Chain) -> bytes:
    """The chain without its rules; rules are messages of their own."""
    parts = [table.address, codec.string(_CHAIN_NAME, chain.name)]
    if chain.hook is not None:
        place = codec.u32be(1, chain.hook.hook) + codec.attribute(2, struct.pack(">i", chain.hook.priority))
        parts.append(codec.nested(_CHAIN_HOOK, place))
        parts.append(codec.u32be(_CHAIN_POLICY, chain.hook.policy))
        parts.append(codec.string(_CHAIN_TYPE, chain.hook.type))
    return b"".join(parts)


def decode_chain(payload: bytes) -> Chain:
    """A listed chain, still without rules."""
    parts = codec.parse(payload[4:])
    name = codec.text(parts[_CHAIN_NAME])
    if _CHAIN_HOOK not in parts:
        return Chain(name)
    place = codec.parse(parts[_CHAIN_HOOK])
    hook = BaseHook(
        codec.text(parts.get(_CHAIN_TYPE, b"")),
        Hook(int.from_bytes(place[1], "big")),
        int.from_bytes(place[2], "big", signed=True),
        Code(int.from_bytes(parts.get(_CHAIN_POLICY, b"\0\0\0\1"), "big")),
    )
    return Chain(name, hook=hook)


def rule_payload(table: Table, chain: str, rule: Rule) -> bytes:
    parts = [
        table.address,
        codec.string(_RULE_CHAIN, chain),
        codec.nested(_RULE_EXPRESSIONS, encode_expressions(rule.expressions)),
    ]
    if rule.comment:
        comment = rule.comment.encode() + b"\0"
        parts.append(codec.attribute(_RULE_USERDATA, bytes((_USERDATA_COMMENT, len(comment))) + comment))
    return b"".join(parts)


def decode_rule(payload: bytes) -> ListedRule:
    parts = codec.parse(payload[4:])
    rule = Rule(
        decode_expressions(parts.get(_RULE_EXPRESSIONS, b"")), _comment(parts.get(_RULE_USERDATA, b""))
    )
    return ListedRule(codec.text(parts[_RULE_CHAIN]), int.from_bytes(parts[_RULE_HANDLE], "big"), rule)


def _comment(userdata: bytes) -> str:
    if len(userdata) < 2 or userdata[0] != _USERDATA_COMMENT:
        return ""
    return codec.text(userdata[2 : 2 + userdata[1]])


def set_payload(table: Table, item: Set, identity: int) -> bytes:
    """``identity`` is any number unique in the batch."""
    parts = [
        table.address,
        codec.string(_SET_NAME, item.name),
        codec.u32be(_SET_FLAGS, item.flags),
        codec.u32be(_SET_KEY_TYPE, item.key_type),
        codec.u32be(_SET_KEY_LENGTH, item.key_length),
    ]
    if item.flags & SetFlag.MAP:
        parts.append(codec.u32be(_SET_DATA_TYPE, item.data_type))
        if item.data_type != _VERDICT_TYPE:
            parts.append(codec.u32be(_SET_DATA_LENGTH, item.data_length))
    if item.size or item.fields:
        parts.append(codec.nested(_SET_DESCRIPTION, *_description(item)))
    parts.append(codec.u32be(_SET_ID, identity))
    if item.gc_interval:
        parts.append(codec.u32be(_SET_GC_INTERVAL, item.gc_interval))
    if item.counts:
        parts.append(codec.nested(_SET_EXPRESSION, codec.string(1, "counter")))
    if item.userdata:
        parts.append(codec.attribute(_SET_USERDATA, item.userdata))
    return b"".join(parts)


def _description(item: Set) -> Iterator[bytes]:
    if item.size:
        yield codec.u32be(_DESCRIPTION_SIZE, item.size)
    if item.fields:
        lengths = (codec.nested(1, codec.u32be(1, length)) for length in item.fields)
        yield codec.nested(_DESCRIPTION_FIELDS, *lengths)


def decode_set(payload: bytes) -> ListedSet:
    parts = codec.parse(payload[4:])
    data_type = _number(parts, _SET_DATA_TYPE)
    description = codec.parse(parts.get(_SET_DESCRIPTION, b""))
    fields = codec.attributes(description.get(_DESCRIPTION_FIELDS, b""))
    item = Set(
        codec.text(parts[_SET_NAME]),
        _number(parts, _SET_KEY_TYPE),
        _number(parts, _SET_KEY_LENGTH),
        _number(parts, _SET_FLAGS),
        data_type,
        0 if data_type == _VERDICT_TYPE else _number(parts, _SET_DATA_LENGTH),
        parts.get(_SET_USERDATA, b""),
        _number(description, _DESCRIPTION_SIZE),
        tuple(_number(codec.parse(field), 1) for _, field in fields),
        _SET_EXPRESSION in parts,
        _number(parts, _SET_GC_INTERVAL),
    )
    count = _number(parts, _SET_COUNT) if _SET_COUNT in parts else None
    return ListedSet(item, _number(parts, _SET_HANDLE), count)


def named_payload(table: Table, attribute: int, name: str) -> bytes:
    """Addresses a chain (attribute 3) or a set (attribute 2) by its name."""
    return table.address + codec.string(attribute, name)


def chain_name_payload(table: Table, name: str) -> bytes:
    return named_payload(table, _CHAIN_NAME, name)


def set_name_payload(table: Table, name: str) -> bytes:
    return named_payload(table, _SET_NAME, name)


def rules_of_payload(table: Table, chain: str) -> bytes:
    """Addresses all rules of a chain, for listing and for removal."""
    return named_payload(table, _RULE_CHAIN, chain)


def _number(parts: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(parts.get(kind, b""), "big")
