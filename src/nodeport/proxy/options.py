"""What the proxy can be told, with the defaults of the flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network
from typing import Final

from nodeport.forwarding.table import Family, ForwardingOptions, IPAddress, IPNetwork
from nodeport.netlink.ipvs.messages import Timeouts


class Mode(StrEnum):
    """How Services are spelled in the kernel; ``proxy.modes`` opens them."""

    NFTABLES = "nftables"
    IPTABLES = "iptables"
    IPVS = "ipvs"


class Variant(StrEnum):
    """Which of the kernel's two interfaces the iptables programs speak to; rules of one are invisible to the other."""

    LEGACY = "legacy"
    NFT = "nft"


SCHEDULERS: Final = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "mh", "fo", "ovf")
"""How IPVS can choose among endpoints; which of them a kernel has, it says itself."""


@dataclass(frozen=True, slots=True)
class IpvsOptions:
    """What concerns mode ipvs alone. ``timeouts``: seconds until IPVS forgets a silent connection; 0: the kernel's.

    An established TCP connection is remembered for a day, as connection tracking does. The kernel's own 15 minutes
    would end connections that the other modes keep.
    """

    scheduler: str = "rr"
    timeouts: Timeouts = field(default_factory=lambda: Timeouts(tcp=86_400))

    def __post_init__(self) -> None:
        if self.scheduler not in SCHEDULERS:
            allowed = ", ".join(SCHEDULERS)
            raise ValueError(f"IPVS scheduler {self.scheduler!r} is not one of {allowed}")


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """``nodeport_addresses``: ``("primary",)``, CIDRs, or nothing for all local addresses but loopback.

    ``families``: each that the kernel knows gets a table and a proxier. ``pod_networks``, or ``pod_interfaces``
    (names; one that ends in ``*`` stands for all that begin so), overrule the Node's podCIDRs.
    ``localhost_nodeports``: NodePorts answer the node's own processes on loopback. ``check_interval``: how often
    the kernel is asked whether somebody else touched its nf_tables, and so how long a flushed table stays away.
    ``audit_interval``: how often all of the kernel is compared with all of the table although nobody seems to have
    touched it. ``health``: (host, port), ``None``: off.

    ``node_address`` is the node's primary address in place of what its Node object says. ``pods_from_node``: its
    podCIDRs tell where pods live, when nothing else does. ``sync_period``: a change that waits twice as long for the
    kernel makes the proxy unhealthy. ``min_sync_period``: the least time between two rounds of commits.
    ``hard_fail``: an address that cannot be bound ends the proxy.
    ``takeover_patience``: how long another proxy of this node may take to end; twice what a pod is given by default.
    ``service_counters``: count each Service's packets and bytes, at the price of a lookup a packet.
    """

    mode: Mode = Mode.NFTABLES
    nodeport_addresses: tuple[str, ...] = ("primary",)
    service_networks: tuple[IPNetwork, ...] = (IPv4Network("10.96.0.0/16"),)
    families: tuple[Family, ...] = (Family.IPV4, Family.IPV6)
    pod_networks: tuple[IPNetwork, ...] = ()
    pod_interfaces: tuple[str, ...] = ()
    localhost_nodeports: bool = False
    keep_client_address: bool = True
    masquerade_all: bool = False
    check_interval: timedelta = timedelta(milliseconds=500)
    audit_interval: timedelta = timedelta(minutes=15)
    iptables_variant: Variant | None = None
    """Of the programs that mode iptables runs; ``None``: the one that is in use on the node."""
    health: tuple[str, int] | None = ("0.0.0.0", 10256)
    ipvs: IpvsOptions = IpvsOptions()
    node_address: IPAddress | None = None
    pods_from_node: bool = True
    sync_period: timedelta = timedelta(seconds=30)
    min_sync_period: timedelta = timedelta(0)
    hard_fail: bool = False
    takeover_patience: timedelta = timedelta(seconds=60)
    service_counters: bool = False

    @property
    def forwarding(self) -> ForwardingOptions:
        return ForwardingOptions(self.keep_client_address, self.masquerade_all)

    def relays_loopback(self, family: Family) -> bool:
        """Whether NodePorts on loopback are this process's business: iptables translates those of IPv4 itself."""
        return self.localhost_nodeports and not (self.mode is Mode.IPTABLES and family is Family.IPV4)
