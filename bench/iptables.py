"""The iptables mode: programming everything, and one change, at 10, 1,000 and 10,000 Services of 4 endpoints each.

For both variants of the programs; ``nftables`` beside them is measured by ``proxy.py``. Needs root: it makes a network
namespace of its own and removes it. ``python bench/iptables.py [SERVICES ...]``
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Family, ForwardingTable
from nodeport.proxy.iptables.proxier import open_iptables
from nodeport.proxy.options import ProxyOptions, Variant
from proxy import NODE, OPTIONS, namespace, service, slices

SIZES = (10, 1_000, 10_000)
CHANGES = 20


@dataclass
class Row:
    """Seconds; ``sent``: bytes that one change of an endpoint sends."""

    services: int
    variant: Variant
    program: float
    again: float
    endpoint: float
    appear: float
    look: float
    intact: float


def measure(size: int, variant: Variant, netns: Path) -> Row:
    table = ForwardingTable()

    def put(number: int, its_slices: list[JsonObject], *, there: bool = True) -> list:  # type: ignore[type-arg]
        item = service(number)
        identity = NamespacedName.of(item)
        before = table.wanted(identity)
        built = build_service(item, its_slices, NODE, OPTIONS) if there else {}
        settled = {name: settle_forwarding(before.get(name), made) for name, made in built.items()}
        return table.replace(identity, settled)

    for number in range(size):
        put(number, slices(number))
    with open_iptables(Family.IPV4, netns, ProxyOptions(iptables_variant=variant)) as proxier:
        program = timed(lambda: proxier.resync(table, NODE))
        again = timed(lambda: proxier.resync(table, NODE))
        numbers = [number * 7919 % size for number in range(CHANGES)]
        endpoint = [
            timed(lambda n=number, s=step: proxier.apply(put(n, slices(n, 100_000 + s)), NODE))  # type: ignore[misc]
            for step, number in enumerate(numbers)
        ]
        appear = [
            timed(lambda t=step % 2 == 1: proxier.apply(put(0, slices(0), there=t), NODE))  # type: ignore[misc]
            for step in range(CHANGES)
        ]
        assert proxier.is_undisturbed()
        look, intact = timed(proxier.is_undisturbed), timed(proxier.is_intact)
        proxier.remove()
    middle = statistics.median
    return Row(size, variant, program, again, middle(endpoint), middle(appear), look, intact)


def timed(action: object) -> float:
    started = time.perf_counter()
    action()  # type: ignore[operator]
    return time.perf_counter() - started


def main() -> None:
    sizes = [int(argument) for argument in sys.argv[1:]] or list(SIZES)
    print(
        "Seconds: everything, a restart, one endpoint, one Service; the two checks for other people's changes."
    )
    titles = ("services", "variant", "program", "restart", "endpoint", "service", "look", "compare")
    print(" ".join(f"{title:>10}" for title in titles))
    for size in sizes:
        for variant in Variant:
            with namespace() as netns:
                row = measure(size, variant, netns)
            numbers = (row.program, row.again, row.endpoint, row.appear, row.look, row.intact)
            cells = (f"{row.services:,}", str(row.variant), *(f"{number:.4f}" for number in numbers))
            print(" ".join(f"{cell:>10}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
