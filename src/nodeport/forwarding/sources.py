"""Who may use a frontend: source ranges, as a Service asks for them and as one frontend obeys them.

``spec.loadBalancerSourceRanges`` guards load-balancer IPs and nothing else (kube-proxy's rule); NodePorts are guarded
by an annotation of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import collapse_addresses, ip_network
from typing import Any, Final

from nodeport.api.ip import sloppy_network
from nodeport.forwarding.table import (
    Family,
    Forwarding,
    Frontend,
    IPNetwork,
    LoadBalancerIP,
    NodeFacts,
    NodePort,
)

NODEPORT_SOURCE_RANGES: Final = "nodeport/source-ranges"
"""Annotation of a Service: CIDRs, separated by commas, that may use its NodePorts. Others are dropped."""


def load_balancer_ranges(spec: Mapping[str, Any], family: Family) -> tuple[IPNetwork, ...] | None:
    """``loadBalancerSourceRanges`` of one family; ``None``: everybody.

    As in kube-proxy, a Service that has no range of this family, or one of length 0, is open to all of the family.
    """
    ranges = tuple(_networks(spec.get("loadBalancerSourceRanges") or (), family))
    if not ranges or any(network.prefixlen == 0 for network in ranges):
        return None
    return _collapsed(ranges)


def nodeport_ranges(annotations: Mapping[str, str], family: Family) -> tuple[IPNetwork, ...] | None:
    """The ranges of the annotation; ``None``: there is none, everybody may.

    It only ever closes: what is no CIDR admits nobody, and without a range of this family nobody of it comes in.
    """
    raw = annotations.get(NODEPORT_SOURCE_RANGES)
    return None if raw is None else _collapsed(_networks(raw.split(","), family))


def allowed_sources(
    forwarding: Forwarding, frontend: Frontend, node: NodeFacts
) -> tuple[IPNetwork, ...] | None:
    """Whose packets to ``frontend`` are not dropped; ``None``: everybody's.

    Where the node itself may use a load-balancer IP that sits on one of its interfaces, its packets come from that very
    address: then that may as well. NodePorts are never closed to the node's own processes (``decide`` knows).
    """
    match frontend:
        case NodePort():
            return forwarding.nodeport_source_ranges
        case LoadBalancerIP():
            ranges = forwarding.source_ranges
            if ranges is None or not any(own in network for own in node.addresses for network in ranges):
                return ranges
            return _collapsed((*ranges, ip_network(frontend.address)))
    return None


def _networks(raw: Iterable[str], family: Family) -> Iterable[IPNetwork]:
    for cidr in raw:
        text = cidr.strip()
        network = sloppy_network(text if "/" in text else f"{text}/{family.bits}")
        if network is not None and network.version == family:
            yield network


def _collapsed(networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """Without overlaps, which no set of ranges takes."""
    return tuple(collapse_addresses(networks))  # type: ignore[type-var]
