"""Runs containers by an OCI runtime, each under a launcher that outlives the agent."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import marshal
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from nodeport.api.meta import JsonObject
from nodeport.kit.clock import Clock, parse_rfc3339
from nodeport.node import lastwords, startplaces
from nodeport.node.containerlog import MOST_BYTES, MOST_FILES
from nodeport.node.images.base import Image
from nodeport.node.images.host import base_python
from nodeport.node.launchers import Launcher, Launchers, ZygoteDied
from nodeport.node.oci import cgroups, spec
from nodeport.node.oci.runc import Runc
from nodeport.node.oci.spec import Isolation, Mount, Process
from nodeport.node.sandbox import Sandbox
from nodeport.node.sessions import Launch, Output, Session, SessionEnd, StreamOptions, attach, open_session
from nodeport.node.startplaces import StartPlaces

KILLED = 137
"""128 + SIGKILL: what a container without an exit status is taken to have ended with."""
LOST = "the container's launcher ended without leaving an exit status"
KILL_WAIT = timedelta(seconds=2)
EXEC_OUTPUT = 10 * 1024
LATE_OUTPUT = 0.2
"""Seconds for output after a command's end: something it left behind may hold the pipe."""
LAUNCHER = str(Path(__file__).with_name("launcher.py"))
_SETTLE = timedelta(milliseconds=5)
_SETTLE_TRIES = 100


@dataclass(frozen=True, slots=True)
class ContainerOrder:
    """All that a container needs to be started once. ``attempt`` counts from 0, over restarts of the same pod.

    ``pid_namespace``: the one of another container that it is to be in, as a path; empty: as its pod has it.
    ``message_path``: where it may leave its last words; ``message_from_log``: those of a failed one without any.
    """

    name: str
    attempt: int
    image: Image
    process: Process
    isolation: Isolation = field(default_factory=Isolation)
    mounts: tuple[Mount, ...] = ()
    is_own_program: bool = True
    stdin: bool = False
    stdin_once: bool = False
    message_path: str = ""
    message_from_log: bool = False
    pid_namespace: str = ""


@dataclass(frozen=True, slots=True)
class ContainerExit:
    """``code``: 0 to 255; 128 + N when signal N ended it. ``reason``: when it is more than the code says."""

    code: int
    finished_at: datetime
    message: str = ""
    reason: str = ""


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
    """Starts, finds, ends and enters containers. ``on_exit`` is called on the loop when one has ended.

    ``places``: whoever starts one holds a place meanwhile.
    """

    places: StartPlaces

    async def start(self, sandbox: Sandbox, order: ContainerOrder, on_exit: Callable[[], None]) -> Container:
        """A run that could not be started has an exit already, with code 128 and the reason as message.

        Raises OSError when it could not be prepared, as on a full disk; nothing is left of it then.
        """
        ...

    async def adopt(self, sandbox: Sandbox, on_exit: Callable[[], None]) -> list[Container]:
        """All runs that the sandbox knows, running and ended, oldest first."""
        ...

    async def stop(self, container: Container, grace: timedelta) -> None:
        """SIGTERM, then after ``grace`` SIGKILL to all of its processes; returns when it has ended."""
        ...

    async def update(self, sandbox: Sandbox, container: Container, resources: JsonObject) -> None:
        """Give it other resources (``linux.resources``) while it runs. Raises OSError."""
        ...

    def memory_usage(self, sandbox: Sandbox, container: Container) -> int:
        """Bytes; 0 when nobody knows."""
        ...

    def set_frozen(self, sandbox: Sandbox, *, frozen: bool) -> None:
        """Freeze all processes of the pod's containers, or let them go on. Raises OSError."""
        ...

    async def execute(
        self, sandbox: Sandbox, container: Container, argv: Sequence[str], limit: timedelta
    ) -> tuple[int, str]:
        """Exit code and output (at most 10 KiB) of a command inside. Raises TimeoutError, OSError when not run."""
        ...

    def open_exec(
        self,
        sandbox: Sandbox,
        container: Container,
        argv: Sequence[str],
        options: StreamOptions,
        size: tuple[int, int] | None = None,
    ) -> Session:
        """A command inside, for a client to talk with; ``size``: its terminal's columns and rows. Raises OSError."""
        ...

    def open_attach(self, container: Container, options: StreamOptions) -> Session:
        """The container's own streams, shared with whoever else is attached. Raises OSError."""
        ...


class OciRuntime:
    """Containers are runc's, without any daemon: their launchers are their parents. ``log_limits``: bytes of one file
    of a container's log, and how many files there are at most."""

    def __init__(
        self, clock: Clock, runc: Runc, log_limits: tuple[int, int] = (MOST_BYTES, MOST_FILES)
    ) -> None:
        self._clock, self._runc, self._log_limits = clock, runc, log_limits
        self._python = base_python()
        self._launchers = Launchers(self._python)
        self.places = startplaces.of_machine()
        self._one_hierarchy = cgroups.is_unified()
        self._burials: set[asyncio.Task[None]] = set()

    async def start(self, sandbox: Sandbox, order: ContainerOrder, on_exit: Callable[[], None]) -> Container:
        directory = sandbox.directory / "containers" / order.name / str(order.attempt)
        _forget_runs(sandbox, order.name, before=order.attempt - 1)
        directory.mkdir(mode=0o700, parents=True)
        container = Container(
            name=order.name, attempt=order.attempt, image=order.image.name, directory=directory,
            log=_log_path(sandbox, order.name, order.attempt), container_id=_container_id(sandbox, directory),
            started_at=self._clock.now(),
        )  # fmt: skip
        told, tell = os.pipe()
        try:
            container.log.parent.mkdir(mode=0o700, exist_ok=True)
            container.log.touch(mode=0o600)  # also what never starts has a log, an empty one
            launch = self._prepare(sandbox, container, order)
            launcher = await self._spawn(sandbox.node.cluster, container, launch, tell)
        except Exception:
            os.close(told)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        except asyncio.CancelledError:
            os.close(told)  # it may be running: whoever comes next finds it
            raise
        finally:
            os.close(tell)
        self._watch(sandbox, container, launcher, on_exit)
        await _until_closed(told)
        _read_state(container)
        if container.pid == 0:
            await container.ended.wait()
        return container

    def _prepare(self, sandbox: Sandbox, container: Container, order: ContainerOrder) -> dict[str, Any]:
        """Write the container's bundle; the launcher's order."""
        directory = container.directory
        _write(directory / "image", order.image.name)
        rootfs, run_id = directory / "rootfs", _run_id(sandbox, directory)
        namespaces = sandbox.runtime_namespaces()
        if order.pid_namespace:
            namespaces["pid"] = order.pid_namespace
        place = spec.Surroundings(
            rootfs=str(rootfs), namespaces=namespaces,
            cgroup=cgroups.of_container(sandbox.node.cluster, run_id), one_hierarchy=self._one_hierarchy,
        )  # fmt: skip
        process, own = order.process, order.image.describes_pod and order.is_own_program
        if own:
            process = replace(process, env={**process.env, "READY_FD": "3"})
        files = [
            Mount(f"/etc/{name}", str(sandbox.directory / name))
            for name in ("hosts", "hostname", "resolv.conf")
        ]
        mounts = [*files, *lastwords.prepare(directory, order.message_path, from_log=order.message_from_log)]
        mounts += order.mounts
        config = spec.config(process, order.isolation, mounts, order.image.binds, place)
        _write(directory / "config.json", json.dumps(config))
        storage = sandbox.storage_directory / "containers" / order.name / str(order.attempt)
        return {
            "directory": str(directory), "log": str(container.log), "id": run_id,
            "runtime": [*self._runc.prefix(_state(sandbox)),
                        "--log", str(directory / "runtime.log"), "--log-format", "json"],
            "overlay": [[str(layer) for layer in order.image.layers], str(storage / "upper"), str(storage / "work")],
            "stop_signal": int(stop_signal(order.image.config.stop_signal)), "tells_ready": own,
            "log_limits": self._log_limits, "stdin": order.stdin, "stdin_once": order.stdin_once, "tty": process.tty,
        }  # fmt: skip

    async def _spawn(
        self, cluster: str, container: Container, order: Mapping[str, Any], tell: int
    ) -> Launcher:
        """Start the launcher: the order on stdin, ``tell`` as 3, a locked file as 4, nothing else."""
        directory = container.directory
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with contextlib.ExitStack() as stack:
            memory = _kept(stack, os.memfd_create("order"))
            log = _kept(stack, os.open(directory / "launcher.log", flags, 0o600))
            lock = _kept(stack, os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            os.write(memory, marshal.dumps(dict(order)))
            os.lseek(memory, 0, os.SEEK_SET)
            fcntl.flock(lock, fcntl.LOCK_EX)
            given = [memory, log, log, tell, lock]
            with contextlib.suppress(ZygoteDied):
                return await self._started(cluster, given)
            if living := await self._living_launcher(directory):
                return Launcher(living, os.pidfd_open(living))
            os.lseek(memory, 0, os.SEEK_SET)
            return await self._started(cluster, given)

    async def _started(self, cluster: str, given: list[int]) -> Launcher:
        """``given`` stays open until it is known whether the launcher has it. Raises OSError, ZygoteDied."""
        starting = asyncio.ensure_future(self._launchers.start(cluster, given))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait({starting})
            raise

    def _watch(
        self, sandbox: Sandbox, container: Container, launcher: Launcher, on_exit: Callable[[], None]
    ) -> None:
        container._launcher, container._pidfd = launcher.pid, launcher.pidfd
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(container._pidfd)
            os.close(container._pidfd)
            container._pidfd = -1
            _read_state(container)
            if container.exit is not None:
                container.ended.set()
                on_exit()
                return
            burial = loop.create_task(self._bury(sandbox, container, on_exit))
            self._burials.add(burial)
            burial.add_done_callback(self._burials.discard)

        loop.add_reader(container._pidfd, ended)

    async def _bury(self, sandbox: Sandbox, container: Container, on_exit: Callable[[], None]) -> None:
        """The launcher was killed: without it the container has no parent, so it must not go on."""
        await self._runc.delete(_state(sandbox), _run_id(sandbox, container.directory))
        container.exit = ContainerExit(KILLED, self._clock.now(), LOST)
        container.ended.set()
        on_exit()

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
            self._watch(sandbox, container, Launcher(launcher, os.pidfd_open(launcher)), on_exit)
            return container
        if container.exit is None:
            await self._bury(sandbox, container, lambda: None)
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

    async def update(self, sandbox: Sandbox, container: Container, resources: JsonObject) -> None:
        await self._runc.update(_state(sandbox), _run_id(sandbox, container.directory), resources)

    def memory_usage(self, sandbox: Sandbox, container: Container) -> int:
        run_id = _run_id(sandbox, container.directory)
        return cgroups.memory_usage(cgroups.of_container(sandbox.node.cluster, run_id))

    def set_frozen(self, sandbox: Sandbox, *, frozen: bool) -> None:
        for directory in (sandbox.directory / "containers").glob("*/*"):
            group = cgroups.of_container(sandbox.node.cluster, _run_id(sandbox, directory))
            cgroups.set_frozen(group, frozen=frozen)

    async def execute(
        self, sandbox: Sandbox, container: Container, argv: Sequence[str], limit: timedelta
    ) -> tuple[int, str]:
        session = self.open_exec(sandbox, container, argv, StreamOptions(stdout=True, stderr=True))
        said = bytearray()
        try:
            async with asyncio.timeout(limit.total_seconds()):
                end = await _heard(session, said)
        finally:
            session.close()  # the command inside dies with it
        if end.trouble:
            raise OSError(end.trouble)
        return end.code, said[:EXEC_OUTPUT].decode("utf-8", "replace")

    def open_exec(
        self,
        sandbox: Sandbox,
        container: Container,
        argv: Sequence[str],
        options: StreamOptions,
        size: tuple[int, int] | None = None,
    ) -> Session:
        process = json.loads((container.directory / "config.json").read_text())["process"]
        command = spec.for_command(process, argv, tty=options.tty, size=size)
        launch = Launch(
            self._python, LAUNCHER, sandbox.node.cluster, self._runc.prefix(_state(sandbox)),
            _run_id(sandbox, container.directory), container.directory,
        )  # fmt: skip
        return open_session(launch, json.dumps(command).encode(), options)

    def open_attach(self, container: Container, options: StreamOptions) -> Session:
        return attach(container.directory, options)


async def _heard(session: Session, said: bytearray) -> SessionEnd:
    """All that the command says, and its end; what it leaves behind with its output open is not waited for."""

    async def hear(output: Output) -> None:
        while message := await output():
            if len(said) < EXEC_OUTPUT:
                said.extend(message.data)

    hearing = [asyncio.ensure_future(hear(output)) for output in session.outputs()]
    try:
        end = await session.wait()
        await asyncio.wait(hearing, timeout=LATE_OUTPUT)
        return end
    finally:
        for task in hearing:
            task.cancel()


def stop_signal(name: str) -> signal.Signals:
    """``SIGQUIT``, ``QUIT`` or ``3``, as images name it; SIGTERM for nothing and for what is none."""
    text = name.upper().removeprefix("SIG")
    with contextlib.suppress(ValueError, KeyError):
        return signal.Signals(int(text)) if text.isdecimal() else signal.Signals[f"SIG{text}"]
    return signal.SIGTERM


def _kept(stack: contextlib.ExitStack, descriptor: int) -> int:
    """Closed with ``stack``."""
    stack.callback(os.close, descriptor)
    return descriptor


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
    for directory in (sandbox.directory / "containers" / name).glob("*"):
        if directory.name.isdigit() and int(directory.name) < before:
            shutil.rmtree(directory, ignore_errors=True)
    for directory in (sandbox.storage_directory / "containers" / name).glob("*"):
        if directory.name.isdigit() and int(directory.name) < before:
            shutil.rmtree(directory, ignore_errors=True)
    for log in _log_path(sandbox, name, 0).parent.glob("*.log*"):
        if (attempt := log.name.partition(".")[0]).isdigit() and int(attempt) < before:
            log.unlink(missing_ok=True)


def _run_id(sandbox: Sandbox, directory: Path) -> str:
    """What the runtime knows this run by."""
    return f"{sandbox.pod.pod_id}-{directory.parent.name}-{directory.name}"


def _container_id(sandbox: Sandbox, directory: Path) -> str:
    return f"nodeport://{_run_id(sandbox, directory)}"


def _state(sandbox: Sandbox) -> Path:
    """Where the runtime keeps what it knows of the pod's containers."""
    return sandbox.directory / "runtime"


def _read_state(container: Container) -> None:
    """What the launcher wrote: that the program runs, or how it ended."""
    if running := _read(container.directory / "running"):
        pid, started = running.split(" ", 1)
        container.pid, container.started_at = int(pid), parse_rfc3339(started)
    if ended := _read(container.directory / "exit"):
        code, finished, reason, message = ended.split(" ", 3)
        said = message or lastwords.read(container.directory, container.log, failed=code != "0")
        container.exit = ContainerExit(int(code), parse_rfc3339(finished), said, reason.strip("-"))


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
