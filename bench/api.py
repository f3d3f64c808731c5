"""The API server in a process of its own, over TLS on loopback: creates, reads, lists and watch fan-out.

Beside it the same work done plainly: an aiohttp server with a dict behind it, a sqlite3 loop, json.dumps.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import uvloop
from aiohttp import web

from latency import BORN, announce, percentiles, plain_commits, resident, seed, settle, started
from nodeport.api.defaulting import apply_defaults
from nodeport.api.meta import JsonObject
from nodeport.api.resources import NAMESPACES, SERVICES, Resource
from nodeport.apiserver.encoding import Splicer, encode, encode_stored
from nodeport.apiserver.pki import ClusterPki
from nodeport.store.base import Store
from nodeport.store.memory import MemoryStore
from nodeport.store.sqlite import SqliteStore
from nodeport.testing.apiserver import running_apiserver

CLIENTS = 64
CREATES = 32
GETS = 48
"""Per client."""
SMALL, LARGE = 1_000, 10_000
WATCHERS = 100
EVENTS = 200
KINDS = ("memory", "sqlite OFF", "sqlite FULL", "plain aiohttp")
NODE_PORTS = range(10_000, 40_000)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_TICK = os.sysconf("SC_CLK_TCK")


# --- the servers, each in a process of its own


def service(namespace: str, name: str) -> JsonObject:
    """What a client sends."""
    port = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [port]},
    }


def seeds() -> Iterator[tuple[Resource, JsonObject]]:
    """What every store holds from the start, as the server would have stored it."""
    number = 0
    for name, count in (("small", SMALL), ("large", LARGE), ("made", 0), ("fan", 0)):
        active = {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        yield NAMESPACES, {"metadata": {"name": name, **BORN}, **active}
        for index in range(count):
            item = service(name, f"s{index}")
            address = str(IPv4Address("10.96.128.0") + number)
            item["metadata"] |= BORN
            item["spec"] |= {"clusterIP": address, "clusterIPs": [address]}
            item["spec"]["ports"][0]["nodePort"] = NODE_PORTS.start + number
            apply_defaults(SERVICES, item)
            item["status"] = {"loadBalancer": {}}
            yield SERVICES, item
            number += 1


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Store]:
    if kind == "memory":
        yield MemoryStore()
        return
    synchronous = "FULL" if kind == "sqlite FULL" else "OFF"
    async with await SqliteStore.open(folder / "store.db", synchronous=synchronous) as store:
        yield store


async def serve(kind: str, folder: Path) -> None:
    async with opened(kind, folder) as store:
        await seed(store, seeds())
        async with running_apiserver(store, node_port_range=NODE_PORTS) as running:
            pki = running.pki
            announce(running.url, pki.ca.cert, pki.admin.cert, pki.admin.key)
            settle()
            await running.task


class PlainServer:
    """The least that answers the same requests with the same bytes: no checks, no history, no disk."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, bytes]] = {"made": {}, "fan": {}}
        self._watchers: dict[str, list[web.StreamResponse]] = {"made": [], "fan": []}
        splicer = Splicer(SERVICES)
        for resource, item in seeds():
            if resource is SERVICES:
                objects = self._objects.setdefault(item["metadata"]["namespace"], {})
                objects[item["metadata"]["name"]] = splicer.serve(encode_stored(item), 1)

    async def create(self, request: web.Request) -> web.Response:
        body = await request.read()
        namespace = request.match_info["namespace"]
        self._objects[namespace][json.loads(body)["metadata"]["name"]] = body
        frame = b'{"type":"ADDED","object":%b}\n' % body
        for watcher in self._watchers[namespace]:
            await watcher.write(frame)
        return web.Response(status=201, body=body, content_type="application/json")

    async def get(self, request: web.Request) -> web.Response:
        body = self._objects[request.match_info["namespace"]][request.match_info["name"]]
        return web.Response(body=body, content_type="application/json")

    async def list(self, request: web.Request) -> web.StreamResponse:
        namespace = request.match_info["namespace"]
        objects = self._objects[namespace].values()
        if "watch" not in request.query:
            body = b'{"items":[%b]}\n' % b",".join(objects)
            return web.Response(body=body, content_type="application/json")
        stream = web.StreamResponse()
        await stream.prepare(request)
        for item in objects:
            await stream.write(b'{"type":"ADDED","object":%b}\n' % item)
        self._watchers[namespace].append(stream)
        await asyncio.Event().wait()
        return stream

    async def run(self, folder: Path) -> None:
        pki = ClusterPki.ensure(folder)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.ca.cert))
        context.load_cert_chain(pki.server.cert, pki.server.key)
        application = web.Application()
        path = "/api/v1/namespaces/{namespace}/services"
        application.add_routes(
            [web.post(path, self.create), web.get(path, self.list), web.get(path + "/{name}", self.get)]
        )
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        announce(url, pki.ca.cert, pki.admin.cert, pki.admin.key)
        settle()
        await asyncio.Event().wait()


# --- the clients, all in this process


@dataclass
class Served:
    """A server's process and how to talk to it."""

    pid: int
    port: int
    context: ssl.SSLContext

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICK


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[Served]:
    with started(__file__, folder, "serve", kind, folder) as (pid, (url, ca, cert, key)):
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(cert, key)
        yield Served(pid, int(url.rpartition(":")[2]), context)


def request_of(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


class Connection:
    """One kept-alive connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, served: Served) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", served.port, ssl=served.context))

    async def ask(self, request: bytes) -> bytes:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if head[9:10] != b"2" or length is None:
            raise ConnectionError(head.decode())
        return await self._reader.readexactly(int(length[1]))

    async def ask_all(self, requests: list[bytes]) -> None:
        for request in requests:
            await self.ask(request)


@dataclass
class Fan:
    """Who waits for which event, and when each of them had it."""

    marker: bytes = b""
    left: int = 0
    moments: list[float] = field(default_factory=list)
    everybody: asyncio.Event = field(default_factory=asyncio.Event)

    def expect(self, name: str) -> None:
        self.marker = b'"name":"%b"' % name.encode()
        self.left = WATCHERS
        self.moments = []
        self.everybody.clear()

    def arrived(self) -> None:
        self.moments.append(time.perf_counter())
        self.left -= 1
        if not self.left:
            self.everybody.set()


class Watcher(asyncio.Protocol):
    def __init__(self, fan: Fan) -> None:
        self._fan = fan
        self._pending = b""

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        transport.write(request_of("GET", path_of("fan") + "?watch=true"))

    def data_received(self, data: bytes) -> None:
        self._pending += data
        if self._fan.marker in self._pending and self._pending.endswith((b"\n", b"\r\n")):
            self._pending = b""
            self._fan.arrived()


def path_of(namespace: str, name: str = "") -> str:
    return SERVICES.path(namespace, name)


def creation(namespace: str, name: str) -> bytes:
    return request_of("POST", path_of(namespace), encode(service(namespace, name)))


# --- the measurements


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


async def list_time(connection: Connection, namespace: str, rounds: int) -> str:
    """The median in ms."""
    request = request_of("GET", path_of(namespace))
    return f"{statistics.median([await timed(connection.ask(request)) for _ in range(rounds)]) * 1e3:.1f}"


async def fan_out(served: Served, connection: Connection) -> str:
    """p50 / p99 ms from sending a create to a watcher having its event: every watcher and every event counts."""
    fan = Fan()
    fan.expect("warm")
    await connection.ask(creation("fan", "warm"))
    loop = asyncio.get_running_loop()
    for _ in range(WATCHERS):
        await loop.create_connection(lambda: Watcher(fan), "127.0.0.1", served.port, ssl=served.context)
    await asyncio.wait_for(fan.everybody.wait(), 10)
    waits: list[float] = []
    for number in range(EVENTS):
        fan.expect(f"event-{number}")
        began = time.perf_counter()
        await connection.ask(creation("fan", f"event-{number}"))
        await asyncio.wait_for(fan.everybody.wait(), 10)
        waits += [moment - began for moment in fan.moments]
    return percentiles(waits)


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
    cells += [await list_time(first, "small", 15), await list_time(first, "large", 5)]
    cells += [await fan_out(served, first), f"{resident(served.pid):.0f}"]
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
    padded = (f"{cell:>{width}}" for cell, width in zip(cells, (15, 15, 12, 13, 17, 8), strict=False))
    print(f"{name:<14}{''.join(padded)}", flush=True)


def main() -> None:
    print(f"{CLIENTS} clients; us: the server's processor time for each; {WATCHERS} watchers, from the send.")
    titles = ["creates/s / us", "GETs/s / us", "list 1k ms", "list 10k ms", "event p50/p99 ms", "RSS MB"]
    show("", titles)
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
    if sys.argv[1:2] == ["serve"]:
        what, where = sys.argv[2], Path(sys.argv[3])
        uvloop.run(PlainServer().run(where) if what == "plain aiohttp" else serve(what, where))
    else:
        main()
