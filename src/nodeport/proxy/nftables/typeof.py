"""What nft keeps beside a set so that it can print it: byte orders, and ``typeof`` where a field (the slot) has no
``type`` of its own. The kernel stores these bytes unread. Format: type and length in one byte each, then the value;
nested.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from nodeport.forwarding.table import Family

_KEY_BYTE_ORDER: Final = 0
_DATA_BYTE_ORDER: Final = 1
_KEY_TYPEOF: Final = 3
_DATA_TYPEOF: Final = 4
_NO_BYTE_ORDER: Final = 0
_HOST_ENDIAN: Final = 1
_BIG_ENDIAN: Final = 2

_EXPRESSION: Final = 0
_EXPRESSION_DATA: Final = 1
_PAYLOAD: Final = 7
_META: Final = 9
_CONCATENATION: Final = 13
_NUMGEN: Final = 23

_DADDR: Final = {Family.IPV4: (12, 12), Family.IPV6: (13, 9)}
"""nft's numbers of the network header and of its field."""
_TRANSPORT_HEADER: Final = 11
_TRANSPORT_DPORT: Final = 2
_L4PROTO: Final = 16
_PRIORITY: Final = 2
_RANDOM: Final = 1


def network_order() -> bytes:
    """A set of addresses or of ports."""
    return _number(_KEY_BYTE_ORDER, _BIG_ENDIAN)


def no_order() -> bytes:
    """A set of concatenations, or of single bytes."""
    return _number(_KEY_BYTE_ORDER, _NO_BYTE_ORDER)


def class_data() -> bytes:
    """A map from a concatenation to a class."""
    return _number(_KEY_BYTE_ORDER, _NO_BYTE_ORDER) + _number(_DATA_BYTE_ORDER, _HOST_ENDIAN)


def class_verdicts() -> bytes:
    """A verdict map whose keys are classes."""
    return _number(_KEY_BYTE_ORDER, _HOST_ENDIAN) + _number(_DATA_BYTE_ORDER, _NO_BYTE_ORDER)


def no_orders() -> bytes:
    """A map between concatenations."""
    return _number(_KEY_BYTE_ORDER, _NO_BYTE_ORDER) + _number(_DATA_BYTE_ORDER, _NO_BYTE_ORDER)


def endpoints_by_slot(family: Family, *, by_address: bool) -> bytes:
    """``typeof [ip daddr .] meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport``"""
    endpoint = _concatenated([_address(family), _port()])
    return (
        no_orders() + _tlv(_KEY_TYPEOF, _slot(family, by_address=by_address)) + _tlv(_DATA_TYPEOF, endpoint)
    )


def seats_by_slot(family: Family, *, by_address: bool) -> bytes:
    """``typeof [ip daddr .] meta l4proto . th dport . numgen random mod 2 : meta priority``"""
    seat = _typed(_META, _number(0, _PRIORITY))
    return class_data() + _tlv(_KEY_TYPEOF, _slot(family, by_address=by_address)) + _tlv(_DATA_TYPEOF, seat)


def _slot(family: Family, *, by_address: bool) -> bytes:
    protocol = _typed(_META, _number(0, _L4PROTO))
    slot = _typed(_NUMGEN, _number(0, _RANDOM), _number(1, 2), _number(2, 0))
    return _concatenated([*([_address(family)] if by_address else []), protocol, _port(), slot])


def _address(family: Family) -> bytes:
    header, field = _DADDR[family]
    return _typed(_PAYLOAD, _number(0, header), _number(1, field))


def _port() -> bytes:
    return _typed(_PAYLOAD, _number(0, _TRANSPORT_HEADER), _number(1, _TRANSPORT_DPORT))


def _concatenated(parts: Sequence[bytes]) -> bytes:
    return _typed(_CONCATENATION, *(_tlv(index, part) for index, part in enumerate(parts)))


def _typed(kind: int, *data: bytes) -> bytes:
    return _number(_EXPRESSION, kind) + _tlv(_EXPRESSION_DATA, b"".join(data))


def _number(kind: int, value: int) -> bytes:
    return _tlv(kind, struct.pack("=I", value))


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value
