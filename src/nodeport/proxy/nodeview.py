"""What the proxy takes for true about its node and the cluster: the objects, corrected by what it was told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nodeport.api.ip import sloppy_network
from nodeport.api.meta import JsonObject
from nodeport.client.informer import Informer
from nodeport.forwarding.table import IPNetwork
from nodeport.proxy.options import ProxyOptions


def as_told(node: JsonObject | None, options: ProxyOptions) -> JsonObject | None:
    """``node`` with the address that it is said to have first, and without podCIDRs that must not be believed."""
    if options.node_address is None and options.pods_from_node:
        return node
    seen: JsonObject = dict(node or {})
    if options.node_address is not None:
        status = seen.get("status") or {}
        told = {"type": "InternalIP", "address": str(options.node_address)}
        seen["status"] = {**status, "addresses": [told, *_of_other_addresses(status, told)]}
    if not options.pods_from_node:
        spec = seen.get("spec") or {}
        seen["spec"] = {key: value for key, value in spec.items() if key not in ("podCIDR", "podCIDRs")}
    return seen


def _of_other_addresses(status: JsonObject, told: JsonObject) -> Iterable[Any]:
    return (item for item in status.get("addresses") or () if item.get("address") != told["address"])


def service_networks(service_cidrs: Informer | None, options: ProxyOptions) -> tuple[IPNetwork, ...]:
    """The ranges that the cluster has now; a ServiceCIDR that is going away still has addresses in use."""
    if service_cidrs is None:
        return options.service_networks
    cidrs = {cidr for item in service_cidrs.list() for cidr in (item.get("spec") or {}).get("cidrs") or ()}
    found = {network for cidr in cidrs if (network := sloppy_network(cidr)) is not None}
    return tuple(sorted(found, key=lambda network: (network.version, network)))
