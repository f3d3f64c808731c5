"""Asks the machine's own name servers what the cluster does not know."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path

from nodeport.node.dns import message
from nodeport.node.podfiles import parse_resolver

PATIENCE = 2.0
"""Seconds for each server: a resolver in a pod waits five."""
MOST_SERVERS = 3
MOST_WAITING = 1000
PORT = 53
RESOLVER_FILE = Path("/etc/resolv.conf")


class Forwarder:
    """``file`` is read again when it changes. ``own``: addresses that lead back here and are not asked.

    Sockets are opened in the process's own network namespace: the machine reaches its servers there, even one on its
    loopback.
    """

    def __init__(self, own: Collection[str], file: Path = RESOLVER_FILE, port: int = PORT) -> None:
        self._own, self._file, self._port = frozenset(own), file, port
        self._read: int | None = None
        self._servers: tuple[str, ...] = ()
        self._waiting = 0

    def servers(self) -> tuple[str, ...]:
        try:
            changed = self._file.stat().st_mtime_ns
            if changed != self._read:
                found = parse_resolver(self._file.read_text(errors="replace")).nameservers
                usable = (each for each in found if _is_address(each) and each not in self._own)
                self._servers, self._read = tuple(usable)[:MOST_SERVERS], changed
        except OSError:
            self._servers, self._read = (), None
        return self._servers

    async def ask(self, wire: bytes, payload: int | None, *, over_tcp: bool) -> bytes | None:
        """The message of the first server that answers the question ``wire``; None: none does.

        ``payload``: the largest answer over UDP, None without EDNS.
        """
        if self._waiting >= MOST_WAITING:
            return None
        self._waiting += 1
        try:
            for server in self.servers():
                number = secrets.randbelow(0x10000)
                query = message.encode_query(number, wire, payload)
                ask = self._ask_tcp if over_tcp else self._ask_udp
                try:
                    async with asyncio.timeout(PATIENCE):
                        found = await ask(server, query, number, wire)
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    continue
                if message.code_of(found) not in (message.Code.SERVFAIL, message.Code.REFUSED):
                    return found
        finally:
            self._waiting -= 1
        return None

    async def _ask_udp(self, server: str, query: bytes, number: int, wire: bytes) -> bytes:
        """From a port that nobody can guess, so that nobody else's answer is taken for the server's."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Reply(waiting, number, wire), remote_addr=(server, self._port)
        )
        try:
            transport.sendto(query)
            return await waiting
        finally:
            transport.close()

    async def _ask_tcp(self, server: str, query: bytes, number: int, wire: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            writer.write(struct.pack("!H", len(query)) + query)
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            found = await reader.readexactly(length)
        finally:
            writer.close()
        if not message.answers_to(found, number, wire):
            raise ConnectionError("the answer to another question")
        return found


class _Reply(asyncio.DatagramProtocol):
    def __init__(self, waiting: asyncio.Future[bytes], number: int, wire: bytes) -> None:
        self._waiting, self._number, self._wire = waiting, number, wire

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._waiting.done() and message.answers_to(data, self._number, self._wire):
            self._waiting.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._waiting.done():
            self._waiting.set_exception(exc)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
