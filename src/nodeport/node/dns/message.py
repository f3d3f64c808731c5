"""DNS messages: a query's bytes to a question, an answer to bytes, and the addresses in another server's answer. Pure.

Rule sources: RFC 1035 section 4 (format, compression), RFC 6891 (EDNS), RFC 2782 (SRV).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

LARGEST_TCP = 65_535
LARGEST_UDP = 1232
"""What fits into a packet on any link, so that no answer is cut into fragments."""
SMALLEST_UDP = 512
_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_QR, _AA, _TC, _RD, _RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE, _KEPT = 0x7800, 0x0110
"""``_KEPT``: recursion desired and checking disabled, which an answer repeats."""
_MOST_JUMPS = 64
INTERNET = 1


class Type(IntEnum):
    A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 16, 28, 33, 41
    IXFR, AXFR, ANY = 251, 252, 255


class Code(IntEnum):
    NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16


class MalformedMessage(Exception):
    """The bytes are no DNS message."""


class UnusableQuery(Exception):
    """A message that gets ``code`` for an answer."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass(frozen=True, slots=True)
class Record:
    """``ttl`` in seconds. A ``str`` is a name: of CNAME, NS and PTR."""

    name: str
    type: Type
    data: Data
    ttl: int


@dataclass(frozen=True, slots=True)
class Srv:
    port: int
    target: str
    priority: int = 0
    weight: int = 100


@dataclass(frozen=True, slots=True)
class Soa:
    """Seconds, but for ``serial``. ``minimum``: how long a negative answer may be kept."""

    primary: str
    mailbox: str
    serial: int
    minimum: int
    refresh: int = 7200
    retry: int = 1800
    expire: int = 86400


@dataclass(frozen=True, slots=True)
class Text:
    """One string of at most 255 bytes."""

    text: bytes


Data = IPv4Address | IPv6Address | str | Srv | Soa | Text


@dataclass(frozen=True, slots=True)
class Query:
    """``name`` in lower case without the last dot; ``wire``: the question as it was asked, which an answer repeats.

    ``payload``: the largest UDP answer that the client takes; None: it speaks no EDNS.
    """

    number: int
    flags: int
    name: str
    type: int
    klass: int
    wire: bytes
    payload: int | None = None

    @property
    def room(self) -> int:
        """How many bytes an answer over UDP may have."""
        return max(SMALLEST_UDP, min(self.payload or SMALLEST_UDP, LARGEST_UDP))


@dataclass(frozen=True, slots=True)
class Answer:
    code: Code = Code.NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    authoritative: bool = True


@dataclass(slots=True)
class _Names:
    """Where in the message each suffix stands, so that it is written once."""

    places: dict[str, int] = field(default_factory=dict)

    def encode(self, name: str, at: int) -> bytes:
        found = bytearray()
        rest = name
        while rest:
            place = self.places.get(rest)
            if place is not None:
                return bytes(found) + struct.pack("!H", 0xC000 | place)
            if at + len(found) < 0x4000:
                self.places[rest] = at + len(found)
            label, _, rest = rest.partition(".")
            raw = label.encode("latin-1")
            found.append(len(raw))
            found += raw
        return bytes(found) + b"\0"


def decode_query(data: bytes) -> Query:
    """Raises MalformedMessage for what gets no answer, UnusableQuery for what gets an error."""
    if len(data) < _HEADER.size:
        raise MalformedMessage("shorter than a header")
    number, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _QR:
        raise MalformedMessage("an answer, not a query")
    if flags & _OPCODE:
        raise UnusableQuery(Code.NOTIMP)
    if questions != 1 or answers or authorities:
        raise UnusableQuery(Code.FORMERR)
    try:
        name, at = _name(data, _HEADER.size)
        if at - _HEADER.size != (len(name) + 2 if name else 1):
            raise MalformedMessage("a question that points elsewhere")
        kind, klass = struct.unpack_from("!HH", data, at)
        payload, version = _options(data, at + 4, additional)
    except (struct.error, IndexError, MalformedMessage) as error:
        raise UnusableQuery(Code.FORMERR) from error
    if version:
        raise UnusableQuery(Code.BADVERS)
    return Query(number, flags, name.lower(), kind, klass, data[_HEADER.size : at + 4], payload)


def encode_answer(query: Query, answer: Answer, room: int) -> bytes:
    """At most ``room`` bytes: what does not fit is left out, and the client is told to ask over TCP."""
    flags = _QR | _RA | (query.flags & _KEPT) | (answer.code & 0xF)
    flags |= _AA if answer.authoritative else 0
    option = b"" if query.payload is None else _option(answer.code >> 4)
    names = _Names()
    _note_question(names, query)
    out = bytearray(_HEADER.size) + query.wire
    counts = []
    for section in (answer.answers, answer.authority, answer.additional):
        count = 0
        for record in section:
            encoded = _encode_record(record, names, len(out))
            if len(out) + len(encoded) + len(option) > room:
                flags |= 0 if section is answer.additional else _TC
                break
            out += encoded
            count += 1
        counts.append(count)
        if count < len(section):
            break
    counts += [0] * (3 - len(counts))
    if option:
        out += option
        counts[2] += 1
    _HEADER.pack_into(out, 0, query.number, flags, 1, *counts)
    return bytes(out)


def encode_error(data: bytes, code: Code) -> bytes:
    """The answer to a query that could not be taken apart; it says nothing but the error."""
    number, flags = struct.unpack_from("!HH", data)
    kept = flags & (_OPCODE | _KEPT)
    option = _option(code >> 4) if code > 0xF else b""
    return _HEADER.pack(number, _QR | kept | (code & 0xF), 0, 0, 0, 1 if option else 0) + option


def encode_query(number: int, wire: bytes, payload: int | None) -> bytes:
    """A recursive query with the question ``wire``."""
    option = b"" if payload is None else _option(0, payload)
    return _HEADER.pack(number, _RD, 1, 0, 0, 1 if option else 0) + wire + option


def encode_question(name: str, kind: int) -> bytes:
    return _Names().encode(name, _HEADER.size) + struct.pack("!HH", kind, INTERNET)


def renumbered(data: bytes, number: int, wire: bytes) -> bytes:
    """Another server's answer as the answer to the question ``wire``, asked under ``number``."""
    return struct.pack("!H", number) + data[2 : _HEADER.size] + wire + data[_HEADER.size + len(wire) :]


def code_of(data: bytes) -> int:
    return data[3] & 0xF


def is_truncated(data: bytes) -> bool:
    return bool(data[2] & _TC >> 8)


def answers_to(data: bytes, number: int, wire: bytes) -> bool:
    """Whether the message answers this question under this number; servers may change the case of its letters."""
    head = data[_HEADER.size : _HEADER.size + len(wire)]
    return (
        len(data) >= _HEADER.size
        and data[:2] == struct.pack("!H", number)
        and bool(data[2] & 0x80)
        and head.lower() == wire.lower()
    )


def decode_chain(data: bytes) -> tuple[Record, ...]:
    """The addresses and aliases among the answers of a server's message. Raises MalformedMessage."""
    try:
        _, _, questions, answers, _, _ = _HEADER.unpack_from(data)
        at = _HEADER.size
        for _ in range(questions):
            at = _name(data, at)[1] + 4
        found = []
        for _ in range(answers):
            name, at = _name(data, at)
            kind, klass, ttl, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            raw = data[at : at + length]
            if klass == INTERNET and kind == Type.A:
                found.append(Record(name, Type.A, IPv4Address(raw), ttl))
            elif klass == INTERNET and kind == Type.AAAA:
                found.append(Record(name, Type.AAAA, IPv6Address(raw), ttl))
            elif klass == INTERNET and kind == Type.CNAME:
                found.append(Record(name, Type.CNAME, _name(data, at)[0], ttl))
            at += length
    except (struct.error, IndexError, ValueError) as error:
        raise MalformedMessage(str(error)) from error
    return tuple(found)


def _name(data: bytes, at: int) -> tuple[str, int]:
    """The name that stands there, and what comes after it. Raises MalformedMessage, IndexError."""
    labels: list[str] = []
    end, jumps, length = 0, 0, 0
    while size := data[at]:
        if size & 0xC0 == 0xC0:
            end = end or at + 2
            at = (size & 0x3F) << 8 | data[at + 1]
            jumps += 1
            if jumps > _MOST_JUMPS:
                raise MalformedMessage("a name that points at itself")
            continue
        length += size + 1
        if size & 0xC0 or at + size >= len(data) or length > 254:
            raise MalformedMessage("a name that is too long")
        labels.append(data[at + 1 : at + 1 + size].decode("latin-1"))
        at += size + 1
    return ".".join(labels), end or at + 1


def _options(data: bytes, at: int, additional: int) -> tuple[int | None, int]:
    """The client's largest UDP payload, and its version of EDNS."""
    for _ in range(additional):
        at = _name(data, at)[1]
        kind, klass, ttl, length = _RECORD.unpack_from(data, at)
        if kind == Type.OPT:
            return klass, ttl >> 16 & 0xFF
        at += _RECORD.size + length
    return None, 0


def _option(extended_code: int, payload: int = LARGEST_UDP) -> bytes:
    return b"\0" + _RECORD.pack(Type.OPT, payload, extended_code << 24, 0)


def _note_question(names: _Names, query: Query) -> None:
    """Answers point at the question's name; what has dots inside of labels is left out, since names are texts here."""
    at, rest = _HEADER.size, query.name
    if query.wire[:-4].count(b".") == 0:
        while rest:
            names.places[rest] = at
            label, _, rest = rest.partition(".")
            at += len(label) + 1


def _encode_record(record: Record, names: _Names, at: int) -> bytes:
    owner = names.encode(record.name, at)
    raw = _encode_data(record.data, names, at + len(owner) + _RECORD.size)
    return owner + _RECORD.pack(record.type, INTERNET, record.ttl, len(raw)) + raw


def _encode_data(data: Data, names: _Names, at: int) -> bytes:
    match data:
        case IPv4Address() | IPv6Address():
            return data.packed
        case Srv():
            # RFC 2782: the target is not compressed
            return struct.pack("!3H", data.priority, data.weight, data.port) + _Names().encode(data.target, 0)
        case Soa():
            primary = names.encode(data.primary, at)
            mailbox = names.encode(data.mailbox, at + len(primary))
            numbers = (data.serial, data.refresh, data.retry, data.expire, data.minimum)
            return primary + mailbox + struct.pack("!5I", *numbers)
        case Text():
            return bytes([len(data.text)]) + data.text
        case str():
            return names.encode(data, at)
