"""The daemons of a local cluster as processes: start in the background, know them again, end them.

A PID file holds ``PID STARTTIME BOOTID``, so that a PID that was given to another process is never taken for ours.
Everything started for a cluster has ``NODEPORT_CLUSTER=NAME`` in its environment: `down` finds it without any file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

CLUSTER_VARIABLE = "NODEPORT_CLUSTER"
POLL = 0.005
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that no later one can be taken for."""

    pid: int
    start_time: int

    def is_alive(self) -> bool:
        return start_time(self.pid) == self.start_time

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.is_alive():
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def start_time(pid: int) -> int:
    """In clock ticks since boot; 0 for a process that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def resident_kib(pid: int) -> int:
    """Resident memory in KiB; 0 when the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except (OSError, ValueError, IndexError):
        return 0


def start(argv: Sequence[str], *, cluster: str, log: Path, pid_file: Path) -> ProcessId:
    """Start a daemon in a session of its own; its output goes to ``log``."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, start_new_session=True,
            cwd="/", env=_environment(cluster),
        )  # fmt: skip
    finally:
        os.close(descriptor)
    found = ProcessId(process.pid, start_time(process.pid))
    process.returncode = 0  # it outlives us: nobody is to wait for it
    write_pid(pid_file, found)
    return found


def _environment(cluster: str) -> dict[str, str]:
    """Ours, but for what would have a daemon compile all of its modules anew at each start."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, CLUSTER_VARIABLE: cluster}


def write_pid(path: Path, found: ProcessId) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{found.pid} {found.start_time} {_BOOT_ID.read_text().strip()}\n")


def living(path: Path) -> ProcessId | None:
    """The process of a PID file while it lives."""
    try:
        pid, started, boot = path.read_text().split()
        found = ProcessId(int(pid), int(started))
    except (OSError, ValueError):
        return None
    return found if boot == _BOOT_ID.read_text().strip() and found.is_alive() else None


def of_cluster(cluster: str) -> list[ProcessId]:
    """All processes that were started for the cluster, by their environment."""
    wanted = f"{CLUSTER_VARIABLE}={cluster}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0") and (
                ticks := start_time(int(entry.name))
            ):
                found.append(ProcessId(int(entry.name), ticks))
    return found


def end(processes: Iterable[ProcessId], patience: float) -> None:
    """SIGTERM to all, SIGKILL after ``patience`` seconds to those that are left; returns when all are gone."""
    left = [process for process in processes if process.is_alive()]
    for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        for process in left:
            process.send(number)
        left = wait_for_end(left, wait)
        if not left:
            return


def has_ended(process: ProcessId) -> bool:
    """Whether a process that we started is over."""
    return _reaped(process.pid) or not process.is_alive()


def wait_for_end(processes: Sequence[ProcessId], patience: float) -> list[ProcessId]:
    """Those that still live after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    left = list(processes)
    while left and time.monotonic() < deadline:
        left = [process for process in left if process.is_alive() and not _reaped(process.pid)]
        if left:
            time.sleep(POLL)
    return left


def _reaped(pid: int) -> bool:
    """Whether it was a child of ours that has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
