"""kube-system/kube-dns from the first start on: the server makes the Service, a controller keeps the nodes behind it."""

from __future__ import annotations

from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINT_SLICES, NODES, SERVICES
from nodeport.api.status import NotFound
from nodeport.client.rest import STRATEGIC_MERGE_PATCH
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

NAME = ("kube-dns", "kube-system")


async def add_node(cluster: ControlledCluster, name: str, address: str) -> None:
    spec = {"providerID": f"nodeport://{name}"}
    await cluster.client.create(NODES, {"metadata": {"name": name}, "spec": spec})
    addresses = [{"type": "InternalIP", "address": address}]
    await set_status(cluster, name, {"addresses": addresses})
    await set_ready(cluster, name, "True")


async def set_ready(cluster: ControlledCluster, name: str, ready: str) -> None:
    await set_status(cluster, name, {"conditions": [{"type": "Ready", "status": ready}]})


async def set_status(cluster: ControlledCluster, name: str, status: JsonObject) -> None:
    patch = {"status": status}
    await cluster.client.patch(NODES, name, patch, content_type=STRATEGIC_MERGE_PATCH, subresource="status")


async def found_slice(cluster: ControlledCluster) -> JsonObject | None:
    try:
        return await cluster.client.get(ENDPOINT_SLICES, *NAME)
    except NotFound:
        return None


async def leads_to(cluster: ControlledCluster, **wanted: bool) -> None:
    """Until the slice names exactly these nodes, with whether they are ready."""

    async def as_wanted() -> bool:
        found: Any = await found_slice(cluster) or {}
        return wanted == {
            each["nodeName"]: each["conditions"]["ready"] for each in found.get("endpoints") or ()
        }

    await eventually(as_wanted)


async def test_the_nodes_that_answer_are_kept_behind_the_service() -> None:
    async with controlled_cluster(nodes=1, server={"cluster_dns": True}) as cluster:
        service = await cluster.client.get(SERVICES, *NAME)
        assert service["spec"]["clusterIP"] == "10.96.0.10"
        await add_node(cluster, "a", "172.30.0.11")
        await add_node(cluster, "b", "172.30.0.12")
        await leads_to(cluster, a=True, b=True)
        await set_ready(cluster, "a", "Unknown")
        await leads_to(cluster, a=False, b=True)
        await cluster.client.delete(NODES, "b")
        await leads_to(cluster, a=False)
        await cluster.client.delete(ENDPOINT_SLICES, *NAME)
        await leads_to(cluster, a=False)


async def test_a_selector_hands_the_service_over_to_pods() -> None:
    async with controlled_cluster(nodes=0, server={"cluster_dns": True}) as cluster:
        await add_node(cluster, "a", "172.30.0.11")
        await leads_to(cluster, a=True)
        patch: Any = {"spec": {"selector": {"k8s-app": "kube-dns"}}}
        await cluster.client.patch(SERVICES, NAME[0], patch, NAME[1])

        async def is_gone() -> bool:
            return await found_slice(cluster) is None

        await eventually(is_gone)
        patch = {"spec": {"selector": None}}
        await cluster.client.patch(SERVICES, NAME[0], patch, NAME[1])
        await leads_to(cluster, a=True)


async def test_a_server_that_is_not_told_to_makes_no_name_service() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        services = await cluster.client.list(SERVICES, NAME[1])
        assert services["items"] == []
