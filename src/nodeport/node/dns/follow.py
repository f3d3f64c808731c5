"""The cluster's domain kept up with informers."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from nodeport.api.meta import JsonObject, NamespacedName, labels
from nodeport.client.informer import Change, Informer
from nodeport.node import servicevariables
from nodeport.node.dns.records import IPAddress, service_addresses, slice_addresses
from nodeport.node.dns.zone import Caches, Zone

SERVICE_NAME = "kubernetes.io/service-name"
BY_SERVICE, BY_ADDRESS = "name-server-service", "name-server-address"
"""Indexes of the informers."""


def follow(
    services: Informer, slices: Informer, nodes: Informer, ranges: tuple[IPv4Network | IPv6Network, ...] = ()
) -> Zone:
    """A change is in the next answer. ``ranges``: of ClusterIPs.

    The informers are run by their owner; ``services`` has the index of `servicevariables`.
    """
    services.add_index(BY_ADDRESS, lambda item: [str(each) for each in service_addresses(item)])
    slices.add_index(BY_ADDRESS, lambda item: [str(each) for each in slice_addresses(item)])
    slices.add_index(BY_SERVICE, lambda item: [str(key) for key in _service_of(item)])

    def at_address(address: IPAddress) -> Iterator[NamespacedName]:
        yield from map(NamespacedName.of, services.by_index(BY_ADDRESS, str(address)))
        for item in slices.by_index(BY_ADDRESS, str(address)):
            yield from _service_of(item)

    zone = Zone(
        Caches(
            service=services.get,
            slices=lambda key: slices.by_index(BY_SERVICE, str(key)),
            at_address=at_address,
            has_services=lambda namespace: bool(services.by_index(servicevariables.INDEX, namespace)),
        ),
        ranges,
    )

    def slice_changed(change: Change) -> None:
        for item in (change.old, change.new):
            for key in _service_of(item) if item else ():
                zone.mark(key)

    def node_changed(change: Change) -> None:
        if _places(change.old) != _places(change.new):
            zone.set_places(place for node in nodes.list() for place in _places(node))

    services.subscribe(lambda change: zone.mark(NamespacedName.of(change.object)))
    slices.subscribe(slice_changed)
    nodes.subscribe(node_changed)
    return zone


def _service_of(item: JsonObject) -> Iterator[NamespacedName]:
    if name := labels(item).get(SERVICE_NAME):
        yield NamespacedName(item["metadata"]["namespace"], name)


def _places(node: JsonObject | None) -> list[IPv4Network | IPv6Network]:
    """The networks of a node's pods, and its own addresses."""
    if node is None:
        return []
    spec = node.get("spec") or {}
    cidrs = spec.get("podCIDRs") or filter(None, [spec.get("podCIDR")])
    addresses = [
        each["address"]
        for each in (node.get("status") or {}).get("addresses") or ()
        if each.get("type") == "InternalIP"
    ]
    return list(_networks([*cidrs, *addresses]))


def _networks(texts: list[str]) -> Iterator[IPv4Network | IPv6Network]:
    for text in texts:
        try:
            yield ip_network(text, strict=False)
        except ValueError:
            continue
