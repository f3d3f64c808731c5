"""A control plane in one process with puppet nodes: they write what agents write, and run nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
from nodeport.api.resources import LEASES, NODES, PODS, Resource
from nodeport.api.status import Conflict, NotFound
from nodeport.client.cache import Change
from nodeport.client.informer import Informer
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, RestClient
from nodeport.controllers.manager import ControllerManager
from nodeport.kit.clock import SystemClock, rfc3339, rfc3339_micro
from nodeport.store.base import Store
from nodeport.testing.apiserver import RunningApiServer, running_apiserver

DEADLINE = 60.0


async def eventually(condition: Callable[[], Any], *, deadline: float = DEADLINE) -> Any:
    """Poll until ``condition`` (plain or async) is truthy; its value."""
    end = asyncio.get_running_loop().time() + deadline
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if asyncio.get_running_loop().time() > end:
            raise AssertionError(f"not within {deadline} s: {condition}")
        await asyncio.sleep(0.02)


@dataclass
class PuppetNodes:
    """Pods bound to these nodes turn Running and Ready at once, and go at once when deleted."""

    client: RestClient
    names: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    hesitant: bool = False
    _addresses: Any = field(default_factory=lambda: itertools.count(2))
    _started: set[str] = field(default_factory=set)
    _work: asyncio.Queue[JsonObject] = field(default_factory=asyncio.Queue)

    async def add(self, name: str) -> None:
        """The lease comes first: as soon as the node has a name here, it is renewed."""
        lease = {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {"holderIdentity": name}}
        await self.client.create(LEASES, lease)
        self.names.append(name)
        now = SystemClock().now()
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name}}
        await self.client.create(NODES, {"metadata": metadata, "spec": {}})
        ready = {
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
            "lastHeartbeatTime": rfc3339(now), "lastTransitionTime": rfc3339(now),
        }  # fmt: skip
        status = {"conditions": [ready], "allocatable": {"pods": "10000", "cpu": "8", "memory": "8Gi"}}
        await self.client.patch(
            NODES, name, {"status": status}, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
        )

    async def run(self, pods: Informer) -> None:
        pods.subscribe(self._pod_changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew())
            for _ in range(8):
                group.create_task(self._carry_out())

    def _pod_changed(self, change: Change) -> None:
        pod = change.new
        if pod is None or pod["spec"].get("nodeName") not in self.names:
            return
        if is_being_deleted(pod) or (pod.get("status") or {}).get("phase") == "Pending":
            self._work.put_nowait(pod)

    async def _renew(self) -> None:
        while True:
            for name in self.names:
                if name not in self.silent:
                    patch = {"spec": {"renewTime": rfc3339_micro(SystemClock().now())}}
                    await self.client.patch(LEASES, name, patch, "kube-node-lease")
            await asyncio.sleep(0.2)

    async def _carry_out(self) -> None:
        while True:
            pod = await self._work.get()
            if pod["spec"]["nodeName"] in self.silent or self.hesitant:
                continue
            key = NamespacedName.of(pod)
            with suppress(NotFound, Conflict):
                if is_being_deleted(pod):
                    await self.client.delete(PODS, key.name, key.namespace, grace_period_seconds=0)
                elif pod["metadata"]["uid"] not in self._started:
                    self._started.add(pod["metadata"]["uid"])
                    await self._start(key)

    async def _start(self, key: NamespacedName) -> None:
        number = next(self._addresses)
        ip = f"10.244.{number // 250}.{number % 250 + 1}"
        now = rfc3339(SystemClock().now())
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
        status = {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [ready],
            "startTime": now,
        }
        await self.client.patch(
            PODS, key.name, {"status": status}, key.namespace,
            content_type=STRATEGIC_MERGE_PATCH, subresource="status",
        )  # fmt: skip


@dataclass
class ControlledCluster:
    """``client`` may do everything; ``controllers`` is the controllers' own, with their role."""

    api: RunningApiServer
    client: RestClient
    controllers: RestClient
    manager: ControllerManager
    nodes: PuppetNodes
    group: asyncio.TaskGroup
    running: asyncio.Task[None] | None = None

    def start_controllers(self) -> None:
        self.running = self.group.create_task(self.manager.run())

    async def stop_controllers(self) -> None:
        assert self.running is not None
        self.running.cancel()
        await asyncio.wait({self.running})

    async def items(
        self, resource: Resource, namespace: str = "default", **selectors: str
    ) -> list[JsonObject]:
        listed = await self.client.list(resource, namespace, **selectors)  # type: ignore[arg-type]
        return list(listed["items"])


@asynccontextmanager
async def controlled_cluster(
    nodes: int = 2, *, server: Mapping[str, Any] | None = None, store: Store | None = None, **options: Any
) -> AsyncIterator[ControlledCluster]:
    """An API server, all controllers under their own user, and ``nodes`` puppet nodes.

    ``options`` are the manager's, ``server`` those of ``running_apiserver``, which serves ``store``.
    """
    options = {"node_monitor_grace": timedelta(seconds=40), **options}
    running = running_apiserver(store, **(server or {}))
    async with (
        running as api,
        RestClient(api.admin_config, user_agent="test") as client,
        RestClient(api.controllers_config, user_agent="controllers") as controllers,
    ):
        authority = api.pki.ca.key.read_bytes()
        manager = ControllerManager(controllers, ca_pem=api.ca_pem, ca_key_pem=authority, **options)
        puppets = PuppetNodes(client)
        async with asyncio.TaskGroup() as group:
            cluster = ControlledCluster(api, client, controllers, manager, puppets, group)
            cluster.start_controllers()
            await manager.wait_until_synced()
            for number in range(nodes):
                await puppets.add(f"node-{number + 1}")
            agents = group.create_task(puppets.run(manager.informers[PODS]))
            try:
                yield cluster
            finally:
                agents.cancel()
                await cluster.stop_controllers()
