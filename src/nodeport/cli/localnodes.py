"""The nodes of a local cluster in one process: an agent and a proxy each, over one set of informers."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Protocol

from nodeport.api.clusterdns import service_addresses
from nodeport.api.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from nodeport.cli.corridor import Corridor
from nodeport.cli.localnode import AgentParts, LocalNode
from nodeport.cli.nodeproxy import NodeProxy
from nodeport.client.config import ClientConfig
from nodeport.client.events import EventRecorder
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.kit.clock import SystemClock
from nodeport.node import hurt, local, servicevariables
from nodeport.node.agent import NodeAgent
from nodeport.node.dns.follow import follow
from nodeport.node.dns.forwarder import Forwarder
from nodeport.node.dns.server import NameServer, Resolver
from nodeport.node.eviction import parse_thresholds
from nodeport.node.hurt import Hurt
from nodeport.node.images.nodeimages import node_images
from nodeport.node.images.registry import Registries
from nodeport.node.local import ClusterConfig, Paths
from nodeport.node.localoptions import LocalError
from nodeport.node.node_status import NodeFacts, this_machine
from nodeport.node.oci.runc import Runc
from nodeport.node.runtime import OciRuntime
from nodeport.node.server import server_tls
from nodeport.node.storagewatch import NodeDisk
from nodeport.proxy.warnings import COMPONENT

HURTS_CHANGED = signal.SIGUSR1
"""Tells the process to read again how its nodes are to be."""
TAKEOVER_PATIENCE = timedelta(seconds=20)
"""For another proxy in a node's namespace to end: `up`, which waits for longer, can say so."""
_log = logging.getLogger(__name__)


class Part(Protocol):
    async def run(self) -> None: ...


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
        self._shared = self._client("proxy")
        self._nodes, self._services, self._slices = (
            Informer(self._shared, row, clock=self._clock) for row in (NODES, SERVICES, ENDPOINT_SLICES)
        )
        self._services.add_index(servicevariables.INDEX, servicevariables.by_namespace)
        self._dns = tuple(map(str, service_addresses(config.service_networks)))
        self._informers = [self._nodes, self._services, self._slices]
        self._recorders: list[EventRecorder] = []
        self._runtime = OciRuntime(self._clock, Runc.found(), config.log_limits)
        registries = Registries(config.default_registry, frozenset(config.insecure_registries))
        self._images = node_images(paths.images, config.images, registries)
        self._machine = this_machine()
        zone = follow(self._services, self._slices, self._nodes, self._config.service_networks)
        self._resolver = Resolver(zone, Forwarder(self._dns))
        self._corridors = {
            number: Corridor(self._services, self._slices, self._nodes, config.service_networks)
            for number in range(1, self._plan.size + 1)
        }
        self._members = [self._node(number) for number in self._corridors]
        self._read_hurts()

    def _node(self, number: int) -> LocalNode:
        corridor, names = self._corridors[number], self._name_server(number)

        async def lead(cut_off: bool) -> None:
            if cut_off:
                await corridor.cut()
            else:
                corridor.join()
            corridor.lead(names, self._resolver)

        return LocalNode(
            local.surroundings(self._paths, self._plan, number), runtime=self._runtime, proxy=self._proxy(number),
            names=names, new_agent=lambda: self._agent(number), told=self._tell_hurts, lead=lead,
        )  # fmt: skip

    def _name_server(self, number: int) -> NameServer:
        """One for each node, out of the same memory."""
        place = local.surroundings(self._paths, self._plan, number)
        corridor = self._corridors[number]
        caches = (corridor.services, corridor.slices, corridor.nodes)
        return NameServer(self._resolver, caches, place.addresses, place.netns, self._clock)

    def _read_hurts(self) -> None:
        """What is broken is said, and changes nothing."""
        try:
            hurts = hurt.load(hurt.wanted_file(self._paths))
            touched = hurts.keys() | hurt.load(hurt.applied_file(self._paths)).keys()
        except (LocalError, OSError) as error:
            _log.error("nodes stay as they are: %s", error)
            return
        for member in self._members:
            if member.name in touched:
                member.want(hurts.get(member.name, Hurt()))

    def _tell_hurts(self) -> None:
        try:
            hurt.save(
                hurt.applied_file(self._paths),
                {member.name: member.applied for member in self._members if member.applied is not None},
            )
        except OSError as error:
            _log.error("cannot tell what became of nodes: %s", error)

    def _client(self, stem: str) -> RestClient:
        """A client that is whoever the certificate of that name says."""
        identity = self._paths.certificate(stem), self._paths.key(stem)
        config = ClientConfig(self._config.url, self._authority.read_bytes(), *identity)
        return RestClient(config, user_agent="nodeport-nodes")

    @asynccontextmanager
    async def _agent(self, number: int) -> AsyncIterator[AgentParts]:
        node = self._plan.node(number)
        stem = f"node-{node.name}"
        corridor = self._corridors[number]
        async with self._client(stem) as client:
            await corridor.enter(client)
            pods = Informer(client, PODS, field_selector=f"spec.nodeName={node.name}", clock=self._clock)
            agent = NodeAgent(
                facts=NodeFacts(node.name, node.addresses, self._machine, node.pod_cidrs),
                surroundings=local.surroundings(self._paths, self._plan, number),
                client=client, pods=pods, nodes=corridor.nodes, services=corridor.services, runtime=self._runtime,
                images=self._images, clock=self._clock, cluster_dns=self._dns[:1],
                tls=server_tls(self._paths.certificate(stem), self._paths.key(stem), self._authority),
                renew_every=self._config.renew_every,
                disk=NodeDisk(
                    self._paths.data / "nodes" / node.name, self._paths.images,
                    parse_thresholds(self._config.eviction_hard),
                ),
            )  # fmt: skip
            try:
                yield agent, pods
            finally:
                corridor.leave()

    def _proxy(self, number: int) -> NodeProxy:
        netns, name = local.surroundings(self._paths, self._plan, number).netns, self._plan.node(number).name
        seen = self._corridors[number]
        recorder = EventRecorder(self._shared, COMPONENT, name, clock=self._clock)
        self._recorders.append(recorder)
        return NodeProxy(
            name, (seen.services, seen.slices, seen.nodes), netns, recorder, self._clock,
            nodeport_addresses=self._config.nodeport_addresses,
            localhost_nodeports=self._config.localhost_nodeports,
            service_networks=self._config.service_networks, takeover_patience=TAKEOVER_PATIENCE,
        )  # fmt: skip

    async def wait_until_ready(self) -> None:
        """Until every node is registered and programmed, but those that somebody has hurt."""
        for member in self._members:
            await member.wait_until_ready()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(HURTS_CHANGED, self._read_hurts)
        try:
            async with self._shared, asyncio.TaskGroup() as group:
                parts: list[Part] = [*self._informers, *self._recorders, *self._members]
                for part in parts:
                    group.create_task(part.run())
        finally:
            loop.remove_signal_handler(HURTS_CHANGED)
