"""The API server in a process of its own, over TLS on loopback: creates of NodePort Services, reads and lists.

Beside it the same work done plainly: an aiohttp server with a dict behind it, a sqlite3 loop, json.dumps.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

import uvloop

from latency import plain_commits
from nodeport.api.meta import JsonObject
from served import (
    LARGE,
    PLAIN,
    SMALL,
    Connection,
    Served,
    creation,
    path_of,
    pin_clients,
    request_of,
    serving,
)

CLIENTS = 64
CREATES = 64
GETS = 96
"""Per client."""
KINDS = ("memory", "sqlite OFF", "sqlite FULL", PLAIN)


async def timed(work: Awaitable[object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def rate(served: Served, connections: list[Connection], requests: list[list[bytes]]) -> str:
    """Requests per second, and the server's processor time for each in microseconds."""
    cpu = served.cpu()
    work = (connection.ask_all(mine) for connection, mine in zip(connections, requests, strict=True))
    seconds = await timed(asyncio.gather(*work))
    count = sum(map(len, requests))
    return f"{count / seconds:,.0f} / {(served.cpu() - cpu) / count * 1e6:.0f}"


async def list_time(served: Served, connection: Connection, namespace: str, rounds: int) -> str:
    """The median and the server's processor time for each, in ms."""
    request = request_of("GET", path_of(namespace))
    cpu = served.cpu()
    seconds = [await timed(connection.ask(request)) for _ in range(rounds)]
    return f"{statistics.median(seconds) * 1e3:.1f} / {(served.cpu() - cpu) / rounds * 1e3:.1f}"


async def measure(served: Served) -> tuple[list[str], bytes]:
    """The cells of a row, and the long list as it was served."""
    connections = [await Connection.open(served) for _ in range(CLIENTS)]
    first = connections[0]
    creates = [
        [creation("made", f"s{client}-{number}") for number in range(CREATES)] for client in range(CLIENTS)
    ]
    gets = [
        [request_of("GET", path_of("small", f"s{(client + number * 7) % SMALL}")) for number in range(GETS)]
        for client in range(CLIENTS)
    ]
    cells = [await rate(served, connections, creates), await rate(served, connections, gets)]
    cells += [await list_time(served, first, "small", 40), await list_time(served, first, "large", 9)]
    return cells, await first.ask(request_of("GET", path_of("large")))


def dumps_time(listed: JsonObject, count: int) -> str:
    """The median of json.dumps in ms."""
    listed = {**listed, "items": listed["items"][:count]}
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        json.dumps(listed).encode()
        seconds.append(time.perf_counter() - began)
    return f"{statistics.median(seconds) * 1e3:.1f}"


def show(name: str, cells: list[str]) -> None:
    padded = (f"{cell:>{width}}" for cell, width in zip(cells, (17, 17, 18, 19), strict=False))
    print(f"{name:<14}{''.join(padded)}", flush=True)


def main() -> None:
    print(f"{CLIENTS} clients, {pin_clients()}; / the server's processor time for each.")
    show("", ["creates/s / us", "GETs/s / us", "list 1k ms / ms", "list 10k ms / ms"])
    listed = b""
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        for kind in KINDS:
            inside = Path(folder) / kind.replace(" ", "-")
            inside.mkdir()
            with serving(kind, inside) as served:
                cells, answer = uvloop.run(measure(served))
            listed = listed or answer
            show(kind, cells)
        whole = json.loads(listed)
        for synchronous in ("OFF", "FULL"):
            seconds = plain_commits(Path(folder), synchronous)
            show(f"sqlite3 {synchronous}", [f"{len(seconds) / sum(seconds):,.0f}"])
    show("json.dumps", ["", "", dumps_time(whole, SMALL), dumps_time(whole, LARGE)])


if __name__ == "__main__":
    main()
