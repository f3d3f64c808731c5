"""The proxy of one node: caches of the API -> a programmer per family of addresses -> kernel.

Events only mark a Service dirty, in every family; what that means is found out by the family's ``Programmer``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from nodeport.api.meta import JsonObject, NamespacedName, labels
from nodeport.client.informer import Change as ObjectChange
from nodeport.client.informer import Informer
from nodeport.forwarding.table import Family, ForwardingTable, NodeFacts, ServicePortName
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.proxy.audit import audit, verify_node
from nodeport.proxy.claim import claimed
from nodeport.proxy.conntrack import ConntrackCleaner
from nodeport.proxy.health import (
    FamilyHealth,
    Health,
    health_handler,
    is_eligible,
    waiting,
)
from nodeport.proxy.http import serve_at
from nodeport.proxy.leftovers import LeftoverWatch
from nodeport.proxy.localhost import LocalhostPorts
from nodeport.proxy.modes import open_proxier, stand_side_by_side
from nodeport.proxy.nftables.counters import remove_counters
from nodeport.proxy.observer import Observer, Unobserved
from nodeport.proxy.options import ProxyOptions
from nodeport.proxy.programmer import SLICE_INDEX, Caches, Programmer
from nodeport.proxy.proxier import (
    FAILURES,
    CountsElements,
    CountsRules,
    CountsTraffic,
    Discrepancy,
    Proxier,
    RuleCounts,
    Traffic,
)
from nodeport.proxy.servicehealth import ServiceHealth, Warn, wanted_server
from nodeport.proxy.slimming import SERVICE_NAME
from nodeport.proxy.switch import remove_others

_DRAIN_INTERVAL: Final = 10.0
_log = get_logger(__name__)


class ProxyRunner:
    """Programs the network namespace ``netns`` (``None``: the current one) for the node ``node_name``.

    The informers may be shared with other runners; somebody else runs them. ``nodes`` must at least follow the node
    itself. ``warn`` is told what goes wrong with a Service, ``warn_node`` what does with the node. ``run`` returns only
    when cancelled, leaves the kernel's part in place (traffic goes on), and may be run again.
    """

    def __init__(
        self,
        *,
        node_name: str,
        services: Informer,
        slices: Informer,
        nodes: Informer,
        netns: Path | None,
        options: ProxyOptions,
        clock: Clock,
        service_cidrs: Informer | None = None,
        observer: Observer | None = None,
        warn: Warn = lambda service, reason, message: None,
        warn_node: Callable[[str, str], None] = lambda reason, message: None,
    ) -> None:
        self._caches = Caches(NamespacedName("", node_name), services, slices, nodes, service_cidrs)
        self._observer = observer or Unobserved()
        self._netns = netns
        self._options = options
        self._clock = clock
        self._warn_node = warn_node
        self._programmers = {
            family: Programmer(family, self._caches, options, clock, self._observer)
            for family in options.families
            if _kernel_knows(family)
        }
        self._service_health = {
            family: ServiceHealth(node_name, family, netns, lambda: self.health().healthy, warn, clock)
            for family in self._programmers
        }
        self._proxiers: dict[Family, Proxier] = {}
        self._subscribed = False

    @property
    def families(self) -> tuple[Family, ...]:
        """Those of the options that the kernel knows."""
        return tuple(self._programmers)

    def table(self, family: Family) -> ForwardingTable:
        """What this node does with service traffic, as last committed or about to be; for status and trace."""
        return self._programmers[family].table

    def node(self, family: Family) -> NodeFacts:
        return self._programmers[family].node

    async def wait_until_programmed(self) -> None:
        """Returns when the kernel once had everything that the caches held when they were first complete."""
        for programmer in self._programmers.values():
            await programmer.programmed.wait()

    def sizes(self) -> dict[Family, Mapping[str, int]]:
        """How much of each kind the proxiers that count it have in the kernel."""
        counted = {
            family: dict(proxier.sizes())
            for family, proxier in self._proxiers.items()
            if isinstance(proxier, CountsElements)
        }
        return {**counted}

    def rule_counts(self) -> dict[Family, Mapping[str, RuleCounts]]:
        """How many rules the proxiers whose parts are rules have in the kernel, and wrote last."""
        return {
            family: proxier.rule_counts()
            for family, proxier in self._proxiers.items()
            if isinstance(proxier, CountsRules)
        }

    def traffic(self) -> dict[Family, Mapping[ServicePortName, Traffic]]:
        """What the proxiers that count it have counted of each Service port; a listing of the kernel's."""
        found: dict[Family, Mapping[ServicePortName, Traffic]] = {}
        for family, proxier in self._proxiers.items():
            if isinstance(proxier, CountsTraffic):
                try:
                    found[family] = proxier.traffic()
                except FAILURES as error:
                    _log.warning("cannot read the counters of Services: %s", error)
        return found

    async def verify(self) -> dict[Family, list[Discrepancy]]:
        """Where the kernel is not what the caches want; reads only, whoever programs it."""
        await self._wait_until_synced()
        self._index_slices()
        slices = self._caches.slices
        given = [
            (service, slices.by_index(SLICE_INDEX, str(NamespacedName.of(service))))
            for service in self._caches.services.list()
        ]
        nodes = {family: programmer.facts() for family, programmer in self._programmers.items()}
        return await asyncio.to_thread(verify_node, given, nodes, self._netns, self._options)

    async def _wait_until_synced(self) -> None:
        caches = self._caches
        for informer in (caches.services, caches.slices, caches.nodes, caches.service_cidrs):
            if informer is not None:
                await informer.wait_until_synced()

    async def run(self) -> None:
        """Raises AlreadyProxied, ``proxier.FAILURES``."""
        described = f"mode {self._options.mode}, node {self._caches.node.name}"
        async with claimed(self._netns, described, self._clock, self._options.takeover_patience):
            await self._run()

    async def _run(self) -> None:
        with ExitStack() as opened:
            cleaner = opened.enter_context(ConntrackCleaner(self._netns))
            proxiers = {
                family: opened.enter_context(
                    open_proxier(self._options.mode, family, self._netns, self._options)
                )
                for family in self._programmers
            }
            self._proxiers = proxiers
            stand_side_by_side(proxiers.values())
            await self._wait_until_synced()
            self._subscribe()
            compare = partial(audit, netns=self._netns, options=self._options)
            async with asyncio.TaskGroup() as tasks:
                for family, proxier in proxiers.items():
                    programmer = self._programmers[family]
                    programmer.start_over(proxier)
                    tasks.create_task(programmer.follow(proxier, cleaner), name=f"proxy-follow-{family}")
                    tasks.create_task(programmer.guard(proxier, compare), name=f"proxy-guard-{family}")
                    if self._options.relays_loopback(family):
                        ports = LocalhostPorts(family, self._netns, programmer.table, self._clock, Random())
                        programmer.localhost = ports
                        tasks.create_task(ports.run(), name=f"proxy-localhost-{family}")
                    servers = self._service_health[family]
                    servers.set_networks(programmer.node.nodeport_networks)
                    tasks.create_task(servers.run(), name=f"proxy-service-health-{family}")
                tasks.create_task(self._tidy(tasks), name="proxy-tidy")
                if self._options.health is not None:
                    handler = health_handler(self.health, self._observer.health_answered)
                    serving = serve_at(
                        self._options.health, self._netns, handler, self._clock, what="/healthz",
                        hard_fail=self._options.hard_fail,
                    )  # fmt: skip
                    tasks.create_task(serving, name="proxy-health")

    async def _tidy(self, tasks: asyncio.TaskGroup) -> None:
        """What another mode has done for this node goes when this one does it: there is no gap in between. What
        kube-proxy has done is told.
        """
        await self.wait_until_programmed()
        options = self._options
        remove = partial(remove_others, options.mode, options.families, self._netns, options)
        if not await asyncio.to_thread(remove):
            tasks.create_task(self._drain(remove), name="proxy-drain")
        if not options.service_counters:
            await asyncio.to_thread(self._remove_counters)
        interval, observer = options.audit_interval, self._observer
        await LeftoverWatch(
            self._netns, interval, self._clock, observer.kube_proxy_found, self._warn_node
        ).run()

    async def _drain(self, remove: Callable[[], bool]) -> None:
        """Until the last connection has ended that lives in what another mode left."""
        _log.info("connections of another mode go on; what they need goes when they have ended")
        while not await asyncio.to_thread(remove):
            await self._clock.sleep(_DRAIN_INTERVAL)
        _log.info("the last connection of another mode has ended")

    def _remove_counters(self) -> None:
        """Those of a proxy that counted; they would cost every packet a lookup for nobody."""
        for family in self._programmers:
            try:
                remove_counters(family, self._netns)
            except FAILURES as error:
                _log.warning("cannot take away the counters of Services: %s", error)

    def health(self) -> Health:
        """What ``/healthz`` says: unhealthy while a change has waited too long for the kernel."""
        if not self._subscribed:
            return waiting(self._clock.now())
        patience, now = 2 * self._options.sync_period.total_seconds(), self._clock.monotonic()
        families = {
            family: FamilyHealth(
                it.waiting_since is None or now - it.waiting_since < patience, it.last_updated
            )
            for family, it in self._programmers.items()
        }
        node = self._caches.nodes.get(self._caches.node)
        return Health(families, is_eligible(node), self._clock.now())

    def _subscribe(self) -> None:
        if self._subscribed:
            return
        self._subscribed = True
        self._index_slices()
        self._caches.services.subscribe(self._service_changed)
        self._caches.slices.subscribe(self._slice_changed)
        self._caches.nodes.subscribe(self._node_changed)
        if self._caches.service_cidrs is not None:
            self._caches.service_cidrs.subscribe(lambda _: self._facts_changed())

    def _index_slices(self) -> None:
        with contextlib.suppress(ValueError):  # another runner on the same informer made it
            self._caches.slices.add_index(SLICE_INDEX, _service_names)

    def _service_changed(self, change: ObjectChange) -> None:
        self._observer.service_changed()
        self._mark([NamespacedName.of(change.object)])

    def _slice_changed(self, change: ObjectChange) -> None:
        self._observer.slice_changed(change.new)
        for item in (change.old, change.new):
            if item is not None:
                namespace = item["metadata"].get("namespace") or ""
                self._mark(
                    NamespacedName(namespace, name) for name in labels(item).get(SERVICE_NAME, "").split()
                )

    def _node_changed(self, change: ObjectChange) -> None:
        if NamespacedName.of(change.object) == self._caches.node:
            self._facts_changed()

    def _facts_changed(self) -> None:
        for family, programmer in self._programmers.items():
            programmer.node_changed()
            self._service_health[family].set_networks(programmer.facts().nodeport_networks)

    def _mark(self, services: Iterable[NamespacedName]) -> None:
        marked = list(services)
        for programmer in self._programmers.values():
            programmer.mark(marked)
        for service in marked:
            self._look_at_health(service)

    def _look_at_health(self, service: NamespacedName) -> None:
        current = self._caches.services.get(service)
        asks = current is not None and (current.get("spec") or {}).get("healthCheckNodePort")
        slices = self._caches.slices.by_index(SLICE_INDEX, str(service)) if asks else ()
        for family, servers in self._service_health.items():
            wanted = wanted_server(current, slices, self._caches.node.name, family) if asks else None
            servers.set(service, wanted)


def _kernel_knows(family: Family) -> bool:
    """Some kernels were told at boot to do without IPv6."""
    kind = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    try:
        socket.socket(kind, socket.SOCK_DGRAM).close()
    except OSError as error:
        _log.info("the kernel knows no %s, so this proxy leaves it alone: %s", family, error)
        return False
    return True


def _service_of(item: JsonObject) -> NamespacedName | None:
    """The Service that a slice belongs to."""
    name = labels(item).get(SERVICE_NAME)
    return NamespacedName(item["metadata"].get("namespace") or "", name) if name else None


def _service_names(item: JsonObject) -> list[str]:
    """The same as the index spells it."""
    service = _service_of(item)
    return [str(service)] if service else []
