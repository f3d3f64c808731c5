"""A control plane whose pods a test writes, and what its Service ``web`` looks like to followers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.resources import (
    ENDPOINT_SLICES,
    ENDPOINTS,
    EVENTS,
    NODES,
    Resource,
)
from nodeport.api.status import NotFound
from nodeport.testing.apipods import ApiPods
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

OF_WEB = "kubernetes.io/service-name=web"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
APP = {"app": "web"}
MADE = {"addresses": [{"ip": "10.9.0.1"}], "ports": [{"name": "http", "port": 80}]}


@asynccontextmanager
async def cluster_of_pods(
    server: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[ControlledCluster, ApiPods]]:
    """Three nodes in the zones a, b and none; nobody but the test writes pods."""
    grace = timedelta(hours=1)
    server = {"advertise": ("192.0.2.1", 6443), **(server or {})}
    async with controlled_cluster(0, server=server, node_monitor_grace=grace, **options) as cluster:
        pods = ApiPods(cluster.client)
        for name, zone in (("n1", "a"), ("n2", "b"), ("n3", "")):
            await pods.add_node(name, zone)
        yield cluster, pods


def service(**spec: Any) -> JsonObject:
    wanted = {"selector": APP, "ports": [{"port": 80, "targetPort": 8080}], **spec}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": wanted}


async def slices(cluster: ControlledCluster) -> list[JsonObject]:
    found = await cluster.items(ENDPOINT_SLICES, label_selector=OF_WEB)
    return sorted(found, key=lambda each: each["metadata"]["name"])


async def endpoints(cluster: ControlledCluster) -> list[JsonObject]:
    """Every endpoint of the Service, by address."""
    found = [endpoint for each in await slices(cluster) for endpoint in each["endpoints"] or ()]
    return sorted(found, key=lambda endpoint: endpoint["addresses"])


async def until(cluster: ControlledCluster, *addresses: str) -> list[JsonObject]:
    """Until exactly these addresses are endpoints."""

    async def reached() -> list[JsonObject] | None:
        found = await endpoints(cluster)
        return found if [endpoint["addresses"][0] for endpoint in found] == list(addresses) else None

    if addresses:
        found: list[JsonObject] = await eventually(reached)
        return found
    await eventually(lambda: _is_empty(cluster))
    return []


async def _is_empty(cluster: ControlledCluster) -> bool:
    return not await endpoints(cluster)


async def subsets(cluster: ControlledCluster) -> list[JsonObject]:
    try:
        return list((await cluster.client.get(ENDPOINTS, "web", "default")).get("subsets") or [])
    except NotFound:
        return []


async def told(cluster: ControlledCluster, reason: str) -> list[str]:
    """The messages of all events of that reason."""
    return [event["message"] for event in await cluster.items(EVENTS) if event["reason"] == reason]


async def patch(cluster: ControlledCluster, resource: Resource, name: str, change: JsonObject) -> None:
    namespace = "" if resource is NODES else "default"
    await cluster.client.patch(resource, name, change, namespace)


def hand_made(*found: JsonObject, **metadata: Any) -> JsonObject:
    """Endpoints ``web`` as a user writes them."""
    return {
        "metadata": {"name": "web", "namespace": "default", **metadata},
        "subsets": list(found or (MADE,)),
    }
