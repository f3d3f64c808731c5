"""The sockets of a node's name server: UDP and TCP on the node's own addresses, for pods and nodes only."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import cast

from nodeport.api.clusterdns import NODE_PORT
from nodeport.client.informer import Informer
from nodeport.kit.clock import Clock
from nodeport.netlink.namespace import family_of, open_in
from nodeport.node.addresses import IPAddress
from nodeport.node.dns import message
from nodeport.node.dns.forwarder import Forwarder
from nodeport.node.dns.message import LARGEST_TCP, Answer, Code, MalformedMessage, Query, UnusableQuery
from nodeport.node.dns.zone import Elsewhere, Zone

IDLE = 10.0
"""Seconds that a TCP connection may be silent, or take for one question."""
MOST_CONNECTIONS = 200
RETRY = 5.0
_log = logging.getLogger(__name__)


class Resolver:
    """Questions in bytes to answers in bytes, whatever carries them; all nodes of a process may share one."""

    def __init__(self, zone: Zone, forwarder: Forwarder) -> None:
        self._zone, self._forwarder = zone, forwarder

    def known(self, data: bytes, source: str, *, over_tcp: bool) -> bytes | tuple[Query, Elsewhere] | None:
        """The answer, if memory has it; what to ask ``elsewhere``; None: not to be answered at all."""
        try:
            query = message.decode_query(data)
        except MalformedMessage:
            return None
        except UnusableQuery as error:
            return message.encode_error(data, error.code)
        if not self.serves(source):
            return _encode(query, Answer(Code.REFUSED, authoritative=False), over_tcp=over_tcp)
        found = self._zone.answer(query)
        return (query, found) if isinstance(found, Elsewhere) else _encode(query, found, over_tcp=over_tcp)

    def serves(self, source: str) -> bool:
        return ip_address(source) in self._zone.places

    async def elsewhere(self, query: Query, asked: Elsewhere, *, over_tcp: bool) -> bytes:
        if asked.so_far:
            return _encode(query, await self._follow(query, asked), over_tcp=over_tcp)
        payload = None if query.payload is None else query.room
        found = await self._forwarder.ask(query.wire, payload, over_tcp=over_tcp)
        if found is None:
            return _encode(query, Answer(Code.SERVFAIL, authoritative=False), over_tcp=over_tcp)
        return message.renumbered(found, query.number, query.wire)

    async def _follow(self, query: Query, asked: Elsewhere) -> Answer:
        """The aliases, and where the last one leads: resolvers in C libraries ask no second time."""
        wire = message.encode_question(asked.name, query.type)
        found = await self._forwarder.ask(wire, message.LARGEST_UDP, over_tcp=False)
        if found is not None and message.is_truncated(found):
            found = await self._forwarder.ask(wire, None, over_tcp=True)
        alone = Answer(answers=asked.so_far)
        if found is None:
            return alone
        try:
            further = message.decode_chain(found)
        except MalformedMessage as error:
            _log.warning("the answer about %s is broken: %s", asked.name, error)
            return alone
        code = Code.NXDOMAIN if message.code_of(found) == Code.NXDOMAIN else Code.NOERROR
        return replace(alone, code=code, answers=asked.so_far + further)


class NameServer:
    """``run`` serves until cancelled; what keeps it from listening is logged, and tried again.

    It does not listen before the ``caches`` are complete: a name that is not known yet would be denied.
    """

    def __init__(
        self, resolver: Resolver, caches: Sequence[Informer], addresses: Sequence[IPAddress], netns: Path | None,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._resolver, self._caches = resolver, caches
        self._addresses, self._netns, self._clock = addresses, netns, clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0

    def use(self, resolver: Resolver) -> None:
        """Answer by this one from now on."""
        self._resolver = resolver

    async def run(self) -> None:
        for cache in self._caches:
            await cache.wait_until_synced()
        told = False
        while True:
            try:
                sockets = open_in(self._netns, self._listen)
            except OSError as error:
                if not told:
                    where = ", ".join(map(str, self._addresses))
                    _log.error("no name server on %s, port %d: %s", where, NODE_PORT, error)
                told = True
                await self._clock.sleep(RETRY)
            else:
                await self._serve(sockets)

    def _listen(self) -> list[socket.socket]:
        """A socket of each kind on each address."""
        flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        made: list[socket.socket] = []
        try:
            for host in map(str, self._addresses):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    made.append(socket.socket(family_of(host), kind | flags))
                    if kind == socket.SOCK_STREAM:
                        made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    made[-1].bind((host, NODE_PORT))
                made[-1].listen(128)
        except BaseException:
            for sock in made:
                sock.close()
            raise
        return made

    async def _serve(self, sockets: Sequence[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        closing: list[Callable[[], None]] = []
        for sock in sockets:
            if sock.type == socket.SOCK_DGRAM:
                transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=sock)
                closing.append(transport.close)
            else:
                closing.append((await asyncio.start_server(self._connected, sock=sock)).close)
        try:
            await loop.create_future()
        finally:
            for close in closing:
                close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- UDP

    def received(self, data: bytes, source: tuple[str, int], transport: asyncio.DatagramTransport) -> None:
        found = self._resolver.known(data, source[0], over_tcp=False)
        if isinstance(found, bytes):
            transport.sendto(found, source)
        elif found is not None:
            task = asyncio.create_task(self._answer_later(*found, source, transport))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer_later(
        self, query: Query, asked: Elsewhere, source: tuple[str, int], transport: asyncio.DatagramTransport
    ) -> None:
        try:
            found = await self._resolver.elsewhere(query, asked, over_tcp=False)
        except Exception:  # nobody waits for this task: the client asks again
            _log.exception("a question about %s could not be passed on", query.name)
            return
        if not transport.is_closing():
            transport.sendto(found, source)

    # --- TCP

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Strangers are hung up on, so that they cannot use up the connections."""
        source = writer.get_extra_info("peername")[0]
        if not self._resolver.serves(source):
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        try:
            if self._connections <= MOST_CONNECTIONS:
                await self._converse(source, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client is gone, or took too long
        finally:
            self._connections -= 1
            self._tasks.discard(task)
            writer.close()

    async def _converse(
        self, source: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            async with asyncio.timeout(IDLE):
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                found = self._resolver.known(await reader.readexactly(length), source, over_tcp=True)
            if found is None:
                return
            if not isinstance(found, bytes):
                found = await self._resolver.elsewhere(*found, over_tcp=True)
            async with asyncio.timeout(IDLE):
                writer.write(struct.pack("!H", len(found)) + found)
                await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        self._server.received(data, addr, self._transport)


def _encode(query: Query, answer: Answer, *, over_tcp: bool) -> bytes:
    return message.encode_answer(query, answer, LARGEST_TCP if over_tcp else query.room)
