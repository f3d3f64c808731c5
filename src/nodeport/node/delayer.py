"""Holds every frame that passes between two links for a while: a program of its own, which imports nothing of ours.

``delayer.py DELAY JITTER …`` with two packet sockets as descriptors 3 and 4, times in microseconds; what else it is
called with is for whoever looks at it. Frames keep their order: one is never let go before the one that came before it.
They come with a ``struct virtio_net_hdr``, so that unfinished checksums and large segments pass as they are.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import select
import socket
import sys
import time
from collections import deque

LARGEST = 1 << 17
"""Bytes of a frame: a large segment of 64 KiB and its headers fit."""
MOST_HELD = 64 << 20
"""Bytes that are held each way; what comes beyond is lost, as in any full queue."""
AT_ONCE = 64
"""Frames that are taken from one link before the other is looked at."""
NOBODY = 65534


class Way:
    """From one link to the other."""

    def __init__(self, source: socket.socket, target: socket.socket, delay: int, jitter: int) -> None:
        self.source = source
        self._target, self._delay, self._jitter = target, delay, jitter
        self._held: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._last = 0
        self._view = memoryview(bytearray(LARGEST))

    @property
    def next(self) -> int | None:
        """When the first frame is due, in microseconds."""
        return self._held[0][0] if self._held else None

    def take(self, now: int) -> None:
        for _ in range(AT_ONCE):
            try:
                frame = bytes(self._view[: self.source.recv_into(self._view)])
            except BlockingIOError:
                return
            except OSError:  # the link is down, or the frame cannot be described
                continue
            if self._bytes + len(frame) > MOST_HELD:
                continue
            due = now + self._delay + (random.randint(-self._jitter, self._jitter) if self._jitter else 0)
            self._last = max(self._last, due)
            self._held.append((self._last, frame))
            self._bytes += len(frame)

    def let_go(self, now: int) -> None:
        while self._held and self._held[0][0] <= now:
            _, frame = self._held.popleft()
            self._bytes -= len(frame)
            with contextlib.suppress(OSError):  # the link is down or its queue is full: lost
                self._target.send(frame)


def microseconds() -> int:
    return time.monotonic_ns() // 1000


def pass_on(ways: tuple[Way, Way]) -> None:
    """For ever."""
    by_socket = {way.source.fileno(): way for way in ways}
    while True:
        now = microseconds()
        for way in ways:
            way.let_go(now)
        due = [way.next for way in ways if way.next is not None]
        wait = max(0, min(due) - microseconds()) / 1e6 if due else None
        readable, _, _ = select.select(list(by_socket), (), (), wait)
        now = microseconds()
        for number in readable:
            by_socket[number].take(now)


def give_up_rights() -> None:
    """All it needs it has open."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def main(arguments: list[str]) -> None:
    delay, jitter = int(arguments[0]), int(arguments[1])
    one, other = socket.socket(fileno=3), socket.socket(fileno=4)
    for each in (one, other):
        each.setblocking(False)
    give_up_rights()
    gc.disable()
    pass_on((Way(one, other, delay, jitter), Way(other, one, delay, jitter)))


if __name__ == "__main__":
    main(sys.argv[1:])
