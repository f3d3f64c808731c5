"""Which pod networks a node gets that came without. Pure.

A node has the same share of the cluster's network of each family. The last free one is given: those of a local
cluster's own nodes, which know theirs beforehand, are counted from the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network

from nodeport.api.meta import JsonObject
from nodeport.api.podcidrs import IPNetwork, share, shares


def networks_of(node: JsonObject) -> tuple[IPNetwork, ...]:
    """The node's pod networks, in any state that the API lets in."""
    spec = node.get("spec") or {}
    texts = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return tuple(ip_network(text, strict=False) for text in texts)


def free_share(clusters: Sequence[IPNetwork], taken: Iterable[IPNetwork]) -> tuple[IPNetwork, ...] | None:
    """A subnet of each of the cluster's networks that overlaps none of ``taken``; None when there is none left."""
    busy = tuple(taken)
    for number in reversed(range(min(map(shares, clusters), default=0))):
        found = tuple(share(network, number) for network in clusters)
        if not any(_overlap(one, other) for one in found for other in busy):
            return found
    return None


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def patch_for(cidrs: Sequence[IPNetwork]) -> JsonObject:
    """What makes them the node's."""
    return {"spec": {"podCIDR": str(cidrs[0]), "podCIDRs": list(map(str, cidrs))}}
