"""The proxy alone: programming everything, and one change, at 10, 1,000 and 10,000 Services of 4 endpoints each.

Needs root: it makes a network namespace of its own and removes it. ``python bench/proxy.py [SERVICES ...]``
"""

from __future__ import annotations

import gc
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import ForwardingOptions, ForwardingTable
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.nftables.proxier import NftablesProxier
from nodeport.proxy.nftables.render import render

SIZES = (10, 1_000, 10_000)
ENDPOINTS = 4
CHANGES = 2_000
OPTIONS = ForwardingOptions()
NODE = node_facts(
    "n1",
    {
        "metadata": {"name": "n1"},
        "spec": {"podCIDR": "10.244.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.11"}]},
    },
    service_networks=(IPv4Network("10.96.0.0/16"),),
)


@dataclass
class Row:
    """Seconds, except ``services`` and ``memory`` (MB)."""

    services: int
    build: float
    program: float
    again: float
    endpoint: list[float]
    count: list[float]
    service: list[float]
    whole: list[float]
    memory: float


def service(number: int) -> JsonObject:
    """Every fourth one has a NodePort: 2,500 of 10,000, what the default range has room for."""
    address = str(IPv4Address("10.96.0.0") + 256 + number)
    port = {"port": 80, "protocol": "TCP"}
    kind = "ClusterIP"
    if number % 4 == 0:
        kind, port["nodePort"] = "NodePort", 30000 + number // 4
    return {
        "metadata": {"namespace": "bench", "name": f"s{number}"},
        "spec": {"type": kind, "clusterIP": address, "clusterIPs": [address], "ports": [port]},
    }


def slices(number: int, shift: int = 0, count: int = ENDPOINTS) -> list[JsonObject]:
    first = int(IPv4Address("10.244.0.0")) + number * ENDPOINTS
    addresses = [first + index for index in range(count)]
    addresses[0] += shift
    return [
        {
            "metadata": {"namespace": "bench", "name": f"s{number}-a"},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [str(IPv4Address(address))],
                    "nodeName": f"n{address // 256 - 0x0AF3FF}",
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                }
                for address in addresses
            ],
        }
    ]


@contextmanager
def namespace() -> Iterator[Path]:
    name = f"npbench.{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


class Commits:
    """Times what the kernel does, inside what the proxier does."""

    def __init__(self, kernel: Nftables) -> None:
        self.seconds: list[float] = []
        commit = kernel.commit

        def timed(requests: list[object], *, generation: int | None = None) -> None:
            started = time.perf_counter()
            commit(requests, generation=generation)  # type: ignore[arg-type]
            self.seconds.append(time.perf_counter() - started)

        kernel.commit = timed  # type: ignore[method-assign, assignment]


def measure(size: int, netns: Path) -> Row:
    objects = [(service(number), slices(number)) for number in range(size)]
    table = ForwardingTable()
    gc.disable()  # as the runner does while it starts
    started = time.perf_counter()
    for item, its_slices in objects:
        table.replace(NamespacedName.of(item), build_service(item, its_slices, NODE, OPTIONS))
    build = time.perf_counter() - started
    with Nftables(netns) as kernel:
        commits = Commits(kernel)
        proxier = NftablesProxier(kernel, OPTIONS)
        started = time.perf_counter()
        proxier.resync(table, NODE)
        program = time.perf_counter() - started
        started = time.perf_counter()
        assert proxier.resync(table, NODE) == 0
        again = time.perf_counter() - started
        gc.enable()

        def change(number: int, its_slices: list[JsonObject]) -> None:
            item = service(number)
            identity = NamespacedName.of(item)
            before = table.wanted(identity)
            built = build_service(item, its_slices, NODE, OPTIONS) if its_slices else {}
            settled = {name: settle_forwarding(before.get(name), made) for name, made in built.items()}
            proxier.apply(table.replace(identity, settled), NODE)

        rounds = CHANGES
        numbers = [number * 7919 % size for number in range(rounds)]
        whole: list[float] = []

        def run(change_of: Callable[[int, int], None]) -> list[float]:
            commits.seconds = []
            for step, number in enumerate(numbers):
                begun = time.perf_counter()
                change_of(step, number)
                whole.append(time.perf_counter() - begun)
            return commits.seconds

        endpoint = run(lambda step, number: change(number, slices(number, 100_000 + step)))
        for number in range(min(size, rounds)):
            change(number, slices(number))
        change(0, slices(0, count=3))
        count = run(lambda step, number: change(number, slices(number, count=3 + step % 2)))
        for number in range(size):
            change(number, slices(number))
        appear = run(
            lambda step, number: change(number, slices(number) if table.wanted(_name(number)) == {} else [])
        )
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert len(render(table.items(), NODE, OPTIONS)[0].sets) > 0
        proxier.remove()
    return Row(size, build, program, again, endpoint, count, appear, whole, memory)


def _name(number: int) -> NamespacedName:
    return NamespacedName("bench", f"s{number}")


def growth(points: list[tuple[int, float]]) -> float:
    """The exponent k of a least-squares fit of cost = a * size ** k; 0: size does not matter."""
    return statistics.linear_regression(
        *zip(*((math.log(n), math.log(c)) for n, c in points), strict=True)
    ).slope


def microseconds(seconds: list[float]) -> str:
    ranked = sorted(seconds)
    middle = statistics.median(ranked) * 1e6
    tail = ranked[int(len(ranked) * 0.99)] * 1e6
    return f"{middle:.0f} / {tail:.0f}"


def main() -> None:
    sizes = [int(argument) for argument in sys.argv[1:]] or list(SIZES)
    print(
        "Full: seconds. Changes: microseconds p50 / p99 of the kernel's commit; 'in all' adds decide, diff, encode."
    )
    titles = (
        "services",
        "decide",
        "program",
        "restart",
        "endpoint",
        "count",
        "service",
        "in all",
        "memory MB",
    )
    print(" ".join(f"{title:>12}" for title in titles))
    with namespace() as netns:
        for size in sizes:
            row = measure(size, netns)
            cells = (
                f"{row.services:,}",
                f"{row.build:.3f}",
                f"{row.program:.3f}",
                f"{row.again:.3f}",
                microseconds(row.endpoint),
                microseconds(row.count),
                microseconds(row.service),
                microseconds(row.whole),
                f"{row.memory:.0f}",
            )
            print(" ".join(f"{cell:>12}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
