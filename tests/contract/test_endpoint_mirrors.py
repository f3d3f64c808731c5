"""Mirrors of hand-made Endpoints against the real API server."""

from __future__ import annotations

import pytest

from contract.endpoint_clusters import (
    MADE,
    MANAGED_BY,
    cluster_of_pods,
    hand_made,
    patch,
    service,
    slices,
    told,
    until,
)
from nodeport.api.meta import JsonObject
from nodeport.api.resources import (
    ENDPOINT_SLICES,
    ENDPOINTS,
    SERVICES,
    Resource,
)
from nodeport.testing.controlplane import ControlledCluster, eventually


async def mirrored(cluster: ControlledCluster) -> list[JsonObject]:
    manager = "endpointslicemirroring-controller.k8s.io"
    return [found for found in await slices(cluster) if found["metadata"]["labels"][MANAGED_BY] == manager]


async def no_mirror(cluster: ControlledCluster) -> bool:
    return not await mirrored(cluster)


async def test_endpoints_of_a_service_without_a_selector_are_mirrored_whichever_comes_first() -> None:
    for first, second in ((SERVICES, ENDPOINTS), (ENDPOINTS, SERVICES)):
        async with cluster_of_pods() as (cluster, _):
            objects = {SERVICES: service(selector=None), ENDPOINTS: hand_made(labels={"team": "x"})}
            for resource in (first, second):
                await cluster.client.create(resource, objects[resource])
            [found] = await eventually(lambda cluster=cluster: mirrored(cluster))
            assert found["metadata"]["labels"]["team"] == "x"
            assert found["endpoints"] == [{"addresses": ["10.9.0.1"], "conditions": {"ready": True}}]
            assert found["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]


async def test_a_mirror_follows_its_endpoints_and_goes_with_them() -> None:
    async with cluster_of_pods() as (cluster, _):
        await cluster.client.create(SERVICES, service(selector=None))
        await cluster.client.create(ENDPOINTS, hand_made())
        [first] = await eventually(lambda: mirrored(cluster))
        both = {**MADE, "notReadyAddresses": [{"ip": "10.9.0.2"}]}
        await patch(cluster, ENDPOINTS, "web", {"subsets": [both]})
        await until(cluster, "10.9.0.1", "10.9.0.2")
        [second] = await mirrored(cluster)
        assert second["metadata"]["uid"] == first["metadata"]["uid"]
        await cluster.client.delete(ENDPOINTS, "web", "default")
        await eventually(lambda: no_mirror(cluster))


@pytest.mark.parametrize(
    ("resource", "change"),
    [
        (ENDPOINTS, {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}),
        (ENDPOINTS, {"metadata": {"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}}),
        (SERVICES, {"spec": {"selector": {"app": "other"}}}),
    ],
)
async def test_a_mirror_goes_when_it_is_no_longer_wanted(resource: Resource, change: JsonObject) -> None:
    async with cluster_of_pods() as (cluster, _):
        await cluster.client.create(SERVICES, service(selector=None))
        await cluster.client.create(ENDPOINTS, hand_made())
        await eventually(lambda: mirrored(cluster))
        await patch(cluster, resource, "web", change)
        await eventually(lambda: no_mirror(cluster))


async def test_a_mirror_goes_with_the_service() -> None:
    async with cluster_of_pods() as (cluster, _):
        await cluster.client.create(SERVICES, service(selector=None))
        await cluster.client.create(ENDPOINTS, hand_made())
        await eventually(lambda: mirrored(cluster))
        await cluster.client.delete(SERVICES, "web", "default")
        await eventually(lambda: no_mirror(cluster))


async def test_a_mirror_that_was_changed_or_deleted_by_hand_comes_back() -> None:
    async with cluster_of_pods() as (cluster, _):
        await cluster.client.create(SERVICES, service(selector=None))
        await cluster.client.create(ENDPOINTS, hand_made())
        [found] = await eventually(lambda: mirrored(cluster))
        name = found["metadata"]["name"]
        await patch(cluster, ENDPOINT_SLICES, name, {"endpoints": [{"addresses": ["10.6.6.6"]}]})
        await until(cluster, "10.9.0.1")
        await cluster.client.delete(ENDPOINT_SLICES, name, "default")
        await until(cluster, "10.9.0.1")
        [again] = await mirrored(cluster)
        assert again["metadata"]["uid"] != found["metadata"]["uid"]


async def test_endpoints_with_too_many_addresses_are_mirrored_in_part_and_an_event_says_so() -> None:
    async with cluster_of_pods() as (cluster, _):
        many = {"addresses": [{"ip": f"10.9.{n // 250}.{n % 250 + 1}"} for n in range(1001)]}
        await cluster.client.create(SERVICES, service(selector=None))
        await cluster.client.create(ENDPOINTS, hand_made(many))
        [found] = await eventually(lambda: mirrored(cluster))
        assert len(found["endpoints"]) == 1000
        [message] = await eventually(lambda: told(cluster, "TooManyAddressesToMirror"))
        assert message.endswith("per Endpoints subset. 1 addresses were skipped")


async def test_the_api_servers_own_endpoints_are_not_mirrored() -> None:
    async with cluster_of_pods() as (cluster, _):
        await cluster.client.create(SERVICES, service(selector=None))
        await cluster.client.create(ENDPOINTS, hand_made())
        await eventually(lambda: mirrored(cluster))
        found = await cluster.items(ENDPOINT_SLICES, label_selector="kubernetes.io/service-name=kubernetes")
        assert [each["metadata"]["name"] for each in found] == ["kubernetes"]
