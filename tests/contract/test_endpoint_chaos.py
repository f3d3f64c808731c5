"""Pods, slices and controllers in random trouble: in the end the slices show the pods, each once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from contract.endpoint_clusters import APP, cluster_of_pods, patch, service, slices, subsets
from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINT_SLICES, SERVICES
from nodeport.api.status import NotFound
from nodeport.controllers.manager import ControllerManager
from nodeport.testing.apipods import ApiPods
from nodeport.testing.controlplane import ControlledCluster, eventually

STEPS = 60
PER_SLICE = 3

Conditions = tuple[bool, bool, bool]
"""ready, serving, terminating"""


class Trouble:
    """Does one random thing at a time, and knows what endpoints there should be."""

    def __init__(self, cluster: ControlledCluster, pods: ApiPods, seed: int) -> None:
        self.cluster, self.pods = cluster, pods
        self.chance = random.Random(seed)
        self.alive: dict[str, Conditions] = {}
        self.port = 8080
        self.serial = 0

    async def step(self) -> None:
        deeds: list[Callable[[], Awaitable[None]]] = [
            self.create, self.create, self.create, self.remove, self.flip, self.flip, self.terminate,
            self.delete_slice, self.empty_slice, self.change_port, self.restart,
        ]  # fmt: skip
        await self.chance.choice(deeds)()

    def _some_pod(self) -> str:
        return self.chance.choice(sorted(self.alive)) if self.alive else ""

    async def create(self) -> None:
        self.serial += 1
        ip = f"10.1.0.{self.serial}"
        ready = self.chance.random() < 0.7
        await self.pods.create(
            f"p{self.serial}", ip, node=self.chance.choice(["n1", "n2"]), labels=APP, ready=ready
        )
        self.alive[ip] = (ready, ready, False)

    async def remove(self) -> None:
        if ip := self._some_pod():
            await self.pods.remove(f"p{ip.rpartition('.')[2]}")
            del self.alive[ip]

    async def flip(self) -> None:
        if ip := self._some_pod():
            _, serving, terminating = self.alive[ip]
            await self.pods.set_ready(f"p{ip.rpartition('.')[2]}", ready=not serving)
            self.alive[ip] = (not serving and not terminating, not serving, terminating)

    async def terminate(self) -> None:
        if ip := self._some_pod():
            await self.pods.begin_deletion(f"p{ip.rpartition('.')[2]}")
            self.alive[ip] = (False, self.alive[ip][1], True)

    async def delete_slice(self) -> None:
        for found in (await slices(self.cluster))[:1]:
            await self._ignoring_absence(
                self.cluster.client.delete(ENDPOINT_SLICES, found["metadata"]["name"], "default")
            )

    async def empty_slice(self) -> None:
        for found in (await slices(self.cluster))[-1:]:
            await self._ignoring_absence(
                patch(self.cluster, ENDPOINT_SLICES, found["metadata"]["name"], {"endpoints": []})
            )

    async def change_port(self) -> None:
        self.port = self.chance.choice([8080, 9090])
        ports = [{"port": 80, "targetPort": self.port}]
        await patch(self.cluster, SERVICES, "web", {"spec": {"ports": ports}})

    async def restart(self) -> None:
        """Cancelled wherever they are, and followed by others that remember nothing."""
        await self.cluster.stop_controllers()
        cluster = self.cluster
        cluster.manager = ControllerManager(
            cluster.controllers, ca_pem=cluster.api.ca_pem, max_endpoints_per_slice=PER_SLICE
        )
        cluster.start_controllers()

    @staticmethod
    async def _ignoring_absence(deed: Awaitable[object]) -> None:
        try:
            await deed
        except NotFound:
            return

    async def is_over(self) -> bool:
        """Whether slices and Endpoints tell the truth."""
        found = await slices(self.cluster)
        shown = [endpoint for each in found for endpoint in each["endpoints"] or ()]
        counts = Counter(endpoint["addresses"][0] for endpoint in shown)
        in_slices = {endpoint["addresses"][0]: _conditions(endpoint) for endpoint in shown}
        ports = {port["port"] for each in found for port in each["ports"] or ()}
        in_endpoints = {
            address["ip"]: kind == "addresses"
            for subset in await subsets(self.cluster)
            for kind in ("addresses", "notReadyAddresses")
            for address in subset.get(kind, ())
        }
        staying = {ip: ready for ip, (ready, _, terminating) in self.alive.items() if not terminating}
        return (
            in_slices == self.alive
            and set(counts.values()) <= {1}
            and ports <= {self.port}
            and in_endpoints == staying
            and all(len(each["endpoints"] or ()) <= PER_SLICE for each in found)
        )


def _conditions(endpoint: JsonObject) -> Conditions:
    found = endpoint["conditions"]
    return found["ready"], found["serving"], found["terminating"]


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_trouble_the_slices_show_the_pods_each_once(seed: int) -> None:
    async with cluster_of_pods(max_endpoints_per_slice=PER_SLICE) as (cluster, pods):
        await cluster.client.create(SERVICES, service())
        trouble = Trouble(cluster, pods, seed)
        for _ in range(STEPS):
            await trouble.step()
        await eventually(trouble.is_over)
