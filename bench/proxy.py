"""The proxy alone: programming everything, one change and a rolling restart, and how each grows with the Services.

CPU is user and system time, which a busy machine changes less than wall time. Needs root: it makes a network namespace
of its own and removes it, and measures each size in a process of its own.

python bench/proxy.py [SERVICES | SERVICESxENDPOINTS ...]
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import ForwardingOptions, ForwardingTable
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.nftables.proxier import NftablesProxier

SIZES = ("1000", "10000", "50000", "5000x50")
ENDPOINTS = 4
CHANGES = 2_000
ROLLING = 1_000
PATIENCE = 300.0
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
    """Seconds, those of CPU as ``_cpu``; ``memory``: the most that was resident, MB."""

    services: int
    endpoints: int
    build: float
    program: float
    full_cpu: float
    again: float
    endpoint: list[float]
    count: list[float]
    service: list[float]
    whole: list[float]
    change_cpu: float
    rolling: float
    rolling_cpu: float
    memory: float

    def cells(self) -> list[str]:
        return [
            f"{self.services:,}x{self.endpoints}", f"{self.build:.3f}", f"{self.program:.3f}",
            f"{self.full_cpu:.3f}", f"{self.again:.3f}", microseconds(self.endpoint), microseconds(self.count),
            microseconds(self.service), microseconds(self.whole), f"{self.change_cpu * 1e6:.0f}",
            f"{self.rolling:.2f} / {self.rolling_cpu:.2f}", f"{self.memory:.0f}",
        ]  # fmt: skip


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


def slices(
    number: int, shift: int = 0, count: int = ENDPOINTS, moved: int = 1, many: int = ENDPOINTS
) -> list[JsonObject]:
    """``count`` of the Service's ``many`` endpoints, the first ``moved`` of them somewhere else."""
    first = int(IPv4Address("10.244.0.0")) + number * many
    addresses = [first + place + (shift if place < moved else 0) for place in range(count)]
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


class Bench:
    """A proxier with ``size`` Services of ``many`` endpoints each."""

    def __init__(self, kernel: Nftables, size: int, many: int) -> None:
        self.size, self.many = size, many
        self.commits = Commits(kernel)
        self.proxier = NftablesProxier(kernel, OPTIONS)
        self.table = ForwardingTable()
        self.whole: list[float] = []
        self.numbers = [number * 7919 % size for number in range(CHANGES)]

    def slices(
        self, number: int, shift: int = 0, count: int | None = None, moved: int = 1
    ) -> list[JsonObject]:
        return slices(number, shift, self.many if count is None else count, moved, self.many)

    def build(self, objects: list[tuple[JsonObject, list[JsonObject]]]) -> None:
        for item, its_slices in objects:
            self.table.replace(NamespacedName.of(item), build_service(item, its_slices, NODE, OPTIONS))

    def change(self, number: int, its_slices: list[JsonObject]) -> None:
        item = service(number)
        identity = NamespacedName.of(item)
        before = self.table.wanted(identity)
        built = build_service(item, its_slices, NODE, OPTIONS) if its_slices else {}
        settled = {name: settle_forwarding(before.get(name), made) for name, made in built.items()}
        self.proxier.apply(self.table.replace(identity, settled), NODE)

    def run(self, change_of: Callable[[int, int], None]) -> list[float]:
        """What each commit took."""
        self.commits.seconds = []
        for step, number in enumerate(self.numbers):
            begun = time.perf_counter()
            change_of(step, number)
            self.whole.append(time.perf_counter() - begun)
        return self.commits.seconds

    def restore(self) -> None:
        for number in {*self.numbers}:
            self.change(number, self.slices(number))

    def move(self, step: int, number: int) -> None:
        self.change(number, self.slices(number, 100_000 + step))

    def shrink_or_grow(self, step: int, number: int) -> None:
        self.change(number, self.slices(number, count=self.many - 1 + step % 2))

    def come_or_go(self, step: int, number: int) -> None:
        self.change(number, [] if self.table.wanted(_name(number)) else self.slices(number))

    def roll(self) -> None:
        """One endpoint after the other of each of up to 1,000 Services moves."""
        for moved in range(1, self.many + 1):
            for number in range(min(self.size, ROLLING)):
                self.change(number, self.slices(number, 100_000, moved=moved))


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - began, time.process_time() - cpu


def measure(size: int, many: int, netns: Path) -> Row:
    objects = [(service(number), slices(number, count=many, many=many)) for number in range(size)]
    with Nftables(netns) as kernel:
        bench = Bench(kernel, size, many)
        gc.disable()  # as the runner does while it starts
        build, build_cpu = timed(lambda: bench.build(objects))
        program, program_cpu = timed(lambda: bench.proxier.resync(bench.table, NODE))
        again, _ = timed(lambda: bench.proxier.resync(bench.table, NODE))
        gc.enable()
        gc.collect()
        gc.freeze()
        cpu = time.process_time()
        endpoint = bench.run(bench.move)
        change_cpu = (time.process_time() - cpu) / CHANGES
        bench.restore()
        count = bench.run(bench.shrink_or_grow)
        bench.restore()
        appear = bench.run(bench.come_or_go)
        bench.restore()
        rolling, rolling_cpu = timed(bench.roll)
        assert bench.proxier.is_intact()
        bench.proxier.remove()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Row(
        size, many, build, program, build_cpu + program_cpu, again, endpoint, count, appear, bench.whole,
        change_cpu, rolling, rolling_cpu, memory,
    )  # fmt: skip


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


def show(cells: Iterable[str]) -> None:
    widths = (11, 9, 9, 9, 9, 12, 12, 12, 12, 8, 15, 8)
    print("".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True)


def size_of(text: str) -> tuple[int, int]:
    services, _, endpoints = text.partition("x")
    return int(services), int(endpoints or ENDPOINTS)


def measure_apart(size: str) -> Row:
    """In a process of its own, whose memory is nobody else's."""
    words = [sys.executable, __file__, "one", size]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=PATIENCE)
    return Row(*json.loads(done.stdout))


def main() -> None:
    print(
        "Everything, and the rolling restart of up to 1,000 Services: seconds. Changes: us p50 / p99 of the kernel's\n"
        "commit; 'in all' adds decide, diff, encode; CPU: us in all for one endpoint. Memory with all API objects: MB."
    )
    titles = "services decide program CPU restart endpoint count service in_all CPU rolling/CPU memory"
    show(titles.split())
    rows = []
    for size in sys.argv[1:] or SIZES:
        rows.append(row := measure_apart(size))
        show(row.cells())
    alike = [row for row in rows if row.endpoints == rows[0].endpoints]
    if len({row.services for row in alike}) > 1:
        full = growth([(row.services, row.full_cpu) for row in alike])
        change = growth([(row.services, row.change_cpu) for row in alike])
        print(f"exponents of CPU over x{rows[0].endpoints}: everything {full:.2f}, one change {change:.2f}")


def one(size: str) -> None:
    with namespace() as netns:
        print(json.dumps(astuple(measure(*size_of(size), netns))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2])
    else:
        main()
