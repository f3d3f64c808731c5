"""Watchers of Services over TLS on loopback: when each of 100 and 1,000 has a change, alone and in a burst.

Beside it a plain aiohttp server that writes each change to one watcher after another.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from latency import percentiles, resident
from served import PLAIN, Connection, Served, creation, path_of, pin_clients, request_of, serving

SIZES = (100, 1_000)
EVENTS = 100
WRITERS, BURST = 16, 25
"""Creates of each writer in the burst."""
KINDS = ("sqlite FULL", PLAIN)
PATIENCE = 60


@dataclass
class Fan:
    """Who waits for which event, and when each of them had it."""

    watchers: int
    marker: bytes = b""
    left: int = 0
    moments: list[float] = field(default_factory=list)
    everybody: asyncio.Event = field(default_factory=asyncio.Event)

    def expect(self, name: str) -> None:
        self.marker = b'"name":"%b"' % name.encode()
        self.left = self.watchers
        self.moments = []
        self.everybody.clear()

    def arrived(self) -> None:
        self.moments.append(time.perf_counter())
        self.left -= 1
        if not self.left:
            self.everybody.set()

    async def wait(self) -> None:
        await asyncio.wait_for(self.everybody.wait(), PATIENCE)


class Watcher(asyncio.Protocol):
    def __init__(self, fan: Fan) -> None:
        self._fan = fan
        self._pending = b""
        self.events = 0

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        transport.write(request_of("GET", path_of("fan") + "?watch=true"))

    def data_received(self, data: bytes) -> None:
        self._pending += data
        if self._pending.endswith((b"\n", b"\r\n")):
            self.events += self._pending.count(b'{"type":"ADDED"')
            if self._fan.marker in self._pending:
                self._fan.arrived()
            self._pending = b""


async def one_by_one(fan: Fan, connection: Connection) -> str:
    """p50 / p99 ms from sending a create to a watcher having its event: every watcher and every event counts."""
    waits: list[float] = []
    for number in range(EVENTS):
        fan.expect(f"event-{number}")
        began = time.perf_counter()
        await connection.ask(creation("fan", f"event-{number}"))
        await fan.wait()
        waits += [moment - began for moment in fan.moments]
    return percentiles(waits)


async def burst(fan: Fan, connections: list[Connection]) -> str:
    """Creates from several writers at once: events per second that reach watchers, none lost."""
    requests = [
        [creation("fan", f"burst-{writer}-{number}") for number in range(BURST)] for writer in range(WRITERS)
    ]
    began = time.perf_counter()
    await asyncio.gather(
        *(connection.ask_all(mine) for connection, mine in zip(connections, requests, strict=True))
    )
    fan.expect("end")
    await connections[0].ask(creation("fan", "end"))
    await fan.wait()
    return f"{(WRITERS * BURST + 1) * fan.watchers / (time.perf_counter() - began):,.0f}"


async def measure(served: Served, size: int) -> list[str]:
    connections = [await Connection.open(served) for _ in range(WRITERS)]
    fan = Fan(size)
    loop = asyncio.get_running_loop()
    watchers = []
    for _ in range(size):
        _, watcher = await loop.create_connection(
            lambda: Watcher(fan), "127.0.0.1", served.port, ssl=served.context
        )
        watchers.append(watcher)
    fan.expect("warm")
    await connections[0].ask(creation("fan", "warm"))
    await fan.wait()
    cpu = served.cpu()
    latency = await one_by_one(fan, connections[0])
    each = (served.cpu() - cpu) / EVENTS / size
    many = await burst(fan, connections)
    expected = EVENTS + WRITERS * BURST + 2
    if any(watcher.events != expected for watcher in watchers):
        raise RuntimeError(f"not every watcher had {expected} events")
    return [latency, f"{each * 1e6:.1f}", many, f"{resident(served.pid):.0f}"]


def show(name: str, cells: list[str]) -> None:
    padded = (f"{cell:>{width}}" for cell, width in zip(cells, (17, 18, 18, 8), strict=True))
    print(f"{name:<24}{''.join(padded)}", flush=True)


def main() -> None:
    print(f"{EVENTS} changes one by one and {WRITERS * BURST} at once, {pin_clients()}.")
    show("", ["p50 / p99 ms", "server us each", "burst events/s", "RSS MB"])
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        for kind in KINDS:
            for size in SIZES:
                inside = Path(folder) / f"{kind}-{size}".replace(" ", "-")
                inside.mkdir()
                with serving(kind, inside, full=False) as served:
                    show(f"{kind}, {size:,}", uvloop.run(measure(served, size)))


if __name__ == "__main__":
    main()
