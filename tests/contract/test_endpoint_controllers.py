"""Endpoints and EndpointSlices against the real API server: what followers of a Service see."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from ipaddress import ip_network

import pytest

from contract.endpoint_clusters import (
    APP,
    MANAGED_BY,
    cluster_of_pods,
    endpoints,
    hand_made,
    patch,
    service,
    slices,
    subsets,
    told,
    until,
)
from nodeport.api.meta import JsonObject
from nodeport.api.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ENDPOINT_SLICES,
    ENDPOINTS,
    NODES,
    SERVICES,
)
from nodeport.apiserver.auth import User
from nodeport.client.config import ClientConfig
from nodeport.client.rest import RestClient
from nodeport.controllers.manager import ControllerManager
from nodeport.testing.controlplane import ControlledCluster, eventually

# --- EndpointSlices


async def test_a_pods_life_as_an_endpoint() -> None:
    async with cluster_of_pods() as (cluster, pods):
        await cluster.client.create(SERVICES, service())
        await eventually(lambda: slices(cluster))
        assert [found["endpoints"] for found in await slices(cluster)] == [[]], "the placeholder"
        await pods.create("p", "10.1.0.1", node="n1", labels=APP, ready=False)
        [found] = await until(cluster, "10.1.0.1")
        assert found["conditions"] == {"ready": False, "serving": False, "terminating": False}
        assert (found["nodeName"], found["zone"]) == ("n1", "a")
        await pods.set_ready("p", ready=True)
        await until_conditions(cluster, ready=True, serving=True, terminating=False)
        await pods.begin_deletion("p")
        await until_conditions(cluster, ready=False, serving=True, terminating=True)
        await pods.remove("p")
        await until(cluster)
        [placeholder] = await slices(cluster)
        assert not placeholder.get("ports"), "the same object serves as the placeholder again"


async def until_conditions(cluster: ControlledCluster, **conditions: bool) -> None:
    async def reached() -> bool:
        return [endpoint["conditions"] for endpoint in await endpoints(cluster)] == [conditions]

    await eventually(reached)


async def test_the_trigger_time_is_told_once_and_taken_back_with_the_next_write_without_one() -> None:
    key = "endpoints.kubernetes.io/last-change-trigger-time"
    async with cluster_of_pods() as (cluster, pods):
        made = await cluster.client.create(SERVICES, service())
        [first] = await eventually(lambda: slices(cluster))
        assert first["metadata"]["annotations"][key] == made["metadata"]["creationTimestamp"]
        await pods.create("p", "10.1.0.1", node="n1", labels=APP)
        await until(cluster, "10.1.0.1")
        await patch(cluster, SERVICES, "web", {"metadata": {"labels": {"team": "x"}}})

        async def relabelled() -> list[JsonObject]:
            return [
                found for found in await slices(cluster) if found["metadata"]["labels"].get("team") == "x"
            ]

        [found] = await eventually(relabelled)
        assert key not in (found["metadata"].get("annotations") or {})


async def test_families_follow_the_service() -> None:
    async with cluster_of_pods() as (cluster, pods):
        await pods.create("p", "10.1.0.1", "fd00::1", node="n1", labels=APP)
        await cluster.client.create(SERVICES, service(clusterIP="None"))
        await until(cluster, "10.1.0.1")
        [found] = await slices(cluster)
        assert found["addressType"] == "IPv4"
        assert found["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


async def test_a_dual_stack_service_has_slices_of_both_families_until_it_is_single_stack() -> None:
    networks = (ip_network("10.96.0.0/16"), ip_network("fd00:96::/108"))
    async with cluster_of_pods(server={"service_cidrs": networks}) as (cluster, pods):
        await pods.create("p", "10.1.0.1", "fd00::1", node="n1", labels=APP)
        await pods.create("q", "10.1.0.2", node="n1", labels=APP)
        await cluster.client.create(SERVICES, service(ipFamilyPolicy="RequireDualStack"))

        async def by_type() -> dict[str, list[str]]:
            return {
                found["addressType"]: sorted(e["addresses"][0] for e in found["endpoints"])
                for found in await slices(cluster)
            }

        async def both() -> bool:
            return await by_type() == {"IPv4": ["10.1.0.1", "10.1.0.2"], "IPv6": ["fd00::1"]}

        async def one() -> bool:
            return await by_type() == {"IPv4": ["10.1.0.1", "10.1.0.2"]}

        await eventually(both)
        [subset] = await eventually(lambda: subsets(cluster))
        assert [address["ip"] for address in subset["addresses"]] == ["10.1.0.1", "10.1.0.2"]
        await patch(cluster, SERVICES, "web", {"spec": {"ipFamilyPolicy": "SingleStack"}})
        await eventually(one)


async def test_a_refused_write_is_told_on_the_service_and_done_when_it_is_allowed() -> None:
    """The controllers may read everything and speak, but not write, until they are given the role."""
    async with cluster_of_pods(server={"tokens": {"secret": User("limited", ())}}) as (cluster, pods):
        await cluster.stop_controllers()
        await allow(
            cluster, "reader", [rule(["get", "list", "watch"], "*"), rule(["create", "patch"], "events")]
        )
        config = ClientConfig(cluster.api.url, cluster.api.ca_pem, token="secret")
        async with RestClient(config, user_agent="limited") as limited:
            cluster.manager = ControllerManager(limited, ca_pem=cluster.api.ca_pem)
            cluster.start_controllers()
            await cluster.client.create(SERVICES, service())
            await pods.create("p", "10.1.0.1", node="n1", labels=APP)
            slice_failures = await eventually(lambda: told(cluster, "FailedToUpdateEndpointSlices"))
            assert slice_failures[0].startswith(
                "Error updating Endpoint Slices for Service default/web:"
                " failed to create EndpointSlice for Service default/web:"
                ' endpointslices.discovery.k8s.io is forbidden: User "limited" cannot create resource'
            )
            failures = await eventually(lambda: told(cluster, "FailedToCreateEndpoint"))
            assert failures[0].startswith(
                "Failed to create endpoint for service default/web: endpoints is forbidden"
            )
            await allow(cluster, "writer", [rule(["*"], "*")])
            await until(cluster, "10.1.0.1")
            await eventually(lambda: subsets(cluster))
            await cluster.stop_controllers()


def rule(verbs: list[str], resources: str) -> JsonObject:
    return {"apiGroups": ["*"], "resources": [resources], "verbs": verbs}


async def allow(cluster: ControlledCluster, name: str, rules: list[JsonObject]) -> None:
    """Bind a role of these rules to the user ``limited``."""
    await cluster.client.create(CLUSTER_ROLES, {"metadata": {"name": name}, "rules": rules})
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "limited"}
    reference = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": name}
    binding = {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference}
    await cluster.client.create(CLUSTER_ROLE_BINDINGS, binding)


async def test_a_pod_of_an_unknown_node_waits_for_it_and_an_event_says_so() -> None:
    async with cluster_of_pods() as (cluster, pods):
        await cluster.client.create(SERVICES, service())
        await pods.create("p", "10.1.0.1", node="late", labels=APP)
        said = await eventually(lambda: told(cluster, "FailedToUpdateEndpointSlices"))
        assert said == [
            "Error updating Endpoint Slices for Service default/web:"
            " skipping Pod p for Service default/web: Node late Not Found"
        ]
        assert await endpoints(cluster) == []
        await pods.add_node("late", "c")
        [found] = await until(cluster, "10.1.0.1")
        assert found["zone"] == "c"


async def test_a_zone_label_that_comes_late_reaches_the_endpoints() -> None:
    async with cluster_of_pods() as (cluster, pods):
        await cluster.client.create(SERVICES, service(trafficDistribution="PreferSameZone"))
        await pods.create("p", "10.1.0.1", node="n3", labels=APP)
        [found] = await until(cluster, "10.1.0.1")
        assert "zone" not in found
        assert "hints" not in found
        await patch(cluster, NODES, "n3", {"metadata": {"labels": {"topology.kubernetes.io/zone": "c"}}})

        async def zoned() -> bool:
            return [(e.get("zone"), e.get("hints")) for e in await endpoints(cluster)] == [
                ("c", {"forZones": [{"name": "c"}]})
            ]

        await eventually(zoned)


async def test_what_others_do_to_a_slice_is_undone() -> None:
    async with cluster_of_pods() as (cluster, pods):
        await cluster.client.create(SERVICES, service())
        await pods.create("p", "10.1.0.1", node="n1", labels=APP)
        await until(cluster, "10.1.0.1")
        [before] = await slices(cluster)
        name = before["metadata"]["name"]
        await patch(cluster, ENDPOINT_SLICES, name, {"endpoints": []})
        await until(cluster, "10.1.0.1")
        await patch(cluster, ENDPOINT_SLICES, name, {"metadata": {"labels": {MANAGED_BY: "somebody"}}})

        async def another() -> bool:
            managers = [found["metadata"]["labels"][MANAGED_BY] for found in await slices(cluster)]
            return sorted(managers) == ["endpointslice-controller.k8s.io", "somebody"]

        await eventually(another)
        await cluster.client.delete(ENDPOINT_SLICES, name, "default")
        await until(cluster, "10.1.0.1")
        [ours] = await slices(cluster)
        await cluster.client.delete(ENDPOINT_SLICES, ours["metadata"]["name"], "default")

        async def recreated() -> bool:
            return [found["metadata"]["uid"] for found in await slices(cluster)] not in (
                [],
                [ours["metadata"]["uid"]],
            )

        await eventually(recreated)


@pytest.mark.parametrize("notes", [{}, {"service.kubernetes.io/topology-mode": "Auto"}])
async def test_whatever_others_write_into_a_slice_is_undone(notes: dict[str, str]) -> None:
    async with cluster_of_pods() as (cluster, pods):
        asking = service()
        asking["metadata"]["annotations"] = notes
        await cluster.client.create(SERVICES, asking)
        await pods.create("p", "10.1.0.1", node="n1", labels=APP)
        [before] = await until(cluster, "10.1.0.1")
        [found] = await slices(cluster)
        odd = [
            {"addresses": ["10.1.0.1"], "hints": {"forZones": [{}]}},
            {
                "addresses": ["10.6.6.6"],
                "targetRef": {},
                "conditions": {"ready": True},
                "hints": {"forZones": []},
            },
        ]
        ports = [
            {"name": "odd"},
            {"name": "x", "port": 1, "protocol": "UDP", "appProtocol": "kubernetes.io/h2c"},
        ]
        await patch(cluster, ENDPOINT_SLICES, found["metadata"]["name"], {"endpoints": odd, "ports": ports})

        async def restored() -> bool:
            return await endpoints(cluster) == [before]

        await eventually(restored)


async def test_a_service_that_stops_selecting_keeps_its_slices_as_they_are() -> None:
    async with cluster_of_pods() as (cluster, pods):
        await cluster.client.create(SERVICES, service())
        await pods.create("p", "10.1.0.1", node="n1", labels=APP)
        await until(cluster, "10.1.0.1")
        await patch(cluster, SERVICES, "web", {"spec": {"selector": None}})
        await cluster.client.create(
            SERVICES, {**service(), "metadata": {"name": "other", "namespace": "default"}}
        )

        async def other_has(count: int) -> bool:
            found = await cluster.items(ENDPOINT_SLICES, label_selector="kubernetes.io/service-name=other")
            return sum(len(each["endpoints"] or ()) for each in found) == count

        await eventually(lambda: other_has(1))  # whoever has seen this Service has seen the other's change
        await pods.create("q", "10.1.0.2", node="n1", labels=APP)
        await eventually(lambda: other_has(2))
        by = "endpointslice-controller.k8s.io"  # what is left of its Endpoints may be mirrored beside
        own = [each for each in await slices(cluster) if each["metadata"]["labels"][MANAGED_BY] == by]
        assert [endpoint["addresses"] for each in own for endpoint in each["endpoints"]] == [["10.1.0.1"]]


async def test_topology_mode_auto_is_told_when_it_begins_and_why_it_cannot() -> None:
    async with cluster_of_pods() as (cluster, pods):
        await cluster.client.delete(NODES, "n3")
        notes = {"service.kubernetes.io/topology-mode": "Auto"}
        asking = service()
        asking["metadata"]["annotations"] = notes
        await cluster.client.create(SERVICES, asking)
        await pods.create("p1", "10.1.0.1", node="n1", labels=APP)
        await until(cluster, "10.1.0.1")
        too_few = "Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4"

        async def complained() -> bool:
            return too_few in await told(cluster, "TopologyAwareHintsDisabled")

        await eventually(complained)
        await pods.create("p2", "10.1.0.2", node="n1", labels=APP)
        for_zones = await eventually(lambda: zones_hinted(cluster, 2))
        assert for_zones == ["a", "b"]
        assert await eventually(lambda: told(cluster, "TopologyAwareHintsEnabled")) == [
            "Topology Aware Hints has been enabled, addressType: IPv4"
        ]
        await pods.add_node("zoneless")
        await eventually(lambda: no_hints(cluster))
        await cluster.client.delete(NODES, "zoneless")
        await eventually(lambda: zones_hinted(cluster, 2))


async def zones_hinted(cluster: ControlledCluster, count: int) -> list[str]:
    hints = [endpoint.get("hints") or {} for endpoint in await endpoints(cluster)]
    zones = sorted(zone["name"] for hint in hints for zone in hint.get("forZones", ()))
    return zones if len(zones) == count else []


async def no_hints(cluster: ControlledCluster) -> bool:
    return not any("hints" in endpoint for endpoint in await endpoints(cluster))


async def test_a_burst_of_pods_is_a_handful_of_writes() -> None:
    """Forty pods turn ready one after the other, and what happens within a second is one write."""
    async with cluster_of_pods(endpoint_updates_batch_period=timedelta(seconds=1)) as (cluster, pods):
        await cluster.client.create(SERVICES, service())
        await eventually(lambda: slices(cluster))
        ips = [f"10.1.0.{n}" for n in range(10, 50)]
        for number, ip in enumerate(ips):
            await pods.create(f"p{number}", ip, node="n1", labels=APP)
        await until(cluster, *ips)
        [found] = await slices(cluster)
        assert found["metadata"]["generation"] < 20


# --- Endpoints


async def test_endpoints_follow_readiness_and_leave_terminating_pods_out() -> None:
    async with cluster_of_pods() as (cluster, pods):
        await cluster.client.create(SERVICES, service())
        await pods.create("p", "10.1.0.1", node="n1", labels=APP)
        await pods.create("q", "10.1.0.2", node="n1", labels=APP, ready=False)

        async def kinds() -> list[tuple[str, list[str]]]:
            return [
                (kind, [address["ip"] for address in found[kind]])
                for found in await subsets(cluster)
                for kind in ("addresses", "notReadyAddresses")
                if kind in found
            ]

        async def as_expected(*expected: tuple[str, list[str]]) -> None:
            async def reached() -> bool:
                return await kinds() == list(expected)

            await eventually(reached)

        await as_expected(("addresses", ["10.1.0.1"]), ("notReadyAddresses", ["10.1.0.2"]))
        await pods.begin_deletion("p")
        await as_expected(("notReadyAddresses", ["10.1.0.2"]))
        await patch(cluster, SERVICES, "web", {"spec": {"publishNotReadyAddresses": True}})
        await as_expected(("addresses", ["10.1.0.1", "10.1.0.2"]))


async def test_endpoints_without_a_service_are_swept_at_the_start_but_not_records_of_elections() -> None:
    async with cluster_of_pods() as (cluster, _):
        await cluster.stop_controllers()
        leader = {"control-plane.alpha.kubernetes.io/leader": "{}"}
        for name, annotations in (("orphan", {}), ("election", leader)):
            metadata = {"name": name, "namespace": "default", "annotations": annotations}
            await cluster.client.create(ENDPOINTS, {"metadata": metadata})
        start_anew(cluster)

        async def swept() -> bool:
            names = {found["metadata"]["name"] for found in await cluster.items(ENDPOINTS)}
            return "election" in names and "orphan" not in names

        await eventually(swept)


async def test_endpoints_changed_or_deleted_by_hand_come_back() -> None:
    async with cluster_of_pods() as (cluster, pods):
        await cluster.client.create(SERVICES, service())
        await pods.create("p", "10.1.0.1", node="n1", labels=APP)
        wanted = await eventually(lambda: subsets(cluster))
        await patch(cluster, ENDPOINTS, "web", {"subsets": None})
        assert await eventually(lambda: subsets(cluster)) == wanted
        await cluster.client.delete(ENDPOINTS, "web", "default")
        assert await eventually(lambda: subsets(cluster)) == wanted


async def test_controllers_that_start_again_find_nothing_to_write() -> None:
    async with cluster_of_pods() as (cluster, pods):
        await cluster.client.create(SERVICES, service())
        await pods.create("p", "10.1.0.1", node="n1", labels=APP)
        await until(cluster, "10.1.0.1")
        await eventually(lambda: subsets(cluster))
        plain = {**service(selector=None), "metadata": {"name": "plain", "namespace": "default"}}
        await cluster.client.create(SERVICES, plain)
        made = hand_made(name="plain")
        await cluster.client.create(ENDPOINTS, made)

        async def versions() -> list[str]:
            found = [*await cluster.items(ENDPOINT_SLICES), *await cluster.items(ENDPOINTS)]
            return sorted(
                f"{each['metadata']['uid']} {each['metadata']['resourceVersion']}" for each in found
            )

        async def all_there() -> bool:
            return len(await cluster.items(ENDPOINT_SLICES)) == 3

        await eventually(all_there)
        await cluster.stop_controllers()
        before = await versions()
        start_anew(cluster)
        await cluster.manager.wait_until_synced()
        await asyncio.wait_for(_idle(cluster), 60)
        assert await versions() == before


def start_anew(cluster: ControlledCluster) -> None:
    """Controllers that remember nothing, as after a restart."""
    cluster.manager = ControllerManager(cluster.controllers, ca_pem=cluster.api.ca_pem)
    cluster.start_controllers()


async def _idle(cluster: ControlledCluster) -> None:
    """Until no loop has anything queued, delayed or in hand."""
    names = ("endpointslice", "endpoints", "endpointslicemirroring")
    loops = [cluster.manager.controllers[name].loop for name in names]  # type: ignore[attr-defined]
    while not all(loop.queue.idle for loop in loops):
        await asyncio.sleep(0.02)
