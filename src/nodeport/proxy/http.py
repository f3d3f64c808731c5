"""The small HTTP server behind the proxy's ports: one request a connection, few bytes, little patience.

Health checks and scrapes come from anywhere, so nobody may hold a connection for long or send much.
"""

from __future__ import annotations

import asyncio
import gzip
import inspect
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.netlink.namespace import open_in

_HEAD_LIMIT: Final = 8192
_BODY_LIMIT: Final = 65536
_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0
_CONNECTIONS: Final = 256
_WORTH_PACKING: Final = 1024
_UNSPECIFIED: Final = ("0.0.0.0", "::")
_TEXT: Final = "text/plain; charset=utf-8"
_BIND_RETRY: Final = timedelta(seconds=5)
"""After which an address that could not be bound is tried again."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` without the query; header names in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = (("X-Content-Type-Options", "nosniff"),)


Handler = Callable[[Request], Response | Awaitable[Response]]
NOT_FOUND: Final = Response(HTTPStatus.NOT_FOUND, b"404 page not found\n")
"""As Go's mux says it."""
_BAD: Final = Response(HTTPStatus.BAD_REQUEST, b"400 Bad Request")


def listen(host: str, port: int, netns: Path | None, *, one_family: bool = False) -> socket.socket:
    """A listening socket in ``netns``. Raises OSError.

    ``0.0.0.0`` and ``::`` both mean every address of the node, of either family, as they do to Go's programs;
    with ``one_family`` only those of their own.
    """
    everywhere = host in _UNSPECIFIED and not one_family and socket.has_dualstack_ipv6()
    bound = "::" if everywhere else host
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    return open_in(
        netns, lambda: socket.create_server((bound, port), family=family, dualstack_ipv6=everywhere)
    )


async def serve(listeners: Sequence[socket.socket], handler: Handler) -> None:
    """Serves until cancelled, and then closes ``listeners``. Errors of ``handler`` end its connection only."""
    serving = _Serving(handler)
    servers = [
        await asyncio.start_server(serving.connected, sock=listener, limit=_HEAD_LIMIT)
        for listener in listeners
    ]
    try:
        await asyncio.gather(*(server.serve_forever() for server in servers))
    finally:
        for server in servers:
            server.close()


async def serve_at(
    address: tuple[str, int],
    netns: Path | None,
    handler: Handler,
    clock: Clock,
    *,
    what: str,
    hard_fail: bool,
) -> None:
    """``what`` (for the log) at ``address`` in ``netns``, until cancelled; while it cannot be bound, it is tried again.

    Raises OSError when it cannot be bound and ``hard_fail`` is set.
    """
    while True:
        try:
            listener = listen(*address, netns)
        except OSError as error:
            _log.error("cannot serve %s on %s:%d: %s", what, *address, error)
            if hard_fail:
                raise
            await clock.sleep(_BIND_RETRY.total_seconds())
        else:
            await serve([listener], handler)


class _Serving:
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._open = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTIONS:
                await self._converse(reader, writer)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            self._open -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_SECONDS):
            request = parse(await reader.readuntil(b"\r\n\r\n"))
            await _drain_body(reader, request)
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = _BAD if request is None else self._handler(request)
            response = await answer if inspect.isawaitable(answer) else answer
            writer.write(render(request, response))
            await writer.drain()


async def _drain_body(reader: asyncio.StreamReader, request: Request | None) -> None:
    """Unread bytes would turn the end of the connection into a reset, which can overtake the answer."""
    length = request.headers.get("content-length", "") if request else ""
    if length.isdecimal() and len(length) < 9:
        remaining = min(int(length), _BODY_LIMIT)
        while remaining and (chunk := await reader.read(remaining)):
            remaining -= len(chunk)


def parse(head: bytes) -> Request | None:
    """``None`` for what is no HTTP/1 request."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        return None
    path, _, query = words[1].partition("?")
    pairs = (line.partition(":") for line in lines if line)
    return Request(words[0], path, query, {name.strip().lower(): value.strip() for name, _, value in pairs})


def render(request: Request | None, response: Response) -> bytes:
    """The whole answer; packed for those who take it so."""
    body, headers = response.body, list(response.headers)
    accepted = request.headers.get("accept-encoding", "") if request else ""
    if "gzip" in accepted and len(body) >= _WORTH_PACKING:
        body = gzip.compress(body, compresslevel=1)
        headers.append(("Content-Encoding", "gzip"))
    lines = [
        f"HTTP/1.1 {response.status.value} {response.status.phrase}",
        f"Content-Type: {response.content_type}",
        *(f"{name}: {value}" for name, value in headers),
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if request is not None and request.method == "HEAD" else head + body
