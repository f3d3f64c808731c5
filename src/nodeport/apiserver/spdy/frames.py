"""SPDY/3.1 frames as values, and both ways between them and bytes. No I/O.

Each direction of a connection compresses all of its header blocks as one stream, so one `Encoder` and one `Decoder`
belong to a connection. Data is handed on as it arrives: a frame of 16 MiB is many `Data` values, and no more than one
control frame is kept.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nodeport.apiserver.spdy.dictionary import DICTIONARY

VERSION = 3
FLAG_FIN = 1
FLAG_UNIDIRECTIONAL = 2
HEAD_BYTES = 8
MAX_CONTROL_BYTES = 64 * 1024
"""Of one control frame, and of one header block once it is decompressed."""
MAX_DATA_BYTES = (1 << 24) - 1
_LAST_STREAM_ID = 0x7FFFFFFF

Headers = Mapping[str, str]


class SpdyError(Exception):
    """The peer breaks the protocol: the connection is of no more use."""


@dataclass(frozen=True, slots=True)
class SynStream:
    """Opens a stream. ``fin``: the sender will send nothing on it; ``unidirectional``: it wants nothing back."""

    stream_id: int
    headers: Headers = field(default_factory=dict)
    fin: bool = False
    unidirectional: bool = False
    associated: int = 0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SynReply:
    stream_id: int
    headers: Headers = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class RstStream:
    stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class Settings:
    """``values``: (flags, id, value) each."""

    values: tuple[tuple[int, int, int], ...] = ()
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Ping:
    ping_id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    last_stream_id: int
    status: int = 0


@dataclass(frozen=True, slots=True)
class HeadersFrame:
    stream_id: int
    headers: Headers = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    stream_id: int
    delta: int


@dataclass(frozen=True, slots=True)
class Data:
    stream_id: int
    data: bytes = b""
    fin: bool = False


Frame = SynStream | SynReply | RstStream | Settings | Ping | GoAway | HeadersFrame | WindowUpdate | Data

RST_PROTOCOL_ERROR, RST_INVALID_STREAM, RST_REFUSED_STREAM, RST_CANCEL = 1, 2, 3, 5
GOAWAY_OK, GOAWAY_PROTOCOL_ERROR = 0, 1


class Encoder:
    def __init__(self) -> None:
        self._compressor = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        match frame:
            case Data(stream_id, data, fin):
                return struct.pack(">IBBH", stream_id, fin, len(data) >> 16, len(data) & 0xFFFF) + data
            case SynStream():
                head = struct.pack(">IIBB", frame.stream_id, frame.associated, frame.priority << 5, 0)
                flags = FLAG_FIN * frame.fin | FLAG_UNIDIRECTIONAL * frame.unidirectional
                return _control(1, flags, head + self._block(frame.headers))
            case SynReply(stream_id, headers, fin):
                return _control(2, fin, struct.pack(">I", stream_id) + self._block(headers))
            case RstStream(stream_id, status):
                return _control(3, 0, struct.pack(">II", stream_id, status))
            case Settings(values, flags):
                entries = (struct.pack(">II", kept << 24 | number, value) for kept, number, value in values)
                return _control(4, flags, struct.pack(">I", len(values)) + b"".join(entries))
            case Ping(ping_id):
                return _control(6, 0, struct.pack(">I", ping_id))
            case GoAway(last, status):
                return _control(7, 0, struct.pack(">II", last, status))
            case HeadersFrame(stream_id, headers, fin):
                return _control(8, fin, struct.pack(">I", stream_id) + self._block(headers))
            case WindowUpdate(stream_id, delta):
                return _control(9, 0, struct.pack(">II", stream_id, delta))

    def _block(self, headers: Headers) -> bytes:
        parts = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower(), value):
                raw = text.encode()
                parts += [struct.pack(">I", len(raw)), raw]
        return self._compressor.compress(b"".join(parts)) + self._compressor.flush(zlib.Z_SYNC_FLUSH)


def _control(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHBBH", 0x8000 | VERSION, kind, flags, len(body) >> 16, len(body) & 0xFFFF) + body


class Decoder:
    """``feed`` it what arrives, in pieces of any size."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(zdict=DICTIONARY)
        self._pending = bytearray()
        self._data_left = 0
        self._data_frame = Data(0)

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """All frames that are whole now. Raises SpdyError; the decoder is then of no more use."""
        self._pending += piece
        while True:
            frame, known = self._next()
            if not known:
                return
            if frame is not None:
                yield frame

    def _next(self) -> tuple[Frame | None, bool]:
        """(frame, True); (None, True) for one that means nothing to us; (None, False): more bytes are needed."""
        if self._data_left:
            return self._take_data()
        if len(self._pending) < HEAD_BYTES:
            return None, False
        first, last = struct.unpack_from(">II", self._pending)
        flags, length = last >> 24, last & 0xFFFFFF
        if not first >> 31:
            del self._pending[:HEAD_BYTES]
            self._data_frame = Data(first, fin=bool(flags & FLAG_FIN))
            self._data_left = length
            return (self._data_frame, True) if not length else self._take_data()
        if first >> 16 & 0x7FFF != VERSION:
            raise SpdyError(f"version {first >> 16 & 0x7FFF} of the protocol, only {VERSION} is spoken here")
        if length > MAX_CONTROL_BYTES:
            raise SpdyError(f"a control frame of {length} bytes; {MAX_CONTROL_BYTES} is the most")
        if len(self._pending) < HEAD_BYTES + length:
            return None, False
        body = bytes(self._pending[HEAD_BYTES : HEAD_BYTES + length])
        del self._pending[: HEAD_BYTES + length]
        try:
            return self._control(first & 0xFFFF, flags, body), True
        except struct.error as error:
            raise SpdyError(f"a control frame of kind {first & 0xFFFF} is too short: {error}") from error

    def _take_data(self) -> tuple[Data | None, bool]:
        if not self._pending:
            return None, False
        taken = bytes(self._pending[: self._data_left])
        del self._pending[: len(taken)]
        self._data_left -= len(taken)
        return Data(self._data_frame.stream_id, taken, self._data_frame.fin and not self._data_left), True

    def _control(self, kind: int, flags: int, body: bytes) -> Frame | None:
        fin = bool(flags & FLAG_FIN)
        match kind:
            case 1:
                number, associated, priority, _ = struct.unpack_from(">IIBB", body)
                one_way = bool(flags & FLAG_UNIDIRECTIONAL)
                headers = self._headers(body[10:])
                return SynStream(_stream_id(number), headers, fin, one_way, associated, priority >> 5)
            case 2 | 8:
                number = struct.unpack_from(">I", body)[0]
                made = SynReply if kind == 2 else HeadersFrame
                return made(_stream_id(number), self._headers(body[4:]), fin)
            case 3:
                number, status = struct.unpack_from(">II", body)
                return RstStream(_stream_id(number), status)
            case 4:
                count = struct.unpack_from(">I", body)[0]
                pairs = [struct.unpack_from(">II", body, 4 + 8 * index) for index in range(min(count, 8192))]
                return Settings(tuple((one >> 24, one & 0xFFFFFF, value) for one, value in pairs), flags)
            case 6:
                return Ping(struct.unpack_from(">I", body)[0])
            case 7:
                last, status = struct.unpack_from(">II", body)
                return GoAway(_stream_id(last), status)
            case 9:
                number, delta = struct.unpack_from(">II", body)
                return WindowUpdate(_stream_id(number), delta & _LAST_STREAM_ID)
        return None  # unknown kinds are to be ignored (draft 3, section 2.2.1)

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._decompressor.decompress(block, MAX_CONTROL_BYTES)
        except zlib.error as error:
            raise SpdyError(f"a header block: {error}") from error
        if self._decompressor.unconsumed_tail:
            raise SpdyError(f"a header block of more than {MAX_CONTROL_BYTES} bytes")
        count = struct.unpack_from(">I", plain)[0]
        found, at = {}, 4
        for _ in range(count):
            name, at = _text(plain, at)
            value, at = _text(plain, at)
            found[name.lower()] = value
        return found


def _stream_id(number: int) -> int:
    return number & _LAST_STREAM_ID


def _text(plain: bytes, at: int) -> tuple[str, int]:
    length = struct.unpack_from(">I", plain, at)[0]
    end = at + 4 + length
    if end > len(plain):
        raise SpdyError("a header's text is longer than its block")
    return plain[at + 4 : end].decode("utf-8", "replace"), end
