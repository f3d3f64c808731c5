"""What the API server's process weighs as Services and EndpointSlices come, made through the API over TLS.

Beside it a process with the same server library and a dict that holds the bodies as they were sent.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import uvloop

from latency import resident
from nodeport.api.resources import ENDPOINT_SLICES, SERVICES, Resource
from nodeport.apiserver.encoding import encode
from proxy import ENDPOINTS, slices
from served import (
    LARGE,
    PLAIN,
    Connection,
    Served,
    creation,
    pin_clients,
    request_of,
    serving,
)

CLIENTS = 32
KINDS = ("sqlite FULL", PLAIN)


def slice_creation(number: int) -> bytes:
    """One EndpointSlice of a Service, with all its endpoints."""
    name = f"s{number}"
    found = slices(number)[0]
    found["metadata"] = {
        "name": f"{name}-abcde", "namespace": "made", "generateName": f"{name}-",
        "labels": {"kubernetes.io/service-name": name},
    }  # fmt: skip
    return request_of("POST", ENDPOINT_SLICES.path("made"), encode(found))


async def made(connections: list[Connection], requests: list[bytes]) -> None:
    work = (connection.ask_all(requests[index::CLIENTS]) for index, connection in enumerate(connections))
    await asyncio.gather(*work)


async def listed(connection: Connection, resource: Resource) -> int:
    """Bytes of the list."""
    return len(await connection.ask(request_of("GET", resource.path("made"))))


async def measure(served: Served, kind: str) -> list[str]:
    connections = [await Connection.open(served) for _ in range(CLIENTS)]
    weights = [resident(served.pid)]
    began = time.perf_counter()
    await made(connections, [creation("made", f"s{number}") for number in range(LARGE)])
    weights.append(resident(served.pid))
    await made(connections, [slice_creation(number) for number in range(LARGE)])
    seconds = time.perf_counter() - began
    weights.append(resident(served.pid))
    size = await listed(connections[0], SERVICES)
    if kind != PLAIN:
        size += await listed(connections[0], ENDPOINT_SLICES)
    weights.append(resident(served.pid))
    return [*(f"{weight:.0f}" for weight in weights), f"{size / 1e6:.1f}", f"{2 * LARGE / seconds:,.0f}"]


def show(name: str, cells: list[str]) -> None:
    padded = (f"{cell:>{width}}" for cell, width in zip(cells, (10, 15, 15, 15, 15, 12), strict=True))
    print(f"{name:<14}{''.join(padded)}", flush=True)


def main() -> None:
    print(
        f"Resident MB with {LARGE:,} Services and {LARGE:,} slices of {ENDPOINTS} endpoints, {pin_clients()}."
    )
    show("", ["at first", "+ Services", "+ slices", "after lists", "lists, MB", "creates/s"])
    for kind in KINDS:
        with (
            tempfile.TemporaryDirectory(dir=Path.home()) as folder,
            serving(kind, Path(folder), full=False) as served,
        ):
            show(kind, uvloop.run(measure(served, kind)))


if __name__ == "__main__":
    main()
