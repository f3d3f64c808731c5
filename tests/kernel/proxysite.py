"""``nodeport proxy`` at a topology's node, with our API server and Services to serve. The fixtures are `site` and `made`."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_asyncio

from kernel import scenario
from kernel.packets import Policy, Situation
from kernel.proxycommand import NODE, ProxyCommand
from kernel.topology import CLIENT, NODES, Topology, ask
from nodeport.api.meta import JsonObject
from nodeport.api.resources import (
    ENDPOINT_SLICES,
    EVENTS,
    NAMESPACES,
    SERVICES,
)  # fmt: skip
from nodeport.api.resources import NODES as NODE_RESOURCE
from nodeport.client.rest import RestClient
from nodeport.store.memory import MemoryStore
from nodeport.testing.apiserver import RunningApiServer, running_apiserver

READY = scenario.ENDPOINTS[Situation.LOCAL]["local"]
HEALTH_PORT = 32100
CLAIM_AS_PRINTED = r"(?s)table ip6? nodeport-proxy \{.*?\n\}\n"


@dataclass
class Site:
    server: RunningApiServer
    client: RestClient
    made: Topology
    work: Path

    def command(self, *flags: str, **options: Any) -> ProxyCommand:
        return ProxyCommand(self.made.namespace(NODE), self.work / "proxy.log", flags, **options)

    def with_kubeconfig(self, *flags: str) -> ProxyCommand:
        path = self.server.write_kubeconfig(self.work / "kubeconfig")
        return self.command(f"--kubeconfig={path}", *flags)

    async def serve(self, item: JsonObject, pods: dict[str, dict[str, bool]]) -> JsonObject:
        created = await self.client.create(SERVICES, item)
        for slice_ in scenario.slices(item, pods):
            await self.client.create(ENDPOINT_SLICES, slice_)
        return created

    async def is_served(self, port: int) -> bool:
        sender = self.made.namespace("client")
        return (
            await asyncio.to_thread(ask, sender, socket.SOCK_STREAM, NODES[NODE], port) == f"local {CLIENT}"
        )

    async def events(self, reason: str) -> list[JsonObject]:
        listed = await self.client.list(EVENTS)
        return [event for event in listed["items"] if event["reason"] == reason]

    def ruleset(self) -> str:
        """Without the claim of the process that happens to run."""
        return re.sub(CLAIM_AS_PRINTED, "", self.made.nft(NODE, "list", "ruleset"))


@contextlib.asynccontextmanager
async def site_of(
    made: Topology, work: Path, store: MemoryStore, *, fresh: bool = True
) -> AsyncIterator[Site]:
    async with (
        running_apiserver(store) as server,
        RestClient(server.admin_config, user_agent="test") as client,
    ):
        if fresh:
            await client.create(NAMESPACES, {"metadata": {"name": scenario.NAMESPACE}})
            node = await client.create(
                NODE_RESOURCE, {key: scenario.NODE[key] for key in ("metadata", "spec")}
            )
            await client.update(
                NODE_RESOURCE, {**node, "status": scenario.NODE["status"]}, subresource="status"
            )
        yield Site(server, client, made, work)


@pytest_asyncio.fixture
async def site(made: Topology, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_of(made, tmp_path, MemoryStore()) as built:
        yield built
    subprocess.run(["ip", "netns", "exec", made.namespace(NODE).name, "nft", "flush", "ruleset"], check=True)


def a_service(policy: Policy = Policy.CLUSTER) -> JsonObject:
    return scenario.without_external(scenario.service(policy, Situation.BOTH))


def a_load_balancer() -> JsonObject:
    item = a_service(Policy.LOCAL)
    return {**item, "spec": {**item["spec"], "type": "LoadBalancer", "healthCheckNodePort": HEALTH_PORT}}


def another_service() -> JsonObject:
    return scenario.without_external(scenario.service(Policy.CLUSTER, Situation.LOCAL))


def port_of(item: JsonObject) -> int:
    return int(item["spec"]["ports"][0]["nodePort"])
