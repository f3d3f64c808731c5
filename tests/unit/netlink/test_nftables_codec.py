"""Expressions, objects and elements of nf_tables: golden bytes, both directions, and fuzz."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport.netlink.codec import MalformedMessage
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.elements import decode_elements, element_payloads
from nodeport.netlink.nftables.expressions import (
    ATTRIBUTES,
    Code,
    Data,
    Expression,
    Kind,
    VerdictData,
    decode_data,
    decode_expressions,
    encode_data,
    encode_expressions,
    expression,
)
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, Rule, Set, SetFlag, Table

TABLE = Table("t")
little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="golden bytes of a little-endian host")

GOLDEN: list[tuple[Expression, str]] = [
    (
        expression("payload", dreg=1, base=1, offset=16, length=4),
        "340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000001008000400"
        "00000004",
    ),
    (
        expression("cmp", sreg=1, op=0, data=b"\x06"),
        "2c00018008000100636d700020000280080001000000000108000200000000000c0003800500010006000000",
    ),
    (
        expression("immediate", dreg=0, data=VerdictData(Code.GOTO, "x")),
        "380001800e000100696d6d656469617465000000240002800800010000000000180002801400028008000100fffffffc"
        "0600020078000000",
    ),
]


@little_endian
@pytest.mark.parametrize(("item", "golden"), GOLDEN, ids=lambda value: getattr(value, "name", "")[:12])
def test_an_expression_is_the_bytes_that_nft_sends(item: Expression, golden: str) -> None:
    assert encode_expressions((item,)).hex() == golden.replace(" ", "")
    assert decode_expressions(bytes.fromhex(golden.replace(" ", ""))) == (item,)


_VALUES = {
    Kind.U8: st.integers(0, 0xFF),
    Kind.U32: st.integers(0, 0xFFFFFFFF),
    Kind.U64: st.integers(0, 0xFFFFFFFFFFFFFFFF),
    Kind.STRING: st.text("abc-", min_size=1),
    Kind.DATA: st.binary(min_size=1, max_size=16)
    | st.builds(VerdictData, st.sampled_from(Code), st.sampled_from(["", "chain"])),
}


@st.composite
def expressions(draw: st.DrawFn) -> Expression:
    name = draw(st.sampled_from(sorted(ATTRIBUTES.keys() - {"nat"})))
    return expression(name, **{key: draw(_VALUES[spec.kind]) for key, spec in ATTRIBUTES[name].items()})


@given(st.lists(expressions(), max_size=8))
def test_expressions_survive_the_way_there_and_back(items: list[Expression]) -> None:
    assert decode_expressions(encode_expressions(tuple(items))) == tuple(items)


def test_an_expression_of_somebody_else_is_kept_as_it_is() -> None:
    raw = encode_expressions((expression("masq"),)).replace(b"masq", b"osf!")
    (item,) = decode_expressions(raw)
    assert item.name == "osf!"


def test_an_attribute_that_the_expression_does_not_have_is_a_bug() -> None:
    with pytest.raises(KeyError, match="masq has no address"):
        expression("masq", address=1)


@pytest.mark.parametrize(
    "data",
    [b"\x01", b"\x01\x02\x03\x04", VerdictData(Code.DROP), VerdictData(Code.JUMP, "services")],
    ids=repr,
)
def test_data_survive_the_way_there_and_back(data: Data) -> None:
    assert decode_data(encode_data(1, data)[4:]) == data


def test_chains_rules_and_sets_come_back_as_they_went() -> None:
    chain = Chain("prerouting", hook=BaseHook("nat", Hook.PREROUTING, -100))
    assert objects.decode_chain(objects.chain_payload(TABLE, chain)) == chain
    rule = Rule((expression("masq"),), "why")
    assert objects.decode_rule(objects.rule_payload(TABLE, "c", rule) + b"\x0c\0\3\0" + bytes(8)).rule == rule
    item = Set("s", 13, 2, SetFlag.MAP, 7, 4, b"\0\4\0\0\0\0")
    assert objects.decode_set(objects.set_payload(TABLE, item, 1)).set == item


PLAIN = Set("plain", 7, 4)
PORTS = Set("ports", 13, 2)
MAP = Set("map", 0, 12, SetFlag.MAP, 0, 8)
VERDICTS = Set("verdicts", 23, 4, SetFlag.MAP, 0xFFFFFF00)
INTERVALS = Set("intervals", 7, 4, SetFlag.INTERVAL)


@pytest.mark.parametrize(
    ("item", "elements"),
    [
        (PLAIN, {b"\x0a\0\0\1": b"", b"\x0a\0\0\2": b""}),
        (PORTS, {b"\x75\x37": b""}),
        (MAP, {bytes(12): b"12345678", b"\1" * 12: b"abcdefgh"}),
        (VERDICTS, {b"\1\0\0\0": VerdictData(Code.GOTO, "service-1"), b"\2\0\0\0": VerdictData(Code.DROP)}),
        (INTERVALS, {b"\x0a\0\0\0\x0b\0\0\0": b"", b"\xc0\0\0\0": b""}),
        (INTERVALS, {b"\0\0\0\0\x7f\0\0\0": b"", b"\x80\0\0\0": b""}),
        (INTERVALS, {b"\x0a\0\0\0\x0a\0\0\1": b"", b"\x0a\0\0\1\x0a\0\0\2": b""}),
    ],
    ids=["addresses", "ports", "map", "verdicts", "open interval", "all but loopback", "touching intervals"],
)
def test_elements_survive_the_way_there_and_back(item: Set, elements: dict[bytes, Data]) -> None:
    assert decode_elements(item, element_payloads(TABLE, item, elements)) == elements


def test_many_elements_are_cut_so_that_each_list_fits_its_length_field() -> None:
    elements: dict[bytes, Data] = {
        index.to_bytes(12, "big"): index.to_bytes(8, "big") for index in range(5000)
    }
    payloads = list(element_payloads(TABLE, MAP, elements))
    assert len(payloads) > 1
    assert all(len(payload) < 0x10000 for payload in payloads)
    assert decode_elements(MAP, payloads) == elements


@given(st.binary(max_size=128))
def test_no_listing_breaks_the_decoders(raw: bytes) -> None:
    for item in (PLAIN, MAP, INTERVALS):
        try:
            decode_elements(item, [bytes(4) + raw])
            decode_expressions(raw)
        except (MalformedMessage, KeyError):
            continue
