"""Golden bytes in both directions, and fuzz: no bytes may do anything but parse or be called malformed."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport.netlink import codec
from nodeport.netlink.codec import MalformedMessage

pytestmark = pytest.mark.skipif(
    sys.byteorder != "little", reason="the golden bytes are of a little-endian host"
)


@pytest.mark.parametrize(
    ("encoded", "golden"),
    [
        (codec.attribute(1, b""), "04000100"),
        (codec.attribute(1, b"\x01"), "0500010001000000"),
        (codec.attribute(2, b"\x01\x02\x03\x04"), "0800020001020304"),
        (codec.string(3, "nodeport"), "0d0003006e6f6465706f727400000000"),
        (codec.u8(4, 7), "0500040007000000"),
        (codec.u16be(5, 0x1F90), "060005001f900000"),
        (codec.u32be(6, 0x0A000001), "080006000a000001"),
        (codec.u32(6, 0x0A000001), "080006000100000a"),
        (codec.u64be(7, 1), "0c0007000000000000000001"),
        (codec.nested(8, codec.u8(1, 2)), "0c0008800500010002000000"),
        (codec.message(0x0A10, 5, 1, b"\x01\x02"), "12000000100a05000100000000000000" + "01020000"),
    ],
)
def test_what_is_encoded_is_what_the_kernel_reads(encoded: bytes, golden: str) -> None:
    assert encoded.hex() == golden


def test_messages_come_back_out_of_one_buffer() -> None:
    buffer = codec.message(16, 1, 7, b"abc") + codec.message(3, 2, 8, b"", port=9)
    first, second = codec.messages(buffer)
    assert (first.type, first.flags, first.sequence, first.payload) == (16, 1, 7, b"abc")
    assert (second.type, second.sequence, second.port, second.payload) == (3, 8, 9, b"")


def test_an_attribute_longer_than_sixteen_bits_can_say_is_refused() -> None:
    codec.attribute(1, bytes(0xFFFF - 4))
    with pytest.raises(MalformedMessage, match="longer than 65535"):
        codec.attribute(1, bytes(0xFFFF - 3))


@pytest.mark.parametrize("raw", ["03000100", "0900010001000000", "0400010001"])
def test_attributes_that_lie_about_their_length_are_malformed(raw: str) -> None:
    with pytest.raises(MalformedMessage):
        list(codec.attributes(bytes.fromhex(raw)))


@pytest.mark.parametrize(
    "raw", ["0f000000100a05000100000000000000", "14000000100a05000100000000000000", "00"]
)
def test_messages_that_lie_about_their_length_are_malformed(raw: str) -> None:
    with pytest.raises(MalformedMessage):
        list(codec.messages(bytes.fromhex(raw)))


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=64))))
def test_attributes_survive_the_way_there_and_back(pairs: list[tuple[int, bytes]]) -> None:
    encoded = b"".join(codec.attribute(kind, payload) for kind, payload in pairs)
    assert list(codec.attributes(encoded)) == pairs


@given(st.binary(max_size=256))
def test_no_bytes_break_the_parser(raw: bytes) -> None:
    for parse in (codec.attributes, codec.messages):
        try:
            list(parse(raw))
        except MalformedMessage:
            continue
