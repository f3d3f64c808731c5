"""Clients attached to a container, in its launcher: they see what it says and may feed its input.

They come to the socket ``attach`` in the container's directory and speak in packets. From the launcher: one byte with
the channel (1 stdout, 2 stderr), then data. To the launcher: channel 0 and input, empty when a client only says that it
will feed; 255 and 0 at the input's end; 4 and a terminal's new size (rows and columns as 16-bit numbers).

A client that does not read holds the container back, as a pipe would, but only for `PATIENCE`; then it is dropped.

Imported by a program that is to start in some 20 ms: nothing but built-in modules.
"""

# ruff: noqa: SIM105
# contextlib would double the time that a container takes to start.

from __future__ import annotations

import _socket
import fcntl
import os
import select
import struct
import time

SOCKET = "attach"
STDIN, RESIZE, CLOSE = 0, 4, 255
PACKET = 16384 + 1
"""Bytes at most, of packets in either direction."""
FULL = 1 << 20
"""Bytes that may wait for one client before no more output is read."""
PATIENCE = 5.0
FAREWELL = 2.0
"""Seconds for clients to read what is left when the container has ended."""
TIOCSWINSZ = 0x5414


class Client:
    """``waiting``: packets that its socket did not take; ``since``: when it last took one; ``feeds``: has input."""

    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock
        self.waiting: list[bytes] = []
        self.size = 0
        self.since = time.monotonic()
        self.feeds = False

    def flush(self) -> bool:
        """Send what can be sent; whether the client is still there."""
        while self.waiting:
            try:
                self.sock.send(self.waiting[0])
            except BlockingIOError:
                return True
            except OSError:
                return False
            self.size -= len(self.waiting.pop(0))
            self.since = time.monotonic()
        return True


class Attachments:
    """``stdin``: where input goes, -1: nowhere; ``terminal``: what has a size; ``once``: input ends with its client."""

    def __init__(self, directory: str, stdin: int, terminal: int, *, once: bool) -> None:
        self.poll = select.poll()
        self._stdin, self._terminal, self._once = stdin, terminal, once
        self._input = b""
        self._closes = False
        self._clients: dict[int, Client] = {}
        self._listener = _listen(directory)
        self.poll.register(self._listener.fileno(), select.POLLIN)
        if stdin >= 0:
            os.set_blocking(stdin, False)

    @property
    def is_full(self) -> bool:
        """Whether somebody has to read first."""
        return any(client.size > FULL for client in self._clients.values())

    def output(self, channel: int, data: bytes) -> None:
        """What the container said."""
        for number, client in list(self._clients.items()):
            if not client.waiting:
                client.since = time.monotonic()
            client.waiting.append(bytes((channel,)) + data)
            client.size += len(data) + 1
            self._flush(number, client)

    def handle(self, source: int, events: int) -> None:
        """What ``poll`` said of one of our descriptors."""
        if source == self._listener.fileno():
            self._accept()
        elif source == self._stdin:
            self._feed()
        elif (client := self._clients.get(source)) is not None:
            if events & select.POLLOUT:
                self._flush(source, client)
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._take(source, client)

    def drop_stuck(self) -> None:
        """Clients that have not read for too long."""
        oldest = time.monotonic() - PATIENCE
        for number, client in list(self._clients.items()):
            if client.size > FULL and client.since < oldest:
                self._drop(number)

    def finish(self) -> None:
        """The container has ended: clients get what is left, then the end."""
        deadline = time.monotonic() + FAREWELL
        while time.monotonic() < deadline and any(client.waiting for client in self._clients.values()):
            self.poll.poll(20)
            for number, client in list(self._clients.items()):
                self._flush(number, client)
        for number in list(self._clients):
            self._drop(number)
        self._listener.close()

    def _accept(self) -> None:
        try:
            descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]  # socket.accept's core
        except OSError:
            return
        sock = _socket.socket(fileno=descriptor)
        sock.setblocking(False)
        self._clients[descriptor] = Client(sock)
        self._watch()

    def _flush(self, number: int, client: Client) -> None:
        if client.flush():
            self._watch()
        else:
            self._drop(number)

    def _drop(self, number: int) -> None:
        self._expect(number, 0)
        client = self._clients.pop(number)
        client.sock.close()
        if client.feeds and self._once:
            self._end_input()

    def _watch(self) -> None:
        """Wait for room where packets wait; read no input while the container has not taken the last."""
        for number, client in self._clients.items():
            events = select.POLLOUT if client.waiting else 0
            self._expect(number, events if self._input else events | select.POLLIN)

    def _expect(self, number: int, events: int) -> None:
        """Nothing is heard of a descriptor without events, not even its end."""
        if events:
            self.poll.register(number, events)
            return
        try:
            self.poll.unregister(number)
        except KeyError:
            pass  # nothing was expected of it

    def _take(self, number: int, client: Client) -> None:
        if self._input:
            return
        try:
            packet = client.sock.recv(PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._drop(number)
        elif packet[0] == STDIN:
            client.feeds = True
            if self._stdin >= 0:
                self._input = packet[1:]
                self._feed()
        elif packet[0] == CLOSE and self._once:
            self._end_input()
        elif packet[0] == RESIZE and len(packet) == 5 and self._terminal >= 0:
            rows, columns = struct.unpack("HH", packet[1:])
            fcntl.ioctl(self._terminal, TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _feed(self) -> None:
        """Give the container its input; what it does not take now waits, and with it all clients."""
        try:
            self._input = self._input[os.write(self._stdin, self._input) :] if self._input else b""
        except BlockingIOError:
            pass
        except OSError:  # it reads no more
            self._input, self._closes = b"", True
        self._expect(self._stdin, select.POLLOUT if self._input else 0)
        if self._closes:
            self._end_input()
        self._watch()

    def _end_input(self) -> None:
        """Once the container has taken what there was. A terminal stays: its end of input is a character."""
        self._closes = True
        if self._stdin >= 0 and self._terminal < 0 and not self._input:
            self._expect(self._stdin, 0)
            os.close(self._stdin)
            self._stdin = -1


def _listen(directory: str) -> _socket.socket:
    """By its short name: a socket's path may have 107 bytes, and the directory's has more."""
    sock = _socket.socket(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    )
    back = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    mask = os.umask(0o177)
    try:
        os.chdir(directory)
        sock.bind(SOCKET)
    finally:
        os.umask(mask)
        os.fchdir(back)
        os.close(back)
    sock.listen(16)
    return sock
