"""The conformance rows about Endpoints and EndpointSlices, each named after its upstream test."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.resources import DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES
from nodeport.api.status import NotFound
from nodeport.client.cache import Change
from nodeport.client.informer import Informer
from nodeport.client.rest import STRATEGIC_MERGE_PATCH
from nodeport.testing.apipods import ApiPods
from nodeport.testing.controlplane import ControlledCluster, eventually

_log = logging.getLogger(__name__)

Named = Callable[..., JsonObject]
NAMESPACE = "e2e"
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


async def slices_of(cluster: ControlledCluster, service: str, namespace: str = NAMESPACE) -> list[JsonObject]:
    return await cluster.items(ENDPOINT_SLICES, namespace, label_selector=f"{SERVICE_NAME}={service}")


async def endpoints_of(cluster: ControlledCluster, service: str) -> JsonObject | None:
    try:
        return await cluster.client.get(ENDPOINTS, service, NAMESPACE)
    except NotFound:
        return None


# --- API Server


async def test_api_server_should_have_endpoints_and_endpointslices_pointing_to_api_server(
    cluster: ControlledCluster,
) -> None:
    await cluster.client.get(SERVICES, "kubernetes", "default")
    endpoints = await cluster.client.get(ENDPOINTS, "kubernetes", "default")
    [subset] = endpoints["subsets"]
    found = await slices_of(cluster, "kubernetes", "default")
    assert found
    addresses = [address for each in found for e in each["endpoints"] for address in e["addresses"]]
    assert addresses == [address["ip"] for address in subset["addresses"]]
    assert [port["port"] for port in found[0]["ports"]] == [port["port"] for port in subset["ports"]]


# --- a selector that matches no pods


NO_PODS = {"selector": {"does-not-match-anything": "endpoints-and-endpoint-slices-should-still-be-created"},
           "ports": [{"name": "example", "port": 80, "protocol": "TCP"}]}  # fmt: skip


async def test_endpointscontroller_should_create_and_delete_endpoints_for_a_service_with_a_selector_that_matches_no_pods(
    cluster: ControlledCluster, named: Named
) -> None:
    await cluster.client.create(SERVICES, {"metadata": named("example-empty"), "spec": NO_PODS})
    found = await eventually(lambda: endpoints_of(cluster, "example-empty"), deadline=30)
    assert not found.get("subsets")
    await cluster.client.delete(SERVICES, "example-empty", NAMESPACE)

    async def gone() -> bool:
        return await endpoints_of(cluster, "example-empty") is None

    await eventually(gone)


async def test_endpointslice_should_create_and_delete_endpoints_and_endpointslices_for_a_service_with_a_selector_that_matches_no_pods(
    cluster: ControlledCluster, named: Named
) -> None:
    await cluster.client.create(SERVICES, {"metadata": named("example-empty"), "spec": NO_PODS})
    [placeholder] = await eventually(lambda: slices_of(cluster, "example-empty"), deadline=30)
    assert placeholder["endpoints"] == []
    assert placeholder["metadata"]["labels"] == {
        SERVICE_NAME: "example-empty",
        MANAGED_BY: "endpointslice-controller.k8s.io",
    }
    await cluster.client.delete(SERVICES, "example-empty", NAMESPACE)

    async def gone() -> bool:
        return not await slices_of(cluster, "example-empty")

    await eventually(gone, deadline=90)


# --- pods that match


async def create_matched_pods_and_services(cluster: ControlledCluster, pods: ApiPods, named: Named) -> None:
    """Two pods that are never ready, one Service by number for the first, one by name for both."""
    labels = {"shared": "true"}
    for number, port in ((1, 3000), (2, 3001)):
        await pods.create(
            f"pod{number}", f"10.100.0.{number}", ready=False, labels={f"foo{number}": "bar", **labels},
            ports=[{"name": "example-name", "containerPort": port}],
        )  # fmt: skip
    by_number = {"name": "example", "port": 80, "targetPort": 3000, "protocol": "TCP"}
    by_name = {"name": "http", "port": 80, "targetPort": "example-name", "protocol": "TCP"}
    for name, selector, port in (
        ("example-int-port", {"foo1": "bar"}, by_number),
        ("example-named-port", labels, by_name),
    ):
        spec = {"selector": selector, "ports": [port], "publishNotReadyAddresses": True}
        await cluster.client.create(SERVICES, {"metadata": named(name), "spec": spec})


def by_ports_of_slices(found: list[JsonObject]) -> dict[tuple[Any, ...], list[JsonObject]]:
    return {
        tuple((port["name"], port["port"], port["protocol"]) for port in each["ports"]): each["endpoints"]
        for each in found
    }


async def expect_endpoints(cluster: ControlledCluster, service: str, expected: dict[str, int]) -> None:
    """``expected``: each address with the port it must be listed with, ready."""

    async def listed() -> bool:
        found = await endpoints_of(cluster, service)
        return {
            address["ip"]: port["port"]
            for subset in (found or {}).get("subsets") or ()
            for address in subset.get("addresses", ())
            for port in subset["ports"]
        } == expected

    await eventually(listed, deadline=180)


async def test_endpointscontroller_should_create_endpoints_for_pods_matching_a_service(
    cluster: ControlledCluster, pods: ApiPods, named: Named
) -> None:
    await create_matched_pods_and_services(cluster, pods, named)
    await expect_endpoints(cluster, "example-int-port", {"10.100.0.1": 3000})
    await expect_endpoints(cluster, "example-named-port", {"10.100.0.1": 3000, "10.100.0.2": 3001})
    found = await endpoints_of(cluster, "example-named-port")
    assert found is not None
    assert len(found["subsets"]) == 2


async def expect_slices(
    cluster: ControlledCluster, service: str, expected: dict[str, int]
) -> list[JsonObject]:
    """One slice per distinct port, as many endpoints as pods in all."""

    async def reached() -> list[JsonObject]:
        found = await slices_of(cluster, service)
        shown = {
            endpoint["addresses"][0]: each["ports"][0]["port"]
            for each in found
            for endpoint in each["endpoints"]
        }
        return found if shown == expected and len(found) == len(set(expected.values())) else []

    reaching: list[JsonObject] = await eventually(reached, deadline=180)
    return reaching


async def test_endpointslice_should_create_endpoints_and_endpointslices_for_pods_matching_a_service(
    cluster: ControlledCluster, pods: ApiPods, named: Named
) -> None:
    await create_matched_pods_and_services(cluster, pods, named)
    both = {"10.100.0.1": 3000, "10.100.0.2": 3001}
    await expect_slices(cluster, "example-int-port", {"10.100.0.1": 3000})
    found = await expect_slices(cluster, "example-named-port", both)
    await expect_endpoints(cluster, "example-named-port", both)
    by_ports = by_ports_of_slices(found)
    assert by_ports.keys() == {(("http", 3000, "TCP"),), (("http", 3001, "TCP"),)}
    for number, port in ((1, 3000), (2, 3001)):
        [endpoint] = by_ports[("http", port, "TCP"),]
        pod = await cluster.client.get(PODS, f"pod{number}", NAMESPACE)
        assert endpoint["addresses"] == [f"10.100.0.{number}"]
        assert endpoint["targetRef"] == {
            "kind": "Pod", "namespace": NAMESPACE, "name": f"pod{number}", "uid": pod["metadata"]["uid"],
        }  # fmt: skip
        assert endpoint["conditions"]["ready"] is True
    selector = f"{SERVICE_NAME}=example-named-port"
    await cluster.client.delete_collection(ENDPOINT_SLICES, NAMESPACE, label_selector=selector)
    again = await expect_slices(cluster, "example-named-port", both)
    assert not {each["metadata"]["uid"] for each in again} & {each["metadata"]["uid"] for each in found}
    for each in await slices_of(cluster, "example-int-port"):
        await cluster.client.delete(ENDPOINT_SLICES, each["metadata"]["name"], NAMESPACE)
    await expect_slices(cluster, "example-int-port", {"10.100.0.1": 3000})


# --- mirroring


async def test_endpointslicemirroring_should_mirror_a_custom_endpoints_resource_through_create_update_and_delete(
    cluster: ControlledCluster, named: Named
) -> None:
    port = {"name": "example", "port": 80, "protocol": "TCP"}
    name = "example-custom-endpoints"
    await cluster.client.create(SERVICES, {"metadata": named(name), "spec": {"ports": [port]}})
    subset = {"addresses": [{"ip": "10.1.2.3"}], "ports": [port]}
    await cluster.client.create(ENDPOINTS, {"metadata": named(name), "subsets": [subset]})

    async def mirrored(*addresses: str) -> bool:
        found = await slices_of(cluster, name)
        if not addresses:
            return not found
        if len(found) != 1:
            return False
        [mirror] = found
        assert mirror["metadata"]["labels"][MANAGED_BY] == "endpointslicemirroring-controller.k8s.io"
        assert mirror["ports"] == [port]
        return [endpoint["addresses"] for endpoint in mirror["endpoints"]] == [[a] for a in addresses]

    await eventually(lambda: mirrored("10.1.2.3"))
    changed = await cluster.client.get(ENDPOINTS, name, NAMESPACE)
    changed["subsets"] = [{**subset, "addresses": [{"ip": "10.2.3.4"}]}]
    await cluster.client.update(ENDPOINTS, changed)
    await eventually(lambda: mirrored("10.2.3.4"))
    await cluster.client.delete(ENDPOINTS, name, NAMESPACE)
    await eventually(mirrored)


# --- API operations


async def test_endpoints_should_test_the_lifecycle_of_an_endpoint(
    cluster: ControlledCluster, named: Named
) -> None:
    client, labels = cluster.client, {"test-endpoint-static": "true"}
    seen: list[tuple[str, JsonObject]] = []
    informer = Informer(client, ENDPOINTS, label_selector="test-endpoint-static=true")
    informer.subscribe(
        lambda change: seen.append(("DELETED" if change.new is None else "SEEN", change.object))
    )
    watching = asyncio.create_task(informer.run())
    try:
        await informer.wait_until_synced()
        subset = {
            "addresses": [{"ip": "10.0.0.24"}],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        }
        made = await client.create(
            ENDPOINTS, {"metadata": named("testservice", labels=labels), "subsets": [subset]}
        )
        await eventually(lambda: len(seen) == 1)
        listed = await client.list(ENDPOINTS, label_selector="test-endpoint-static=true")
        assert [found["metadata"]["name"] for found in listed["items"]] == ["testservice"]
        made["metadata"]["labels"]["test-service"] = "updated"
        updated = await client.update(ENDPOINTS, made)
        assert int(updated["metadata"]["resourceVersion"]) > int(listed["metadata"]["resourceVersion"])
        await eventually(lambda: len(seen) == 2)
        patch = {
            "metadata": {"labels": {"test-service": "patched"}},
            "subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080}]}],
        }
        await client.patch(ENDPOINTS, "testservice", patch, NAMESPACE, content_type=STRATEGIC_MERGE_PATCH)
        patched = await client.get(ENDPOINTS, "testservice", NAMESPACE)
        assert patched["metadata"]["labels"]["test-service"] == "patched"
        assert patched["subsets"][0]["addresses"] == [{"ip": "10.0.0.25"}]
        assert patched["subsets"][0]["ports"] == [{"name": "http-test", "port": 8080, "protocol": "TCP"}]
        await client.delete_collection(ENDPOINTS, NAMESPACE, label_selector="test-endpoint-static=true")
        await eventually(lambda: seen[-1][0] == "DELETED")
        assert await endpoints_of(cluster, "testservice") is None
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def test_endpointslice_should_support_creating_endpointslice_api_operations(
    cluster: ControlledCluster, named: Named
) -> None:
    client, labels = cluster.client, {"special-label": "e2e"}
    selector = "special-label=e2e"
    for document, name in (
        ("/apis", "discovery.k8s.io"),
        ("/apis/discovery.k8s.io", "discovery.k8s.io/v1"),
        ("/apis/discovery.k8s.io/v1", "endpointslices"),
    ):
        assert name in (await client.raw_get(document)).decode()
    made = [
        await client.create(
            ENDPOINT_SLICES,
            {
                "metadata": {"generateName": "e2e-example-ing", "namespace": NAMESPACE, "labels": labels},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.1.1.1"]}],
            },
        )
        for _ in range(3)
    ]
    got = await client.get(ENDPOINT_SLICES, made[0]["metadata"]["name"], NAMESPACE)
    assert got["metadata"]["uid"] == made[0]["metadata"]["uid"]
    for namespace in ("", NAMESPACE):
        listed = await client.list(ENDPOINT_SLICES, namespace, label_selector=selector)
        assert len(listed["items"]) == 3
    seen: list[Change] = []
    informer = Informer(client, ENDPOINT_SLICES, label_selector=selector)
    informer.subscribe(seen.append)
    watching = asyncio.create_task(informer.run())
    try:
        await informer.wait_until_synced()
        note = {"metadata": {"annotations": {"patched": "true"}}}
        patched = await client.patch(ENDPOINT_SLICES, got["metadata"]["name"], note, NAMESPACE)
        assert patched["metadata"]["annotations"]["patched"] == "true"
        patched["metadata"]["annotations"]["updated"] = "true"
        updated = await client.update(ENDPOINT_SLICES, patched)
        assert updated["metadata"]["annotations"]["updated"] == "true"

        def saw_update() -> bool:
            notes = [(change.new or {"metadata": {}})["metadata"].get("annotations") or {} for change in seen]
            return any(found.get("updated") == "true" for found in notes)

        await eventually(saw_update)
        await client.delete(ENDPOINT_SLICES, got["metadata"]["name"], NAMESPACE)
        await eventually(lambda: any(change.new is None for change in seen))
        await client.delete_collection(ENDPOINT_SLICES, NAMESPACE, label_selector=selector)
        listed = await client.list(ENDPOINT_SLICES, NAMESPACE, label_selector=selector)
        assert listed["items"] == []
    finally:
        watching.cancel()
        await asyncio.wait({watching})


# --- latency


SERVICES_TO_CREATE, PARALLEL = 200, 15
MEDIAN_LIMIT, P99_LIMIT, FAILURES_ALLOWED = 20.0, 50.0, 0.05


async def test_service_endpoints_latency_should_not_be_very_high(
    cluster: ControlledCluster, named: Named
) -> None:
    """From the creation of a Service until a slice with an endpoint is seen; the limits are upstream's."""
    labels = {"name": "svc-latency-rc"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "pause", "image": "pause"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    await cluster.client.create(DEPLOYMENTS, {"metadata": named("svc-latency-rc"), "spec": spec})

    async def running() -> bool:
        found = await cluster.items(PODS, NAMESPACE)
        return any((pod.get("status") or {}).get("podIP") for pod in found)

    await eventually(running)
    arrivals: dict[str, asyncio.Future[float]] = {}
    informer = Informer(cluster.client, ENDPOINT_SLICES, namespace=NAMESPACE)

    def seen(change: Change) -> None:
        if change.new is not None and change.new.get("endpoints"):
            arrived = arrivals.get(change.new["metadata"]["labels"][SERVICE_NAME])
            if arrived is not None and not arrived.done():
                arrived.set_result(time.monotonic())

    informer.subscribe(seen)
    gate = asyncio.Semaphore(PARALLEL)

    async def one(number: int) -> float | None:
        name = f"latency-svc-{number}"
        arrivals[name] = asyncio.get_running_loop().create_future()
        async with gate:
            started = time.monotonic()
            await cluster.client.create(
                SERVICES, {"metadata": named(name), "spec": {"selector": labels, "ports": [{"port": 80}]}}
            )
            try:
                async with asyncio.timeout(P99_LIMIT):
                    return await arrivals[name] - started
            except TimeoutError:
                return None

    watching = asyncio.create_task(informer.run())
    try:
        await informer.wait_until_synced()
        latencies = await asyncio.gather(*(one(number) for number in range(SERVICES_TO_CREATE)))
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    good = sorted(latency for latency in latencies if latency is not None)
    assert len(good) >= SERVICES_TO_CREATE * (1 - FAILURES_ALLOWED)
    median, p99 = statistics.median(good), good[int(len(good) * 0.99)]
    _log.info("of %d Services: median %.1f ms, p99 %.1f ms", len(good), median * 1000, p99 * 1000)
    assert median < MEDIAN_LIMIT
    assert p99 < P99_LIMIT
