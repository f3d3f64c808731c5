"""NodePorts on 127.0.0.1 and ::1, for processes of the node, in every mode alike.

The kernel cannot translate such packets away from loopback (IPv6 never, IPv4 only with ``route_localnet``, which opens
services that trust loopback to the network), so this process listens on loopback itself: one socket for each NodePort
that has endpoints, bound to that very port, so that it knows for which one a connection is. It relays to an endpoint
that the forwarding table allows the node. A port that somebody else listens on is left to him.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Final

from nodeport.forwarding.table import (
    Endpoint,
    Family,
    ForwardingTable,
    NodePort,
    Protocol,
    ServicePortName,
    Verdict,
)
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.netlink.namespace import open_in
from nodeport.proxy.relay import Relay, TcpRelay, UdpRelay

LOOPBACK: Final = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}
_ADDRESS_FAMILIES: Final = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_KINDS: Final = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM}
_SWEEP: Final = timedelta(seconds=10)
_BACKLOG: Final = 1024
_log = get_logger(__name__)

Port = tuple[Protocol, int]


class LocalhostPorts:
    """Listens in ``netns`` for the NodePorts of ``table``; ``changed`` says which Service ports to look at again.

    ``run`` owns every socket and every relayed connection: they end with it. Connections outlive their NodePort and
    their endpoint's leaving, as those through the kernel do; a UDP client is led to another endpoint.
    """

    def __init__(
        self, family: Family, netns: Path | None, table: ForwardingTable, clock: Clock, rng: Random
    ) -> None:
        self._family = family
        self._netns = netns
        self._table = table
        self._clock = clock
        self._rng = rng
        self._changed: set[ServicePortName] = set()
        self._wake = asyncio.Event()
        self._relays: dict[Port, tuple[ServicePortName, Relay]] = {}
        self._bound: dict[ServicePortName, tuple[Endpoint, float]] = {}
        self._refused: dict[Port, ServicePortName] = {}
        """Ports that somebody else has, for now."""

    @property
    def ports(self) -> set[Port]:
        """What is listened on now."""
        return set(self._relays)

    def changed(self, names: Iterable[ServicePortName]) -> None:
        self._changed.update(names)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        self.changed(self._table)
        try:
            async with asyncio.TaskGroup() as connections:
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_SWEEP.total_seconds()):
                            await self._wake.wait()
                    self._wake.clear()
                    self._look(connections)
                    for _, relay in self._relays.values():
                        relay.sweep(self._clock.monotonic())
        finally:
            for _, relay in self._relays.values():
                relay.close()
            self._relays.clear()

    def _look(self, connections: asyncio.TaskGroup) -> None:
        """First what goes, then what comes: a port may pass from one Service to another."""
        changed, self._changed = self._changed | set(self._refused.values()), set()
        wanted = {name: set(self._wanted(name)) for name in changed}
        for port, (name, relay) in list(self._relays.items()):
            if name in changed and port not in wanted[name]:
                del self._relays[port]
                relay.close()
            elif name in changed:
                forwarding = self._table.get(name)
                serving = forwarding.serving if forwarding else ()
                relay.keep(frozenset(endpoint.place for endpoint in serving))
        self._refused = {port: name for port, name in self._refused.items() if port in wanted[name]}
        for name, ports in wanted.items():
            for port in ports - self._relays.keys():
                self._open(port, name, connections)

    def _wanted(self, name: ServicePortName) -> Iterator[Port]:
        forwarding = self._table.get(name)
        if forwarding is None or forwarding.external.node.verdict is not Verdict.FORWARD:
            self._bound.pop(name, None)
            return
        if name.protocol in _KINDS:
            for frontend in forwarding.frontends:
                if isinstance(frontend, NodePort):
                    yield name.protocol, frontend.port

    def _open(self, port: Port, name: ServicePortName, connections: asyncio.TaskGroup) -> None:
        protocol, number = port
        try:
            listener = open_in(self._netns, lambda: self._listener(protocol, number))
        except OSError as error:
            if port not in self._refused:
                _log.warning("%s: cannot listen on %s: %s", name, self._place(port), error)
            self._refused[port] = name
            return
        self._refused.pop(port, None)
        if protocol is Protocol.TCP:
            relay: Relay = TcpRelay(listener, lambda: self._choose(name), self._socket, connections)
        else:
            relay = UdpRelay(listener, lambda: self._choose(name), self._socket, self._clock)
        self._relays[port] = (name, relay)

    def _place(self, port: Port) -> str:
        protocol, number = port
        return f"{LOOPBACK[self._family]} port {number}/{protocol.name}"

    def _listener(self, protocol: Protocol, number: int) -> socket.socket:
        made = socket.socket(_ADDRESS_FAMILIES[self._family], _KINDS[protocol])
        try:
            if protocol is Protocol.TCP:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._family is Family.IPV6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setblocking(False)
            made.bind((LOOPBACK[self._family], number))
            if protocol is Protocol.TCP:
                made.listen(_BACKLOG)
        except OSError:
            made.close()
            raise
        return made

    def _socket(self, protocol: Protocol) -> socket.socket:
        """To be connected to an endpoint, from the node."""
        made = open_in(self._netns, lambda: socket.socket(_ADDRESS_FAMILIES[self._family], _KINDS[protocol]))
        made.setblocking(False)
        return made

    def _choose(self, name: ServicePortName) -> Endpoint | None:
        """Where the next connection goes; with session affinity, all of the node's processes are one client."""
        forwarding = self._table.get(name)
        endpoints = forwarding.external.node.endpoints if forwarding else ()
        if forwarding is None or not endpoints:
            return None
        if forwarding.affinity is None:
            return self._rng.choice(endpoints)
        now = self._clock.monotonic()
        endpoint, until = self._bound.get(name, (None, now))
        if endpoint not in endpoints or until <= now:
            endpoint = self._rng.choice(endpoints)
        assert endpoint is not None
        self._bound[name] = (endpoint, now + forwarding.affinity.total_seconds())
        return endpoint
