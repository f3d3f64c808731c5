"""From a listening socket to an endpoint and back, in this process: TCP connections, and UDP by client.

Relays neither choose endpoints nor know Services: whoever makes them says where each connection goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from typing import Protocol as Interface

from nodeport.forwarding.table import Endpoint, IPAddress, Protocol
from nodeport.kit.clock import Clock

Choose = Callable[[], Endpoint | None]
"""Where the next connection goes; ``None``: nowhere any more."""
MakeSocket = Callable[[Protocol], socket.socket]
Served = frozenset[tuple[IPAddress, int]]

_CHUNK: Final = 1 << 16
_DATAGRAMS_AT_ONCE: Final = 64
_MOST_CLIENTS: Final = 1024
"""UDP clients of one port; who was silent for longest makes room."""
_IDLE: Final = timedelta(seconds=120)
"""How long a silent UDP client is remembered: conntrack's timeout for streams."""
_PAUSE: Final = timedelta(seconds=1)
"""How long no connection is accepted when there is no file descriptor left."""
_RESET: Final = struct.pack("ii", 1, 0)


class Relay(Interface):
    def keep(self, served: Served) -> None:
        """Clients of endpoints other than these must be led elsewhere, where the protocol has no end of its own."""

    def sweep(self, now: float) -> None:
        """Forgets who has been silent for too long; ``now`` in monotonic seconds."""

    def close(self) -> None:
        """Stops listening."""


class TcpRelay:
    """``connections`` owns what is under way: it goes on when the relay is closed."""

    def __init__(
        self, listener: socket.socket, choose: Choose, make: MakeSocket, connections: asyncio.TaskGroup
    ) -> None:
        self._listener = listener
        self._choose = choose
        self._make = make
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._paused: asyncio.TimerHandle | None = None
        self._listen()

    def _listen(self) -> None:
        self._paused = None
        self._loop.add_reader(self._listener, self._accept)

    def keep(self, served: Served) -> None:
        """A TCP client notices by itself."""

    def sweep(self, now: float) -> None:
        """TCP connections end by themselves."""

    def close(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # the backlog holds those who wait
                self._loop.remove_reader(self._listener)
                self._paused = self._loop.call_later(_PAUSE.total_seconds(), self._listen)
            return
        client.setblocking(False)
        self._connections.create_task(self._relay(client))

    async def _relay(self, client: socket.socket) -> None:
        endpoint = self._choose()
        with client:
            if endpoint is None:
                _reset(client)
                return
            try:
                with self._make(Protocol.TCP) as server:
                    await self._loop.sock_connect(server, (str(endpoint.address), endpoint.port))
                    await self._both_ways(client, server)
            except OSError:
                _reset(client)

    async def _both_ways(self, client: socket.socket, server: socket.socket) -> None:
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pumps = [
            asyncio.ensure_future(self._pump(client, server)),
            asyncio.ensure_future(self._pump(server, client)),
        ]
        try:
            await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Until the source says that there is no more, which is passed on."""
        while data := await self._loop.sock_recv(source, _CHUNK):
            await self._loop.sock_sendall(sink, data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _reset(client: socket.socket) -> None:
    """Has the connection end with a reset instead of an orderly close."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


@dataclass(slots=True)
class _Session:
    """One UDP client's socket towards its endpoint."""

    endpoint: Endpoint
    socket: socket.socket
    last_used: float


Client = tuple[str, int]


class UdpRelay:
    """Every client (address and port) has a socket towards its endpoint as long as it is not silent."""

    def __init__(self, listener: socket.socket, choose: Choose, make: MakeSocket, clock: Clock) -> None:
        self._listener = listener
        self._choose = choose
        self._make = make
        self._clock = clock
        self._sessions: dict[Client, _Session] = {}
        """The longest silent first."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener, self._asked)

    def keep(self, served: Served) -> None:
        for client, session in list(self._sessions.items()):
            if session.endpoint.place not in served:
                self._forget(client)

    def sweep(self, now: float) -> None:
        for client, session in list(self._sessions.items()):
            if now - session.last_used < _IDLE.total_seconds():
                return
            self._forget(client)

    def close(self) -> None:
        for client in list(self._sessions):
            self._forget(client)
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _asked(self) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                data, sender = self._listener.recvfrom(_CHUNK)
            except OSError:
                return
            session = self._session((sender[0], sender[1]))
            if session is not None:
                with contextlib.suppress(OSError):  # lost, as datagrams may be
                    session.socket.send(data)

    def _session(self, client: Client) -> _Session | None:
        session = self._sessions.pop(client, None) or self._begin(client)
        if session is None:
            return None
        session.last_used = self._clock.monotonic()
        self._sessions[client] = session
        if len(self._sessions) > _MOST_CLIENTS:
            self._forget(next(iter(self._sessions)))
        return session

    def _begin(self, client: Client) -> _Session | None:
        endpoint = self._choose()
        if endpoint is None:
            return None
        try:
            made = self._make(Protocol.UDP)
        except OSError:
            return None
        try:
            made.connect((str(endpoint.address), endpoint.port))
        except OSError:
            made.close()
            return None
        self._loop.add_reader(made, self._answered, client, made)
        return _Session(endpoint, made, 0.0)

    def _answered(self, client: Client, made: socket.socket) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                data = made.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # the endpoint refuses: the next datagram may go to another one
                self._forget(client)
                return
            with contextlib.suppress(OSError):
                self._listener.sendto(data, client)

    def _forget(self, client: Client) -> None:
        session = self._sessions.pop(client, None)
        if session is not None:
            self._loop.remove_reader(session.socket)
            session.socket.close()
