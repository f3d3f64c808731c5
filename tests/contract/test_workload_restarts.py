"""Controllers that are stopped in the middle of their work, and started again, neither repeat nor forget any."""

from __future__ import annotations

from contextlib import suppress

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.api.resources import DAEMON_SETS, JOBS, PODS, STATEFUL_SETS
from nodeport.api.status import NotFound
from nodeport.client.rest import STRATEGIC_MERGE_PATCH
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

TEMPLATE: JsonObject = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
ONCE: JsonObject = {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}
SELECTOR: JsonObject = {"matchLabels": {"app": "web"}}
RESTARTS = 5


async def restart(cluster: ControlledCluster) -> None:
    await cluster.stop_controllers()
    cluster.start_controllers()
    await cluster.manager.wait_until_synced()


async def end_pods(cluster: ControlledCluster) -> None:
    for pod in await cluster.items(PODS):
        if pod["status"].get("phase") == "Running" and not is_being_deleted(pod):
            with suppress(NotFound):
                await cluster.client.patch(
                    PODS, pod["metadata"]["name"], {"status": {"phase": "Succeeded"}}, "default",
                    content_type=STRATEGIC_MERGE_PATCH, subresource="status",
                )  # fmt: skip


async def test_a_job_counts_each_pod_once_however_often_its_controller_is_restarted() -> None:
    async with controlled_cluster() as cluster:
        spec = {"template": ONCE, "completions": 8, "parallelism": 3}
        await cluster.client.create(JOBS, {"metadata": {"name": "j", "namespace": "default"}, "spec": spec})
        for _ in range(RESTARTS):
            await restart(cluster)
            await end_pods(cluster)

        async def complete() -> bool:
            await end_pods(cluster)
            found = await cluster.client.get(JOBS, "j", "default")
            types = {each["type"] for each in found["status"].get("conditions") or []}
            return "Complete" in types and bool(found["status"]["succeeded"] == 8)

        await eventually(complete)
        pods = await cluster.items(PODS)
        assert len(pods) == 8
        assert not any(pod["metadata"].get("finalizers") for pod in pods)


async def test_sets_end_up_the_same_however_often_their_controllers_are_restarted() -> None:
    async with controlled_cluster(nodes=3) as cluster:
        base = {"selector": SELECTOR, "template": TEMPLATE}
        meta = {"name": "web", "namespace": "default"}
        daemon: JsonObject = {"matchLabels": {"app": "agent"}}
        labelled = {**TEMPLATE, "metadata": {"labels": {"app": "agent"}}}
        await cluster.client.create(STATEFUL_SETS, {"metadata": meta, "spec": {**base, "replicas": 4}})
        await cluster.client.create(
            DAEMON_SETS, {"metadata": meta, "spec": {"selector": daemon, "template": labelled}}
        )
        for _ in range(RESTARTS):
            await restart(cluster)

        async def settled() -> bool:
            stateful = await cluster.items(PODS, label_selector="app=web")
            daemons = await cluster.items(PODS, label_selector="app=agent")
            names = sorted(pod["metadata"]["name"] for pod in stateful)
            nodes = sorted(pod["spec"].get("nodeName", "") for pod in daemons)
            ready = (await cluster.client.get(STATEFUL_SETS, "web", "default"))["status"].get("readyReplicas")
            return (
                names == [f"web-{n}" for n in range(4)]
                and nodes == ["node-1", "node-2", "node-3"]
                and bool(ready == 4)
            )

        await eventually(settled)
