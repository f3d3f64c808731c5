"""Pods and nodes that exist in the API alone: their status is what a test writes, and nothing runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.resources import NODES, PODS
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, RestClient
from nodeport.kit.clock import SystemClock, rfc3339

ZONE_LABEL = "topology.kubernetes.io/zone"


def ready_condition(*, ready: bool) -> JsonObject:
    status = "True" if ready else "False"
    return {"type": "Ready", "status": status, "lastTransitionTime": rfc3339(SystemClock().now())}


@dataclass
class ApiPods:
    """Writes pods of one namespace as a scheduler and a kubelet would together."""

    client: RestClient
    namespace: str = "default"

    async def add_node(self, name: str, zone: str = "", cpu: str = "4") -> None:
        labels = {ZONE_LABEL: zone} if zone else {}
        await self.client.create(NODES, {"metadata": {"name": name, "labels": labels}, "spec": {}})
        status = {"conditions": [ready_condition(ready=True)], "allocatable": {"cpu": cpu, "pods": "10000"}}
        await self._patch_status(NODES, name, "", status)

    async def create(
        self,
        name: str,
        *ips: str,
        node: str = "",
        labels: dict[str, str] | None = None,
        ports: Iterable[JsonObject] = (),
        ready: bool = True,
        **spec: Any,
    ) -> JsonObject:
        """The pod, Running with these addresses; on ``node`` if one is named."""
        wanted = {"containers": [{"name": "c", "image": "none", "ports": list(ports)}], **spec}
        if node:
            wanted["nodeName"] = node
        metadata = {"name": name, "namespace": self.namespace, "labels": labels or {}}
        await self.client.create(PODS, {"metadata": metadata, "spec": wanted})
        status: JsonObject = {"phase": "Running", "conditions": [ready_condition(ready=ready)]}
        if ips:
            status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
        return await self._patch_status(PODS, name, self.namespace, status)

    async def set_ready(self, name: str, *, ready: bool) -> None:
        await self._patch_status(PODS, name, self.namespace, {"conditions": [ready_condition(ready=ready)]})

    async def begin_deletion(self, name: str) -> None:
        """The pod is terminating until ``remove``."""
        await self.client.delete(PODS, name, self.namespace, grace_period_seconds=600)

    async def remove(self, name: str) -> None:
        await self.client.delete(PODS, name, self.namespace, grace_period_seconds=0)

    async def _patch_status(self, resource: Any, name: str, namespace: str, status: JsonObject) -> JsonObject:
        return await self.client.patch(
            resource, name, {"status": status}, namespace,
            content_type=STRATEGIC_MERGE_PATCH, subresource="status",
        )  # fmt: skip
