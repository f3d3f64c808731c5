"""The proxy of one node: caches of the API -> forwarding table -> kernel.

Events only mark a Service dirty. What is dirty is built anew from the caches, compared with what is committed, and
the difference is sent. Whatever fails is answered by reading the kernel and sending what differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted, labels
from nodeport.client.informer import Change as ObjectChange
from nodeport.client.informer import Informer
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Change, Forwarding, ForwardingTable, NodeFacts, ServicePortName
from nodeport.kit.backoff import Backoff
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.netlink.codec import NetlinkError
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.conntrack import ConntrackCleaner
from nodeport.proxy.health import Health, serve_health
from nodeport.proxy.nftables.proxier import NftablesProxier, SlotMemory
from nodeport.proxy.options import ProxyOptions

SERVICE_NAME: Final = "kubernetes.io/service-name"
_SLICE_INDEX: Final = "proxy.service"
_BURST: Final = 1000
"""How many dirty Services are looked at before others on the loop get their turn."""
_PATIENCE: Final = timedelta(seconds=60)
_log = get_logger(__name__)


class ProxyRunner:
    """Programs the network namespace ``netns`` (``None``: the current one) for the node ``node_name``.

    The informers may be shared with other runners; somebody else runs them. ``nodes`` must at least follow the node
    itself. ``run`` returns only when cancelled, leaves the kernel's table in place (traffic goes on), and may be run
    again.
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
    ) -> None:
        self._node_key = NamespacedName("", node_name)
        self._services = services
        self._slices = slices
        self._nodes = nodes
        self._netns = netns
        self._options = options
        self._clock = clock
        self._table = ForwardingTable()
        self._node = self._facts()
        self._dirty: dict[NamespacedName, None] = {}
        self._resync_due = True
        self._wake = asyncio.Event()
        self._programmed = asyncio.Event()
        self._subscribed = False
        self._waiting_since: float | None = clock.monotonic()
        self._last_updated = clock.now()
        self._warned: set[NamespacedName] = set()
        self._stale: dict[ServicePortName, Change] = {}
        self._backoff = Backoff(timedelta(milliseconds=100), timedelta(seconds=5), jitter=0.2)

    @property
    def table(self) -> ForwardingTable:
        """What this node does with service traffic, as last committed or about to be; for status and trace."""
        return self._table

    @property
    def node(self) -> NodeFacts:
        return self._node

    async def wait_until_programmed(self) -> None:
        """Returns when the kernel once had everything that the caches held when they were first complete."""
        await self._programmed.wait()

    async def run(self) -> None:
        with Nftables(self._netns) as kernel, ConntrackCleaner(self._netns) as cleaner:
            proxier = NftablesProxier(kernel, self._options.forwarding)
            for informer in (self._services, self._slices, self._nodes):
                await informer.wait_until_synced()
            self._subscribe()
            self._start_over(proxier)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(proxier, cleaner), name="proxy-follow")
                tasks.create_task(self._guard(proxier), name="proxy-guard")
                if self._options.health is not None:
                    tasks.create_task(self._serve_health(*self._options.health), name="proxy-health")

    async def _serve_health(self, host: str, port: int) -> None:
        try:
            await serve_health(host, port, self._netns, self.health)
        except OSError as error:
            _log.error("cannot serve /healthz on %s:%d: %s", host, port, error)

    def health(self) -> Health:
        """What ``/healthz`` says: unhealthy while a change has waited too long for the kernel."""
        since = self._waiting_since
        patient = since is None or self._clock.monotonic() - since < _PATIENCE.total_seconds()
        node = self._nodes.get(self._node_key)
        eligible = node is not None and not is_being_deleted(node)
        return Health(patient, eligible, self._last_updated, self._clock.now())

    def _subscribe(self) -> None:
        if self._subscribed:
            return
        self._subscribed = True
        with contextlib.suppress(ValueError):  # another runner on the same informer made it
            self._slices.add_index(_SLICE_INDEX, _service_names)
        self._services.subscribe(lambda change: self._mark([NamespacedName.of(change.object)]))
        self._slices.subscribe(self._slice_changed)
        self._nodes.subscribe(self._node_changed)

    def _slice_changed(self, change: ObjectChange) -> None:
        for item in (change.old, change.new):
            if item is not None:
                namespace = item["metadata"].get("namespace") or ""
                self._mark(
                    NamespacedName(namespace, name) for name in labels(item).get(SERVICE_NAME, "").split()
                )

    def _node_changed(self, change: ObjectChange) -> None:
        if NamespacedName.of(change.object) == self._node_key and self._facts() != self._node:
            self._resync_due = True
            self._wake.set()

    def _mark(self, services: Iterable[NamespacedName]) -> None:
        for service in services:
            self._dirty[service] = None
            self._wake.set()

    def _facts(self) -> NodeFacts:
        return node_facts(
            self._node_key.name,
            self._nodes.get(self._node_key),
            nodeport_addresses=self._options.nodeport_addresses,
            service_networks=self._options.service_networks,
            pod_networks=self._options.pod_networks,
        )

    def _start_over(self, proxier: NftablesProxier) -> None:
        """The first reading of the kernel decides where endpoints sit, so that a restart moves none."""
        self._resync_due = True
        self._wake.set()
        if len(self._table):
            return
        self._node = self._facts()
        with _without_collection():
            memory = self._memory(proxier)
            for service in self._services.list():
                self._replace(NamespacedName.of(service), memory)
        self._dirty.clear()

    def _memory(self, proxier: NftablesProxier) -> SlotMemory:
        """Without it endpoints would change places, which hurts nobody: no reason not to start."""
        try:
            return proxier.slots()
        except (NetlinkError, OSError) as error:
            _log.warning("cannot read the table that is there: %s", error)
            return SlotMemory({})

    async def _follow(self, proxier: NftablesProxier, cleaner: ConntrackCleaner) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._waiting_since is None:
                self._waiting_since = self._clock.monotonic()
            try:
                if self._resync_due:
                    self._resync(proxier)
                while self._dirty:
                    self._program(proxier)
                    await asyncio.sleep(0)
                self._forget_stale(cleaner)
            except (NetlinkError, OSError) as error:
                self._resync_due = True
                _log.warning("programming the kernel failed: %s", error)
                await self._clock.sleep(self._backoff.next().total_seconds())
                self._wake.set()
                continue
            self._backoff.reset()
            self._waiting_since = None
            self._last_updated = self._clock.now()
            self._programmed.set()

    def _program(self, proxier: NftablesProxier) -> None:
        """Builds up to a burst of dirty Services and commits what changed."""
        burst = [service for service, _ in zip(self._dirty, range(_BURST), strict=False)]
        changes: dict[ServicePortName, Change] = {}
        for service in burst:
            del self._dirty[service]
            for change in self._replace(service):
                before = changes.get(change.name)
                old = before.old if before else change.old
                changes[change.name] = Change(change.name, old, change.new)
        wanted = [change for change in changes.values() if change.old != change.new]
        if wanted:
            self._remember_stale(wanted)
            self._resync_due = True  # until the kernel has it: the table is ahead of the kernel now
            proxier.apply(wanted, self._node)
            self._resync_due = False

    def _remember_stale(self, changes: Iterable[Change]) -> None:
        """Connections can only be forgotten once the kernel has the change: else they would come back as they were."""
        for change in changes:
            before = self._stale.get(change.name)
            self._stale[change.name] = Change(change.name, before.old if before else change.old, change.new)

    def _forget_stale(self, cleaner: ConntrackCleaner) -> None:
        cleaner.clean(self._stale.values(), self._node)
        self._stale.clear()

    def _resync(self, proxier: NftablesProxier) -> None:
        """Compares all of the kernel's table with all of ours."""
        facts = self._facts()
        if facts != self._node:
            self._node = facts
            for service in list(self._table.services()):
                self._replace(service)
        requests = proxier.resync(self._table, self._node)
        self._resync_due = False
        self._remember_stale(Change(name, None, forwarding) for name, forwarding in self._table.items())
        _log.debug("compared the kernel's table with ours: %d requests", requests)

    def _replace(self, service: NamespacedName, memory: SlotMemory | None = None) -> list[Change]:
        built = self._build(service)
        before = self._table.wanted(service)
        settled = {
            name: memory.settle(name, forwarding)
            if memory
            else settle_forwarding(before.get(name), forwarding)
            for name, forwarding in built.items()
        }
        return self._table.replace(service, settled)

    def _build(self, service: NamespacedName) -> dict[ServicePortName, Forwarding]:
        current = self._services.get(service)
        if current is None:
            return {}
        slices = self._slices.by_index(_SLICE_INDEX, str(service))
        built = build_service(current, slices, self._node, self._options.forwarding)
        if service not in self._warned and any(forwarding.affinity for forwarding in built.values()):
            self._warned.add(service)
            _log.warning(
                "%s: sessionAffinity ClientIP is not supported yet; spreading its connections", service
            )
        return built

    async def _guard(self, proxier: NftablesProxier) -> None:
        """Notices when somebody else changed our table, and mends it."""
        while True:
            await self._clock.sleep(self._options.check_interval.total_seconds())
            try:
                if self._resync_due or proxier.is_undisturbed():
                    continue
                if not proxier.is_intact():
                    _log.warning("somebody changed our nftables table; putting it right")
                    self._resync_due = True
                    self._wake.set()
            except (NetlinkError, OSError) as error:
                _log.warning("cannot ask the kernel about our table: %s", error)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Building many thousand objects that all stay: the garbage collector would look at each again and again."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _service_of(item: JsonObject) -> NamespacedName | None:
    """The Service that a slice belongs to."""
    name = labels(item).get(SERVICE_NAME)
    return NamespacedName(item["metadata"].get("namespace") or "", name) if name else None


def _service_names(item: JsonObject) -> list[str]:
    """The same as the index spells it."""
    service = _service_of(item)
    return [str(service)] if service else []
