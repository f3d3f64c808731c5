"""The proxy modes that the packet suite holds against the oracle: one row each.

A mode gets its rows by opening its proxier in a namespace; with a ``tracer`` what it rendered is followed as well,
packet by packet, without a kernel. ``make semantics`` then brings the documentation up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import Family, ForwardingOptions, ForwardingTable, IPAddress, NodeFacts
from nodeport.netlink.codec import NetlinkError
from nodeport.netlink.ipvs.kernel import Ipvs
from nodeport.proxy.iptables import evaluate as iptables_evaluate
from nodeport.proxy.iptables import render as iptables_render
from nodeport.proxy.ipvs.render import Spelling, Wanted
from nodeport.proxy.ipvs.verify import spread
from nodeport.proxy.modes import Mode, open_proxier
from nodeport.proxy.nftables.evaluate import fates
from nodeport.proxy.nftables.layout import Role
from nodeport.proxy.nftables.render import render
from nodeport.proxy.options import ProxyOptions
from nodeport.proxy.proxier import Proxier
from nodeport.proxy.questions import Fate

Trace = Callable[[Packet], frozenset[Fate]]
"""All that can become of a packet."""
LocalAddresses = frozenset[IPAddress]
Opener = Callable[[Path, Family, ForwardingOptions], AbstractContextManager[Proxier]]


def _always() -> str:
    return ""


@dataclass(frozen=True)
class SuiteMode:
    """``open(netns, family, options)`` gives a proxier whose rules stay when it is closed. ``lacks``: what this
    machine misses for real packets in this mode; nothing where it has all of it.
    """

    name: str
    open: Opener
    tracer: Callable[[ForwardingTable, NodeFacts, ForwardingOptions, LocalAddresses], Trace] | None = None
    lacks: Callable[[], str] = _always

    @property
    def everywhere(self) -> bool:
        """Whether every machine that runs these tests can have the mode."""
        return self.lacks is _always

    def __str__(self) -> str:
        return self.name


def _opener(mode: Mode) -> Opener:
    def opened(netns: Path, family: Family, options: ForwardingOptions) -> AbstractContextManager[Proxier]:
        used = ProxyOptions(
            mode=mode,
            keep_client_address=options.keep_client_address,
            masquerade_all=options.masquerade_all,
        )
        return open_proxier(mode, family, netns, used)

    return opened


def _trace_nftables(
    table: ForwardingTable, node: NodeFacts, options: ForwardingOptions, local_addresses: LocalAddresses
) -> Trace:
    ruleset, _, _ = render(table.items(), node, options)
    return lambda packet: fates(ruleset, packet, local_addresses)


def _trace_iptables(
    table: ForwardingTable, node: NodeFacts, options: ForwardingOptions, local_addresses: LocalAddresses
) -> Trace:
    ruleset, _ = iptables_render.render(table.items(), node, options)
    tables = iptables_evaluate.tables_of(ruleset)
    return lambda packet: iptables_evaluate.fates(tables, packet, local_addresses)


def _trace_ipvs(
    table: ForwardingTable, node: NodeFacts, options: ForwardingOptions, local_addresses: LocalAddresses
) -> Trace:
    """As with real IPVS, NodePorts answer on those of the node's addresses that are asked for, one by one."""
    answering = [
        address
        for address in local_addresses
        if any(address in network for network in node.nodeport_networks)
    ]
    facts = replace(node, nodeport_networks=tuple(map(ip_network, answering)))
    ruleset, _, _ = render(table.items(), facts, options, Role.BESIDE_IPVS)
    spelling = Spelling([address.packed for address in answering], networks=node.service_networks)
    known = spread(Wanted.of(table.items(), spelling), {})
    return lambda packet: fates(ruleset, packet, local_addresses, known.wanted)


def lacks_ipvs() -> str:
    try:
        with Ipvs():
            return ""
    except (NetlinkError, OSError):
        return "this kernel has no IPVS: run `make test-ipvs`"


MODES = [
    SuiteMode("nftables", _opener(Mode.NFTABLES), _trace_nftables),
    SuiteMode("iptables", _opener(Mode.IPTABLES), _trace_iptables),
    SuiteMode("ipvs", _opener(Mode.IPVS), _trace_ipvs, lacks=lacks_ipvs),
]
