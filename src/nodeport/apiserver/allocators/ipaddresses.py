"""IPAddress objects as the guards of ClusterIPs: their keys, and how the allocator writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import IP_ADDRESSES
from nodeport.apiserver.allocators.clusterip import Address
from nodeport.apiserver.encoding import encode_stored, prefix_of
from nodeport.kit.clock import rfc3339
from nodeport.kit.names import random_uid

PREFIX = prefix_of(IP_ADDRESSES)
FAMILY_LABEL = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY_LABEL = "ipaddress.kubernetes.io/managed-by"
MANAGER = "ipallocator.k8s.io"


def guard(address: Address) -> str:
    """The key that owns ``address``: that of the object named after it."""
    return f"{PREFIX}{address}"


def address_of(key: str) -> Address:
    """The address that a key below ``PREFIX`` owns; names are canonical, the API sees to that."""
    return ip_address(key.removeprefix(PREFIX))


def labels_of(address: Address) -> dict[str, str]:
    """By which the allocator knows its own objects."""
    return {FAMILY_LABEL: f"IPv{address.version}", MANAGED_BY_LABEL: MANAGER}


def stored(address: Address, service: NamespacedName, now: datetime) -> bytes:
    """The IPAddress that gives ``address`` to a Service, as it lies in the store."""
    return encode_stored({
        "metadata": {
            "name": str(address), "uid": random_uid(), "creationTimestamp": rfc3339(now),
            "labels": labels_of(address),
        },
        "spec": {
            "parentRef": {"resource": "services", "namespace": service.namespace, "name": service.name},
        },
    })  # fmt: skip


def is_managed(obj: Mapping[str, Any]) -> bool:
    """Whether the allocator answers for the object: it leaves those of others alone."""
    return (obj["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGER


def has_own_labels(obj: JsonObject) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return labels_of(ip_address(obj["metadata"]["name"])).items() <= labels.items()


def service_of(obj: Mapping[str, Any]) -> NamespacedName | None:
    """The Service that an IPAddress refers to; None when it refers to something else."""
    parent = (obj.get("spec") or {}).get("parentRef") or {}
    if parent.get("group") or parent.get("resource") != "services":
        return None
    return NamespacedName(parent.get("namespace") or "", parent.get("name") or "")
