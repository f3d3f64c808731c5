"""What the measurements of the API server share: servers in a process of their own, and clients that cost little.

Clients speak raw HTTP/1.1 over TLS: requests are encoded before the clock runs, one at a time on each connection, and
no task is made for a request. With two processors or more the server has the first to itself and the clients the last.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import uvloop
from aiohttp import web

from latency import BORN, announce, seed, settle, started
from nodeport.api.defaulting import apply_defaults
from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES, Resource
from nodeport.apiserver.encoding import Splicer, encode, encode_stored
from nodeport.apiserver.pki import ClusterPki
from nodeport.store.base import Store
from nodeport.store.memory import MemoryStore
from nodeport.store.sqlite import SqliteStore
from nodeport.testing.apiserver import running_apiserver

SMALL, LARGE = 1_000, 10_000
"""Services in the namespaces ``small`` and ``large``: a full server holds them from the start."""
NODE_PORTS = range(10_000, 40_000)
NAMES = (("small", SMALL), ("large", LARGE), ("made", 0), ("fan", 0))
PLAIN = "plain aiohttp"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_TICK = os.sysconf("SC_CLK_TCK")
_CPUS = sorted(os.sched_getaffinity(0))


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


def seeds(*, full: bool) -> Iterator[tuple[Resource, JsonObject]]:
    """What every store holds from the start, as the server would have stored it."""
    number = 0
    for name, count in NAMES:
        active = {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        yield NAMESPACES, {"metadata": {"name": name, **BORN}, **active}
        for index in range(count if full else 0):
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


async def serve(kind: str, folder: Path, *, full: bool) -> None:
    async with opened(kind, folder) as store:
        await seed(store, seeds(full=full))
        async with running_apiserver(store, node_port_range=NODE_PORTS) as running:
            pki = running.pki
            announce(running.url, pki.ca.cert, pki.admin.cert, pki.admin.key)
            settle()
            await running.task


class PlainServer:
    """The least that answers the same requests with the same bytes: no checks, no history, no disk."""

    def __init__(self, *, full: bool) -> None:
        self._objects: dict[str, dict[str, bytes]] = {"made": {}, "fan": {}}
        self._watchers: dict[str, list[web.StreamResponse]] = {"made": [], "fan": []}
        splicer = Splicer(SERVICES)
        for resource, item in seeds(full=full):
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
        application.router.add_post(ENDPOINT_SLICES.path("{namespace}"), self.create)
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
def serving(kind: str, folder: Path, *, full: bool = True) -> Iterator[Served]:
    """``full``: with the Services of ``NAMES`` from the start."""
    words = ("serve", kind, folder, "full" if full else "empty")
    with started(__file__, folder, *words) as (pid, (url, ca, cert, key)):
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(cert, key)
        yield Served(pid, int(url.rpartition(":")[2]), context)


def pin_clients() -> str:
    """Give this process the last processor, when there is more than one; what to print about it."""
    if len(_CPUS) < 2:
        return "server and clients share one processor"
    os.sched_setaffinity(0, {_CPUS[-1]})
    return f"server on processor {_CPUS[0]}, clients on {_CPUS[-1]}"


def request_of(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


def path_of(namespace: str, name: str = "") -> str:
    return SERVICES.path(namespace, name)


def creation(namespace: str, name: str) -> bytes:
    return request_of("POST", path_of(namespace), encode(service(namespace, name)))


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._requests: Iterator[bytes] = iter(())
        self._parts: list[bytes] = []
        self._missing = 0
        self._done: asyncio.Future[bytes] | None = None

    @classmethod
    async def open(cls, served: Served) -> Connection:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(cls, "127.0.0.1", served.port, ssl=served.context)
        return made

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error or ConnectionError("the server hung up"))

    async def ask(self, request: bytes) -> bytes:
        """The answer's body."""
        return await self.ask_all([request])

    async def ask_all(self, requests: Sequence[bytes]) -> bytes:
        """Each as soon as the one before is answered; the last answer's body."""
        self._requests = iter(requests)
        self._done = asyncio.get_running_loop().create_future()
        self._send_next(b"")
        return await self._done

    def _send_next(self, answer: bytes) -> None:
        request = next(self._requests, None)
        if request is not None:
            assert self._transport is not None
            self._transport.write(request)
        elif self._done is not None:
            self._done.set_result(answer)

    def data_received(self, data: bytes) -> None:
        if not self._parts:
            data = self._begin(data)
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing <= 0:
            answer = b"".join(self._parts)
            self._parts.clear()
            self._send_next(answer)

    def _begin(self, data: bytes) -> bytes:
        """Read the head; servers here send it in one piece."""
        head, _, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if head[9:10] != b"2" or length is None:
            raise ConnectionError(data.decode())
        self._missing = int(length[1])
        return body


if __name__ == "__main__":
    what, where, fill = sys.argv[2], Path(sys.argv[3]), sys.argv[4]
    if len(_CPUS) > 1:
        os.sched_setaffinity(0, {_CPUS[0]})
    filled = fill == "full"
    uvloop.run(PlainServer(full=filled).run(where) if what == PLAIN else serve(what, where, full=filled))
