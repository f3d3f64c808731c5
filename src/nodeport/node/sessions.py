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

BEGUN = b"t"
"""The launcher's word for it."""


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


class Beginning:
    """What a launcher says first over the control socket: `BEGUN` once the command runs, and sends its terminal along
    if it has one. What comes there instead, or after it, is why there is no command.
    """

    def __init__(self, control: Descriptor) -> None:
        self._control = control
        self._heard: asyncio.Event = asyncio.Event()
        self._hearing = False
        self._io: Descriptor | None = None
        self._closed = False
        self.trouble = b""

    async def heard(self) -> Descriptor | None:
        """Returns when it is known whether there is a command; its terminal, if it has one."""
        if not self._hearing:
            self._hearing = True
            try:
                said, sent = await self._control.receive()
                self.trouble = b"" if said == BEGUN else said
                if sent:
                    self._io = Descriptor(sent[0])
                    for extra in sent[1:]:
                        os.close(extra)
            finally:
                self._heard.set()
                if self._closed:
                    self.close()
        await self._heard.wait()
        return self._io

    async def end(self) -> bytes:
        """Why there is no command, once the launcher has ended."""
        await self.heard()
        return self.trouble or await self._control.read()

    def close(self) -> None:
        self._closed = True
        if self._io is not None:
            self._io.close()


class Terminal:
    """The terminal of a command."""

    def __init__(self, beginning: Beginning) -> None:
        self._beginning = beginning

    async def read(self) -> ChannelMessage | None:
        io = await self._beginning.heard()
        data = await io.read() if io else b""
        return ChannelMessage(1, data) if data else None

    async def write(self, data: bytes) -> None:
        if io := await self._beginning.heard():
            await io.write(data)

    async def resize(self, columns: int, rows: int) -> None:
        if (io := await self._beginning.heard()) and io.number >= 0:
            fcntl.ioctl(io.number, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@dataclass(slots=True)
class ExecSession:
    """A command that was started for a client."""

    _pid: int
    _pidfd: int
    _control: Descriptor
    _beginning: Beginning
    _stdin: Descriptor | None = None
    _outputs: list[tuple[int, Descriptor]] = field(default_factory=list)
    _terminal: Terminal | None = None

    def outputs(self) -> Sequence[Output]:
        if self._terminal is not None:
            return [self._terminal.read]
        return [partial(self._read, channel, descriptor) for channel, descriptor in self._outputs]

    async def _read(self, channel: int, descriptor: Descriptor) -> ChannelMessage | None:
        """What comes when there is no command is the runtime's, whose words are the session's end."""
        await self._beginning.heard()
        data = b"" if self._beginning.trouble else await descriptor.read()
        return ChannelMessage(channel, data) if data else None

    async def write(self, data: bytes) -> None:
        if self._terminal is not None:
            await self._terminal.write(data)
        elif self._stdin is not None:
            await self._stdin.write(data)

    async def close_stdin(self) -> None:
        """A terminal stays open: its end of input is a character."""
        if self._stdin is not None:
            self._stdin.close()

    async def resize(self, columns: int, rows: int) -> None:
        if self._terminal is not None:
            await self._terminal.resize(columns, rows)

    async def wait(self) -> SessionEnd:
        ended = Descriptor(os.dup(self._pidfd))
        try:
            await ended.wait_readable()
        finally:
            ended.close()
        code = self._reap()
        said = await self._beginning.end()
        return SessionEnd(code if code >= 0 else 128 - code, said.decode("utf-8", "replace"))

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
        self._beginning.close()
        if self._pid:
            _reap_later(self._pid, self._pidfd)
        else:
            os.close(self._pidfd)
        self._pid = 0


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
    """How the launcher of a session is started. ``runtime``: the beginning of the runtime's command line; ``run_id``:
    what it knows the container by; ``directory``: the container's, for the launcher's files."""

    python: str
    launcher: str
    cluster: str
    runtime: Sequence[str]
    run_id: str
    directory: Path


def open_session(launch: Launch, process: bytes, options: StreamOptions) -> ExecSession:
    """Start a command beside the container's own; ``process``: as the runtime takes it. Raises OSError."""
    with contextlib.ExitStack() as unused, contextlib.ExitStack() as given:
        ours, theirs = socket.socketpair()
        given.callback(theirs.close)
        control = ours.detach()
        unused.callback(os.close, control)
        streams = _pipes(unused, given, StreamOptions() if options.tty else options)
        order = {
            "directory": str(launch.directory), "runtime": list(launch.runtime), "id": launch.run_id,
            "process": process, "tty": options.tty,
        }  # fmt: skip
        child = _spawn(launch, marshal.dumps(order), theirs.fileno(), streams.given)
        pidfd = os.pidfd_open(child)
        unused.pop_all()
    outputs = [(channel, Descriptor(fd)) for channel, fd in streams.outputs]
    stdin = Descriptor(streams.stdin) if streams.stdin >= 0 else None
    talk = Descriptor(control)
    beginning = Beginning(talk)
    terminal = Terminal(beginning) if options.tty else None
    return ExecSession(child, pidfd, talk, beginning, stdin, outputs, terminal)


@dataclass(frozen=True, slots=True)
class _Streams:
    """``given``: what the command has as 0, 1 and 2; the rest is ours."""

    given: tuple[int, int, int]
    stdin: int
    outputs: tuple[tuple[int, int], ...]


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
