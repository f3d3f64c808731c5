"""A Service of 5,000 pods: how many writes its slices take, counted at the controllers' own client."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES, Resource
from nodeport.apiserver.encoding import encode_stored, key_of
from nodeport.client.rest import RestClient
from nodeport.store.base import Put
from nodeport.store.memory import MemoryStore
from nodeport.testing.apipods import ApiPods, ready_condition
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

MANY = 5000
APP = {"app": "web"}
SERVICE = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"selector": APP, "ports": [{"port": 80, "targetPort": 8080}]},
}


def ip_of(number: int) -> str:
    return f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def stored_pod(number: int) -> JsonObject:
    name, ip = f"web-{number}", ip_of(number)
    metadata = {
        "name": name, "namespace": "default", "uid": f"uid-{number}", "labels": APP,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    status = {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready_condition(ready=True)],
    }  # fmt: skip
    containers = [{"name": "c", "image": "none"}]
    spec = {"nodeName": "n1", "containers": containers, "terminationGracePeriodSeconds": 30}
    return {"metadata": metadata, "spec": spec, "status": status}


class Writes:
    """Counts what passes through a client to one resource."""

    def __init__(self, client: RestClient, resource: Resource) -> None:
        self.counts: Counter[str] = Counter()
        for verb in ("create", "update", "delete"):
            setattr(client, verb, self._counting(verb, getattr(client, verb), resource))

    def _counting(
        self, verb: str, call: Callable[..., Coroutine[Any, Any, Any]], counted: Resource
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(call)
        async def counting(resource: Resource, *args: Any, **options: Any) -> Any:
            if resource is counted:
                self.counts[verb] += 1
            return await call(resource, *args, **options)

        return counting

    def take(self) -> dict[str, int]:
        """The counts since the last time."""
        taken = dict(self.counts)
        self.counts.clear()
        return taken


@asynccontextmanager
async def cluster_of_many() -> AsyncIterator[tuple[ControlledCluster, ApiPods, Writes]]:
    """5,000 ready pods on one node, and no Service yet."""
    store = MemoryStore()
    pods = [Put(key_of(PODS, "default", f"web-{n}"), encode_stored(stored_pod(n))) for n in range(MANY)]
    for start in range(0, MANY, 500):
        await store.commit(pods[start : start + 500])
    grace = timedelta(hours=1)
    async with controlled_cluster(0, store=store, node_monitor_grace=grace) as cluster:
        writes = Writes(cluster.controllers, ENDPOINT_SLICES)
        made = ApiPods(cluster.client)
        await made.add_node("n1", "a")
        yield cluster, made, writes
    await store.close()


async def shown(cluster: ControlledCluster) -> set[tuple[str, bool]]:
    """Every endpoint's address and whether it is ready."""
    found = await cluster.items(ENDPOINT_SLICES, label_selector="kubernetes.io/service-name=web")
    return {
        (endpoint["addresses"][0], endpoint["conditions"]["ready"])
        for each in found
        for endpoint in each["endpoints"] or ()
    }


async def settled(cluster: ControlledCluster, expected: set[tuple[str, bool]]) -> None:
    """Until the slices show ``expected`` and their controller has nothing more to look at."""
    loop = cluster.manager.controllers["endpointslice"].loop  # type: ignore[attr-defined]

    async def reached() -> bool:
        return loop.queue.idle and await shown(cluster) == expected

    await eventually(reached, deadline=120)


async def test_five_thousand_pods_are_fifty_creations_and_each_later_change_is_one_write() -> None:
    async with cluster_of_many() as (cluster, pods, writes):
        everyone = {(ip_of(number), True) for number in range(MANY)}
        await cluster.client.create(SERVICES, SERVICE)
        await settled(cluster, everyone)
        assert writes.take() == {"create": 50}
        await pods.set_ready("web-7", ready=False)
        everyone = everyone - {(ip_of(7), True)} | {(ip_of(7), False)}
        await settled(cluster, everyone)
        assert writes.take() == {"update": 1}
        await pods.remove("web-4999")
        everyone -= {(ip_of(4999), True)}
        await settled(cluster, everyone)
        assert writes.take() == {"update": 1}
        await pods.create("late", "10.99.0.1", node="n1", labels=APP)
        everyone |= {("10.99.0.1", True)}
        await settled(cluster, everyone)
        assert sum(writes.take().values()) <= 2, "the pod is not ready for a moment"
        endpoints = await cluster.client.get(ENDPOINTS, "web", "default")
        [subset] = endpoints["subsets"]
        assert len(subset["addresses"]) == 1000
        assert endpoints["metadata"]["annotations"]["endpoints.kubernetes.io/over-capacity"] == "truncated"


async def test_a_rolling_replacement_takes_far_fewer_writes_than_pods() -> None:
    """400 of 5,000 are replaced as fast as the server takes it, 20 at a time."""
    async with cluster_of_many() as (cluster, pods, writes):
        await cluster.client.create(SERVICES, SERVICE)
        await settled(cluster, {(ip_of(number), True) for number in range(MANY)})
        writes.take()
        replaced = 400

        async def replace(number: int) -> None:
            fresh = MANY + number
            await pods.create(f"web-{fresh}", ip_of(fresh), node="n1", labels=APP)
            await pods.remove(f"web-{number}")

        for start in range(0, replaced, 20):
            await asyncio.gather(*(replace(number) for number in range(start, start + 20)))
        await settled(cluster, {(ip_of(number), True) for number in range(replaced, MANY + replaced)})
        assert sum(writes.take().values()) < replaced / 2
