"""SPDY/3.1 frames: golden bytes both ways, any split of the bytes, and noise."""

from __future__ import annotations

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport.apiserver.spdy.dictionary import DICTIONARY
from nodeport.apiserver.spdy.frames import (
    MAX_CONTROL_BYTES,
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    HeadersFrame,
    Ping,
    RstStream,
    Settings,
    SpdyError,
    SynReply,
    SynStream,
    WindowUpdate,
)

GOLDEN: list[tuple[Frame, str]] = [
    (Ping(1), "800300060000000400000001"),
    (RstStream(3, 5), "80030003000000080000000300000005"),
    (GoAway(7, 0), "80030007000000080000000700000000"),
    (WindowUpdate(1, 65536), "80030009000000080000000100010000"),
    (Settings(((1, 7, 65536),)), "800300040000000c000000010100000700010000"),
    (Data(1, b"hi"), "00000001000000026869"),
    (Data(1, fin=True), "0000000101000000"),
]
IDS = st.integers(0, 0x7FFFFFFF)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
HEADERS = st.dictionaries(st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12), WORDS, max_size=6)
FRAMES = st.one_of(
    st.builds(SynStream, IDS, HEADERS, st.booleans(), st.booleans(), IDS, st.integers(0, 7)),
    st.builds(SynReply, IDS, HEADERS, st.booleans()),
    st.builds(HeadersFrame, IDS, HEADERS, st.booleans()),
    st.builds(RstStream, IDS, IDS),
    st.builds(GoAway, IDS, IDS),
    st.builds(Ping, IDS),
    st.builds(WindowUpdate, IDS, IDS),
    st.builds(Data, IDS, st.binary(min_size=1, max_size=300), st.booleans()),
)


@pytest.mark.parametrize(("frame", "expected"), GOLDEN, ids=[type(frame).__name__ for frame, _ in GOLDEN])
def test_frames_have_the_bytes_of_the_draft(frame: Frame, expected: str) -> None:
    assert Encoder().encode(frame).hex() == expected
    assert list(Decoder().feed(bytes.fromhex(expected))) == [frame]


def test_the_dictionary_is_the_drafts() -> None:
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


def test_a_streams_headers_are_compressed_over_the_dictionary() -> None:
    raw = Encoder().encode(SynStream(1, {"streamType": "error"}, fin=True))
    assert raw[:8].hex() == "8003000101" + f"{len(raw) - 8:06x}"
    assert raw[8:18].hex() == "00000001000000000000"
    plain = zlib.decompressobj(zdict=DICTIONARY).decompress(raw[18:])
    assert plain == b"\0\0\0\1\0\0\0\x0astreamtype\0\0\0\5error"


@given(st.lists(FRAMES, max_size=12), st.integers(1, 40))
def test_whatever_the_split_the_same_frames_come_out(frames: list[Frame], size: int) -> None:
    encoder, decoder = Encoder(), Decoder()
    raw = b"".join(encoder.encode(frame) for frame in frames)
    found: list[Frame] = []
    for start in range(0, len(raw), size):
        found += decoder.feed(raw[start : start + size])
    assert joined(found) == joined(frames)


def joined(frames: list[Frame]) -> list[Frame]:
    """Pieces of one data frame put together again, for comparing."""
    found: list[Frame] = []
    for frame in frames:
        last = found[-1] if found else None
        if (
            isinstance(frame, Data)
            and isinstance(last, Data)
            and not last.fin
            and last.stream_id == frame.stream_id
        ):
            found[-1] = Data(frame.stream_id, last.data + frame.data, frame.fin)
        else:
            found.append(frame)
    return found


@given(st.binary(max_size=400))
def test_noise_is_frames_or_an_error(noise: bytes) -> None:
    with contextlib.suppress(SpdyError):
        list(Decoder().feed(noise))


@given(st.integers(1, 9), st.integers(0, 3), st.binary(max_size=60))
def test_noise_in_a_control_frame_is_a_frame_or_an_error(kind: int, flags: int, body: bytes) -> None:
    raw = struct.pack(">HHI", 0x8003, kind, flags << 24 | len(body)) + body
    with contextlib.suppress(SpdyError):
        list(Decoder().feed(raw))


def test_data_is_handed_on_before_its_frame_is_whole() -> None:
    decoder = Decoder()
    head = struct.pack(">II", 5, 1 << 24 | 0xFFFFFF)
    assert list(decoder.feed(head + b"abc")) == [Data(5, b"abc")]
    assert list(decoder.feed(b"d" * 0xFFFFFC)) == [Data(5, b"d" * 0xFFFFFC, fin=True)]


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack(">HHI", 0x8002, 6, 4),
        struct.pack(">HHI", 0x8003, 1, MAX_CONTROL_BYTES + 1),
        struct.pack(">HHI", 0x8003, 6, 2) + b"ab",
    ],
    ids=["version 2", "too long", "too short"],
)
def test_what_the_protocol_forbids_is_an_error(raw: bytes) -> None:
    with pytest.raises(SpdyError):
        list(Decoder().feed(raw))


def test_headers_that_grow_beyond_all_bounds_are_an_error() -> None:
    compressor = zlib.compressobj(zdict=DICTIONARY)
    bomb = compressor.compress(b"\0" * (MAX_CONTROL_BYTES + 1)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    body = struct.pack(">I", 1) + bomb
    with pytest.raises(SpdyError, match="more than"):
        list(Decoder().feed(struct.pack(">HHI", 0x8003, 2, len(body)) + body))


def test_a_kind_that_nobody_knows_is_passed_over() -> None:
    assert list(Decoder().feed(struct.pack(">HHI", 0x8003, 99, 2) + b"ab" + Encoder().encode(Ping(2)))) == [
        Ping(2)
    ]
