"""Evictions against a PodDisruptionBudget that its controller keeps."""

from __future__ import annotations

import pytest

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.api.resources import DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS
from nodeport.api.status import TooManyRequests
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

SELECTOR = {"matchLabels": {"app": "web"}}
DEPLOYMENT = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "replicas": 3, "selector": SELECTOR,
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}},
    },
}  # fmt: skip
BUDGET = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"maxUnavailable": 1, "selector": SELECTOR},
}


async def budget(cluster: ControlledCluster) -> JsonObject:
    found: JsonObject = (await cluster.client.get(POD_DISRUPTION_BUDGETS, "web", "default")).get(
        "status"
    ) or {}
    return found


async def allows(cluster: ControlledCluster, count: int) -> bool:
    status = await budget(cluster)
    return status.get("disruptionsAllowed") == count and status.get("expectedPods") == 3


async def evict(cluster: ControlledCluster, name: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    await cluster.client.create_subresource(PODS, name, "default", "eviction", body)


async def test_one_pod_at_a_time_may_be_evicted() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(DEPLOYMENTS, DEPLOYMENT)
        await cluster.client.create(POD_DISRUPTION_BUDGETS, BUDGET)
        await eventually(lambda: allows(cluster, 1))
        names = sorted(
            pod["metadata"]["name"] for pod in (await cluster.client.list(PODS, "default"))["items"]
        )
        await evict(cluster, names[0])
        with pytest.raises(TooManyRequests) as refused:
            await evict(cluster, names[1])
        assert refused.value.causes[0].reason == "DisruptionBudget"

        async def is_replaced() -> bool:
            pods = (await cluster.client.list(PODS, "default"))["items"]
            living = [pod["metadata"]["name"] for pod in pods if not is_being_deleted(pod)]
            return len(living) == 3 and names[0] not in living

        await eventually(is_replaced)
        await eventually(lambda: allows(cluster, 1))
        assert "disruptedPods" not in await budget(cluster)
        await evict(cluster, names[1])
