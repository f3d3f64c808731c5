"""Reads what the launcher wrote: the CRI log format back to text, with kubectl's options."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nodeport.kit.clock import Clock, bounded_seconds, parse_rfc3339
from nodeport.node.containerlog import set_aside

FOLLOW_INTERVAL = 0.1
"""Seconds between two looks at a log that is followed."""
_BLOCK = 65536


@dataclass(frozen=True, slots=True)
class LogOptions:
    """As PodLogOptions has them. ``since`` is absolute; ``stream`` as the log names it; None, False and b"": all."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: datetime | None = None
    stream: bytes = b""


class BadLogOption(ValueError):
    """An option's text is not what it should be; the message names it."""


def parse_options(query: dict[str, str], now: datetime) -> LogOptions:
    """The options in a request's query. Raises BadLogOption."""
    since = None
    if text := query.get("sinceSeconds"):
        since = now - bounded_seconds(_positive("sinceSeconds", text, least=1))
    elif text := query.get("sinceTime"):
        try:
            since = parse_rfc3339(text)
        except ValueError as error:
            raise BadLogOption(f"sinceTime: {error}") from error
    tail, limit = query.get("tailLines"), query.get("limitBytes")
    return LogOptions(
        follow=_is_true(query.get("follow")),
        timestamps=_is_true(query.get("timestamps")),
        tail_lines=None if tail is None else _positive("tailLines", tail, least=0),
        limit_bytes=None if limit is None else _positive("limitBytes", limit, least=1),
        since=since,
        stream={"Stdout": b"stdout", "Stderr": b"stderr"}.get(query.get("stream") or "", b""),
    )


def _is_true(text: str | None) -> bool:
    return text in ("true", "1", "True")


def _positive(name: str, text: str, *, least: int) -> int:
    if not text.isdigit() or int(text) < least:
        raise BadLogOption(f"{name}: {text!r} must be a whole number of at least {least}")
    return int(text)


def render(line: bytes, options: LogOptions) -> bytes:
    """The text of one stored line ``TIME STREAM F|P TEXT``; empty when it is older than wanted or malformed."""
    parts = line.split(b" ", 3)
    if len(parts) != 4:
        return b""
    moment, stream, tag, text = parts
    if options.stream and stream != options.stream:
        return b""
    if options.since and parse_rfc3339(moment.decode()) < options.since:
        return b""
    head = moment + b" " if options.timestamps else b""
    return head + text + (b"" if tag == b"P" else b"\n")


async def read(
    path: Path, options: LogOptions, clock: Clock, ended: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The log as wanted, in chunks; with ``follow`` until the container has ended and all is read."""
    left = options.limit_bytes
    async with contextlib.aclosing(_chunks(path, options, clock, ended)) as chunks:
        async for chunk in chunks:
            if left is None:
                yield chunk
                continue
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return


async def _chunks(
    path: Path, options: LogOptions, clock: Clock, ended: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    with LogReader(path) as reader:
        if options.tail_lines is not None:
            reader.skip_to_tail(options.tail_lines, options)
        while True:
            over = ended()
            lines = reader.lines()
            if chunk := b"".join(render(line, options) for line in lines or ()):
                yield chunk
            if lines is None:
                if not options.follow or over:
                    return
                await clock.sleep(FOLLOW_INTERVAL)


class LogReader:
    """All files of a log, one after another, however often it is rotated meanwhile: nothing is left out or read twice
    but what the writer has removed already.

    Files are held open: one that was renamed, or removed, is read to its end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: list[int] = []
        self._rest = b""

    def __enter__(self) -> LogReader:
        self._files = self._open_all()
        return self

    def __exit__(self, *problem: object) -> None:
        while self._files:
            os.close(self._files.pop())

    def lines(self) -> list[bytes] | None:
        """Some whole lines that were not read before, perhaps none yet of a long one; None: there are no more now."""
        while self._files:
            if data := os.read(self._files[0], _BLOCK):
                *lines, self._rest = (self._rest + data).split(b"\n")
                return lines
            if not self._advance():
                return None
        self._files = self._open_all()
        return self.lines() if self._files else None

    def skip_to_tail(self, count: int, options: LogOptions) -> None:
        """So that what there is now shows ``count`` lines at most."""
        for at in range(len(self._files) - 1, -1, -1):
            position, found = _tail_position(self._files[at], count, options)
            count -= found
            os.lseek(self._files[at], position, os.SEEK_SET)
            if not count:
                for file in self._files[:at]:
                    os.close(file)
                del self._files[:at]
                return

    def _advance(self) -> bool:
        """From a file that is read to its end to the next one, if there is one."""
        if len(self._files) == 1 and not self._find_next():
            return False
        if data := os.read(self._files[0], _BLOCK):  # the last words before it was set aside
            os.lseek(self._files[0], -len(data), os.SEEK_CUR)
            return True
        os.close(self._files.pop(0))
        self._rest = b""
        return True

    def _find_next(self) -> bool:
        """Open what was begun after the file that is read, when the writer has gone on."""
        mine = os.fstat(self._files[0]).st_ino
        newer = self._open_all()
        inodes = [os.fstat(file).st_ino for file in newer]
        known = inodes.index(mine) + 1 if mine in inodes else 0
        for file in newer[:known]:
            os.close(file)
        self._files += newer[known:]
        return len(self._files) > 1

    def _open_all(self) -> list[int]:
        """The oldest first. The newest is opened first: should it be set aside meanwhile, it is found twice."""
        names = [str(self._path)]
        opened = _opened(names) + _opened([name for _, name in reversed(set_aside(str(self._path)))])
        found: dict[int, int] = {}
        for file in opened:
            inode = os.fstat(file).st_ino
            if inode in found:
                os.close(file)
            else:
                found[inode] = file
        return [*reversed(found.values())]


def _opened(names: list[str]) -> list[int]:
    found = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found.append(os.open(name, os.O_RDONLY | os.O_CLOEXEC))
    return found


def _tail_position(file: int, count: int, options: LogOptions) -> tuple[int, int]:
    """Where the last ``count`` lines that are shown begin, and how many there are."""
    found, cut = 0, os.fstat(file).st_size
    for start, line in _lines_backwards(file) if count else ():
        cut = start
        found += bool(render(line, options))
        if found == count:
            break
    return cut, found


def _lines_backwards(file: int) -> Iterator[tuple[int, bytes]]:
    """Where each whole line begins, and the line; the last one first."""
    tail, position, whole = b"", os.fstat(file).st_size, False
    while position:
        begin = max(position - _BLOCK, 0)
        data, position = os.pread(file, position - begin, begin) + tail, begin
        if not whole:  # what follows the last line break is no line yet
            data = data[: data.rfind(b"\n") + 1]
            whole = bool(data)
        stop = len(data) - 1
        while (before := data.rfind(b"\n", 0, max(stop, 0))) >= 0:
            yield begin + before + 1, data[before + 1 : stop]
            stop = before
        tail = data[: stop + 1]
    if tail:
        yield 0, tail[:-1]
