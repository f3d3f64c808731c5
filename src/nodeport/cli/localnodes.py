"""The nodes of a local cluster in one process: an agent and a proxy each, over one set of informers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from nodeport.api.clusterdns import service_address
from nodeport.api.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from nodeport.client.config import ClientConfig
from nodeport.client.events import EventRecorder
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.kit.clock import SystemClock
from nodeport.node import local, servicevariables
from nodeport.node.agent import NodeAgent
from nodeport.node.dns.follow import follow
from nodeport.node.dns.forwarder import Forwarder
from nodeport.node.dns.server import NameServer, Resolver
from nodeport.node.images.nodeimages import node_images
from nodeport.node.images.registry import Registries
from nodeport.node.local import ClusterConfig, Paths
from nodeport.node.node_status import NodeFacts, this_machine
from nodeport.node.oci.runc import Runc
from nodeport.node.runtime import OciRuntime
from nodeport.node.server import server_tls
from nodeport.proxy.options import ProxyOptions
from nodeport.proxy.runner import ProxyRunner
from nodeport.proxy.warnings import COMPONENT, ServiceWarnings


class LocalNodes:
    """``run`` until cancelled.

    Each node speaks for itself: with its own certificate it follows its pods, writes, and reads what they refer to, so
    that the API keeps it to what is its own. What every proxy reads is followed once, with a proxy's rights.
    """

    def __init__(self, paths: Paths, config: ClusterConfig) -> None:
        self._plan = config.plan(paths.name)
        self._paths, self._config = paths, config
        self._authority = paths.certificate("ca")
        self._clock = SystemClock()
        shared = self._client("proxy")
        self._nodes, self._services, self._slices = (
            Informer(shared, row, clock=self._clock) for row in (NODES, SERVICES, ENDPOINT_SLICES)
        )
        self._services.add_index(servicevariables.INDEX, servicevariables.by_namespace)
        self._dns = str(service_address(config.service_networks))
        self._informers = [self._nodes, self._services, self._slices]
        self._clients = [shared]
        self._recorders: list[EventRecorder] = []
        self._runtime = OciRuntime(self._clock, Runc.found())
        registries = Registries(config.default_registry, frozenset(config.insecure_registries))
        self._images = node_images(paths.images, config.images, registries)
        self._machine = this_machine()
        numbers = range(1, self._plan.size + 1)
        self._agents = [self._agent(number) for number in numbers]
        self._proxies = [self._proxy(number) for number in numbers]
        self._servers = self._name_servers()

    def _name_servers(self) -> list[NameServer]:
        """One for each node, out of the same memory."""
        zone = follow(self._services, self._slices, self._nodes, self._config.service_networks)
        resolver = Resolver(zone, Forwarder((self._dns,)))
        caches = (self._services, self._slices, self._nodes)
        places = [local.surroundings(self._paths, self._plan, node + 1) for node in range(self._plan.size)]
        return [NameServer(resolver, caches, it.address, it.netns, self._clock) for it in places]

    def _client(self, stem: str) -> RestClient:
        """A client that is whoever the certificate of that name says."""
        identity = self._paths.certificate(stem), self._paths.key(stem)
        config = ClientConfig(self._config.url, self._authority.read_bytes(), *identity)
        return RestClient(config, user_agent="nodeport-nodes")

    def _agent(self, number: int) -> NodeAgent:
        node = self._plan.node(number)
        stem = f"node-{node.name}"
        client = self._client(stem)
        pods = Informer(client, PODS, field_selector=f"spec.nodeName={node.name}", clock=self._clock)
        self._clients.append(client)
        self._informers.append(pods)
        return NodeAgent(
            facts=NodeFacts(node.name, node.address, self._machine, node.pod_cidr),
            surroundings=local.surroundings(self._paths, self._plan, number),
            client=client, pods=pods, nodes=self._nodes, services=self._services, runtime=self._runtime,
            images=self._images, clock=self._clock, cluster_dns=(self._dns,),
            tls=server_tls(self._paths.certificate(stem), self._paths.key(stem), self._authority),
        )  # fmt: skip

    def _proxy(self, number: int) -> ProxyRunner:
        options = ProxyOptions(
            nodeport_addresses=self._config.nodeport_addresses,
            service_networks=self._config.service_networks,
        )
        netns, name = local.surroundings(self._paths, self._plan, number).netns, self._plan.node(number).name
        recorder = EventRecorder(self._clients[0], COMPONENT, name, clock=self._clock)
        self._recorders.append(recorder)
        return ProxyRunner(
            node_name=name, services=self._services, slices=self._slices, nodes=self._nodes, netns=netns,
            options=options, clock=self._clock, warn=ServiceWarnings(recorder, self._services),
        )  # fmt: skip

    async def wait_until_ready(self) -> None:
        """Until every node is registered and programmed."""
        for agent in self._agents:
            await agent.wait_until_registered()
        for proxy in self._proxies:
            await proxy.wait_until_programmed()

    async def run(self) -> None:
        async with AsyncExitStack() as clients:
            for client in self._clients:
                await clients.enter_async_context(client)
            async with asyncio.TaskGroup() as group:
                for informer in self._informers:
                    group.create_task(informer.run())
                for recorder in self._recorders:
                    group.create_task(recorder.run())
                for agent in self._agents:
                    group.create_task(agent.run())
                for proxy in self._proxies:
                    group.create_task(proxy.run())
                for server in self._servers:
                    group.create_task(server.run())
