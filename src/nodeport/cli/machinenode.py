"""One node that is a whole machine: an agent and a proxy in the machine's own network."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from nodeport.api.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from nodeport.cli.nodeproxy import NodeProxy
from nodeport.client.events import EventRecorder
from nodeport.client.informer import Informer
from nodeport.client.kubeconfig import load
from nodeport.client.rest import RestClient
from nodeport.kit.clock import Clock, SystemClock
from nodeport.node import namespaces, network, servicevariables, sources
from nodeport.node.addresses import IPAddress, IPNetwork
from nodeport.node.agent import NodeAgent
from nodeport.node.containerlog import MOST_BYTES, MOST_FILES
from nodeport.node.dns.follow import follow
from nodeport.node.dns.forwarder import Forwarder
from nodeport.node.dns.server import NameServer, Resolver
from nodeport.node.eviction import Threshold
from nodeport.node.images.nodeimages import node_images
from nodeport.node.images.registry import Registries
from nodeport.node.local import Paths
from nodeport.node.node_status import LOG_PORT, NodeFacts, this_machine
from nodeport.node.oci.runc import Runc
from nodeport.node.podnetwork.kernel import Setup, pod_mtu
from nodeport.node.podnetwork.plan import Mode, Way
from nodeport.node.podshare import given_pod_cidrs
from nodeport.node.runtime import OciRuntime
from nodeport.node.sandbox import NodeSurroundings
from nodeport.node.servingcertificate import ServingCertificate, tls_of
from nodeport.node.storagewatch import NodeDisk
from nodeport.proxy.warnings import COMPONENT


@dataclass(frozen=True, slots=True)
class MachineNode:
    """What the node is called and which addresses it has. ``pod_cidrs`` empty: those that the cluster gives it.
    ``paths``: under a name that no local cluster has."""

    kubeconfig: Path
    name: str
    addresses: tuple[IPAddress, ...]
    pod_cidrs: tuple[IPNetwork, ...]
    paths: Paths
    images: tuple[str, ...] = ()
    registries: Registries = field(default_factory=Registries)
    cluster_dns: tuple[str, ...] = ()
    way: Way = field(default_factory=Way)
    log_limits: tuple[int, int] = (MOST_BYTES, MOST_FILES)
    thresholds: tuple[Threshold, ...] = ()
    server_port: int = LOG_PORT

    async def run(self) -> None:
        """Agent, proxy and name server over one set of informers, until cancelled. Raises AddressMissing."""
        self.paths.make()
        namespaces.prepare_netns_root()
        clock, credentials = SystemClock(), partial(load, self.kubeconfig)
        authority = credentials().ca
        tls = tls_of(authority) if authority and self.server_port else None
        async with RestClient(credentials(), user_agent="nodeport-agent", reload=credentials) as client:
            cidrs = self.pod_cidrs or self._usable(await given_pod_cidrs(client, self._facts(tls), clock))
            await replace(self, pod_cidrs=cidrs)._run(client, tls, clock)

    def _usable(self, given: tuple[IPNetwork, ...]) -> tuple[IPNetwork, ...]:
        """Plain routes lead to pods of the node's own families only."""
        known = {address.version for address in self.addresses}
        reached = tuple(cidr for cidr in given if self.way.mode is Mode.VXLAN or cidr.version in known)
        return reached or given

    def _facts(self, tls: ssl.SSLContext | None) -> NodeFacts:
        port = self.server_port if tls else 0
        return NodeFacts(self.name, self.addresses, this_machine(), self.pod_cidrs, log_port=port)

    async def _run(self, client: RestClient, tls: ssl.SSLContext | None, clock: Clock) -> None:
        """With pod networks."""
        network.allow_forwarding({each.version for each in (*self.addresses, *self.pod_cidrs)})
        sources.ensure_machine(None)
        images = node_images(self.paths.images, self.images, self.registries)
        pods = Informer(client, PODS, field_selector=f"spec.nodeName={self.name}", clock=clock)
        nodes, services, slices = (
            Informer(client, row, clock=clock) for row in (NODES, SERVICES, ENDPOINT_SLICES)
        )
        services.add_index(servicevariables.INDEX, servicevariables.by_namespace)
        agent = NodeAgent(
            facts=self._facts(tls), surroundings=self._surroundings(), client=client, pods=pods, nodes=nodes,
            services=services, runtime=OciRuntime(clock, Runc.found(), self.log_limits), images=images, clock=clock,
            cluster_dns=self.cluster_dns, way=self.way, tls=tls,
            disk=NodeDisk(self.paths.data, self.paths.images, self.thresholds),
        )  # fmt: skip
        recorder = EventRecorder(client, COMPONENT, self.name, clock=clock)
        proxy = NodeProxy(self.name, (services, slices, nodes), None, recorder, clock)
        resolver = Resolver(follow(services, slices, nodes), Forwarder(self.cluster_dns))
        names = NameServer(resolver, (services, slices, nodes), self.addresses, None, clock)
        async with asyncio.TaskGroup() as group:
            if tls is not None:
                serving = ServingCertificate(
                    client, self.name, self.addresses, self.paths.pki / "kubelet-server.pem", tls, clock,
                    agent.wait_until_registered,
                )  # fmt: skip
                group.create_task(serving.run())
            for informer in (pods, nodes, services, slices):
                group.create_task(informer.run())
            group.create_task(agent.run())
            group.create_task(recorder.run())
            group.create_task(proxy.run())
            group.create_task(names.run())

    def _surroundings(self) -> NodeSurroundings:
        return NodeSurroundings(
            cluster=self.paths.name, name=self.name, netns=None, addresses=self.addresses,
            run_directory=self.paths.run, log_directory=self.paths.data / "logs", mtu=self._pod_mtu(),
        )  # fmt: skip

    def _pod_mtu(self) -> int:
        """Raises AddressMissing."""
        return pod_mtu(Setup(None, self.addresses[0], self.pod_cidrs, self.way))
