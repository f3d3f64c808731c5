"""The proxy modes that the packet suite holds against the oracle: one row each.

A mode gets its rows by opening its proxier in a namespace; with a ``tracer`` what it rendered is followed as well,
packet by packet, without a kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import ForwardingOptions, ForwardingTable, NodeFacts
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.nftables.evaluate import Fate, fates
from nodeport.proxy.nftables.proxier import NftablesProxier
from nodeport.proxy.nftables.render import render

Trace = Callable[[Packet], frozenset[Fate]]
"""All that can become of a packet."""
LocalAddresses = frozenset[IPv4Address]


def _always() -> str:
    return ""


@dataclass(frozen=True)
class SuiteMode:
    """``open(netns, options)`` gives a proxier whose rules stay when it is closed. ``lacks`` says what this machine
    misses for real packets in this mode, nothing where it has all of it.
    """

    name: str
    open: Callable[[Path, ForwardingOptions], AbstractContextManager[Any]]
    tracer: Callable[[ForwardingTable, NodeFacts, ForwardingOptions, LocalAddresses], Trace] | None = None
    lacks: Callable[[], str] = _always

    def __str__(self) -> str:
        return self.name


@contextlib.contextmanager
def _open_nftables(netns: Path, options: ForwardingOptions) -> Iterator[NftablesProxier]:
    with Nftables(netns) as kernel:
        yield NftablesProxier(kernel, options)


def _trace_nftables(
    table: ForwardingTable, node: NodeFacts, options: ForwardingOptions, local_addresses: LocalAddresses
) -> Trace:
    ruleset, _, _ = render(table.items(), node, options)
    return lambda packet: fates(ruleset, packet, local_addresses)


MODES = [
    SuiteMode("nftables", _open_nftables, _trace_nftables),
]
