"""How a cluster's pod networks are shared out among its nodes. Pure.

Rule source: https://kubernetes.io/docs/concepts/services-networking/dual-stack/ (kube-controller-manager's
``--cluster-cidr`` and ``--node-cidr-mask-size-ipv4|6``).
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Final

IPNetwork = IPv4Network | IPv6Network
NODE_PREFIX: Final = {4: 24, 6: 64}
"""How large a node's share is, by IP version."""


def shares(pods: IPNetwork) -> int:
    """How many nodes a pod network is enough for."""
    return 1 << max(0, NODE_PREFIX[pods.version] - pods.prefixlen)


def share(pods: IPNetwork, number: int) -> IPNetwork:
    """The ``number``-th of them, counted from 0."""
    prefix = NODE_PREFIX[pods.version]
    first = int(pods.network_address) + (number << (pods.max_prefixlen - prefix))
    return IPv4Network((first, prefix)) if pods.version == 4 else IPv6Network((first, prefix))
