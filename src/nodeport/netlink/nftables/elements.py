"""Elements of sets and maps: bytes to bytes, by the ten thousand.

A key is the concatenation of its fields, each padded to four bytes, exactly as the kernel compares it. In interval
sets a key is the first address followed by the first address *after* the interval (empty when it ends with the
address space): the kernel stores the two apart, nobody else needs to see that. In interval sets of concatenations it
is the first concatenation followed by the last one, each of the full length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.nftables.expressions import Data, VerdictData, decode_data, encode_data
from nodeport.netlink.nftables.objects import Set, SetFlag, Table

_LIST_ELEM: Final = 1 | codec.NLA_F_NESTED
_KEY: Final = 1
_DATA: Final = 2
_FLAGS: Final = 3
_KEY_END: Final = 10
_EXPRESSION: Final = 7
_EXPRESSION_DATA: Final = 2
_BYTES: Final = 1
_PACKETS: Final = 2
_ELEMENTS_SET: Final = 2
_ELEMENTS: Final = 3
_INTERVAL_END: Final = 1
_MAXIMUM_LIST: Final = 0xF000
"""How many bytes of elements go into one message: an attribute's length has 16 bits."""


def element_payloads(table: Table, item: Set, elements: Mapping[bytes, Data]) -> Iterator[bytes]:
    """The payloads of the NEWSETELEM or DELSETELEM messages for ``elements``, each list short enough.

    Data are encoded as given; a DELSETELEM wants the same key, and matching data where there are any.
    """
    head = table.address + codec.string(_ELEMENTS_SET, item.name)
    if elements and not item.flags & SetFlag.INTERVAL and (item.data_length or not item.flags & SetFlag.MAP):
        alike = _of_one_length(item, elements)
        portion = max(_MAXIMUM_LIST // len(alike[0]), 1)
        for start in range(0, len(alike), portion):
            yield head + codec.nested(_ELEMENTS, *alike[start : start + portion])
        return
    chunk: list[bytes] = []
    size = 0
    for encoded in _encoded(item, elements):
        if size + len(encoded) > _MAXIMUM_LIST and chunk:
            yield head + codec.nested(_ELEMENTS, *chunk)
            chunk, size = [], 0
        chunk.append(encoded)
        size += len(encoded)
    if chunk:
        yield head + codec.nested(_ELEMENTS, *chunk)


def _encoded(item: Set, elements: Mapping[bytes, Data]) -> Iterable[bytes]:
    if item.flags & SetFlag.CONCAT:
        return (_range(key, item.key_length) for key in elements)
    if item.flags & SetFlag.INTERVAL:
        return _intervals(item, elements)
    return [_general(key, data) for key, data in elements.items()]


def _of_one_length(item: Set, elements: Mapping[bytes, Data]) -> list[bytes]:
    """The hot path: fixed lengths, so everything but key and data is constant."""
    if not item.flags & SetFlag.MAP:
        front, back = _set_frame(item.key_length)
        return [front + key + back for key in elements]
    front, middle, back = _map_frame(item.key_length, item.data_length)
    return [front + key + middle + data + back for key, data in elements.items() if isinstance(data, bytes)]


def _range(key: bytes, length: int) -> bytes:
    ends = encode_data(_KEY, key[:length]) + encode_data(_KEY_END, key[length:])
    return codec.attribute(_LIST_ELEM, ends)


def _general(key: bytes, data: Data) -> bytes:
    parts = encode_data(_KEY, key)
    if isinstance(data, VerdictData):
        parts += encode_data(_DATA, data)
    return codec.attribute(_LIST_ELEM, parts)


def _intervals(item: Set, elements: Mapping[bytes, Data]) -> Iterator[bytes]:
    ends = codec.u32be(_FLAGS, _INTERVAL_END)
    length = item.key_length
    if elements and not any(not any(key[:length]) for key in elements):
        yield codec.attribute(_LIST_ELEM, ends + encode_data(_KEY, bytes(length)))
    for key in sorted(elements):
        yield codec.attribute(_LIST_ELEM, encode_data(_KEY, key[:length]))
        if len(key) > length:
            yield codec.attribute(_LIST_ELEM, ends + encode_data(_KEY, key[length:]))


@lru_cache(maxsize=32)
def _set_frame(key_length: int) -> tuple[bytes, bytes]:
    sample = codec.attribute(_LIST_ELEM, encode_data(_KEY, bytes(key_length)))
    start = 12
    return sample[:start], sample[start + key_length :]


@lru_cache(maxsize=32)
def _map_frame(key_length: int, data_length: int) -> tuple[bytes, bytes, bytes]:
    sample = codec.attribute(
        _LIST_ELEM, encode_data(_KEY, bytes(key_length)) + encode_data(_DATA, bytes(data_length))
    )
    start = 12
    data = start + codec.align(key_length) + 8
    return sample[:start], sample[start + key_length : data], sample[data + data_length :]


def decode_elements(item: Set, payloads: Iterable[bytes]) -> dict[bytes, Data]:
    """The elements of one listed set, out of all messages of its listing. ``b""`` is the data of a plain set."""
    elements: dict[bytes, Data] = {}
    edges: list[tuple[bytes, bool]] = []
    for payload in payloads:
        listed = codec.parse(payload[4:]).get(_ELEMENTS)
        uniform = _uniform(item, listed) if listed else None
        if uniform is not None:
            elements.update(uniform)
            continue
        for _, raw in codec.attributes(listed) if listed else ():
            parts = codec.parse(raw)
            key = _bytes(decode_data(parts[_KEY]), item)
            if item.flags & SetFlag.CONCAT:
                last = decode_data(parts[_KEY_END]) if _KEY_END in parts else key
                elements[key + _bytes(last, item)] = b""
            elif item.flags & SetFlag.INTERVAL:
                edges.append((key, bool(int.from_bytes(parts.get(_FLAGS, b""), "big") & _INTERVAL_END)))
            else:
                elements[key] = decode_data(parts[_DATA]) if _DATA in parts else b""
    return elements or _joined(edges)


def decode_counts(payloads: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
    """Packets and bytes by key, out of the listing of a set whose elements count."""
    counts: dict[bytes, tuple[int, int]] = {}
    for payload in payloads:
        listed = codec.parse(payload[4:]).get(_ELEMENTS)
        for _, raw in codec.attributes(listed) if listed else ():
            parts = codec.parse(raw)
            key = decode_data(parts[_KEY])
            counter = codec.parse(codec.parse(parts.get(_EXPRESSION, b"")).get(_EXPRESSION_DATA, b""))
            if isinstance(key, bytes):
                counts[key] = tuple(  # type: ignore[assignment]  # always two
                    int.from_bytes(counter.get(kind, b""), "big") for kind in (_PACKETS, _BYTES)
                )
    return counts


def _bytes(key: Data, item: Set) -> bytes:
    if not isinstance(key, bytes):
        raise codec.MalformedMessage(f"a key of set {item.name} is not a value")
    return key


def _uniform(item: Set, listed: bytes) -> dict[bytes, Data] | None:
    """The hot path of listings: elements of fixed length that carry nothing but key and data. ``None``: not such."""
    if item.flags & SetFlag.INTERVAL or (item.flags & SetFlag.MAP and not item.data_length):
        return None
    key_end = 12 + item.key_length
    data_start = 12 + codec.align(item.key_length) + 8
    data_end = data_start + item.data_length
    stride = codec.align(data_end) if item.data_length else codec.align(key_end)
    if len(listed) % stride or codec.ATTRIBUTE.unpack_from(listed)[0] != stride:
        return None
    head = listed[:12]
    elements: dict[bytes, Data] = {}
    for offset in range(0, len(listed), stride):
        if listed[offset : offset + 12] != head:
            return None
        data = listed[offset + data_start : offset + data_end] if item.data_length else b""
        elements[listed[offset + 12 : offset + key_end]] = data
    return elements


def _joined(edges: list[tuple[bytes, bool]]) -> dict[bytes, Data]:
    """Interval starts with the ends that follow them; an end at a start's place belongs before it."""
    elements: dict[bytes, Data] = {}
    start: bytes | None = None
    for key, is_end in sorted(edges, key=lambda edge: (edge[0], not edge[1])):
        if not is_end:
            start = key
        elif start is not None:
            elements[start + key] = b""
            start = None
    if start is not None:
        elements[start] = b""
    return elements
