"""ReplicationControllers, StatefulSets, DaemonSets and Jobs against the real API server with puppet nodes."""

from __future__ import annotations

from nodeport.api.meta import JsonObject, controller_of
from nodeport.api.resources import EVENTS, PODS, REPLICATION_CONTROLLERS
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

TEMPLATE: JsonObject = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "v1"}], "terminationGracePeriodSeconds": 0},
}
RC: JsonObject = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"replicas": 2, "template": TEMPLATE},
}


async def names(cluster: ControlledCluster) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in await cluster.items(PODS))


async def replicated(cluster: ControlledCluster, replicas: int) -> bool:
    found = await cluster.client.get(REPLICATION_CONTROLLERS, "web", "default")
    status = found["status"]
    return (
        status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        and [status.get(name, 0) for name in ("replicas", "readyReplicas", "availableReplicas")]
        == [replicas] * 3
        and len(await names(cluster)) == replicas
    )


async def test_a_replication_controller_keeps_its_number_of_pods() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(REPLICATION_CONTROLLERS, RC)
        await eventually(lambda: replicated(cluster, 2))
        [owner] = {controller_of(pod)["kind"] for pod in await cluster.items(PODS)}  # type: ignore[index]
        assert owner == "ReplicationController"
        await cluster.client.delete(PODS, (await names(cluster))[0], "default")
        await eventually(lambda: replicated(cluster, 2))
        for replicas in (1, 3):
            patch = {"spec": {"replicas": replicas}}
            await cluster.client.patch(REPLICATION_CONTROLLERS, "web", patch, "default", subresource="scale")
            await eventually(lambda wanted=replicas: replicated(cluster, wanted))
        wanted = {"SuccessfulCreate", "SuccessfulDelete"}

        async def told() -> bool:
            events = await cluster.items(EVENTS)
            return {e["reason"] for e in events if e["involvedObject"]["kind"] == RC_KIND} >= wanted

        await eventually(told)


RC_KIND = REPLICATION_CONTROLLERS.kind


async def test_a_relabelled_pod_is_released_and_replaced() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(REPLICATION_CONTROLLERS, RC)
        await eventually(lambda: replicated(cluster, 2))
        loose = (await names(cluster))[0]
        await cluster.client.patch(PODS, loose, {"metadata": {"labels": {"app": "other"}}}, "default")

        async def let_go() -> bool:
            found = await cluster.client.get(PODS, loose, "default")
            return controller_of(found) is None and len(await names(cluster)) == 3

        await eventually(let_go)


async def test_a_deleted_replication_controller_leaves_its_pods_to_the_next() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(REPLICATION_CONTROLLERS, RC)
        await eventually(lambda: replicated(cluster, 2))
        before = await names(cluster)
        await cluster.client.delete(REPLICATION_CONTROLLERS, "web", "default")

        async def free() -> bool:
            gone = not await cluster.items(REPLICATION_CONTROLLERS)
            return gone and all(controller_of(pod) is None for pod in await cluster.items(PODS))

        await eventually(free)
        assert await names(cluster) == before
        await cluster.client.create(REPLICATION_CONTROLLERS, RC)
        await eventually(lambda: replicated(cluster, 2))
        assert await names(cluster) == before
        await cluster.client.delete(
            REPLICATION_CONTROLLERS, "web", "default", propagation_policy="Background"
        )

        async def empty() -> bool:
            return not await names(cluster)

        await eventually(empty)
