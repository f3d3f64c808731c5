"""The controllers against the real API server: what users see happen after they write something."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from nodeport.api.meta import JsonObject, controller_of, is_being_deleted
from nodeport.api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from nodeport.api.status import Forbidden, NotFound
from nodeport.client.rest import STRATEGIC_MERGE_PATCH
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {
        "containers": [{"name": "c", "image": "v1", "ports": [{"name": "http", "containerPort": 8080}]}]
    },
}
DEPLOYMENT = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE},
}
SERVICE = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
}


async def available(cluster: ControlledCluster, replicas: int) -> bool:
    """What kubectl rollout status waits for."""
    found = await cluster.client.get(DEPLOYMENTS, "web", "default")
    status = found.get("status") or {}
    return bool(
        status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        and all(
            status.get(field, 0) == replicas for field in ("replicas", "updatedReplicas", "availableReplicas")
        )
    )


async def living_pods(cluster: ControlledCluster) -> list[JsonObject]:
    """Those that the status of their owner counts, too."""
    return [pod for pod in await cluster.items(PODS) if not is_being_deleted(pod)]


async def slice_addresses(cluster: ControlledCluster, *, ready: bool = True) -> list[str]:
    selector = "kubernetes.io/service-name=web"
    slices = await cluster.items(ENDPOINT_SLICES, label_selector=selector)
    return sorted(
        address
        for found in slices
        for endpoint in found["endpoints"] or []
        for address in endpoint["addresses"]
        if endpoint["conditions"]["ready"] is ready
    )


async def scale(cluster: ControlledCluster, replicas: int) -> None:
    await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": replicas}}, "default")


async def test_a_deployment_and_a_service_become_pods_on_nodes_and_endpoints() -> None:
    async with controlled_cluster(nodes=3) as cluster:
        await cluster.client.create(SERVICES, SERVICE)
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await eventually(lambda: available(cluster, 3))
        pods = await cluster.items(PODS)
        assert Counter(pod["spec"]["nodeName"] for pod in pods) == {"node-1": 1, "node-2": 1, "node-3": 1}
        ips = sorted(pod["status"]["podIP"] for pod in pods)

        async def shown() -> bool:
            return await slice_addresses(cluster) == ips

        await eventually(shown)
        [found] = await cluster.items(ENDPOINT_SLICES, label_selector="kubernetes.io/service-name=web")
        assert found["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
        assert found["endpoints"][0]["nodeName"].startswith("node-")

        async def told() -> bool:
            endpoints = {each["metadata"]["name"]: each for each in await cluster.items(ENDPOINTS)}
            [subset] = (endpoints.get("web") or {}).get("subsets") or [{}]
            return sorted(address["ip"] for address in subset.get("addresses") or []) == ips

        await eventually(told)


async def test_scaling_and_deleting_pods_is_answered_without_a_duplicate() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(SERVICES, SERVICE)
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await eventually(lambda: available(cluster, 3))
        for replicas in (1, 5):
            await scale(cluster, replicas)
            await eventually(lambda wanted=replicas: available(cluster, wanted))
            assert len(await living_pods(cluster)) == replicas

            async def shown(wanted: int = replicas) -> bool:
                return len(await slice_addresses(cluster)) == wanted

            await eventually(shown)
        victim = (await cluster.items(PODS))[0]["metadata"]["name"]
        await cluster.client.delete(PODS, victim, "default")

        async def replaced() -> bool:
            names = [pod["metadata"]["name"] for pod in await cluster.items(PODS)]
            return len(names) == 5 and victim not in names

        await eventually(replaced)
        await eventually(lambda: available(cluster, 5))


async def test_a_new_template_rolls_out_within_its_bounds() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await eventually(lambda: available(cluster, 3))
        changed = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}}
        await cluster.client.patch(DEPLOYMENTS, "web", changed, "default", content_type=STRATEGIC_MERGE_PATCH)
        most = 0
        while not await available(cluster, 3):
            most = max(most, len(await living_pods(cluster)))
            await asyncio.sleep(0.01)
        assert most <= 4
        images = {pod["spec"]["containers"][0]["image"] for pod in await living_pods(cluster)}
        assert images == {"v2"}
        found = await cluster.client.get(DEPLOYMENTS, "web", "default")
        assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
        reasons = {condition["type"]: condition["reason"] for condition in found["status"]["conditions"]}
        assert reasons == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}
        sets = await cluster.items(REPLICA_SETS)
        assert sorted(found["spec"]["replicas"] for found in sets) == [0, 3]


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_deleting_a_deployment_takes_all_it_made_along(policy: str) -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await eventually(lambda: available(cluster, 3))
        await cluster.client.delete(DEPLOYMENTS, "web", "default", propagation_policy=policy)

        async def empty() -> bool:
            kinds = (DEPLOYMENTS, REPLICA_SETS, PODS)
            return not any([await cluster.items(kind) for kind in kinds])

        await eventually(empty)


async def test_orphaned_pods_live_and_are_adopted_by_the_next_owner() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await eventually(lambda: available(cluster, 3))
        before = {pod["metadata"]["uid"] for pod in await cluster.items(PODS)}
        [replica_set] = await cluster.items(REPLICA_SETS)
        await cluster.client.delete(DEPLOYMENTS, "web", "default", propagation_policy="Orphan")

        async def let_go() -> bool:
            if await cluster.items(DEPLOYMENTS):
                return False
            found = await cluster.client.get(REPLICA_SETS, replica_set["metadata"]["name"], "default")
            return controller_of(found) is None

        await eventually(let_go)
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await eventually(lambda: available(cluster, 3))
        [adopted] = await cluster.items(REPLICA_SETS)
        assert adopted["metadata"]["uid"] == replica_set["metadata"]["uid"]
        assert {pod["metadata"]["uid"] for pod in await cluster.items(PODS)} == before


async def test_a_service_takes_its_slices_and_endpoints_along() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(SERVICES, SERVICE)
        selector = "kubernetes.io/service-name=web"

        async def count() -> int:
            slices = await cluster.items(ENDPOINT_SLICES, label_selector=selector)
            endpoints = [e for e in await cluster.items(ENDPOINTS) if e["metadata"]["name"] == "web"]
            return len(slices) + len(endpoints)

        async def both() -> bool:
            return await count() == 2

        async def neither() -> bool:
            return await count() == 0

        await eventually(both)
        await cluster.client.delete(SERVICES, "web", "default")
        await eventually(neither)


async def test_a_namespace_gets_its_account_and_certificate_and_goes_with_all_it_holds() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(NAMESPACES, {"metadata": {"name": "shop"}})

        async def furnished() -> bool:
            accounts = [found["metadata"]["name"] for found in await cluster.items(SERVICE_ACCOUNTS, "shop")]
            maps = [found["metadata"]["name"] for found in await cluster.items(CONFIG_MAPS, "shop")]
            return accounts == ["default"] and maps == ["kube-root-ca.crt"]

        await eventually(furnished)
        for template in (DEPLOYMENT, SERVICE):
            metadata = {"name": "web", "namespace": "shop"}
            kind = DEPLOYMENTS if template is DEPLOYMENT else SERVICES
            await cluster.client.create(kind, {**template, "metadata": metadata})
        await cluster.client.create(SECRETS, {"metadata": {"name": "s", "namespace": "shop"}})
        await eventually(lambda: cluster.items(PODS, "shop"))
        await cluster.client.delete(NAMESPACES, "shop")
        with pytest.raises((Forbidden, NotFound)):
            await cluster.client.create(SECRETS, {"metadata": {"name": "late", "namespace": "shop"}})

        async def gone() -> bool:
            try:
                await cluster.client.get(NAMESPACES, "shop")
            except NotFound:
                return True
            return False

        await eventually(gone)
        assert not await cluster.items(PODS, "shop")
        assert not await cluster.items(SERVICES, "shop")


async def test_a_silent_node_loses_its_endpoints_then_its_pods_and_may_come_back() -> None:
    async with controlled_cluster(node_monitor_grace=timedelta(seconds=3)) as cluster:
        await cluster.client.create(SERVICES, SERVICE)
        impatient: JsonObject = {
            **TEMPLATE["spec"],
            "tolerations": [
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}
            ],
        }  # fmt: skip
        spec = {**DEPLOYMENT["spec"], "replicas": 4, "template": {**TEMPLATE, "spec": impatient}}
        await cluster.client.create(DEPLOYMENTS, {**DEPLOYMENT, "spec": spec})
        await eventually(lambda: available(cluster, 4))
        cluster.nodes.silent.add("node-2")

        async def condition() -> Any:
            node = await cluster.client.get(NODES, "node-2")
            [ready] = [c for c in node["status"]["conditions"] if c["type"] == "Ready"]
            taints = {(taint["key"], taint["effect"]) for taint in node["spec"].get("taints") or []}
            return ready["status"], taints

        unreachable = "node.kubernetes.io/unreachable"

        async def given_up() -> bool:
            return await condition() == ("Unknown", {(unreachable, "NoSchedule"), (unreachable, "NoExecute")})

        await eventually(given_up)
        here = [pod for pod in await cluster.items(PODS) if pod["spec"]["nodeName"] == "node-1"]

        async def only_here() -> bool:
            return set(await slice_addresses(cluster)) >= {pod["status"]["podIP"] for pod in here} and not (
                set(await slice_addresses(cluster)) & {p["status"]["podIP"] for p in await on("node-2")}
            )

        async def on(node: str) -> list[JsonObject]:
            return [p for p in await cluster.items(PODS) if p["spec"].get("nodeName") == node]

        await eventually(only_here)

        async def evicted() -> bool:
            return len(await on("node-1")) == 4 and all(map(is_being_deleted, await on("node-2")))

        await eventually(evicted)
        cluster.nodes.silent.clear()
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
        await cluster.client.patch(
            NODES, "node-2", {"status": {"conditions": [ready]}},
            content_type=STRATEGIC_MERGE_PATCH, subresource="status",
        )  # fmt: skip

        async def back() -> bool:
            return await condition() == ("True", set())

        await eventually(back)


async def test_pods_of_a_node_that_no_longer_exists_are_removed() -> None:
    async with controlled_cluster(pod_quarantine=timedelta(milliseconds=300)) as cluster:
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await eventually(lambda: available(cluster, 3))
        cluster.nodes.silent.add("node-2")
        cluster.nodes.names.remove("node-2")
        await cluster.client.delete(NODES, "node-2")

        async def moved() -> bool:
            pods = await cluster.items(PODS)
            return len(pods) == 3 and {pod["spec"].get("nodeName") for pod in pods} == {"node-1"}

        await eventually(moved)


async def test_a_pod_that_fits_nowhere_says_why_and_is_placed_when_a_node_comes() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        pod = {"metadata": {"name": "lone", "namespace": "default"}, "spec": TEMPLATE["spec"]}
        await cluster.client.create(PODS, pod)

        async def refused() -> bool:
            found = await cluster.client.get(PODS, "lone", "default")
            listed = found["status"].get("conditions") or []
            return [(c["status"], c["reason"]) for c in listed] == [("False", "Unschedulable")]

        await eventually(refused)
        reasons = {event["reason"] for event in await cluster.items(EVENTS)}
        assert "FailedScheduling" in reasons
        await cluster.nodes.add("node-1")

        async def placed() -> bool:
            found = await cluster.client.get(PODS, "lone", "default")
            return bool(found["spec"].get("nodeName") == "node-1")

        await eventually(placed)


async def test_events_tell_what_the_controllers_did() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await eventually(lambda: available(cluster, 3))
        await scale(cluster, 1)
        await eventually(lambda: available(cluster, 1))
        wanted = {"ScalingReplicaSet", "SuccessfulCreate", "SuccessfulDelete", "Scheduled"}

        async def told() -> bool:
            return {event["reason"] for event in await cluster.items(EVENTS)} >= wanted

        await eventually(told)


async def test_controllers_can_be_stopped_and_started_again() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await eventually(lambda: available(cluster, 3))
        await cluster.stop_controllers()
        await scale(cluster, 1)
        assert not await available(cluster, 1)
        cluster.start_controllers()
        await eventually(lambda: available(cluster, 1))


async def test_the_controllers_queues_are_told_in_numbers() -> None:
    async with controlled_cluster(nodes=1) as cluster:
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await eventually(lambda: available(cluster, 3))
        lines = list(cluster.manager.metrics())
        samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        names = {key.partition('name="')[2].partition('"')[0] for key in samples}
        assert {"deployment", "replicaset", "endpointslice", "garbagecollector", "certificates"} <= names
        assert float(samples['workqueue_adds_total{name="deployment"}']) >= 1
        assert float(samples['workqueue_depth{name="deployment"}']) >= 0
        assert len([line for line in lines if line.startswith("# TYPE workqueue_")]) == 5
