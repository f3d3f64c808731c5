"""What a container leaves to say about its end: its termination message.

Rule source: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

from __future__ import annotations

import os
from pathlib import Path

from nodeport.node import logs
from nodeport.node.logs import LogOptions
from nodeport.node.oci.spec import Mount

FILE, MARK = "termination-log", "termination-from-log"
MOST_BYTES, MOST_LOG_BYTES, MOST_LOG_LINES = 4096, 2048, 80


def prepare(directory: Path, path: str, *, from_log: bool) -> list[Mount]:
    """The file that the container sees at ``path``, in its own directory here; "": none."""
    if not path:
        return []
    file = directory / FILE
    file.touch()
    file.chmod(0o666)
    if from_log:
        (directory / MARK).touch(mode=0o600)
    return [Mount(path, str(file), ("bind", "rw", "rprivate"))]


def read(directory: Path, log: Path, *, failed: bool) -> str:
    """Once the container has ended."""
    try:
        with (directory / FILE).open("rb") as file:
            said = file.read(MOST_BYTES)
    except OSError:
        return ""
    if not said and failed and (directory / MARK).exists():
        said = _end_of(log)
    return said.decode("utf-8", "replace")


def _end_of(log: Path) -> bytes:
    try:
        size = log.stat().st_size
        with log.open("rb") as file:
            file.seek(max(size - 16 * MOST_LOG_BYTES, 0), os.SEEK_SET)
            lines = file.read().splitlines()[-MOST_LOG_LINES:]
    except OSError:
        return b""
    return b"".join(logs.render(line, LogOptions()) for line in lines)[-MOST_LOG_BYTES:]
