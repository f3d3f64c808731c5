"""An API server, a node's real server and pods that are servers of the test, all on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import aiohttp

from freeports import free_port
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.kit.clock import SystemClock
from nodeport.node.oci.runc import Runc
from nodeport.node.pod_record import NodeContext, PodRecord
from nodeport.node.runtime import OciRuntime
from nodeport.node.sandbox import NodeSurroundings, PodIdentity, Sandbox
from nodeport.node.server import NodePods, NodeServer, server_tls
from nodeport.testing.apiserver import RunningApiServer, running_apiserver

NODE = "node-1"
LOOPBACK = "127.0.0.1"


@dataclass
class World:
    """``records``: the pods of the one node."""

    api: RunningApiServer
    session: aiohttp.ClientSession
    records: dict[NamespacedName, PodRecord] = field(default_factory=dict)
    context: NodeContext | None = None

    async def request(
        self, method: str, path: str, body: Any = None, **options: Any
    ) -> aiohttp.ClientResponse:
        return await self.session.request(method, self.api.url + path, json=body, **options)

    async def create(self, path: str, obj: JsonObject) -> JsonObject:
        async with await self.request("POST", path, obj) as answer:
            assert answer.status == 201, await answer.text()
            found: JsonObject = await answer.json()
            return found

    async def patch_status(self, path: str, status: JsonObject) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        async with await self.request(
            "PATCH", f"{path}/status", {"status": status}, headers=headers
        ) as answer:
            assert answer.status == 200, await answer.text()

    async def pod(self, name: str, *ports: int) -> JsonObject:
        """A pod on the host's network that is known to API and node."""
        container: JsonObject = {"name": "main", "image": "nodeport/echo"}
        if ports:
            container["ports"] = [{"containerPort": port} for port in ports]
        base = "/api/v1/namespaces/default/pods"
        spec = {"nodeName": NODE, "containers": [container]}
        made = await self.create(base, {"metadata": {"name": name}, "spec": spec})
        status = {"phase": "Running", "podIP": LOOPBACK, "podIPs": [{"ip": LOOPBACK}]}
        await self.patch_status(f"{base}/{name}", status)
        assert self.context is not None
        uid = made["metadata"]["uid"]
        sandbox = Sandbox(
            self.context.surroundings,
            PodIdentity(uid, "default", name, name),
            (IPv4Address(LOOPBACK),),
            host_network=True,
        )
        record = PodRecord(self.context, uid, made, datetime.now(UTC), last_pod=made, sandbox=sandbox)
        self.records[NamespacedName("default", name)] = record
        return made


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    async with running_apiserver(seed=1) as api:
        pair = api.pki.node(NODE, [IPv4Address(LOOPBACK)])
        tls = server_tls(pair.cert, pair.key, api.pki.ca.cert)
        connector = aiohttp.TCPConnector(ssl=api.admin_config.ssl_context())
        async with aiohttp.ClientSession(connector=connector) as session:
            found = World(api, session)
            async with node_server(found, tls, directory):
                yield found


@asynccontextmanager
async def node_server(found: World, tls: ssl.SSLContext, directory: Path) -> AsyncIterator[None]:
    clock = SystemClock()
    node = NodeSurroundings(
        "test", NODE, None, (IPv4Address(LOOPBACK),), directory / "run", directory / "logs"
    )
    runtime = OciRuntime(clock, Runc.found())
    found.context = cast(NodeContext, _Context(node, runtime))
    port = free_port()
    pods = NodePods(
        found.records.get,
        lambda name: found.records[name].uid if name in found.records else "",
        lambda: [record.last_pod for record in found.records.values()],
    )
    serving = asyncio.create_task(NodeServer(node, runtime, port, tls, pods, clock).run())
    try:
        await found.create("/api/v1/nodes", {"metadata": {"name": NODE}})
        await found.patch_status(f"/api/v1/nodes/{NODE}", {
            "addresses": [{"type": "InternalIP", "address": LOOPBACK}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        })  # fmt: skip
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@dataclass
class _Context:
    """As much of a NodeContext as the server uses."""

    surroundings: NodeSurroundings
    runtime: OciRuntime
