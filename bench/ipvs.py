"""Mode ipvs: programming everything, a restart, a look and a change, at 1,000 and 5,000 Services of 4 endpoints each.

Runs in a kernel that has IPVS: this one, or the User-mode Linux one that ``tools/uml.py`` finds, on one CPU; the
figures of mode nftables beside it come from the same kernel. ``python bench/ipvs.py [SERVICES ...]``
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Change, Family, ForwardingTable
from nodeport.netlink.codec import NetlinkError
from nodeport.netlink.ipvs.kernel import Ipvs
from nodeport.proxy.modes import open_proxier
from nodeport.proxy.options import Mode, ProxyOptions
from proxy import NODE, OPTIONS, namespace, service, slices

SIZES = (1_000, 5_000)
CHANGES = 300
ROOT = Path(__file__).resolve().parent.parent


def tables(size: int) -> ForwardingTable:
    table = ForwardingTable()
    for number in range(size):
        item = service(number)
        table.replace(NamespacedName.of(item), build_service(item, slices(number), NODE, OPTIONS))
    return table


def one_endpoint(table: ForwardingTable, number: int, shift: int) -> list[Change]:
    item = service(number)
    identity = NamespacedName.of(item)
    before = table.wanted(identity)
    built = build_service(item, slices(number, shift), NODE, OPTIONS)
    return table.replace(
        identity, {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
    )


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measure(mode: Mode, size: int, netns: Path) -> list[str]:
    table = tables(size)
    gc.disable()
    with open_proxier(mode, Family.IPV4, netns, ProxyOptions(mode=mode)) as proxier:
        program = timed(lambda: proxier.resync(table, NODE))
        again = timed(lambda: proxier.resync(table, NODE))
        looks = [timed(proxier.is_undisturbed) for _ in range(20)]
        thorough = timed(proxier.is_intact)
        changes = [one_endpoint(table, step * 7919 % size, 100_000 + step) for step in range(CHANGES)]
        seconds = [timed(lambda one=one: proxier.apply(one, NODE)) for one in changes]
        removal = timed(proxier.remove)
    gc.enable()
    micro = sorted(value * 1e6 for value in seconds)
    return [
        mode.value,
        f"{size:,}",
        f"{program:.2f}",
        f"{again:.2f}",
        f"{statistics.median(looks) * 1000:.1f}",
        f"{thorough:.2f}",
        f"{statistics.median(micro):.0f} / {micro[int(len(micro) * 0.99)]:.0f}",
        f"{removal:.2f}",
    ]


def main() -> int:
    try:
        with Ipvs():
            pass
    except (NetlinkError, OSError):
        if os.environ.get("NODEPORT_BENCH_INSIDE"):
            raise
        command = [sys.executable, "tools/uml.py", "run", sys.executable, __file__, *sys.argv[1:]]
        environment = {**os.environ, "NODEPORT_BENCH_INSIDE": "1"}
        return subprocess.run(command, cwd=ROOT, env=environment).returncode
    print(
        "program, restart, intact, remove: seconds; look: milliseconds; endpoint: microseconds p50 / p99, all of it."
    )
    titles = ("mode", "services", "program", "restart", "look", "intact", "endpoint", "remove")
    print(" ".join(f"{title:>11}" for title in titles))
    for size in [int(argument) for argument in sys.argv[1:]] or SIZES:
        for mode in (Mode.NFTABLES, Mode.IPVS):
            # One each: a namespace remembers deleted destinations for two minutes, and looks through them for new ones.
            with namespace() as netns:
                subprocess.run(
                    ["ip", "-n", netns.name, "addr", "add", "172.30.0.11/24", "dev", "lo"], check=True
                )
                print(" ".join(f"{cell:>11}" for cell in measure(mode, size, netns)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
