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


def service_address(
    networks: Sequence[IPv4Network | IPv6Network],
) -> IPv4Address | IPv6Address:
    """The conventional address: the tenth of the range. Nodes have IPv4 addresses, so that range goes first."""
    chosen = next((each for each in networks if each.version == 4), networks[0])
    return chosen[_PLACE]
