"""Reads what the launcher wrote: the CRI log format back to text, with kubectl's options."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nodeport.kit.clock import Clock, bounded_seconds, parse_rfc3339

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


def stored_lines(path: Path) -> Iterator[bytes]:
    """The complete lines of a log, the older rotated file first."""
    for file in (path.with_name(path.name + ".1"), path):
        if file.exists():
            with file.open("rb") as stream:
                yield from (line[:-1] for line in stream if line.endswith(b"\n"))


def existing(path: Path, options: LogOptions) -> list[bytes]:
    """What is there now, as wanted by ``since`` and ``tail_lines``."""
    lines = [shown for line in stored_lines(path) if (shown := render(line, options))]
    return lines if options.tail_lines is None else lines[len(lines) - min(options.tail_lines, len(lines)) :]


async def read(
    path: Path, options: LogOptions, clock: Clock, ended: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The log as wanted; with ``follow`` until the container has ended and all is read."""
    left = options.limit_bytes
    async for chunk in _chunks(path, options, clock, ended):
        if left is None:
            yield chunk
            continue
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return


async def _chunks(
    path: Path, options: LogOptions, clock: Clock, ended: Callable[[], bool]
) -> AsyncIterator[bytes]:
    follower = _Follower(path, options)
    if first := b"".join(existing(path, options)):
        yield first
    while options.follow:
        over = ended()
        if chunk := follower.read_new():
            yield chunk
        elif over:
            return
        else:
            await clock.sleep(FOLLOW_INTERVAL)


class _Follower:
    """Reads what is appended after its making; goes on in the new file when the log is rotated."""

    def __init__(self, path: Path, options: LogOptions) -> None:
        self._path, self._options = path, options
        self._rest = b""
        stat = path.stat() if path.exists() else None
        self._inode, self._offset = (stat.st_ino, stat.st_size) if stat else (0, 0)

    def read_new(self) -> bytes:
        if not self._path.exists():
            return b""
        with self._path.open("rb") as file:
            inode = self._path.stat().st_ino
            if inode != self._inode:
                self._inode, self._offset, self._rest = inode, 0, b""
            file.seek(self._offset)
            data = file.read(_BLOCK)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return b"".join(render(line, self._options) for line in lines)
