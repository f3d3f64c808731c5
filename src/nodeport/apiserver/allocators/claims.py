"""Which numbers a stored Service must own."""

from __future__ import annotations

from datetime import datetime

from nodeport.api.ip import sloppy_ip
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.services import (
    EXTERNAL_NAME,
    is_headless,
    may_have_node_ports,
    needs_health_check_node_port,
    node_ports,
    spec_of,
    type_of,
)
from nodeport.apiserver.allocators import ipaddresses, nodeport
from nodeport.store.base import Put


def address_texts_of(service: JsonObject) -> list[str]:
    """Its ClusterIPs as it writes them; none when it is headless or an ExternalName."""
    if type_of(service) == EXTERNAL_NAME or is_headless(service):
        return []
    spec = spec_of(service)
    return spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])


def uses(service: JsonObject, name: str) -> bool:
    """Whether the Service has the address that an IPAddress is named after."""
    return any(str(sloppy_ip(text)) == name for text in address_texts_of(service))


def ports_of(service: JsonObject) -> set[int]:
    """Its node ports, the one for health checks among them."""
    found = node_ports(service) if may_have_node_ports(service) else set()
    if needs_health_check_node_port(service) and spec_of(service).get("healthCheckNodePort"):
        found.add(spec_of(service)["healthCheckNodePort"])
    return found


def guard_operations(service: JsonObject, now: datetime) -> list[Put]:
    """The writes that make its numbers its own."""
    owner = NamespacedName.of(service)
    addresses = [found for text in address_texts_of(service) if (found := sloppy_ip(text)) is not None]
    return [
        *(Put(ipaddresses.guard(each), ipaddresses.stored(each, owner, now), expect=0) for each in addresses),
        *(Put(nodeport.guard(port), str(owner).encode(), expect=0) for port in sorted(ports_of(service))),
    ]
