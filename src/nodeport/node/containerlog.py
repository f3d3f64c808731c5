"""Writes the log of one container: lines ``TIME STREAM F|P TEXT`` in the CRI format, in files of a bounded size.

A file that is full is renamed to ``NAME.N``, N counting up, so that whoever reads knows which one comes next; only the
newest of them are kept. Imported by a program that is to start in some 20 ms: nothing but built-in modules.

Rule source: a kubelet's ``containerLogMaxSize`` and ``containerLogMaxFiles``.
"""

# ruff: noqa: PTH104, PTH108, PTH208, SIM105
# pathlib and contextlib would double the time that a container takes to start.

from __future__ import annotations

import os
import time

MOST_BYTES, MOST_FILES = 10 * 1024 * 1024, 5
LINE_SIZE = 16384
"""A line that is longer is stored in parts."""


def timestamp() -> str:
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"


def set_aside(path: str) -> list[tuple[int, str]]:
    """The full files of a log, the oldest first, with their numbers."""
    folder, name = os.path.split(path)
    found = []
    try:
        for each in os.listdir(folder):
            number = each[len(name) + 1 :]
            if each.startswith(name + ".") and number.isdigit():
                found.append((int(number), folder + "/" + each))
    except OSError:
        pass
    return sorted(found)


class ContainerLog:
    """``most_files`` counts the one that is written to. A full disk loses lines, never half of one; it ends nothing."""

    def __init__(self, path: str, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> None:
        self.path, self.most_bytes, self.most_files = path, most_bytes, most_files
        self.pending: dict[str, bytes] = {}
        self.file, self.size = -1, 0
        try:
            self.open()
        except OSError:
            pass  # tried again with the first line

    def open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.file = os.open(self.path, flags, 0o600)
        self.size = os.fstat(self.file).st_size

    def write(self, stream: str, data: bytes) -> None:
        data = self.pending.pop(stream, b"") + data
        lines = data.split(b"\n")
        rest = lines.pop()
        head = f"{timestamp()} {stream} ".encode()
        found = [head + b"F " + line + b"\n" for line in lines]
        if len(rest) >= LINE_SIZE:
            found.append(head + b"P " + rest + b"\n")
        elif rest:
            self.pending[stream] = rest
        self.append(b"".join(found))

    def close_stream(self, stream: str) -> None:
        """What did not end with a line break is a part of a line, and shown without one."""
        rest = self.pending.pop(stream, b"")
        if rest:
            self.append(f"{timestamp()} {stream} P ".encode() + rest + b"\n")

    def append(self, data: bytes) -> None:
        """Whole lines."""
        if not data:
            return
        try:
            if self.file < 0:
                self.open()
            if self.size and self.size + len(data) > self.most_bytes:
                self.rotate()
            written = os.write(self.file, data)
            if written < len(data):
                os.ftruncate(self.file, self.size)
            else:
                self.size += written
        except OSError:
            pass

    def rotate(self) -> None:
        """Raises OSError, and goes on with the same file then."""
        numbers = set_aside(self.path)
        full = self.path + f".{numbers[-1][0] + 1 if numbers else 1}"
        before = self.file
        os.rename(self.path, full)
        try:
            self.open()
        except OSError:
            os.rename(full, self.path)
            raise
        os.close(before)
        numbers.append((0, full))
        for _, path in numbers[: max(len(numbers) - self.most_files + 1, 0)]:
            os.unlink(path)
