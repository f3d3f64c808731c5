"""A client's talk with a command inside a container: its standard streams, its end, and its death with the client."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import marshal
import os
import signal
import socket
import struct
import termios
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from nodeport.api.channels import ChannelMessage
from nodeport.node import attachments
from nodeport.node.descriptors import Descriptor
from nodeport.node.processes import CLUSTER_VARIABLE

TIOCSPTLCK, TIOCGPTPEER = 0x40045431, 0x5441
TTY_GROUP = 5


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Which streams a client wants. With ``tty`` there is one terminal, whose output is all on ``stdout``."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """``code``: 0 to 255, 128 + N for signal N. ``trouble``: why nothing was run."""

    code: int
    trouble: str = ""


Output = Callable[[], Awaitable[ChannelMessage | None]]
"""The next of what the command says, on stdout or stderr; None at the end."""


class Session(Protocol):
    """Whoever opens one closes it."""

    def outputs(self) -> Sequence[Output]:
        """What to read; all of them at once."""
        ...

    async def write(self, data: bytes) -> None:
        """To the command's stdin. Raises BrokenPipeError when it reads no more."""
        ...

    async def close_stdin(self) -> None: ...

    async def resize(self, columns: int, rows: int) -> None: ...

    async def wait(self) -> SessionEnd:
        """Until the command has ended."""
        ...

    def close(self) -> None:
        """Ends the command with all that belongs to it, and gives every descriptor back."""
        ...


@dataclass(slots=True)
class ExecSession:
    """A command that was started for a client."""

    _pid: int
    _pidfd: int
    _control: Descriptor
    _stdin: Descriptor | None = None
    _outputs: list[tuple[int, Descriptor]] = field(default_factory=list)
    _terminal: int = -1

    def outputs(self) -> Sequence[Output]:
        return [partial(_read, channel, descriptor) for channel, descriptor in self._outputs]

    async def write(self, data: bytes) -> None:
        if self._stdin is not None:
            await self._stdin.write(data)

    async def close_stdin(self) -> None:
        """A terminal stays open: its end of input is a character."""
        if self._stdin is not None and self._terminal < 0:
            self._stdin.close()

    async def resize(self, columns: int, rows: int) -> None:
        if self._terminal >= 0:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def wait(self) -> SessionEnd:
        ended = Descriptor(os.dup(self._pidfd))
        try:
            await ended.wait_readable()
        finally:
            ended.close()
        code = self._reap()
        trouble = (await self._control.read()).decode("utf-8", "replace")
        return SessionEnd(code if code >= 0 else 128 - code, trouble)

    def _reap(self) -> int:
        """The exit code of the launcher, which has ended."""
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """The launcher sees its control socket close, kills the session and goes; it is reaped when it has."""
        self._control.close()
        for descriptor in (self._stdin, *(output for _, output in self._outputs)):
            if descriptor is not None:
                descriptor.close()
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1
        if self._pid:
            _reap_later(self._pid, self._pidfd)
        else:
            os.close(self._pidfd)
        self._pid = 0


async def _read(channel: int, descriptor: Descriptor) -> ChannelMessage | None:
    data = await descriptor.read()
    return ChannelMessage(channel, data) if data else None


def _reap_later(pid: int, pidfd: int) -> None:
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    loop.add_reader(pidfd, ended)


@dataclass(slots=True)
class AttachSession:
    """A place among those that are attached to a container."""

    _socket: Descriptor
    _options: StreamOptions
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def outputs(self) -> Sequence[Output]:
        return [self._next]

    async def _next(self) -> ChannelMessage | None:
        while packet := await self._socket.read(attachments.PACKET):
            wanted = (False, self._options.stdout, self._options.stderr)
            if packet[0] < len(wanted) and wanted[packet[0]]:
                return ChannelMessage(packet[0], packet[1:])
        self._ended.set()
        return None

    async def write(self, data: bytes) -> None:
        if self._options.stdin:
            size = attachments.PACKET - 1
            for start in range(0, len(data), size):
                await self._socket.write(bytes((attachments.STDIN,)) + data[start : start + size])

    async def close_stdin(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            await self._socket.write(bytes((attachments.CLOSE, attachments.STDIN)))

    async def resize(self, columns: int, rows: int) -> None:
        with contextlib.suppress(BrokenPipeError):
            await self._socket.write(struct.pack("=BHH", attachments.RESIZE, rows, columns))

    async def wait(self) -> SessionEnd:
        await self._ended.wait()
        return SessionEnd(0)

    def close(self) -> None:
        self._socket.close()


def attach(directory: Path, options: StreamOptions) -> AttachSession:
    """Raises OSError: the launcher is gone, or too old to be attached to."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    where = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{where}/{attachments.SOCKET}")  # a socket's path may have 107 bytes
        if options.stdin:
            sock.send(bytes((attachments.STDIN,)))
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(where)
    return AttachSession(Descriptor(sock.detach()), options)


@dataclass(frozen=True, slots=True)
class Launch:
    """How the launcher of a session is started. ``pid``: the container's first process; ``parent``: its launcher."""

    python: str
    launcher: str
    cluster: str
    pid: int
    parent: int


def open_session(launch: Launch, argv: Sequence[str], options: StreamOptions) -> ExecSession:
    """Start ``argv`` beside the container's first process. Raises OSError."""
    with contextlib.ExitStack() as unused, contextlib.ExitStack() as given:
        ours, theirs = socket.socketpair()
        given.callback(theirs.close)
        control = ours.detach()
        unused.callback(os.close, control)
        streams = (
            _terminal_streams(unused, given, launch.pid) if options.tty else _pipes(unused, given, options)
        )
        order = {"pid": launch.pid, "launcher": launch.parent, "argv": list(argv), "tty": options.tty}
        child = _spawn(launch, marshal.dumps(order), theirs.fileno(), streams.given)
        pidfd = os.pidfd_open(child)
        unused.pop_all()
    outputs = [(channel, Descriptor(fd)) for channel, fd in streams.outputs]
    stdin = Descriptor(streams.stdin) if streams.stdin >= 0 else None
    return ExecSession(child, pidfd, Descriptor(control), stdin, outputs, streams.terminal)


@dataclass(frozen=True, slots=True)
class _Streams:
    """``given``: what the command has as 0, 1 and 2; the rest is ours."""

    given: tuple[int, int, int]
    stdin: int
    outputs: tuple[tuple[int, int], ...]
    terminal: int = -1


def _terminal_streams(unused: contextlib.ExitStack, given: contextlib.ExitStack, pid: int) -> _Streams:
    master, slave = open_terminal(pid)
    given.callback(os.close, slave)
    ends = [master, os.dup(master), os.dup(master)]
    for fd in ends:
        unused.callback(os.close, fd)
    return _Streams((slave, slave, slave), ends[0], ((1, ends[1]),), ends[2])


def open_terminal(pid: int) -> tuple[int, int]:
    """Both ends of a terminal out of the container's own /dev/pts, where it has a name inside.

    Nothing there can be put in the place of ``ptmx``: /dev/pts is a mount that only we can undo. A container without
    it, as earlier launchers made them, gets one of the host's.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    try:
        master = os.open(f"/proc/{pid}/root/dev/pts/ptmx", flags)
    except FileNotFoundError:
        return os.openpty()
    try:
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, TIOCGPTPEER, flags)
        os.fchown(slave, Path(f"/proc/{pid}").stat().st_uid, TTY_GROUP)
    except BaseException:
        os.close(master)
        raise
    return master, slave


def _pipes(unused: contextlib.ExitStack, given: contextlib.ExitStack, options: StreamOptions) -> _Streams:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    given.callback(os.close, null)
    theirs, ours = [null, null, null], [-1, -1, -1]
    for number, wanted in enumerate((options.stdin, options.stdout, options.stderr)):
        if not wanted:
            continue
        read, write = os.pipe()
        theirs[number], ours[number] = (read, write) if number == 0 else (write, read)
        given.callback(os.close, theirs[number])
        unused.callback(os.close, ours[number])
    outputs = tuple((number, ours[number]) for number in (1, 2) if ours[number] >= 0)
    return _Streams((theirs[0], theirs[1], theirs[2]), ours[0], outputs)


def _spawn(launch: Launch, order: bytes, control: int, streams: Sequence[int]) -> int:
    """The launcher: the order on stdin, the control socket as 3, the command's streams as 4, 5 and 6."""
    with contextlib.ExitStack() as stack:
        memory = os.memfd_create("order")
        stack.callback(os.close, memory)
        os.write(memory, order)
        os.lseek(memory, 0, os.SEEK_SET)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16) for fd in (memory, control, *streams)]
        for fd in high:
            stack.callback(os.close, fd)
        numbers = (0, 3, 4, 5, 6)
        return os.posix_spawn(
            launch.python,
            [launch.python, "-I", "-S", launch.launcher, "session"],
            {CLUSTER_VARIABLE: launch.cluster},
            file_actions=[
                *((os.POSIX_SPAWN_DUP2, fd, number) for fd, number in zip(high, numbers, strict=True)),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
        )
