"""The agent's side of the zygote: starts launchers, and another zygote when one has died."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import signal
import socket
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nodeport.node.processes import CLUSTER_VARIABLE

PROGRAM = str(Path(__file__).with_name("zygote.py"))
_HIGH = 10


class ZygoteDied(OSError):
    """It is not known whether the launcher was started."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """``pidfd`` belongs to whoever asked."""

    pid: int
    pidfd: int


class Launchers:
    """One zygote for each cluster, from the first launcher on."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._zygotes: dict[str, _Zygote] = {}

    async def start(self, cluster: str, descriptors: Sequence[int]) -> Launcher:
        """A launcher with these as its descriptors 0 to 4. Raises OSError, ZygoteDied."""
        for is_last in (False, True):
            zygote = self._zygotes.get(cluster)
            if zygote is None:
                zygote = self._zygotes[cluster] = _Zygote(self._python, cluster)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours:
                with theirs:
                    ours.setblocking(False)
                    if not zygote.sent([*descriptors, theirs.fileno()]):
                        del self._zygotes[cluster]
                        if is_last:
                            raise OSError("the process that starts launchers does not stay")
                        continue
                return await _answer(ours)
        raise AssertionError("unreachable")


async def _answer(place: socket.socket) -> Launcher:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(place, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(place)
    data, sent, _, _ = place.recvmsg(32, socket.CMSG_SPACE(4))
    if not data or not sent:
        raise ZygoteDied("the process that starts launchers has died")
    (pidfd,) = array.array("i", sent[0][2][:4])
    os.set_inheritable(pidfd, False)
    return Launcher(int(data), pidfd)


class _Zygote:
    """It ends with this object, at the latest with this process."""

    def __init__(self, python: str, cluster: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = os.posix_spawn(
                python, [python, "-I", "-S", PROGRAM], {CLUSTER_VARIABLE: cluster},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True, setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
            )  # fmt: skip
        self._socket = ours
        weakref.finalize(self, _end, ours, pid)

    def sent(self, descriptors: Sequence[int]) -> bool:
        """Whether it took the order."""
        try:
            socket.send_fds(self._socket, [b"1"], list(descriptors))
        except (BrokenPipeError, ConnectionError):
            return False
        return True


def _end(ours: socket.socket, pid: int) -> None:
    ours.close()
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
