"""ReplicationControllers, StatefulSets, DaemonSets and Jobs against the real API server with puppet nodes."""

from __future__ import annotations

from nodeport.api.meta import JsonObject, controller_of
from nodeport.api.resources import (
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    EVENTS,
    NODES,
    PODS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from nodeport.client.cache import Change
from nodeport.client.rest import STRATEGIC_MERGE_PATCH
from nodeport.controllers.selection import is_ready
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


# --- StatefulSets

STATEFUL: JsonObject = {
    "metadata": {"name": "db", "namespace": "default"},
    "spec": {
        "replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE,
    },
}  # fmt: skip


def with_image(image: str) -> JsonObject:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}


async def is_rolled_out(cluster: ControlledCluster, replicas: int) -> bool:
    """What kubectl rollout status waits for."""
    found = await cluster.client.get(STATEFUL_SETS, "db", "default")
    status = found["status"]
    return (
        status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        and status.get("readyReplicas", 0) == status.get("updatedReplicas", 0) == replicas
        and status["replicas"] == replicas
        and status["updateRevision"] == status["currentRevision"]
    )


async def test_a_stateful_sets_pods_have_lasting_names_and_follow_each_other() -> None:
    async with controlled_cluster() as cluster:
        order: list[str] = []

        def note(change: Change) -> None:
            if change.old is None and change.new is not None:
                order.append(change.new["metadata"]["name"])

        cluster.manager.informers[PODS].subscribe(note)
        await cluster.client.create(STATEFUL_SETS, STATEFUL)
        await eventually(lambda: is_rolled_out(cluster, 3))
        assert order == ["db-0", "db-1", "db-2"]
        for pod in await cluster.items(PODS):
            name = pod["metadata"]["name"]
            assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (name, "db")
            assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == name[-1]
        first = await cluster.client.get(PODS, "db-1", "default")
        await cluster.client.delete(PODS, "db-1", "default")

        async def again() -> bool:
            found = [p for p in await cluster.items(PODS) if p["metadata"]["name"] == "db-1"]
            return bool(found) and found[0]["metadata"]["uid"] != first["metadata"]["uid"]

        await eventually(again)
        scale = {"spec": {"replicas": 1}}
        await cluster.client.patch(STATEFUL_SETS, "db", scale, "default", subresource="scale")
        await eventually(lambda: is_rolled_out(cluster, 1))
        assert await names(cluster) == ["db-0"]


async def test_a_stateful_set_is_updated_from_the_top_and_rolled_back() -> None:
    async with controlled_cluster() as cluster:
        gone: list[str] = []

        def note(change: Change) -> None:
            if change.new is None:
                gone.append(change.object["metadata"]["name"])

        cluster.manager.informers[PODS].subscribe(note)
        await cluster.client.create(STATEFUL_SETS, STATEFUL)
        await eventually(lambda: is_rolled_out(cluster, 3))
        held = {"spec": {**with_image("v2")["spec"], "updateStrategy": {"rollingUpdate": {"partition": 2}}}}
        patch = cluster.client.patch
        await patch(STATEFUL_SETS, "db", held, "default", content_type=STRATEGIC_MERGE_PATCH)

        async def images() -> list[str]:
            pods = sorted(await cluster.items(PODS), key=lambda p: str(p["metadata"]["name"]))
            return [pod["spec"]["containers"][0]["image"] for pod in pods]

        async def only_the_last() -> bool:
            return await images() == ["v1", "v1", "v2"]

        await eventually(only_the_last)
        await cluster.client.delete(PODS, "db-0", "default")
        await eventually(only_the_last)
        free = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
        await patch(STATEFUL_SETS, "db", free, "default")
        await eventually(lambda: is_rolled_out(cluster, 3))
        assert await images() == ["v2"] * 3
        assert gone == ["db-2", "db-0", "db-1", "db-0"]
        revisions = await cluster.items(CONTROLLER_REVISIONS)
        assert sorted(found["revision"] for found in revisions) == [1, 2]
        [first] = [found for found in revisions if found["revision"] == 1]
        await patch(STATEFUL_SETS, "db", first["data"], "default", content_type=STRATEGIC_MERGE_PATCH)
        await eventually(lambda: is_rolled_out(cluster, 3))
        assert await images() == ["v1"] * 3
        revisions = await cluster.items(CONTROLLER_REVISIONS)
        assert sorted(found["revision"] for found in revisions) == [2, 3]


async def test_orphaned_pods_and_revisions_find_their_way_back_to_a_stateful_set() -> None:
    async with controlled_cluster() as cluster:
        parallel = {**STATEFUL, "spec": {**STATEFUL["spec"], "podManagementPolicy": "Parallel"}}
        await cluster.client.create(STATEFUL_SETS, parallel)
        await eventually(lambda: is_rolled_out(cluster, 3))
        before = {pod["metadata"]["uid"] for pod in await cluster.items(PODS)}
        await cluster.client.delete(STATEFUL_SETS, "db", "default", propagation_policy="Orphan")

        async def free() -> bool:
            return not await cluster.items(STATEFUL_SETS)

        await eventually(free)
        await cluster.client.create(STATEFUL_SETS, parallel)
        await eventually(lambda: is_rolled_out(cluster, 3))
        assert {pod["metadata"]["uid"] for pod in await cluster.items(PODS)} == before
        assert len(await cluster.items(CONTROLLER_REVISIONS)) == 1
        await cluster.client.delete(STATEFUL_SETS, "db", "default", propagation_policy="Foreground")

        async def empty() -> bool:
            kinds = (STATEFUL_SETS, PODS, CONTROLLER_REVISIONS)
            return not any([await cluster.items(kind) for kind in kinds])

        await eventually(empty)


# --- DaemonSets

DAEMONS: JsonObject = {
    "metadata": {"name": "agent", "namespace": "default"},
    "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE},
}


async def daemons(cluster: ControlledCluster) -> dict[str, str]:
    """Node -> image of the one daemon there."""
    pods = [pod for pod in await cluster.items(PODS) if pod["spec"].get("nodeName")]
    found = {pod["spec"]["nodeName"]: pod["spec"]["containers"][0]["image"] for pod in pods}
    assert len(found) == len(pods), "one pod a node"
    return found


async def has_daemons(cluster: ControlledCluster, image: str, *nodes: str) -> bool:
    found = await cluster.client.get(DAEMON_SETS, "agent", "default")
    status, count = found["status"], len(nodes)
    return (
        await daemons(cluster) == dict.fromkeys(nodes, image)
        and status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        and [
            status.get(name, 0)
            for name in ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        ]
        == [count] * 3
    )


async def test_a_daemon_runs_on_every_node_that_comes_and_fits() -> None:
    async with controlled_cluster(nodes=2) as cluster:
        await cluster.client.create(DAEMON_SETS, DAEMONS)
        await eventually(lambda: has_daemons(cluster, "v1", "node-1", "node-2"))
        await cluster.nodes.add("node-3")
        await eventually(lambda: has_daemons(cluster, "v1", "node-1", "node-2", "node-3"))
        drive = {"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}
        await cluster.client.patch(NODES, "node-2", drive)
        await eventually(lambda: has_daemons(cluster, "v1", "node-1", "node-3"))
        await cluster.client.patch(NODES, "node-2", {"spec": {"taints": None, "unschedulable": True}})
        await eventually(lambda: has_daemons(cluster, "v1", "node-1", "node-2", "node-3"))


async def test_a_daemon_set_is_updated_node_by_node_and_rolled_back() -> None:
    async with controlled_cluster(nodes=3) as cluster:
        await cluster.client.create(DAEMON_SETS, DAEMONS)
        nodes = ("node-1", "node-2", "node-3")
        await eventually(lambda: has_daemons(cluster, "v1", *nodes))
        patch, least = cluster.client.patch, 3
        await patch(DAEMON_SETS, "agent", with_image("v2"), "default", content_type=STRATEGIC_MERGE_PATCH)
        while not await has_daemons(cluster, "v2", *nodes):
            pods = [pod for pod in await cluster.items(PODS) if is_ready(pod)]
            least = min(least, len(pods))
        assert least >= 2
        revisions = await cluster.items(CONTROLLER_REVISIONS)
        [first] = [found for found in revisions if found["revision"] == 1]
        await patch(DAEMON_SETS, "agent", first["data"], "default", content_type=STRATEGIC_MERGE_PATCH)
        await eventually(lambda: has_daemons(cluster, "v1", *nodes))
        surge = {"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "50%"}}}}
        await patch(DAEMON_SETS, "agent", surge, "default")
        await patch(DAEMON_SETS, "agent", with_image("v3"), "default", content_type=STRATEGIC_MERGE_PATCH)

        async def all_new() -> bool:
            pods = await cluster.items(PODS)
            images = [pod["spec"]["containers"][0]["image"] for pod in pods]
            assert sum(is_ready(pod) for pod in pods) >= 3
            return images == ["v3"] * 3

        await eventually(all_new)
        await cluster.client.delete(DAEMON_SETS, "agent", "default")

        async def empty() -> bool:
            return not (await cluster.items(PODS) or await cluster.items(CONTROLLER_REVISIONS))

        await eventually(empty)
