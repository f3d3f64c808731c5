"""The proxy of a node whose agent runs in the same process, with the ports that kube-proxy has on a node."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from nodeport.api.kubeproxy.defaults import with_defaults
from nodeport.api.kubeproxy.types import ZERO, Conntrack, IPTables, KubeProxyConfiguration
from nodeport.cli.errors import leaves
from nodeport.client.events import EventRecorder
from nodeport.client.informer import Informer
from nodeport.kit.clock import Clock
from nodeport.proxy.claim import AlreadyProxied
from nodeport.proxy.metrics import ProxyMetrics
from nodeport.proxy.options import ProxyOptions
from nodeport.proxy.runner import ProxyRunner
from nodeport.proxy.statuspage import serve_status
from nodeport.proxy.warnings import ServiceWarnings

SERVICE_NETWORKS: Final = ProxyOptions().service_networks
TAKEOVER_PATIENCE: Final = ProxyOptions().takeover_patience
_UNTOUCHED: Final = Conntrack(maxPerCore=0, min=0, tcpEstablishedTimeout=ZERO, tcpCloseWaitTimeout=ZERO)
"""Connection tracking is as the kernel has it: the machine is not the cluster's alone."""


class NodeProxy:
    """Programs and serves in ``netns`` (None: the current one). Somebody else runs the informers and ``recorder``,
    which is told what goes wrong with a Service.

    ``run`` returns only when cancelled, and may be run again.
    """

    def __init__(
        self, name: str, caches: tuple[Informer, Informer, Informer], netns: Path | None, recorder: EventRecorder,
        clock: Clock, *, nodeport_addresses: tuple[str, ...] = ("primary",), localhost_nodeports: bool = False,
        service_networks: tuple[IPv4Network | IPv6Network, ...] = SERVICE_NETWORKS,
        takeover_patience: timedelta = TAKEOVER_PATIENCE,
    ) -> None:  # fmt: skip
        """``caches``: of Services, EndpointSlices and Nodes."""
        services, slices, nodes = caches
        options = ProxyOptions(
            nodeport_addresses=nodeport_addresses, service_networks=service_networks,
            localhost_nodeports=localhost_nodeports, takeover_patience=takeover_patience,
        )  # fmt: skip
        self._name = name
        self._netns, self._clock = netns, clock
        self._config = configuration(name, options)
        self._metrics = ProxyMetrics(options.mode, options.families, clock.now())
        self._runner = ProxyRunner(
            node_name=name, services=services, slices=slices, nodes=nodes, netns=netns, options=options, clock=clock,
            observer=self._metrics, warn=ServiceWarnings(recorder, services),
        )  # fmt: skip

    async def wait_until_programmed(self) -> None:
        await self._runner.wait_until_programmed()

    async def run(self) -> None:
        """Raises AlreadyProxied, which names the node, or a group of ``proxier.FAILURES``."""
        status = serve_status(self._config, self._runner, self._metrics, self._netns, self._clock)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._runner.run())
                group.create_task(status)
        except* AlreadyProxied as found:
            raise AlreadyProxied(f"node {self._name}: {leaves(found)[0]}") from None


def configuration(name: str, options: ProxyOptions) -> KubeProxyConfiguration:
    """What kube-proxy would have to be told to do the same, for ``/configz``."""
    return with_defaults(
        KubeProxyConfiguration(
            hostnameOverride=name, mode=options.mode, nodePortAddresses=options.nodeport_addresses,
            iptables=IPTables(localhostNodePorts=options.localhost_nodeports), detectLocalMode="NodeCIDR",
            conntrack=_UNTOUCHED, oomScoreAdj=0,
        )
    )  # fmt: skip
