"""Protobuf request bodies, decoded to the JSON objects that they stand for.

Typed Go clients (``kubectl create deployment``) post ``k8s\\0`` and a ``runtime.Unknown`` message: the object's
apiVersion and kind, and its bytes. Field numbers, names and types come from ``data/protobuf.json`` (made by
``tools/make_protobuf.py``); types with a JSON form of their own are decoded here. Malformed input is ``BadRequest``.
Writers send empty values too (``nodePort: 0``): prune the object as any other.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec

from nodeport.api.meta import JsonObject
from nodeport.api.status import BadRequest

MAGIC = b"k8s\x00"
CONTENT_TYPE = "application/vnd.kubernetes.protobuf"

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CORE, _META = "io.k8s.api.core.v1", "io.k8s.apimachinery.pkg.apis.meta.v1"
_GROUPS = {
    "certificates.k8s.io": "certificates",
    "rbac.authorization.k8s.io": "rbac", "networking.k8s.io": "networking", "discovery.k8s.io": "discovery",
    "coordination.k8s.io": "coordination", "authentication.k8s.io": "authentication",
    "authorization.k8s.io": "authorization", "events.k8s.io": "events",
    "scheduling.k8s.io": "scheduling", "node.k8s.io": "node", "storage.k8s.io": "storage",
}  # fmt: skip
_WRAPPERS = frozenset((
    "io.k8s.api.authentication.v1.ExtraValue", "io.k8s.api.authorization.v1.ExtraValue",
    "io.k8s.api.authentication.v1.AttestationValue", "io.k8s.api.certificates.v1.ExtraValue", f"{_META}.Verbs",
))  # fmt: skip
"""Messages that are a bare list in JSON."""

Field = tuple[int, int, Any]
"""(number, wire type, value): an int for varints and fixed widths, else a memoryview."""


class _Malformed(ValueError):
    """Bytes that are no such message."""


def decode(body: bytes) -> JsonObject:
    """The object in ``body``, with ``apiVersion`` and ``kind``. BadRequest when it is malformed or of unknown kind."""
    if body[:4] != MAGIC:
        raise BadRequest(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    try:
        return _decode_envelope(memoryview(body)[4:])
    except _Malformed as error:
        raise BadRequest(f"unable to decode the protobuf body: {error}") from error


def _decode_envelope(data: memoryview) -> JsonObject:
    """``runtime.Unknown``: 1 type meta, 2 raw object, 3 content encoding, 4 content type."""
    api_version = kind = ""
    raw = memoryview(b"")
    for number, wire, value in _fields(data):
        if wire != _LENGTH:
            continue
        if number == 1:
            parts = {
                inner: _text(part) for inner, inner_wire, part in _fields(value) if inner_wire == _LENGTH
            }
            api_version, kind = parts.get(1, ""), parts.get(2, "")
        elif number == 2:
            raw = value
        elif number == 3 and len(value):
            raise _Malformed(f"unsupported content encoding {_text(value)}")
    name = message_name(api_version, kind)
    if name is None:
        raise BadRequest(f'no kind "{kind}" is registered for version "{api_version}"')
    return {"apiVersion": api_version, "kind": kind, **_message(name, raw, 0)}


def message_name(api_version: str, kind: str) -> str | None:
    """The message that an apiVersion and kind stand for; None when we have no table of it."""
    group, slash, version = api_version.rpartition("/")
    if not slash:
        candidates = [f"{_CORE}.{kind}", f"{_META}.{kind}"]
    else:
        candidates = [f"io.k8s.api.{_GROUPS.get(group, group)}.{version}.{kind}"]
    if kind in ("DeleteOptions", "Status", "WatchEvent"):
        candidates.append(f"{_META}.{kind}")
    tables = _tables()
    return next((name for name in candidates if name in tables), None)


@cache
def _tables() -> dict[str, dict[str, tuple[str, str]]]:
    from importlib import resources as package_files  # not cheap to import, and needed once

    data = (package_files.files("nodeport.api") / "data" / "protobuf.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, dict[str, tuple[str, str]]])


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _Malformed("unexpected EOF" if at >= len(data) else "integer overflow")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7


def _fields(data: memoryview) -> Iterator[Field]:
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise _Malformed("illegal tag 0")
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == _LENGTH:
            size, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise _Malformed(f"illegal wire type {wire}")
        if size > end - at:
            raise _Malformed("unexpected EOF")
        chunk = data[at : at + size]
        at += size
        yield number, wire, chunk if wire == _LENGTH else int.from_bytes(chunk, "little")


def _text(data: memoryview) -> str:
    return bytes(data).decode("utf-8", "replace")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _message(name: str, data: memoryview, depth: int) -> JsonObject:
    """Fields that the table does not know are skipped, as Go skips them."""
    if depth > _DEEPEST:
        raise _Malformed("message is nested too deeply")
    made: JsonObject = {}
    table = _tables()[name]
    for number, wire, value in _fields(data):
        found = table.get(str(number))
        if found is not None:
            _take(made, found[0], found[1], wire, value, depth)
    return made


def _take(made: JsonObject, field: str, kind: str, wire: int, value: Any, depth: int) -> None:
    if kind.startswith("[]"):
        items = made.setdefault(field, [])
        if wire == _LENGTH and kind[2:] in ("int", "bool"):
            items.extend(_packed(kind[2:], value))
        else:
            items.append(_value(kind[2:], wire, value, depth))
    elif kind.startswith("{}"):
        key, item = _entry(kind[2:], wire, value, depth)
        made.setdefault(field, {})[key] = item
    elif kind.startswith("<"):
        made.update(_value(kind[1:], wire, value, depth))
    else:
        made[field] = _value(kind, wire, value, depth)


def _packed(kind: str, data: memoryview) -> Iterator[int | bool]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield bool(value) if kind == "bool" else _signed(value)


def _entry(kind: str, wire: int, data: Any, depth: int) -> tuple[str, Any]:
    """A map's entry: 1 key, 2 value; missing parts are empty."""
    if wire != _LENGTH:
        raise _Malformed(f"wrong wire type {wire} for a map entry")
    key, found = "", None
    for number, inner_wire, value in _fields(data):
        if number == 1 and inner_wire == _LENGTH:
            key = _text(value)
        elif number == 2:
            found = _value(kind, inner_wire, value, depth)
    if found is None:
        found = _value(kind, _VARINT if kind in ("int", "bool") else _LENGTH,
                       0 if kind in ("int", "bool") else memoryview(b""), depth)  # fmt: skip
    return key, found


def _value(kind: str, wire: int, value: Any, depth: int) -> Any:
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        expected, convert = scalar
        if wire != expected:
            raise _Malformed(f"wrong wire type {wire} for {kind}")
        return convert(value)
    if wire != _LENGTH:
        raise _Malformed(f"wrong wire type {wire} for {kind.rpartition('.')[2]}")
    special = _SPECIAL.get(kind)
    if special is not None:
        return special(value)
    if kind in _WRAPPERS:
        return _message(kind, value, depth + 1).get("items", [])
    return _message(kind, value, depth + 1)


def _scalars(data: memoryview) -> dict[int, Any]:
    """A small message's fields by number, the last one winning."""
    return {number: value for number, _, value in _fields(data)}


def _string_of(data: memoryview, number: int) -> str:
    value = _scalars(data).get(number)
    if value is not None and not isinstance(value, memoryview):
        raise _Malformed("wrong wire type for a string")
    return _text(value) if value is not None else ""


def _int_or_string(data: memoryview) -> int | str:
    """1 which (0 integer, 1 text), 2 integer, 3 text."""
    found = _scalars(data)
    if found.get(1) == 1:
        return _string_of(data, 3)
    number = found.get(2, 0)
    if not isinstance(number, int):
        raise _Malformed("wrong wire type for an integer")
    return _signed(number)


def _quantity(data: memoryview) -> str:
    return _string_of(data, 1) or "0"


def _moment(data: memoryview) -> datetime | None:
    """1 seconds since the epoch, 2 nanoseconds; no field at all is no time."""
    found = _scalars(data)
    if not found:
        return None
    seconds, nanos = found.get(1, 0), found.get(2, 0)
    if not isinstance(seconds, int) or not isinstance(nanos, int):
        raise _Malformed("wrong wire type for a timestamp")
    try:
        return _EPOCH + timedelta(seconds=_signed(seconds), microseconds=_signed(nanos) // 1000)
    except OverflowError as error:
        raise _Malformed("timestamp out of range") from error


def _time(data: memoryview) -> str | None:
    moment = _moment(data)
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def _micro_time(data: memoryview) -> str | None:
    moment = _moment(data)
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _raw_json(data: memoryview) -> Any:
    """``RawExtension`` and ``FieldsV1``: 1 the JSON text."""
    text = _string_of(data, 1)
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Malformed("an embedded object is no JSON") from error


def _double(value: int) -> float:
    found: float = struct.unpack("<d", value.to_bytes(8, "little"))[0]
    return found


_SCALARS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "string": (_LENGTH, _text),
    "int": (_VARINT, _signed),
    "bool": (_VARINT, bool),
    "bytes": (_LENGTH, lambda value: base64.b64encode(value).decode()),
    "double": (_FIXED64, _double),
}
_SPECIAL: dict[str, Callable[[memoryview], Any]] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": _quantity,
    f"{_META}.Time": _time,
    f"{_META}.MicroTime": _micro_time,
    f"{_META}.FieldsV1": _raw_json,
    "io.k8s.apimachinery.pkg.runtime.RawExtension": _raw_json,
}
