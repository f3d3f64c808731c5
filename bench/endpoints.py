"""A Service of 5,000 pods: what planning its slices costs, and how long until followers have them all.

The plans are pure functions, timed alone. Convergence is the real API server (in memory) and the real controller: from
the creation of the Service until an informer holds all 5,000 endpoints.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from nodeport.apiserver.encoding import encode_stored, key_of
from nodeport.controllers.endpoints.reconcile import plan_endpoints
from nodeport.controllers.endpointslice.reconcile import plan_slices
from nodeport.store.base import Put
from nodeport.store.memory import MemoryStore
from nodeport.testing.apipods import ApiPods
from nodeport.testing.controlplane import controlled_cluster, eventually

PODS_COUNT = 5000
ROUNDS = 10
APP = {"app": "web"}
SPEC: JsonObject = {"selector": APP, "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]}
SERVICE: JsonObject = {"metadata": {"name": "web", "namespace": "default"}, "spec": SPEC}


def pod(number: int) -> JsonObject:
    name, ip = f"web-{number}", f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{number}", "labels": APP},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "none"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]},
    }


def best(what: Callable[[], Any]) -> float:
    """Milliseconds of the quickest of some rounds."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        what()
        taken.append(time.perf_counter() - began)
    return min(taken) * 1000


def plans(pods: list[JsonObject]) -> None:
    service = deep_copy(SERVICE)
    service["metadata"]["uid"] = "svc"
    zones = {"n1": "a"}
    made = plan_slices(service, pods, zones, [])
    found = [
        {**new, "metadata": {**new["metadata"], "name": f"web-{n}", "uid": f"{n}"}}
        for n, new in enumerate(deep_copy(list(made.create)))
    ]
    near = deep_copy(service)
    near["spec"]["trafficDistribution"] = "PreferSameZone"
    fewer = pods[1:]
    print(f"{'plan of 5,000 pods':<44}{'ms':>10}")
    for name, what in (
        ("slices, none yet", lambda: plan_slices(service, pods, zones, [])),
        ("slices, nothing to do", lambda: plan_slices(service, pods, zones, found)),
        ("slices, one pod less", lambda: plan_slices(service, fewer, zones, found)),
        ("slices, hints for all", lambda: plan_slices(near, pods, zones, found)),
        ("Endpoints", lambda: plan_endpoints(service, pods, None)),
    ):
        print(f"{name:<44}{best(what):>10.1f}")


async def convergence(pods: list[JsonObject]) -> None:
    store = MemoryStore()
    stored = [Put(key_of(PODS, "default", each["metadata"]["name"]), encode_stored(each)) for each in pods]
    for start in range(0, len(stored), 500):
        await store.commit(stored[start : start + 500])
    async with controlled_cluster(0, store=store, node_monitor_grace=timedelta(hours=1)) as cluster:
        await ApiPods(cluster.client).add_node("n1", "a")
        slices, nodes = (cluster.manager.informers[row] for row in (ENDPOINT_SLICES, NODES))
        await eventually(lambda: len(nodes))
        began = time.perf_counter()
        await cluster.client.create(SERVICES, SERVICE)
        await eventually(lambda: sum(len(found["endpoints"] or ()) for found in slices.list()) == len(pods))
        taken = time.perf_counter() - began
        print(
            f"{'Service created until all are seen':<44}{taken * 1000:>10.1f}   {len(slices.list())} slices"
        )
    await store.close()


if __name__ == "__main__":
    everyone = [pod(number) for number in range(PODS_COUNT)]
    plans(everyone)
    asyncio.run(convergence(everyone))
