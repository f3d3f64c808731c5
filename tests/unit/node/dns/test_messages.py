"""Messages as bytes: what fits, what is cut, and what strangers send."""

from __future__ import annotations

import random

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from nodeport.node.dns import message
from nodeport.node.dns.message import Code, MalformedMessage, Type, UnusableQuery
from unit.node.dns.clusternames import Cluster, endpoint, endpoint_slice, service

MANY = (
    service("many", clusterIPs=["None"], ports=[]),
    endpoint_slice("many", *(endpoint(f"10.244.{n // 250}.{n % 250 + 1}") for n in range(5000))),
)
NAME = "many.default.svc.cluster.local"


@pytest.mark.parametrize(("payload", "room"), [(None, 512), (512, 512), (100, 512), (900, 900), (4096, 1232)])
def test_what_does_not_fit_is_cut_and_said_to_be(payload: int | None, room: int) -> None:
    answer = Cluster(*MANY).ask(NAME, payload=payload)
    assert answer.flags & dns.flags.TC
    size = len(answer.to_wire())
    assert room - 32 < size <= room
    assert answer.edns == (-1 if payload is None else 0)


def test_over_tcp_as_much_is_said_as_a_message_holds() -> None:
    answer = Cluster(*MANY).ask(NAME, room=message.LARGEST_TCP)
    assert len(answer.answer[0]) > 4000
    assert answer.flags & dns.flags.TC


def query_bytes(**changes: object) -> bytes:
    return dns.message.make_query("a.cluster.local", "A", **changes).to_wire()  # type: ignore[arg-type]


def code_for(data: bytes) -> Code:
    with pytest.raises(UnusableQuery) as caught:
        message.decode_query(data)
    answer = message.encode_error(data, caught.value.code)
    assert dns.message.from_wire(answer).rcode() == caught.value.code
    return caught.value.code


def test_queries_that_cannot_be_answered_get_an_error() -> None:
    plain = query_bytes()
    assert code_for(plain[:2] + b"\x28" + plain[3:]) == Code.NOTIMP
    assert code_for(plain[:4] + b"\0\2" + plain[6:]) == Code.FORMERR
    assert code_for(plain[:-3]) == Code.FORMERR
    assert code_for(plain[:12] + b"\xc0\x0c" + plain[-4:]) == Code.FORMERR
    assert code_for(query_bytes(use_edns=3)) == Code.BADVERS


def test_answers_and_scraps_are_not_answered() -> None:
    for data in (b"", b"\0" * 11, query_bytes()[:2] + b"\x80" + query_bytes()[3:]):
        with pytest.raises(MalformedMessage):
            message.decode_query(data)


def test_nothing_that_is_sent_breaks_the_codec() -> None:
    pick = random.Random(7)
    whole = query_bytes(use_edns=0, payload=4096)
    for _ in range(5000):
        data = bytearray(whole)
        for _ in range(pick.randrange(1, 6)):
            data[pick.randrange(len(data))] = pick.randrange(256)
        data = data[: pick.randrange(len(data) + 1)]
        try:
            query = message.decode_query(bytes(data))
        except MalformedMessage:
            continue
        except UnusableQuery as error:
            message.encode_error(bytes(data), error.code)
            continue
        message.encode_answer(query, message.Answer(Code.NXDOMAIN), query.room)
        try:
            message.decode_chain(bytes(data))
        except MalformedMessage:
            continue


def test_the_addresses_in_another_servers_answer_are_read() -> None:
    asked = dns.message.make_query("www.example.org", "A", id=77)
    answer = dns.message.make_response(asked)
    answer.answer = [
        dns.rrset.from_text("www.example.org.", 60, "IN", "CNAME", "host.example.org."),
        dns.rrset.from_text("host.example.org.", 30, "IN", "A", "192.0.2.1", "192.0.2.2"),
        dns.rrset.from_text("host.example.org.", 30, "IN", "TXT", '"left out"'),
    ]
    wire = answer.to_wire()
    question = message.encode_question("www.example.org", Type.A)
    assert message.answers_to(wire, 77, question)
    assert not message.answers_to(wire, 78, question)
    assert not message.answers_to(wire, 77, message.encode_question("www.example.net", Type.A))
    found = {(each.name, each.type, str(each.data), each.ttl) for each in message.decode_chain(wire)}
    assert found == {
        ("www.example.org", Type.CNAME, "host.example.org", 60),
        ("host.example.org", Type.A, "192.0.2.1", 30),
        ("host.example.org", Type.A, "192.0.2.2", 30),
    }


def test_letters_come_back_as_they_were_asked() -> None:
    asked = dns.message.make_query("A.Cluster.LOCAL", "A", id=5)
    query = message.decode_query(asked.to_wire())
    answer = dns.message.from_wire(message.encode_answer(query, message.Answer(Code.NXDOMAIN), 512))
    assert query.name == "a.cluster.local"
    assert answer.question[0].name.to_text() == "A.Cluster.LOCAL."
