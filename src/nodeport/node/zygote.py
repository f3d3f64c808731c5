"""A process with the launchers' program in memory: each launcher is forked off it, and shares what neither changes.

A program of its own, run as ``python -I -S zygote.py`` with a sequenced-packet socket as descriptor 0. Each packet
brings six descriptors: a launcher's 0 to 4, as `launcher` says, and a socket that is told the launcher's PID and gets a
pidfd of it. When the other end of descriptor 0 closes, the process ends; the launchers go on.
"""

# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import _socket
import array
import gc
import os
import signal
import sys

GIVEN = 6
FIRST_FREE = 16
"""Descriptors that arrive are above those that a launcher has."""
_PACKET = 16


def main() -> None:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from nodeport.node import attachments, containerlog, launcher  # noqa: F401 - to have them before a launcher asks

    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3, FIRST_FREE):
        os.dup2(null, number)
    os.closerange(FIRST_FREE, launcher.MOST_DESCRIPTORS)
    orders = _socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, lambda number, frame: reap())
    gc.collect()
    gc.freeze()
    while given := receive(orders):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        child = os.fork()
        if not child:
            become_launcher(given)
        tell(given.pop(), child)
        for number in given:
            os.close(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def receive(orders: _socket.socket) -> list[int]:
    """The descriptors of the next launcher; none at the end."""
    while True:
        data, sent, _, _ = orders.recvmsg(_PACKET, _socket.CMSG_SPACE(GIVEN * 4))
        found = array.array("i")
        for _, _, part in sent:
            found.frombytes(part[: len(part) - len(part) % found.itemsize])
        if not data or len(found) == GIVEN:
            return list(found) if data else []
        for number in found:
            os.close(number)


def become_launcher(given: list[int]) -> None:
    """In the child: as if it had been started for this one container."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        for number, source in enumerate(given[:5]):
            os.dup2(source, number)
        from nodeport.node import launcher

        launcher.main("run")
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


def tell(answer: int, child: int) -> None:
    """The PID, and a pidfd: the child cannot have been reaped yet."""
    pidfd = os.pidfd_open(child)
    try:
        with _SocketOf(answer) as place:
            descriptors = array.array("i", [pidfd])
            place.sendmsg([str(child).encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)])
    except OSError:
        pass  # nobody waits any more
    finally:
        os.close(pidfd)


class _SocketOf:
    def __init__(self, number: int) -> None:
        self._socket = _socket.socket(fileno=number)

    def __enter__(self) -> _socket.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


main()
