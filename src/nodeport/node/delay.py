"""The delay of a node's link: a small program between node and bridge, which holds each frame for a while.

::

    node ── eth0 ══ NODE            (no port of the bridge any more)
                      │ delayer
                    NODE.d ══ NODE.b ── fabric0

Kernels without ``netem`` can do this too. What is wanted is compared with what is there: the links and, by its command
line, the program. It outlives the process that started it, as the delay must; when it ends, that process makes the link
whole.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeport.netlink import route
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import Link, RouteSocket, VethEnd
from nodeport.node import network, processes
from nodeport.node.processes import CLUSTER_VARIABLE, ProcessId

PROGRAM = str(Path(__file__).with_name("delayer.py"))
INNER, OUTER = ".d", ".b"
"""What the names of the added links end with: the program's side, the bridge's side."""
PATIENCE = 2.0
"""Seconds for a killed program to be gone."""
_ETH_P_ALL: Final = 3
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Delay:
    """In milliseconds, each way: each frame is held for ``time``, give or take up to ``jitter``."""

    time: float = 0.0
    jitter: float = 0.0

    def words(self) -> list[str]:
        """As the program takes it, in whole microseconds."""
        return [str(round(1000 * each)) for each in (self.time, self.jitter)]


class NodeLink:
    """That of one node of a local cluster. Synchronous. Raises OSError, NetlinkError."""

    def __init__(self, cluster: str, node: str, pid_file: Path) -> None:
        self._cluster, self._node, self._pid_file = cluster, node, pid_file

    def ensure(self, delay: Delay) -> ProcessId | None:
        """Have the link so; the program that sees to it, None without delay."""
        with RouteSocket(network.fabric_netns(self._cluster)) as fabric:
            port = fabric.link(self._node)
            if port is None:
                raise OSError(errno.ENODEV, "the node has no link", self._node)
            if not delay.time:
                self._join(fabric, port)
                return None
            inner = self._bypass(fabric)
            words = [*delay.words(), str(port.index), str(inner.index)]
            running = processes.living(self._pid_file)
            if running is not None and _words_of(running) == words and not port.master:
                return running
            self._join(fabric, port, keep_bypass=True)
            return self._part(fabric, port, words)

    def heal(self) -> None:
        """Join the node to the bridge as it was."""
        self.ensure(Delay())

    def _bypass(self, fabric: RouteSocket) -> Link:
        """The program's side of the added pair of links."""
        inner, outer = self._node + INNER, self._node + OUTER
        if fabric.link(inner) is None or fabric.link(outer) is None:
            number = int.from_bytes(bytes.fromhex(network.digest(self._node, 4)), "big")
            mac = b"\x0a\x5d\0" + number.to_bytes(2, "big")
            ends = VethEnd(outer, mac + b"\1"), VethEnd(inner, mac + b"\2")
            fabric.apply([route.veth(*ends, network.MTU)])
        found = {name: fabric.link(name) for name in (inner, outer)}
        near, far = found[inner], found[outer]
        if near is None or far is None:
            raise OSError(errno.ENODEV, "the link of the delay vanished while it was set up", inner)
        fabric.apply([route.link_up(near.index), route.set_master(far.index, network.UPLINK_INDEX)])
        return near

    def _part(self, fabric: RouteSocket, port: Link, words: list[str]) -> ProcessId:
        """Take the node off the bridge, and put the program between."""
        fabric_netns = network.fabric_netns(self._cluster)
        names = self._node, self._node + INNER
        sockets = [open_in(fabric_netns, functools.partial(_listen, name)) for name in names]
        try:
            fabric.apply([route.set_master(port.index, 0)])
            running = self._spawn(sockets, words)
            self._pid_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            processes.write_pid(self._pid_file, running)
        except BaseException:
            fabric.apply([route.set_master(port.index, network.UPLINK_INDEX)])
            raise
        finally:
            for each in sockets:
                each.close()
        return running

    def _spawn(self, sockets: list[socket.socket], words: list[str]) -> ProcessId:
        high = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD_CLOEXEC, 10) for each in sockets]
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", PROGRAM, *words],
                {CLUSTER_VARIABLE: self._cluster},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    *((os.POSIX_SPAWN_DUP2, descriptor, 3 + at) for at, descriptor in enumerate(high)),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
            )
        finally:
            for descriptor in high:
                os.close(descriptor)
        return ProcessId(pid, processes.start_time(pid))

    def _join(self, fabric: RouteSocket, port: Link, *, keep_bypass: bool = False) -> None:
        fabric.apply([route.set_master(port.index, network.UPLINK_INDEX)])
        running = processes.living(self._pid_file)
        if running is not None:
            running.send(signal.SIGKILL)
            processes.wait_for_end([running], PATIENCE)
        self._pid_file.unlink(missing_ok=True)
        if not keep_bypass and (inner := fabric.link(self._node + INNER)):
            fabric.apply([route.link_delete(inner.index)])


def _listen(name: str) -> socket.socket:
    """What comes in by the link, headers of offloads included; made in the namespace that the thread is in."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        made.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        made.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        for option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
            made.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        made.bind((name, _ETH_P_ALL))
    except BaseException:
        made.close()
        raise
    return made


def _words_of(process: ProcessId) -> list[str]:
    """What the program was started with."""
    try:
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []
    return (
        [word.decode() for word in words[words.index(PROGRAM.encode()) + 1 :]]
        if PROGRAM.encode() in words
        else []
    )
