"""What the proxy can be told, with the defaults of the flags."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network

from nodeport.forwarding.table import ForwardingOptions


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """``nodeport_addresses``: ``("primary",)``, CIDRs, or nothing for all local addresses but loopback.

    ``pod_networks`` overrule the Node's podCIDRs. ``check_interval``: how often the kernel is asked whether somebody
    else touched its nf_tables, and so how long a flushed table stays away. ``health``: (host, port), ``None``: off.
    """

    nodeport_addresses: tuple[str, ...] = ("primary",)
    service_networks: tuple[IPv4Network, ...] = (IPv4Network("10.96.0.0/16"),)
    pod_networks: tuple[IPv4Network, ...] = ()
    keep_client_address: bool = True
    masquerade_all: bool = False
    check_interval: timedelta = timedelta(milliseconds=500)
    health: tuple[str, int] | None = ("0.0.0.0", 10256)

    @property
    def forwarding(self) -> ForwardingOptions:
        return ForwardingOptions(self.keep_client_address, self.masquerade_all)
