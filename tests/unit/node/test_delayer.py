"""How long a frame is held, and in which order frames go."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from nodeport.node import delayer
from nodeport.node.delayer import Way

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[tuple[Pair, Pair]]:
    """Two links: the way leads from the second end of the first one to the first end of the second one."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    for pair in pairs:
        for end in pair:
            end.setblocking(False)
    yield pairs[0], pairs[1]
    for pair in pairs:
        for end in pair:
            end.close()


def received(end: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(end.recv(100))
        except BlockingIOError:
            return found


def test_a_frame_goes_when_it_is_due_and_not_before(ends: tuple[Pair, Pair]) -> None:
    (sender, source), (target, receiver) = ends
    way = Way(source, target, 1000, 0)
    sender.send(b"one")
    way.take(5000)
    assert way.next == 6000
    way.let_go(5999)
    assert received(receiver) == []
    way.let_go(6000)
    assert received(receiver) == [b"one"]
    assert way.next is None


def test_jitter_never_lets_a_frame_overtake_another(
    ends: tuple[Pair, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    (sender, source), (target, receiver) = ends
    way = Way(source, target, 1000, 900)
    chosen = iter([900, -900, 0])
    monkeypatch.setattr(delayer.random, "randint", lambda low, high: next(chosen))
    for number in range(3):
        sender.send(bytes([number]))
        way.take(10 * number)
    way.let_go(1899)
    assert received(receiver) == []
    way.let_go(1900)
    assert received(receiver) == [b"\0", b"\1", b"\2"]


def test_what_cannot_be_held_any_more_is_lost(
    ends: tuple[Pair, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    (sender, source), (target, receiver) = ends
    monkeypatch.setattr(delayer, "MOST_HELD", 5)
    way = Way(source, target, 10, 0)
    for frame in (b"abc", b"def", b"gh"):
        sender.send(frame)
    way.take(0)
    way.let_go(10)
    assert received(receiver) == [b"abc", b"gh"]
    sender.send(b"ijklm")
    way.take(20)
    way.let_go(30)
    assert received(receiver) == [b"ijklm"]


def test_a_link_that_is_gone_loses_the_frame_and_nothing_else(ends: tuple[Pair, Pair]) -> None:
    (sender, source), (target, receiver) = ends
    way = Way(source, target, 10, 0)
    receiver.close()
    sender.send(b"lost")
    way.take(0)
    way.let_go(10)
    assert way.next is None
