"""The PID namespace that a pod's containers share: kept by a process that does nothing but reap, its PID 1."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from nodeport.node import namespaces, processes

KEEPER = ("unshare", "--pid", "--fork", "--kill-child", "env", "--ignore-signal=CHLD", "sleep", "infinity")
"""With SIGCHLD ignored the kernel reaps what is left to process 1."""
_PATIENCE, _POLL = 2.0, 0.001


def ensure(directory: Path, cluster: str) -> None:
    """``directory``: the sandbox's. Raises OSError."""
    if is_there(directory):
        return
    remove(directory)
    log = directory / "pids.log"
    keeper = processes.start(KEEPER, cluster=cluster, log=log, pid_file=_pid_file(directory))
    source = Path(f"/proc/{keeper.pid}/ns/pid_for_children")
    own = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no path, a name
    deadline = time.monotonic() + _PATIENCE
    while not _has_begun(source, own):
        if time.monotonic() > deadline or processes.has_ended(keeper):
            raise OSError(
                f"no PID namespace for the pod: {log.read_text().strip() or 'it did not begin in time'}"
            )
        time.sleep(_POLL)
    namespace_file(directory).touch(mode=0o600)
    namespaces.bind(source, namespace_file(directory))


def is_there(directory: Path) -> bool:
    """Without its first process nothing can be started in a PID namespace."""
    return namespaces.exists(namespace_file(directory)) and processes.living(_pid_file(directory)) is not None


def remove(directory: Path) -> None:
    """All of its processes end with it; nothing when there is none."""
    if keeper := processes.living(_pid_file(directory)):
        keeper.send(signal.SIGKILL)
        processes.wait_for_end([keeper], _PATIENCE)
    namespaces.remove(namespace_file(directory))


def namespace_file(directory: Path) -> Path:
    return directory / "ns" / "pid"


def _has_begun(source: Path, own: str) -> bool:
    """The namespace is there once it has a process."""
    try:
        children = (source.parent.parent / f"task/{source.parent.parent.name}/children").read_text()
        return bool(children.strip()) and os.readlink(source) != own  # noqa: PTH115 - no path, a name
    except OSError:
        return False


def _pid_file(directory: Path) -> Path:
    return directory / "pids.pid"
