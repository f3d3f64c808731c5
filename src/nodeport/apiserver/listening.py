"""The door before the door: connections are counted from their first packet, and have seconds for the TLS handshake.

asyncio's own servers tell of a connection when its handshake is over: whoever begins many and ends none would be seen
by nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from nodeport.kit.logs import get_logger

HANDSHAKE_SECONDS = 10.0
PAUSE_SECONDS = 0.1
"""After an accept that failed for want of file descriptors."""
BACKLOG = 4096
TLS_BUFFER_BYTES = 32 * 1024
"""Two records. asyncio's own 256 KiB are there for whoever has opened a connection, before he says who he is."""
_FAILURES = (ssl.SSLError, OSError, TimeoutError)
_log = get_logger("nodeport.apiserver")


class Listener:
    """Accepts on sockets until it is closed. ``most``: handshakes at a time; one address gets half of them."""

    def __init__(
        self, protocol: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None, most: int
    ) -> None:
        SSLProtocol.max_size = TLS_BUFFER_BYTES
        self._protocol = protocol
        self._context = context
        self._most = most
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: Counter[str] = Counter()
        self.refused = 0
        self.failed = 0

    async def open(self, addresses: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
        """Listen; the pairs with the ports that were found. Raises OSError, with nothing left open."""
        loop = asyncio.get_running_loop()
        found = []
        try:
            for host, port in addresses:
                info = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
                for family, *_, where in info:
                    self._sockets.append(_bound(family, where))
                found.append((host, self._sockets[-len(info)].getsockname()[1]))
        except BaseException:
            await self.close()
            raise
        for sock in self._sockets:
            self._start(self._accept(sock))
        return tuple(found)

    async def close(self) -> None:
        """Accept nothing more and end the handshakes under way; connections that stand are not touched."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def metrics(self) -> list[str]:
        return [
            "# TYPE nodeport_apiserver_handshakes gauge",
            f"nodeport_apiserver_handshakes {self._pending.total()}",
            "# TYPE nodeport_apiserver_refused_handshakes_total counter",
            f"nodeport_apiserver_refused_handshakes_total {self.refused}",
            "# TYPE nodeport_apiserver_failed_handshakes_total counter",
            f"nodeport_apiserver_failed_handshakes_total {self.failed}",
        ]

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(listening)
            except OSError as error:
                _log.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            address = str(peer[0])
            if self._pending.total() >= self._most or self._pending[address] >= (self._most + 1) // 2:
                self.refused += 1
                sock.close()
                continue
            self._pending[address] += 1
            self._start(self._connect(sock, address))

    async def _connect(self, sock: socket.socket, address: str) -> None:
        """Up to the end of the handshake; then the connection is the protocol's."""
        options = {} if self._context is None else {"ssl_handshake_timeout": HANDSHAKE_SECONDS}
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, sock, ssl=self._context, **options
            )
        except _FAILURES:
            self.failed += 1
            with contextlib.suppress(OSError):
                sock.close()
        finally:
            self._pending[address] -= 1
            if not self._pending[address]:
                del self._pending[address]


def _bound(family: int, where: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
