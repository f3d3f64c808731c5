"""The expressions that rules consist of: one dataclass, a table of their attributes, and both directions of the codec.

Decoding what the kernel lists gives the value that was encoded: attributes that the kernel adds with their default
value are left out, so wanted and listed rules compare equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final, assert_never

from nodeport.netlink import codec

_LIST_ELEM: Final = 1
_EXPR_NAME: Final = 1
_EXPR_DATA: Final = 2
_DATA_VALUE: Final = 1
_DATA_VERDICT: Final = 2
_VERDICT_CODE: Final = 1
_VERDICT_CHAIN: Final = 2


class Code(IntEnum):
    """Verdict codes."""

    RETURN = -5
    GOTO = -4
    JUMP = -3
    DROP = 0
    ACCEPT = 1


@dataclass(frozen=True, slots=True)
class VerdictData:
    """A verdict as data: in a verdict map, or loaded into the verdict register. ``chain`` for JUMP and GOTO."""

    code: Code
    chain: str = ""


Data = bytes | VerdictData
Value = int | str | Data


_REMEMBERED: Final = 1024
VERDICT_REGISTER: Final = 0
WORDS: Final = 16
"""How many words of four bytes the registers have beside the verdict."""


def register(word: int) -> int:
    """The number of the register that begins at ``word``, as the kernel lists it: every fourth has a short one."""
    return 1 + word // 4 if word % 4 == 0 else 8 + word


def word_of(register: int) -> int:
    """The word at which a register begins."""
    return 4 * (register - 1) if register <= 4 else register - 8


class Kind(IntEnum):
    """How an attribute's value is written."""

    U8 = 1
    U32 = 2
    STRING = 3
    DATA = 4
    U64 = 5


@dataclass(frozen=True, slots=True)
class Attribute:
    number: int
    kind: Kind = Kind.U32
    default: int | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression; ``values`` in the order of its attribute table, without those that have their default."""

    name: str
    values: tuple[tuple[str, Value], ...]

    def __getitem__(self, attribute: str) -> Value:
        for name, value in self.values:
            if name == attribute:
                return value
        raise KeyError(attribute)

    def number(self, attribute: str, default: int = 0) -> int:
        """A numeric attribute, or its default."""
        for name, value in self.values:
            if name == attribute and isinstance(value, int):
                return value
        return default


ATTRIBUTES: Final[Mapping[str, Mapping[str, Attribute]]] = {
    "payload": {"dreg": Attribute(1), "base": Attribute(2), "offset": Attribute(3), "length": Attribute(4)},
    "meta": {"dreg": Attribute(1), "key": Attribute(2), "sreg": Attribute(3)},
    "lookup": {
        "set": Attribute(1, Kind.STRING),
        "sreg": Attribute(2),
        "dreg": Attribute(3),
        "flags": Attribute(5, Kind.U32, 0),
    },
    "cmp": {"sreg": Attribute(1), "op": Attribute(2), "data": Attribute(3, Kind.DATA)},
    "bitwise": {
        "sreg": Attribute(1),
        "dreg": Attribute(2),
        "length": Attribute(3),
        "mask": Attribute(4, Kind.DATA),
        "xor": Attribute(5, Kind.DATA),
        "op": Attribute(6, Kind.U32, 0),
    },
    "immediate": {"dreg": Attribute(1), "data": Attribute(2, Kind.DATA)},
    "nat": {
        "type": Attribute(1),
        "family": Attribute(2),
        "address": Attribute(3),
        "address_max": Attribute(4),
        "port": Attribute(5),
        "port_max": Attribute(6),
        "flags": Attribute(7, Kind.U32, 0),
    },
    "masq": {"flags": Attribute(1, Kind.U32, 0), "port": Attribute(2), "port_max": Attribute(3)},
    "reject": {"type": Attribute(1), "code": Attribute(2, Kind.U8, 0)},
    "fib": {"dreg": Attribute(1), "result": Attribute(2), "flags": Attribute(3)},
    "ct": {
        "dreg": Attribute(1),
        "key": Attribute(2),
        "direction": Attribute(3, Kind.U8),
        "sreg": Attribute(4),
    },
    "numgen": {
        "dreg": Attribute(1),
        "modulus": Attribute(2),
        "type": Attribute(3),
        "offset": Attribute(4, Kind.U32, 0),
    },
    "byteorder": {
        "sreg": Attribute(1),
        "dreg": Attribute(2),
        "op": Attribute(3),
        "length": Attribute(4),
        "size": Attribute(5),
    },
    "dynset": {
        "set": Attribute(1, Kind.STRING),
        "op": Attribute(3),
        "sreg_key": Attribute(4),
        "sreg_data": Attribute(5),
        "timeout": Attribute(6, Kind.U64, 0),
        "flags": Attribute(9, Kind.U32, 0),
    },
}

NETWORK_HEADER: Final = 1
TRANSPORT_HEADER: Final = 2
META_PRIORITY: Final = 2
META_IIF: Final = 4
META_IIFNAME: Final = 6
META_OIFNAME: Final = 7
META_L4PROTO: Final = 16
META_IIFGROUP: Final = 21
CT_DIRECTION: Final = 1
CT_STATUS: Final = 2
CT_PROTO_DST: Final = 12
CT_DST_IP: Final = 20
CT_DST_IP6: Final = 22
CT_ORIGINAL: Final = 0
IPS_DST_NAT: Final = 0x20
FIB_OIF: Final = 1
FIB_ADDRESS_TYPE: Final = 3
FIB_SADDR: Final = 1
FIB_DADDR: Final = 2
FIB_IIF: Final = 8
RTN_LOCAL: Final = 2
NUMGEN_RANDOM: Final = 1
DNAT: Final = 1
NAT_ADDRESS_AND_PORT: Final = 3
"""NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED: the kernel lists them, so we say them"""
REJECT_ICMP: Final = 0
REJECT_TCP_RESET: Final = 1
ICMP_PORT_UNREACHABLE: Final = 3
ICMPV6_PORT_UNREACHABLE: Final = 4
DYNSET_UPDATE: Final = 1
"""Adds the element, or renews its timeout; data that are there stay."""
DYNSET_DELETE: Final = 2
CMP_EQ: Final = 0
CMP_NEQ: Final = 1
CMP_LT: Final = 2
CMP_LTE: Final = 3
CMP_GTE: Final = 5
HTON: Final = 1
LOOKUP_INVERTED: Final = 1


_PADDING: Final = {"dynset": 8}
"""Attributes that align a 64-bit one behind them, on machines that need it; they mean nothing."""


def expression(name: str, **values: Value) -> Expression:
    """An expression with its attributes put in order. Raises KeyError for one that is not in the table."""
    table = ATTRIBUTES[name]
    unknown = values.keys() - table.keys()
    if unknown:
        raise KeyError(f"{name} has no {', '.join(sorted(unknown))}")
    return Expression(
        name,
        tuple(
            (key, values[key]) for key, spec in table.items() if key in values and values[key] != spec.default
        ),
    )


def encode_data(kind: int, data: Data) -> bytes:
    """A value or a verdict, nested in an attribute of type ``kind``."""
    match data:
        case bytes():
            return codec.nested(kind, codec.attribute(_DATA_VALUE, data))
        case VerdictData(code, chain):
            parts = [codec.u32be(_VERDICT_CODE, code & 0xFFFFFFFF)]
            if chain:
                parts.append(codec.string(_VERDICT_CHAIN, chain))
            return codec.nested(kind, codec.nested(_DATA_VERDICT, *parts))
    assert_never(data)


def decode_data(payload: bytes) -> Data:
    parts = codec.parse(payload)
    if _DATA_VALUE in parts:
        return parts[_DATA_VALUE]
    verdict = codec.parse(parts.get(_DATA_VERDICT, b""))
    if _VERDICT_CODE not in verdict:
        raise codec.MalformedMessage("data that is neither a value nor a verdict")
    number = int.from_bytes(verdict[_VERDICT_CODE], "big", signed=True)
    try:
        return VerdictData(Code(number), codec.text(verdict.get(_VERDICT_CHAIN, b"")))
    except ValueError as error:
        raise codec.MalformedMessage(f"verdict code {number}") from error


@lru_cache(maxsize=_REMEMBERED)
def encode_expressions(expressions: tuple[Expression, ...]) -> bytes:
    """The payload of a rule's list of expressions. Rules are much the same on all nodes: each is spelled once."""
    return b"".join(codec.nested(_LIST_ELEM, _encode(item)) for item in expressions)


@lru_cache(maxsize=_REMEMBERED)
def decode_expressions(payload: bytes) -> tuple[Expression, ...]:
    """The expressions of a listed rule. One that we do not know decodes to its name and its raw bytes."""
    return tuple(_decode(item) for kind, item in codec.attributes(payload) if kind == _LIST_ELEM)


def _encode(item: Expression) -> bytes:
    table = ATTRIBUTES[item.name]
    parts = b"".join(_encode_value(table[name], value) for name, value in item.values)
    return codec.string(_EXPR_NAME, item.name) + codec.nested(_EXPR_DATA, parts)


def _encode_value(spec: Attribute, value: Value) -> bytes:
    match value:
        case int() if spec.kind is Kind.U8:
            return codec.u8(spec.number, value)
        case int() if spec.kind is Kind.U64:
            return codec.attribute(spec.number, value.to_bytes(8, "big"))
        case int():
            return codec.u32be(spec.number, value)
        case str():
            return codec.string(spec.number, value)
        case _:
            return encode_data(spec.number, value)


def _decode(payload: bytes) -> Expression:
    parts = codec.parse(payload)
    name = codec.text(parts.get(_EXPR_NAME, b""))
    raw = parts.get(_EXPR_DATA, b"")
    table = ATTRIBUTES.get(name)
    if table is None:
        return Expression(name, (("raw", raw),))
    listed = codec.parse(raw)
    listed.pop(_PADDING.get(name, 0), None)
    unknown = listed.keys() - {spec.number for spec in table.values()}
    if unknown:
        return Expression(name, (("raw", raw),))
    values = {
        key: _decode_value(spec, listed[spec.number]) for key, spec in table.items() if spec.number in listed
    }
    if name == "nat":  # the kernel lists a range even where only its start was given
        for limit, start in (("address_max", "address"), ("port_max", "port")):
            if values.get(limit) == values.get(start):
                values.pop(limit, None)
    return expression(name, **values)


def _decode_value(spec: Attribute, payload: bytes) -> Value:
    match spec.kind:
        case Kind.U8 | Kind.U32 | Kind.U64:
            return int.from_bytes(payload, "big")
        case Kind.STRING:
            return codec.text(payload)
        case Kind.DATA:
            return decode_data(payload)
