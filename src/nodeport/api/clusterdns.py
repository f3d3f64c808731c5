"""What the parts of a cluster agree on about its name servers: the Service, its address, and where nodes answer."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

CLUSTER_DOMAIN = "cluster.local"
NAMESPACE, SERVICE = "kube-system", "kube-dns"
PORT = 53
NODE_PORT = 10053
"""Where a node answers, on its own address: 53 is left to pods on the node's network."""
PORTS = (("dns", "UDP"), ("dns-tcp", "TCP"))
PROVIDER = "nodeport://"
"""How the ``providerID`` of a node begins that answers."""
_PLACE = 10


def service_addresses(
    networks: Sequence[IPv4Network | IPv6Network],
) -> tuple[IPv4Address | IPv6Address, ...]:
    """The conventional addresses: the tenth of each range, that of the primary family first."""
    return tuple(network[_PLACE] for network in networks)
