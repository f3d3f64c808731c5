"""Keeps the log of a daemon to a size: what it says goes to standard error, which is a file that `up` opened for it.

A full file is set aside as ``NAME.log.1``, the former one as ``.2`` and so on; the daemon goes on in a new file of the
same name. Whatever it writes meanwhile is in one of the two.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

MOST_BYTES, MOST_FILES = 10 * 1024 * 1024, 3
CHECK_SECONDS = 30.0


def set_aside(path: Path, most_files: int = MOST_FILES) -> None:
    """Make room for a new file at ``path``. ``most_files`` counts that one too. Raises OSError."""
    for number in range(most_files - 1, 0, -1):
        newer = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
        with suppress(FileNotFoundError):
            newer.replace(path.with_name(f"{path.name}.{number}"))


def open_new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def turn_over(path: Path, most_bytes: int = MOST_BYTES) -> bool:
    """Begin a new file when the one at ``path``, which standard output and error go to, is full. Raises OSError."""
    own = os.fstat(sys.stderr.fileno())
    if own.st_size < most_bytes or not path.exists() or not os.path.samestat(own, path.stat()):
        return False
    set_aside(path)
    fresh = open_new(path)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(fresh, stream.fileno())
    os.close(fresh)
    return True


async def keep_small(path: Path) -> None:
    """Until cancelled. A disk that is full is no reason to end."""
    while True:
        with suppress(OSError, ValueError):
            turn_over(path)
        await asyncio.sleep(CHECK_SECONDS)
