"""Connections through ClusterIP and NodePort against the direct path, beside 1,000, 10,000 and 50,000 Services.

A client with several addresses, a node and a pod, each a network namespace made for one size. Every path gets a turn
of a few tenths of a second, round after round, so that what else the machine does meets all of them; ratios are medians
over rounds, and the last third of the rounds shows whether a path holds. Every turn is bounded in time and count. CPU
is that of client and server together, in which the kernel's work on packets is done. Needs root.

python bench/packets.py [SERVICES ...]
python bench/packets.py sustained [SERVICES ...]     many turns for each path: the pod on the node that is addressed, or
                                                     behind another one; several client addresses, or only one
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.table import ForwardingTable
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.nftables.proxier import NftablesProxier
from proxy import OPTIONS, microseconds, service, slices

SIZES = (1_000, 10_000, 50_000)
ROUNDS = 9
SECONDS = 0.35
CONNECTIONS = 8_000
"""At most, in one turn."""
BULK_ROUNDS = 3
BULK_BYTES = 2 << 30
SUSTAINED_ROUNDS = 30
"""Of the same length: more than ten seconds for each path."""
ADDRESSES = 8
NODE_ADDRESS, POD = "10.9.0.1", "10.244.0.2"
PATHS = {"direct": (POD, 8080), "ClusterIP": ("10.96.1.0", 80), "NodePort": (NODE_ADDRESS, 30000)}
SOURCES = {
    target: [f"10.9.0.{10 + at * ADDRESSES + number}" for number in range(ADDRESSES)]
    for at, target in enumerate(PATHS.values())
}
"""Of its own for each path: the pod would take two paths' connections from one address and port for the same."""
CONNECT, BULK = b"C", b"B"
PATIENCE = 5.0
STALLED = 0.2
"""Seconds: longer than any busy machine takes, shorter than the wait for a lost SYN."""
NODES = {
    remote: node_facts(
        "n1",
        {
            "metadata": {"name": "n1"},
            "spec": {"podCIDR": "10.244.1.0/24" if remote else "10.244.0.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]},
        },
        service_networks=(IPv4Network("10.96.0.0/16"),),
    )
    for remote in (False, True)
}
"""The node that is addressed, by whether the pod is behind another one."""


# --- client and server, each in a process of its own


def serve() -> None:
    """One connection after the other: answers a byte, or takes all there is and then answers."""
    taken = bytearray(1 << 20)
    with socket.create_server((POD, PATHS["direct"][1]), backlog=512) as listener:
        print("[]", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                try:
                    if connection.recv(1) == BULK:
                        while connection.recv_into(taken):
                            pass
                    connection.send(b"x")
                except OSError:
                    continue


def connected(number: int, target: tuple[str, int], addresses: int = ADDRESSES) -> socket.socket:
    made = socket.socket()
    made.settimeout(PATIENCE)
    made.setsockopt(
        socket.IPPROTO_IP, 24, 1
    )  # IP_BIND_ADDRESS_NO_PORT: the port is chosen with the destination
    made.bind((SOURCES[target][number % addresses], 0))
    try:
        made.connect(target)
    except BaseException:
        made.close()
        raise
    return made


def connect(target: tuple[str, int], addresses: int) -> dict[str, object]:
    """New connections for a while: how many, in which time, how many failed, and what each waited for its SYN-ACK."""
    began, cpu = time.perf_counter(), time.process_time()
    waits: list[float] = []
    failed = number = 0
    while number < CONNECTIONS and time.perf_counter() - began < SECONDS:
        number += 1
        started = time.perf_counter()
        try:
            with connected(number, target, addresses) as connection:
                waits.append(time.perf_counter() - started)
                connection.send(CONNECT)
                failed += connection.recv(1) != b"x"
        except OSError:
            failed += 1
    return {
        "rate": number / (time.perf_counter() - began), "done": number, "failed": failed, "waits": waits,
        "cpu": time.process_time() - cpu,
    }  # fmt: skip


def send_bulk(target: tuple[str, int]) -> dict[str, object]:
    """One stream for a while: bytes a second, and CPU seconds."""
    chunk = memoryview(bytes(1 << 18))
    began, cpu, sent = time.perf_counter(), time.process_time(), 0
    with connected(0, target) as connection:
        connection.send(BULK)
        while sent < BULK_BYTES and time.perf_counter() - began < SECONDS:
            sent += connection.send(chunk)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    return {
        "rate": sent / (time.perf_counter() - began), "done": sent, "cpu": time.process_time() - cpu,
        "failed": 0, "waits": [],
    }  # fmt: skip


# --- the place


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def namespaces(*, remote: bool = False) -> Iterator[tuple[str, str, str]]:
    """Client, node and pod, connected; ``remote``: the pod is behind another node."""
    client, node, pod, other = names = [f"npbp.{part}{os.getpid()}" for part in "cnpo"]
    clients = [address for addresses in SOURCES.values() for address in addresses]
    home = other if remote else node
    with ExitStack() as stack:
        for name in names:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        connect_link(node, f"{NODE_ADDRESS}/24", client, clients)
        connect_link(home, "10.244.0.1/24", pod, [POD])
        if remote:
            connect_link(node, "10.9.1.1/24", other, ["10.9.1.2"])
            ip("-n", node, "route", "add", "10.244.0.0/24", "via", "10.9.1.2")
        for name in (node, other):
            inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield client, node, pod


def connect_link(home: str, gateway: str, guest: str, addresses: list[str]) -> None:
    """A link from ``home``, which is ``gateway`` to everything for the ``guest``."""
    link = f"to-{guest.rpartition('.')[2]}"
    ip("link", "add", link, "netns", home, "type", "veth", "peer", "name", "eth0", "netns", guest)
    ip("-n", home, "addr", "add", gateway, "dev", link)
    ip("-n", home, "link", "set", link, "up")
    for address in addresses:
        ip("-n", guest, "addr", "add", f"{address}/24", "dev", "eth0")
    ip("-n", guest, "link", "set", "eth0", "up")
    ip("-n", guest, "route", "add", "default", "via", gateway.partition("/")[0])


def inside(name: str, *words: object) -> str:
    command = ["ip", "netns", "exec", name, *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def table_of(size: int, *, remote: bool = False) -> ForwardingTable:
    """Of which the first Service is the one that leads to the pod."""
    table = ForwardingTable()
    for number in range(size):
        item, its_slices = service(number), slices(number)
        if number == 0:
            its_slices[0]["endpoints"] = [
                {"addresses": [POD], "nodeName": "n2" if remote else "n1", "conditions": {"ready": True}}
            ]
        table.replace(NamespacedName.of(item), build_service(item, its_slices, NODES[remote], OPTIONS))
    return table


# --- the measurement


@dataclass
class Way:
    """What was found on one way, a round after another; ``cpu``: seconds of client and server."""

    rates: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    cpu: float = 0.0
    done: int = 0
    failed: int = 0


def server_cpu(pid: int) -> float:
    """Seconds, finer than clock ticks."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def measure(mode: str, rounds: int, client: str, server: int, *words: int) -> dict[str, Way]:
    found = {name: Way() for name in PATHS}
    for _ in range(rounds):
        for name, target in PATHS.items():
            before = server_cpu(server)
            told = json.loads(inside(client, sys.executable, __file__, mode, *target, *words))
            it = found[name]
            it.rates.append(told["rate"])
            it.waits += told["waits"]
            it.cpu += told["cpu"] + server_cpu(server) - before
            it.done += told["done"]
            it.failed += told["failed"]
    return found


def ratio(one: list[float], other: list[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(one, other, strict=True)):.2f}"


def rows(size: int, connections: dict[str, Way], bulks: dict[str, Way]) -> Iterator[list[str]]:
    direct, plain = connections["direct"], bulks["direct"]
    third = len(direct.rates) // 3
    for name, it in connections.items():
        bulk = bulks[name]
        lost = sum(wait >= STALLED for wait in it.waits)
        cost, plain_cost = it.cpu / it.done, direct.cpu / direct.done
        yield [
            f"{size:,}", name, f"{statistics.median(it.rates):,.0f}", ratio(it.rates, direct.rates),
            ratio(it.rates[-third:], direct.rates[-third:]), f"{it.failed} / {lost}",
            f"{cost * 1e6:.0f}", f"{plain_cost / cost:.2f}", microseconds(it.waits),
            f"{statistics.median(bulk.rates) * 8e-9:.1f}", ratio(bulk.rates, plain.rates),
            f"{plain.cpu / plain.done / (bulk.cpu / bulk.done):.2f}",
        ]  # fmt: skip


def show(cells: list[str]) -> None:
    widths = (9, 11, 9, 8, 8, 9, 8, 8, 14, 8, 8, 8)
    print("".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True)


@contextmanager
def served(size: int, *, remote: bool = False) -> Iterator[tuple[str, int]]:
    """The client's namespace and the server's process."""
    with namespaces(remote=remote) as (client, node, pod), Nftables(Path("/run/netns") / node) as kernel:
        NftablesProxier(kernel, OPTIONS).resync(table_of(size, remote=remote), NODES[remote])
        words = ["ip", "netns", "exec", pod, sys.executable, __file__, "serve"]
        server = subprocess.Popen(words, stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            yield client, server.pid
        finally:
            server.kill()
            server.wait()


def run(size: int) -> None:
    with served(size) as (client, server):
        connections = measure("connect", ROUNDS, client, server)
        bulks = measure("bulk", BULK_ROUNDS, client, server)
    for row in rows(size, connections, bulks):
        show(row)


def sustained(sizes: list[int]) -> None:
    """Whether a path holds: the last third of its turns against the first, and against the direct path's."""
    print(
        f"New connections a second, one at a time, {SUSTAINED_ROUNDS} turns of {SECONDS} s for each path. Ratio: to "
        "the direct path;\nlate: in the last third; holds: the last third against the first."
    )
    titles = ["services", "pod", "clients", "path", "conn/s", "ratio", "late", "holds", "failed", "by CPU"]
    show_sustained(titles)
    for size in sizes:
        for remote in (False, True):
            for addresses in (ADDRESSES, 1):
                with served(size, remote=remote) as (client, server):
                    ways = measure("connect", SUSTAINED_ROUNDS, client, server, addresses)
                for row in sustained_rows(ways):
                    show_sustained([f"{size:,}", "remote" if remote else "local", str(addresses), *row])


def sustained_rows(ways: dict[str, Way]) -> Iterator[list[str]]:
    direct = ways["direct"]
    third = len(direct.rates) // 3
    for name, it in ways.items():
        lost = sum(wait >= STALLED for wait in it.waits)
        holds = statistics.median(it.rates[-third:]) / statistics.median(it.rates[:third])
        yield [
            name, f"{statistics.median(it.rates):,.0f}", ratio(it.rates, direct.rates),
            ratio(it.rates[-third:], direct.rates[-third:]), f"{holds:.2f}", f"{it.failed} / {lost}",
            f"{direct.cpu / direct.done / (it.cpu / it.done):.2f}",
        ]  # fmt: skip


def show_sustained(cells: list[str]) -> None:
    widths = (9, 8, 9, 11, 9, 8, 8, 8, 10, 8)
    print("".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True)


def main() -> None:
    sizes = [int(argument) for argument in sys.argv[1:]] or list(SIZES)
    print(
        f"New connections a second from {ADDRESSES} addresses, one at a time; ratios to the direct path by rate, by "
        "rate in\nthe last third, and by CPU; failed / lost SYNs; us until the SYN-ACK, p50 / p99; one stream in "
        "Gbit/s and its ratios."
    )
    show(["services", "path", "conn/s", "ratio", "late", "failed", "CPU us", "by CPU", "first packet",
          "Gbit/s", "ratio", "by CPU"])  # fmt: skip
    for size in sizes:
        run(size)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["connect", address, port, *addresses]:
            print(json.dumps(connect((address, int(port)), int(addresses[0]) if addresses else ADDRESSES)))
        case ["bulk", address, port]:
            print(json.dumps(send_bulk((address, int(port)))))
        case ["sustained", *sizes]:
            sustained([int(size) for size in sizes] or [SIZES[0]])
        case _:
            main()
