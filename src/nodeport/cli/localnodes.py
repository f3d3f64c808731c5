"""The nodes of a local cluster in one process: an agent and a proxy each, over one set of informers."""

from __future__ import annotations

import asyncio

from nodeport.api.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from nodeport.cli.parts import NODES_IDENTITY
from nodeport.client.config import ClientConfig
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.kit.clock import SystemClock
from nodeport.node import local
from nodeport.node.agent import NodeAgent
from nodeport.node.images import BuiltinImages
from nodeport.node.local import ClusterConfig, Paths
from nodeport.node.node_status import NodeFacts, this_machine
from nodeport.node.runtime import ProcessRuntime
from nodeport.node.server import server_tls
from nodeport.proxy.options import ProxyOptions
from nodeport.proxy.runner import ProxyRunner


class LocalNodes:
    """``run`` until cancelled."""

    def __init__(self, paths: Paths, config: ClusterConfig) -> None:
        self._plan = config.plan(paths.name)
        self._paths, self._config = paths, config
        authority = paths.certificate("ca")
        certificate, key = paths.certificate(f"node-{NODES_IDENTITY}"), paths.key(f"node-{NODES_IDENTITY}")
        self._clock = SystemClock()
        self._client = RestClient(
            ClientConfig(config.url, authority.read_bytes(), certificate, key), user_agent="nodeport-nodes"
        )
        self._tls = server_tls(certificate, key, authority)
        self._pods, self._nodes, self._services, self._slices = (
            Informer(self._client, row, clock=self._clock) for row in (PODS, NODES, SERVICES, ENDPOINT_SLICES)
        )
        self._runtime, self._images = ProcessRuntime(self._clock), BuiltinImages()
        self._machine = this_machine()
        numbers = range(1, self._plan.size + 1)
        self._agents = [self._agent(number) for number in numbers]
        self._proxies = [self._proxy(number) for number in numbers]

    def _agent(self, number: int) -> NodeAgent:
        node = self._plan.node(number)
        return NodeAgent(
            facts=NodeFacts(node.name, node.address, self._machine, node.pod_cidr),
            surroundings=local.surroundings(self._paths, self._plan, number),
            client=self._client, pods=self._pods, nodes=self._nodes, runtime=self._runtime,
            images=self._images, clock=self._clock, tls=self._tls,
        )  # fmt: skip

    def _proxy(self, number: int) -> ProxyRunner:
        options = ProxyOptions(
            nodeport_addresses=self._config.nodeport_addresses,
            service_networks=self._config.service_networks_v4,
        )
        netns = local.surroundings(self._paths, self._plan, number).netns
        return ProxyRunner(
            node_name=self._plan.node(number).name, services=self._services, slices=self._slices,
            nodes=self._nodes, netns=netns, options=options, clock=self._clock,
        )  # fmt: skip

    async def wait_until_ready(self) -> None:
        """Until every node is registered and programmed."""
        for agent in self._agents:
            await agent.wait_until_registered()
        for proxy in self._proxies:
            await proxy.wait_until_programmed()

    async def run(self) -> None:
        async with self._client, asyncio.TaskGroup() as group:
            for informer in (self._nodes, self._pods, self._services, self._slices):
                group.create_task(informer.run())
            for agent in self._agents:
                group.create_task(agent.run())
            for proxy in self._proxies:
                group.create_task(proxy.run())
