"""Runs containers as processes of this machine, each under a launcher that outlives the agent.

`Runtime` is the seam: a runtime for images from registries does the same with another kind of container.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import marshal
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from nodeport.kit.clock import Clock, parse_rfc3339
from nodeport.node import namespaces
from nodeport.node.images import Image, Mount, base_python
from nodeport.node.processes import CLUSTER_VARIABLE
from nodeport.node.sandbox import Sandbox
from nodeport.node.sessions import Launch, Session, StreamOptions, attach, open_session

KILLED = 137
"""128 + SIGKILL: what a container without an exit status is taken to have ended with."""
LOST = "the container's launcher ended without leaving an exit status"
KILL_WAIT = timedelta(seconds=2)
EXEC_OUTPUT = 10 * 1024
LAUNCHER = str(Path(__file__).with_name("launcher.py"))
_SETTLE = timedelta(milliseconds=5)
_SETTLE_TRIES = 100


@dataclass(frozen=True, slots=True)
class ContainerOrder:
    """All that a container needs to be started once. ``attempt`` counts from 0, over restarts of the same pod."""

    name: str
    attempt: int
    image: Image
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    mounts: tuple[Mount, ...] = ()
    is_own_program: bool = True
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


@dataclass(frozen=True, slots=True)
class ContainerExit:
    """``code``: 0 to 255; 128 + N when signal N ended it."""

    code: int
    finished_at: datetime
    message: str = ""


@dataclass(slots=True, eq=False)
class Container:
    """One run of one container. ``exit`` is None while it runs; ``pid`` is its first process."""

    name: str
    attempt: int
    image: str
    directory: Path
    log: Path
    container_id: str
    started_at: datetime
    pid: int = 0
    exit: ContainerExit | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _launcher: int = 0
    _pidfd: int = -1

    def send(self, number: signal.Signals) -> None:
        """SIGTERM reaches the program; SIGUSR1 makes the launcher kill it. Nothing when it has ended."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)


class Runtime(Protocol):
    """Starts, finds, ends and enters containers. ``on_exit`` is called on the loop when one has ended."""

    async def start(self, sandbox: Sandbox, order: ContainerOrder, on_exit: Callable[[], None]) -> Container:
        """A run that could not be started has an exit already, with code 128 and the reason as message."""
        ...

    async def adopt(self, sandbox: Sandbox, on_exit: Callable[[], None]) -> list[Container]:
        """All runs that the sandbox knows, running and ended, oldest first."""
        ...

    async def stop(self, container: Container, grace: timedelta) -> None:
        """SIGTERM, then after ``grace`` SIGKILL to all of its processes; returns when it has ended."""
        ...

    async def execute(
        self, sandbox: Sandbox, container: Container, argv: Sequence[str], limit: timedelta
    ) -> tuple[int, str]:
        """Exit code and output (at most 10 KiB) of a command inside. Raises TimeoutError."""
        ...

    def open_exec(
        self, sandbox: Sandbox, container: Container, argv: Sequence[str], options: StreamOptions
    ) -> Session:
        """A command inside, for a client to talk with. Raises OSError."""
        ...

    def open_attach(self, container: Container, options: StreamOptions) -> Session:
        """The container's own streams, shared with whoever else is attached. Raises OSError."""
        ...


class ProcessRuntime:
    """Containers are children of this machine's kernel alone: no daemon, no cgroups."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._python = base_python()

    async def start(self, sandbox: Sandbox, order: ContainerOrder, on_exit: Callable[[], None]) -> Container:
        directory = sandbox.directory / "containers" / order.name / str(order.attempt)
        directory.mkdir(mode=0o700, parents=True)
        _forget_runs(sandbox, order.name, before=order.attempt - 1)
        _write(directory / "image", order.image.name)
        container = Container(
            name=order.name, attempt=order.attempt, image=order.image.name, directory=directory,
            log=_log_path(sandbox, order.name, order.attempt), container_id=_container_id(sandbox, directory),
            started_at=self._clock.now(),
        )  # fmt: skip
        container.log.parent.mkdir(mode=0o700, exist_ok=True)
        told, tell = os.pipe()
        try:
            with namespaces.entered(sandbox.to_enter()):
                launcher = self._spawn(
                    sandbox.node.cluster, container, _launcher_order(sandbox, container, order), tell
                )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tell)
        self._watch(container, launcher, on_exit)
        await _until_closed(told)
        _read_state(container)
        if container.pid == 0:
            await container.ended.wait()
        return container

    def _spawn(self, cluster: str, container: Container, order: Mapping[str, Any], tell: int) -> int:
        """Start the launcher: the order on stdin, ``tell`` as 3, a locked file as 4, nothing else."""
        directory = container.directory
        with contextlib.ExitStack() as stack:
            memory = _kept(stack, os.memfd_create("order"))
            lock = _kept(stack, os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            end = _kept(stack, os.dup(tell))
            os.write(memory, marshal.dumps(dict(order)))
            os.lseek(memory, 0, os.SEEK_SET)
            fcntl.flock(lock, fcntl.LOCK_EX)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            return os.posix_spawn(
                self._python,
                [self._python, "-I", "-S", LAUNCHER, "run"],
                {CLUSTER_VARIABLE: cluster},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, memory, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(directory / "launcher.log"), flags, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                    (os.POSIX_SPAWN_DUP2, end, 3),
                    (os.POSIX_SPAWN_DUP2, lock, 4),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
            )

    def _watch(self, container: Container, launcher: int, on_exit: Callable[[], None]) -> None:
        container._launcher, container._pidfd = launcher, os.pidfd_open(launcher)
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(container._pidfd)
            os.close(container._pidfd)
            container._pidfd = -1
            with contextlib.suppress(ChildProcessError):
                os.waitpid(launcher, os.WNOHANG)
            _read_state(container)
            if container.exit is None:
                container.exit = ContainerExit(KILLED, self._clock.now(), LOST)
            container.ended.set()
            on_exit()

        loop.add_reader(container._pidfd, ended)

    async def adopt(self, sandbox: Sandbox, on_exit: Callable[[], None]) -> list[Container]:
        runs = []
        for directory in (sandbox.directory / "containers").glob("*/*"):
            if directory.name.isdigit():
                runs.append(await self._adopt_run(sandbox, directory, on_exit))
        return sorted(runs, key=lambda run: (run.name, run.attempt))

    async def _adopt_run(self, sandbox: Sandbox, directory: Path, on_exit: Callable[[], None]) -> Container:
        name, attempt = directory.parent.name, int(directory.name)
        container = Container(
            name=name, attempt=attempt, image=_read(directory / "image"), directory=directory,
            log=_log_path(sandbox, name, attempt), container_id=_container_id(sandbox, directory),
            started_at=self._clock.now(),
        )  # fmt: skip
        launcher = await self._living_launcher(directory)
        _read_state(container)
        if container.exit is None and launcher:
            self._watch(container, launcher, on_exit)
            return container
        if container.exit is None:
            container.exit = ContainerExit(KILLED, self._clock.now(), LOST)
        container.ended.set()
        return container

    async def _living_launcher(self, directory: Path) -> int:
        """The PID of the launcher if it lives: it holds the lock as long. It may only just be starting."""
        for _ in range(_SETTLE_TRIES):
            if not _is_locked(directory / "lock"):
                return 0
            if text := _read(directory / "launcher"):
                return int(text)
            await self._clock.sleep(_SETTLE.total_seconds())
        return 0

    async def stop(self, container: Container, grace: timedelta) -> None:
        steps = ((signal.SIGTERM, grace), (signal.SIGUSR1, KILL_WAIT), (signal.SIGKILL, KILL_WAIT))
        for number, patience in steps:
            if container.ended.is_set():
                return
            if number is signal.SIGTERM and not grace:
                continue
            container.send(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(container.ended.wait(), patience.total_seconds())
        await container.ended.wait()

    async def execute(
        self, sandbox: Sandbox, container: Container, argv: Sequence[str], limit: timedelta
    ) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            self._python, "-I", "-S", LAUNCHER, "exec",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        order = marshal.dumps({"pid": container.pid, "launcher": container._launcher, "argv": list(argv)})
        try:
            output, _ = await asyncio.wait_for(process.communicate(order), limit.total_seconds())
        finally:
            if process.returncode is None:
                process.kill()  # the command inside dies with it
                await process.wait()
        return process.returncode or 0, output[:EXEC_OUTPUT].decode("utf-8", "replace")

    def open_exec(
        self, sandbox: Sandbox, container: Container, argv: Sequence[str], options: StreamOptions
    ) -> Session:
        launch = Launch(self._python, LAUNCHER, sandbox.node.cluster, container.pid, container._launcher)
        return open_session(launch, argv, options)

    def open_attach(self, container: Container, options: StreamOptions) -> Session:
        return attach(container.directory, options)


def _launcher_order(sandbox: Sandbox, container: Container, order: ContainerOrder) -> dict[str, Any]:
    """What the launcher takes; its own program may tell when it serves and starts with SIGTERM blocked."""
    own = order.image.is_echo and order.is_own_program
    etc = tuple(
        ("rw", f"/etc/{name}", str(sandbox.directory / name)) for name in ("hosts", "hostname", "resolv.conf")
    )
    mounts = [*order.image.mounts, *etc, *order.mounts]
    env = dict(order.env)
    return {
        "directory": str(container.directory), "log": str(container.log), "argv": list(order.argv), "env": env,
        "cwd": order.cwd, "uid": order.uid, "gid": order.gid, "mounts": mounts,
        "tells_ready": own, "blocks_term": own, "stdin": order.stdin, "stdin_once": order.stdin_once,
        "tty": order.tty,
    }  # fmt: skip


def _kept(stack: contextlib.ExitStack, descriptor: int) -> int:
    """The same file above the numbers that the launcher gets its own at; closed with ``stack``."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    stack.callback(os.close, high)
    return int(high)


async def _until_closed(pipe: int) -> None:
    """Waits until the launcher wrote its line or went away."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(pipe, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(pipe)
        os.close(pipe)


def _log_path(sandbox: Sandbox, name: str, attempt: int) -> Path:
    return sandbox.log_directory / name / f"{attempt}.log"


def _forget_runs(sandbox: Sandbox, name: str, *, before: int) -> None:
    """Keep the last run and its log, for `logs --previous`; one that fails for ever must not fill the disk."""
    for directory in (sandbox.directory / "containers" / name).iterdir():
        if directory.name.isdigit() and int(directory.name) < before:
            shutil.rmtree(directory, ignore_errors=True)
    for log in _log_path(sandbox, name, 0).parent.glob("*.log*"):
        if (attempt := log.name.partition(".")[0]).isdigit() and int(attempt) < before:
            log.unlink(missing_ok=True)


def _container_id(sandbox: Sandbox, directory: Path) -> str:
    return f"nodeport://{sandbox.pod.pod_id}-{directory.parent.name}-{directory.name}"


def _read_state(container: Container) -> None:
    """What the launcher wrote: that the program runs, or how it ended."""
    if running := _read(container.directory / "running"):
        pid, started = running.split(" ", 1)
        container.pid, container.started_at = int(pid), parse_rfc3339(started)
    if ended := _read(container.directory / "exit"):
        code, finished, message = ended.split(" ", 2)
        container.exit = ContainerExit(int(code), parse_rfc3339(finished), message)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
