"""Which nodes answer for names, as an EndpointSlice of each of the Service's families. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from nodeport.api import clusterdns
from nodeport.api.ip import family
from nodeport.api.meta import JsonObject, is_being_deleted

MANAGER = "cluster-dns.nodeport"
SLICES = {"IPv4": clusterdns.SERVICE, "IPv6": f"{clusterdns.SERVICE}-ipv6"}
"""What the slice of a family is called."""
MOST_ENDPOINTS = 1000
"""What one slice holds; a node beyond them asks the others."""


def wanted_slices(service: JsonObject | None, nodes: Iterable[JsonObject]) -> dict[str, JsonObject]:
    """By name; none when the Service is not there, or leads to pods that somebody selected."""
    if service is None or is_being_deleted(service) or service["spec"].get("selector"):
        return {}
    ordered = sorted(nodes, key=lambda node: str(node["metadata"]["name"]))
    families = service["spec"].get("ipFamilies") or ["IPv4"]
    return {SLICES[kind]: _slice(kind, ordered) for kind in families}


def _slice(kind: str, nodes: Iterable[JsonObject]) -> JsonObject:
    endpoints = [found for node in nodes if (found := _endpoint(node, kind))]
    return {
        "metadata": {
            "name": SLICES[kind], "namespace": clusterdns.NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": clusterdns.SERVICE,
                "endpointslice.kubernetes.io/managed-by": MANAGER,
            },
        },
        "addressType": kind,
        "endpoints": endpoints[:MOST_ENDPOINTS],
        "ports": [
            {"name": name, "protocol": protocol, "port": clusterdns.NODE_PORT}
            for name, protocol in clusterdns.PORTS
        ],
    }  # fmt: skip


def is_as_wanted(found: JsonObject, wanted: JsonObject) -> bool:
    has = found["metadata"].get("labels") or {}
    return all(has.get(key) == value for key, value in wanted["metadata"]["labels"].items()) and all(
        found.get(field) == wanted[field] for field in ("endpoints", "ports")
    )


def _endpoint(node: JsonObject, kind: str) -> JsonObject | None:
    """A node's pods ask their own node, as long as it is ready."""
    if not str((node.get("spec") or {}).get("providerID") or "").startswith(clusterdns.PROVIDER):
        return None
    status, name = node.get("status") or {}, node["metadata"]["name"]
    address = next(
        (
            each["address"]
            for each in status.get("addresses") or ()
            if each["type"] == "InternalIP" and family(each["address"]) == kind
        ),
        None,
    )
    if address is None:
        return None
    ready = any(
        each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()
    )
    return {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": ready, "terminating": False},
        "nodeName": name,
        "hints": {"forNodes": [{"name": name}]},
    }
