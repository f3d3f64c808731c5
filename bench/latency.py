"""One change from the API into the kernel, with 10, 1,000 and 10,000 Services of 4 endpoints each.

The API server (SQLite, every write on disk before it is answered), the proxy of one node and the client that writes
are a process each. Seen in the kernel means: nf_tables announced the new element to its listeners, which it does once
a batch is in force. Needs root: it makes network namespaces of its own and removes them.

python bench/latency.py [SERVICES ...]
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import uvloop

from nodeport.api.defaulting import apply_defaults
from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, NODES, SERVICES, Resource
from nodeport.apiserver.allocators.claims import guard_operations
from nodeport.apiserver.encoding import encode_stored, key_of
from nodeport.client.config import ClientConfig
from nodeport.client.informer import Informer
from nodeport.client.rest import JSON_PATCH, RestClient
from nodeport.kit.clock import SystemClock
from nodeport.netlink import codec
from nodeport.netlink.codec import Message
from nodeport.netlink.nftables.objects import MessageType
from nodeport.netlink.socket import NETLINK_NETFILTER, NetlinkSocket
from nodeport.proxy.options import ProxyOptions
from nodeport.proxy.runner import ProxyRunner
from nodeport.store.base import Operation, Put, Store
from nodeport.store.sqlite import SqliteStore
from nodeport.testing.apiserver import running_apiserver
from proxy import ENDPOINTS as ENDPOINTS_EACH
from proxy import service, slices

SIZES = (10, 1_000, 10_000)
CHANGES = 200
APPEARING = 100
WARM = 10
PLAIN_COMMITS = 500
PATIENCE = timedelta(seconds=120)
"""A proxy that writes all of its rules anew takes long for one change on a busy machine."""
NODE = "n1"
_NEW_ADDRESSES = int(IPv4Address("10.248.0.0"))
_FRESH_ADDRESSES = int(IPv4Address("10.249.0.0"))
_ROLLED_ADDRESSES = int(IPv4Address("10.250.0.0"))
_FRESH = 1_000_000
"""Numbers of Services that are not there from the start."""
_WRITERS = 16
_NFTABLES_GROUP = 7
_SO_RCVBUFFORCE = 33
_ANNOUNCEMENT = 1 << 18
_ANNOUNCEMENTS = 1 << 29
"""Bytes: a proxy may write all of its rules anew for one change."""
_FIRST_ADDRESS = {
    ENDPOINT_SLICES.plural: ("-a", "/endpoints/0/addresses", True),
    ENDPOINTS.plural: ("", "/subsets/0/addresses/0/ip", False),
}
"""What follows the Service's name, where the first address is, and whether it is a list."""
_ANNOUNCED = frozenset({MessageType.NEWSETELEM.number, MessageType.NEWRULE.number})
BORN = {"uid": "00000000-0000-4000-8000-000000000000", "creationTimestamp": "2026-01-01T00:00:00Z"}


# --- the parts, each in a process of its own


def slice_metadata(service_name: str) -> JsonObject:
    """As the controller of slices writes it."""
    owner = {"apiVersion": "v1", "kind": "Service", "name": service_name, "uid": BORN["uid"]}
    return {
        **BORN,
        "generateName": f"{service_name}-",
        "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": BORN["creationTimestamp"]},
        "labels": {
            "kubernetes.io/service-name": service_name,
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        },
        "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
    }


def seeds(size: int) -> Iterator[tuple[Resource, JsonObject]]:
    """What the store holds from the start, as the server would have stored it."""
    active = {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    yield NAMESPACES, {"metadata": {"name": "bench", **BORN}, **active}
    addresses = [{"type": "InternalIP", "address": "172.30.0.11"}]
    spec = {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]}
    yield NODES, {"metadata": {"name": NODE, **BORN}, "spec": spec, "status": {"addresses": addresses}}
    for number in range(size):
        item = service(number)
        item["metadata"] |= {**BORN, "labels": {"app": f"s{number}"}}
        item["spec"]["selector"] = {"app": f"s{number}"}
        apply_defaults(SERVICES, item)
        yield SERVICES, {**item, "status": {"loadBalancer": {}}}
        for found in slices(number):
            found["metadata"] |= slice_metadata(f"s{number}")
            for place, endpoint in enumerate(found["endpoints"]):
                pod = {"kind": "Pod", "namespace": "bench", "name": f"s{number}-6d4cf56db6-{place:05}"}
                endpoint["targetRef"] = {**pod, "uid": BORN["uid"]}
            apply_defaults(ENDPOINT_SLICES, found)
            yield ENDPOINT_SLICES, found
            yield ENDPOINTS, endpoints_of(f"s{number}", found)


def endpoints_of(service_name: str, found: JsonObject) -> JsonObject:
    """A slice's endpoints in the older shape: who follows slices never sees it."""
    addresses = [
        {"ip": endpoint["addresses"][0], "nodeName": endpoint["nodeName"], "targetRef": endpoint["targetRef"]}
        for endpoint in found["endpoints"]
    ]
    ports = [{"port": port["port"], "protocol": port["protocol"]} for port in found["ports"]]
    return {
        "metadata": {"namespace": "bench", "name": service_name, **BORN},
        "subsets": [{"addresses": addresses, "ports": ports}],
    }


async def seed(store: Store, objects: Iterable[tuple[Resource, JsonObject]]) -> None:
    """Puts stored objects under their keys, with the guards of what Services allocated."""
    operations: list[Operation] = []
    for resource, item in objects:
        meta = item["metadata"]
        namespace = meta.get("namespace", "")
        operations.append(Put(key_of(resource, namespace, meta["name"]), encode_stored(item), 0))
        if resource is SERVICES:
            operations += guard_operations(item, SystemClock().now())
    for at in range(0, len(operations), 2_000):
        await store.commit(operations[at : at + 2_000])


def settle() -> None:
    """As the real processes do once they serve."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def announce(*words: object) -> None:
    print(json.dumps([str(word) for word in words]), flush=True)


async def serve(size: int, folder: Path) -> None:
    async with await SqliteStore.open(folder / "store.db", synchronous="FULL") as store:
        await seed(store, seeds(size))
        async with running_apiserver(store) as running:
            settle()
            pki = running.pki
            announce(running.url, pki.ca.cert, pki.admin.cert, pki.admin.key)
            await running.task


async def run_proxy(config: ClientConfig, netns: Path) -> None:
    clock = SystemClock()
    async with RestClient(config, user_agent="bench-proxy") as client:
        services, endpoints = Informer(client, SERVICES), Informer(client, ENDPOINT_SLICES)
        nodes = Informer(client, NODES)
        runner = ProxyRunner(
            node_name=NODE, services=services, slices=endpoints, nodes=nodes,
            netns=netns, options=ProxyOptions(health=None), clock=clock,
        )  # fmt: skip
        async with asyncio.TaskGroup() as tasks:
            for work in (services, endpoints, nodes, runner):
                tasks.create_task(work.run())
            await runner.wait_until_programmed()
            announce("programmed")
            settle()


@contextmanager
def started(script: str, folder: Path, *words: object) -> Iterator[tuple[int, list[str]]]:
    """A part as a process: its number, and what it announces when it is ready."""
    command = [sys.executable, script, *map(str, words)]
    inside = {**os.environ, "TMPDIR": str(folder)}  # what it leaves goes with the folder
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=inside)
    try:
        assert process.stdout is not None
        yield process.pid, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@contextmanager
def namespace(size: int) -> Iterator[Path]:
    name = f"np.bench-{os.getpid()}-{size}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def config_of(url: str, ca: str, cert: str, key: str) -> ClientConfig:
    return ClientConfig(server=url, ca=Path(ca).read_bytes(), client_cert=Path(cert), client_key=Path(key))


def resident(pid: int) -> float:
    """MB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


# --- the measurement


class Listener:
    """Tells when an address first turns up in an element that nf_tables announces."""

    def __init__(self, netns: Path | None) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER, netns, groups=(_NFTABLES_GROUP,))
        self._raw = socket.socket(fileno=os.dup(self._socket.fileno()))
        self._raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ANNOUNCEMENTS)
        self._wanted: set[bytes] = set()
        self._seen: asyncio.Future[float] | None = None
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._raw.close()
        self._socket.close()

    def expect(self, *addresses: IPv4Address) -> asyncio.Future[float]:
        """Done with the time at which the last of them was announced."""
        self._wanted = {address.packed for address in addresses}
        self._seen = asyncio.get_running_loop().create_future()
        return self._seen

    def _read(self) -> None:
        now = time.perf_counter()
        with suppress(BlockingIOError):
            while True:
                buffer = self._raw.recv(_ANNOUNCEMENT)
                if any(map(buffer.__contains__, self._wanted)):
                    self._look(now, codec.messages(buffer))

    def _look(self, now: float, messages: Iterable[Message]) -> None:
        for message in messages:
            if message.type in _ANNOUNCED:
                self._wanted -= {address for address in self._wanted if address in message.payload}
        if not self._wanted and self._seen is not None and not self._seen.done():
            self._seen.set_result(now)


@dataclass
class Changes:
    """Seconds from the send: to the API server's answer, and to the kernel."""

    answered: list[float]
    seen: list[float]


async def change(
    config: ClientConfig,
    netns: Path | None,
    size: int,
    resource: Resource = ENDPOINT_SLICES,
    count: int = CHANGES,
) -> Changes:
    """Replaces one endpoint's address in one slice or Endpoints after another, each after the last one arrived."""
    suffix, path, many = _FIRST_ADDRESS[resource.plural]
    changes = Changes([], [])
    listener = Listener(netns)
    try:
        async with RestClient(config, user_agent="bench-writer") as client:
            for step in range(WARM + count):
                address = IPv4Address(_NEW_ADDRESSES + step)
                patch = [{"op": "replace", "path": path, "value": [str(address)] if many else str(address)}]
                name = f"s{step * 7919 % size}{suffix}"
                seen = listener.expect(address)
                began = time.perf_counter()
                await client.patch(resource, name, patch, "bench", content_type=JSON_PATCH)
                changes.answered.append(time.perf_counter() - began)
                changes.seen.append(await asyncio.wait_for(seen, PATIENCE.total_seconds()) - began)
    finally:
        listener.close()
    return Changes(changes.answered[WARM:], changes.seen[WARM:])


async def appear(
    config: ClientConfig, netns: Path | None, resource: Resource = ENDPOINT_SLICES, count: int = APPEARING
) -> list[float]:
    """Seconds from the send of a new Service, and of its slice or Endpoints right after it, to the kernel."""
    seconds: list[float] = []
    listener = Listener(netns)
    try:
        async with RestClient(config, user_agent="bench-writer") as client:
            for step in range(count):
                address = IPv4Address(_FRESH_ADDRESSES + step)
                item, its_endpoints = _fresh(_FRESH + step, address, resource)
                seen = listener.expect(address)
                began = time.perf_counter()
                await client.create(SERVICES, item)
                await client.create(resource, its_endpoints)
                seconds.append(await asyncio.wait_for(seen, PATIENCE.total_seconds()) - began)
                await client.delete(resource, its_endpoints["metadata"]["name"], "bench")
                await client.delete(SERVICES, item["metadata"]["name"], "bench")
    finally:
        listener.close()
    return seconds


def _fresh(number: int, address: IPv4Address, resource: Resource) -> tuple[JsonObject, JsonObject]:
    item, (found,) = service(number), slices(number, count=1)
    name = item["metadata"]["name"]
    item["spec"] = {"ports": [{"port": 80}]}
    if resource is ENDPOINTS:
        ports = [{"port": 8080, "protocol": "TCP"}]
        subsets = [{"addresses": [{"ip": str(address)}], "ports": ports}]
        return item, {"metadata": {"namespace": "bench", "name": name}, "subsets": subsets}
    found["endpoints"][0]["addresses"] = [str(address)]
    found["metadata"]["labels"] = {"kubernetes.io/service-name": name}
    return item, found


async def roll(
    config: ClientConfig, netns: Path | None, size: int, resource: Resource = ENDPOINT_SLICES
) -> float:
    """Seconds until one endpoint of each of ``size`` Services has moved, written as fast as the server takes it."""
    suffix, path, many = _FIRST_ADDRESS[resource.plural]
    addresses = [IPv4Address(_ROLLED_ADDRESSES + number) for number in range(size)]
    turns = asyncio.Semaphore(_WRITERS)
    listener = Listener(netns)
    try:
        async with RestClient(config, user_agent="bench-writer") as client:

            async def move(number: int) -> None:
                address = str(addresses[number])
                patch = [{"op": "replace", "path": path, "value": [address] if many else address}]
                async with turns:
                    name = f"s{number}{suffix}"
                    await client.patch(resource, name, patch, "bench", content_type=JSON_PATCH)

            seen = listener.expect(*addresses)
            began = time.perf_counter()
            await asyncio.gather(*map(move, range(size)))
            return await asyncio.wait_for(seen, PATIENCE.total_seconds()) - began
    finally:
        listener.close()


def percentiles(seconds: list[float]) -> str:
    ranked = sorted(seconds)
    return f"{statistics.median(ranked) * 1e3:.2f} / {ranked[int(len(ranked) * 0.99)] * 1e3:.2f}"


def plain_commits(folder: Path, synchronous: str, pause: float = 0.0) -> list[float]:
    """Seconds that a sqlite3 loop takes for each commit of one row of 1 kB, alone and straight from this thread."""
    database = sqlite3.connect(folder / f"plain-{synchronous}.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={synchronous}")
    database.execute("CREATE TABLE plain (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
    seconds = []
    for number in range(PLAIN_COMMITS):
        time.sleep(pause)
        began = time.perf_counter()
        database.execute("INSERT INTO plain VALUES (?, ?)", (f"/registry/{number}", b"x" * 1_000))
        seconds.append(time.perf_counter() - began)
    database.close()
    return seconds


def measure(size: int, folder: Path) -> list[str]:
    """The cells of a row."""
    with namespace(size) as netns, started(__file__, folder, "serve", size, folder) as (server, access):
        began = time.perf_counter()
        with started(__file__, folder, "proxy", netns, *access) as (proxy, _):
            programmed = time.perf_counter() - began
            changes = uvloop.run(change(config_of(*access), netns, size))
            weights = [f"{resident(pid):.0f}" for pid in (proxy, server)]
    return [
        f"{size:,}",
        f"{programmed:.2f}",
        percentiles(changes.answered),
        percentiles(changes.seen),
        *weights,
    ]


def show(cells: list[str]) -> None:
    padded = (f"{cell:>{width}}" for cell, width in zip(cells, (8, 15, 17, 17, 14, 15), strict=True))
    print("".join(padded), flush=True)


def main() -> None:
    sizes = [int(argument) for argument in sys.argv[1:]] or list(SIZES)
    print(
        f"{ENDPOINTS_EACH} endpoints each; programmed: from the start of the proxy's process; "
        f"{CHANGES} changes, p50 / p99 ms from the send."
    )
    show(["services", "programmed s", "answered", "in the kernel", "proxy RSS MB", "server RSS MB"])
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
            show(measure(size, Path(folder)))
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        alone = percentiles(plain_commits(Path(folder), "FULL", pause=0.005))
        print(f"beside it, a plain sqlite3 commit to the same disk: {alone} ms")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(int(sys.argv[2]), Path(sys.argv[3])))
    elif sys.argv[1:2] == ["proxy"]:
        uvloop.run(run_proxy(config_of(*sys.argv[3:]), Path(sys.argv[2])))
    else:
        main()
