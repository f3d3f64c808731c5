"""What a launcher does for the clients that are attached to its container."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nodeport.node import attachments
from nodeport.node.attachments import Attachments


class Bench:
    """An `Attachments` whose loop the test turns by hand; ``source``: where the container reads its input."""

    def __init__(self, directory: Path, stack: ExitStack, *, once: bool) -> None:
        self.directory, self._stack = directory, stack
        self.source, stdin = os.pipe()
        os.set_blocking(self.source, False)
        stack.callback(os.close, self.source)
        self.attachments = Attachments(str(directory), stdin, -1, once=once)

    def client(self) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        directory = os.open(self.directory, os.O_PATH)
        sock.connect(f"/proc/self/fd/{directory}/attach")
        os.close(directory)
        sock.settimeout(5)
        self.turn()
        return sock

    def turn(self) -> None:
        """Until nothing more happens by itself."""
        for _ in range(1000):
            events = self.attachments.poll.poll(0)
            if not events:
                return
            for source, event in events:
                self.attachments.handle(source, event)
        raise AssertionError("it turns for ever")

    def read(self) -> bytes:
        """What the container finds in its input; ``b"-"``: nothing yet."""
        try:
            return os.read(self.source, 1 << 20)
        except BlockingIOError:
            return b"-"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


@pytest.fixture
def bench(tmp_path: Path, stack: ExitStack) -> Bench:
    deep = tmp_path / ("d" * 120)  # longer than a socket's path may be
    deep.mkdir()
    found = Bench(deep, stack, once=False)
    stack.callback(found.attachments.finish)
    return found


def test_output_reaches_every_client_with_its_stream(bench: Bench) -> None:
    one, two = bench.client(), bench.client()
    bench.attachments.output(1, b"out")
    bench.attachments.output(2, b"err")
    for client in (one, two):
        assert [client.recv(100), client.recv(100)] == [b"\1out", b"\2err"]


def test_input_of_any_client_reaches_the_container_and_stays_open(bench: Bench) -> None:
    one, two = bench.client(), bench.client()
    one.send(b"\0a")
    two.send(b"\0b")
    one.send(b"\xff\0")
    bench.turn()
    assert sorted(bench.read()) == sorted(b"ab")
    one.close()
    bench.turn()
    assert bench.read() == b"-"


@pytest.mark.parametrize("farewell", ["says so", "goes"])
def test_input_that_is_given_once_ends_with_its_client(
    tmp_path: Path, stack: ExitStack, farewell: str
) -> None:
    bench = Bench(tmp_path, stack, once=True)
    stack.callback(bench.attachments.finish)
    watching, typing = bench.client(), bench.client()
    typing.send(b"\0")
    typing.send(b"\0last")
    watching.close()
    bench.turn()
    assert bench.read() == b"last"
    if farewell == "says so":
        typing.send(b"\xff\0")
    else:
        typing.close()
    bench.turn()
    assert bench.read() == b""


def fill(client: socket.socket, bench: Bench) -> int:
    """How much input could be given before there was no more room."""
    for count in range(10_000):
        try:
            client.send(b"\0" + bytes(16_000))
        except BlockingIOError:
            return count * 16_000
        bench.turn()
    raise AssertionError("there is always room")


def test_a_container_that_does_not_read_holds_its_clients_back_and_loses_nothing(
    tmp_path: Path, stack: ExitStack
) -> None:
    bench = Bench(tmp_path, stack, once=True)
    stack.callback(bench.attachments.finish)
    client = bench.client()
    client.setblocking(False)
    sent = fill(client, bench)
    client.close()
    found = b""
    while (data := bench.read()) != b"":
        found += data if data != b"-" else b""
        bench.turn()
    assert len(found) == sent


def test_clients_that_do_not_read_fill_up_and_are_dropped_when_their_time_is_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = bench.client()
    while not bench.attachments.is_full:
        bench.attachments.output(1, bytes(16_000))
    bench.attachments.drop_stuck()
    assert bench.attachments.is_full
    monkeypatch.setattr(attachments, "PATIENCE", -1.0)
    bench.attachments.drop_stuck()
    assert not bench.attachments.is_full
    received = 0
    while data := lazy.recv(20_000):
        received += len(data)
    assert 0 < received < attachments.FULL


def test_a_slow_client_gets_everything(bench: Bench) -> None:
    slow = bench.client()
    for number in range(40):
        bench.attachments.output(1, bytes((number,)) * 16_000)
    found = []
    for _ in range(40):
        found.append(slow.recv(20_000))
        bench.turn()
    assert found == [b"\1" + bytes((number,)) * 16_000 for number in range(40)]


def test_the_end_comes_after_what_was_left_to_say(tmp_path: Path, stack: ExitStack) -> None:
    bench = Bench(tmp_path, stack, once=False)
    client = bench.client()
    bench.attachments.output(1, b"last words")
    bench.attachments.finish()
    assert client.recv(100) == b"\1last words"
    assert client.recv(100) == b""


@pytest.mark.parametrize("noise", [b"\4", b"\x04123456", struct.pack("=BHH", 4, 1, 1), b"\7x", b"\xff"])
def test_noise_is_passed_over(bench: Bench, noise: bytes) -> None:
    client = bench.client()
    client.send(noise)
    bench.turn()
    client.send(b"\0ok")
    bench.turn()
    assert bench.read() == b"ok"


def test_the_socket_belongs_to_its_owner_alone(bench: Bench) -> None:
    assert not (bench.directory / "attach").stat().st_mode & 0o077
