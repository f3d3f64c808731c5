"""``/healthz`` and ``/livez`` of the proxy, as kube-proxy answers them on port 10256.

Healthy means that no change has waited longer than a minute for the kernel. ``/healthz`` says in addition whether
load balancers should send traffic here: not to a node that is being deleted.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

from nodeport.kit.clock import rfc3339
from nodeport.netlink.namespace import open_in

_REQUEST_LIMIT: Final = 8192
_REQUEST_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Health:
    """``last_updated``: when the kernel last had everything we knew."""

    healthy: bool
    node_eligible: bool
    last_updated: datetime
    now: datetime


async def serve_health(host: str, port: int, netns: Path | None, read: Callable[[], Health]) -> None:
    """Serves until cancelled. Raises OSError when the address cannot be bound."""
    listener = open_in(netns, lambda: socket.create_server((host, port), reuse_port=False))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(respond(head, read()))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, sock=listener, limit=_REQUEST_LIMIT)
    async with server:
        await server.serve_forever()


def respond(head: bytes, health: Health) -> bytes:
    """The whole answer to a request whose head is ``head``."""
    words = head.split(b"\r\n", 1)[0].split(b" ")
    path = words[1].split(b"?")[0] if len(words) == 3 else b""
    if words[0] not in (b"GET", b"HEAD"):
        return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"")
    if path not in (b"/healthz", b"/livez"):
        return _response(HTTPStatus.NOT_FOUND, b"")
    good = health.healthy and (health.node_eligible or path == b"/livez")
    updated = rfc3339(health.last_updated)
    body = {
        "lastUpdated": updated,
        "currentTime": rfc3339(health.now),
        "nodeEligible": health.node_eligible,
        "healthy": good,
        "status": {"IPv4": {"lastUpdated": updated, "healthy": health.healthy}},
    }
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return _response(status, b"" if words[0] == b"HEAD" else json.dumps(body).encode())


def _response(status: HTTPStatus, body: bytes) -> bytes:
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        "X-Content-Type-Options: nosniff",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode() + body
