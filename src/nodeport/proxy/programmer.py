"""One family of one node: dirty Services -> forwarding table -> kernel.

What is dirty is built anew from the caches, compared with what is committed, and the difference is sent. Whatever
fails is answered by reading the kernel and sending what differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.client.informer import Informer
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import (
    Change,
    Family,
    Forwarding,
    ForwardingTable,
    NodeFacts,
    ServicePortName,
)
from nodeport.kit.backoff import Backoff
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.proxy.audit import AuditSchedule
from nodeport.proxy.conntrack import ConntrackCleaner
from nodeport.proxy.localhost import LocalhostPorts
from nodeport.proxy.nodeview import as_told, service_networks
from nodeport.proxy.observer import Observer
from nodeport.proxy.options import Mode, ProxyOptions
from nodeport.proxy.proxier import FAILURES, Discrepancy, NoSlots, Proxier, SlotMemory

SLICE_INDEX: Final = "proxy.service"
"""The informer's index of slices by Service."""
_BURST: Final = 1000
"""How many dirty Services are looked at before others on the loop get their turn."""
_NONSENSE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading an object of the wrong shape leads to."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caches:
    """The informers that a node's proxy reads, and the node's name.

    ``service_cidrs``: what ClusterIPs come from; ``None``: as the options have it.
    """

    node: NamespacedName
    services: Informer
    slices: Informer
    nodes: Informer
    service_cidrs: Informer | None = None


_Found = TypeVar("_Found")
_Settle = Callable[[ServicePortName, Forwarding], Forwarding]
Audit = Callable[[ForwardingTable, NodeFacts], list[Discrepancy]]
"""Compares the kernel with a table, in whatever thread; raises ``FAILURES``."""


class Programmer:
    """Keeps the kernel's part for ``family`` as the caches want it. ``follow`` and ``guard`` run side by side."""

    def __init__(
        self, family: Family, caches: Caches, options: ProxyOptions, clock: Clock, observer: Observer
    ) -> None:
        self.family = family
        self._caches = caches
        self._options = options
        self._clock = clock
        self._observer = observer
        self.table = ForwardingTable()
        self._told: JsonObject | None = None
        """The Node object as it was last seen."""
        self.node = self.facts()
        self.waiting_since: float | None = clock.monotonic()
        """When (monotonic seconds) the oldest change began to wait for the kernel; ``None``: none waits."""
        self.last_updated = clock.now()
        self.programmed = asyncio.Event()
        self._dirty: dict[NamespacedName, None] = {}
        self._resync_due = True
        self._ahead = False
        """The kernel has not got yet what the table has; or it refused it."""
        self._kernel = asyncio.Lock()
        """Who talks to the kernel; for audits, which have a connection of their own, nobody need wait."""
        self._commits = 0
        self._wake = asyncio.Event()
        self.localhost: LocalhostPorts | None = None
        """Told what changed, once the kernel has it."""
        self._stale: dict[ServicePortName, Change] = {}
        self._backoff = Backoff(timedelta(milliseconds=100), timedelta(seconds=5), jitter=0.2)

    def mark(self, services: Iterable[NamespacedName]) -> None:
        """These Services must be looked at again."""
        for service in services:
            self._dirty[service] = None
            self._wake.set()

    def node_changed(self) -> None:
        if self.facts() != self.node:
            self._resync_due = True
            self._wake.set()

    def facts(self) -> NodeFacts:
        """What the caches and the options say of the node now. One whose object was deleted keeps what that said: it
        goes on taking packets until somebody turns it off.
        """
        self._told = self._caches.nodes.get(self._caches.node) or self._told
        return node_facts(
            self._caches.node.name,
            as_told(self._told, self._options),
            family=self.family,
            nodeport_addresses=self._options.nodeport_addresses,
            service_networks=service_networks(self._caches.service_cidrs, self._options),
            pod_networks=self._options.pod_networks,
            pod_interfaces=self._options.pod_interfaces,
            localhost_nodeports=self._options.localhost_nodeports,
        )

    def start_over(self, proxier: Proxier) -> None:
        """The first reading of the kernel decides where endpoints sit, so that a restart moves none."""
        self._resync_due = True
        self._wake.set()
        if len(self.table):
            return
        self.node = self.facts()
        with _without_collection():
            settle = self._slots(proxier).settle
            for service in self._caches.services.list():
                self._replace(NamespacedName.of(service), settle)
        self._dirty.clear()

    def _slots(self, proxier: Proxier) -> SlotMemory:
        """Without them endpoints would change places, which hurts nobody: no reason not to start."""
        try:
            return proxier.slots()
        except FAILURES as error:
            _log.warning("cannot read what is in the kernel: %s", error)
            return NoSlots()

    async def follow(self, proxier: Proxier, cleaner: ConntrackCleaner) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self.waiting_since is None:
                self.waiting_since = self._clock.monotonic()
            self._observer.queued(self.family, self._clock.now())
            started, full = time.perf_counter(), self._resync_due
            try:
                async with self._kernel:
                    if self._resync_due:
                        await self._resync(proxier)
                    while self._dirty:
                        await self._program(proxier)
                        await asyncio.sleep(0)
                    self._forget_stale(cleaner)
            except FAILURES as error:
                self._resync_due = True
                self._observer.failed(self.family, full=full)
                _log.warning("programming the kernel for %s failed: %s", self.family, error)
                await self._clock.sleep(self._backoff.next().total_seconds())
                self._wake.set()
                continue
            self._backoff.reset()
            self.waiting_since = None
            self.last_updated = self._clock.now()
            self._observer.programmed(
                self.family, time.perf_counter() - started, self.last_updated, full=full
            )
            self.programmed.set()
            if self._options.min_sync_period:
                await self._clock.sleep(self._options.min_sync_period.total_seconds())

    async def _work(self, work: Callable[[], _Found], *, takes_long: bool = False) -> _Found:
        """In another thread where it takes long, so that others on the loop get their turn."""
        if takes_long or self._options.mode is Mode.IPTABLES:  # its programs read and write whole tables
            return await _to_its_end(work)
        return work()

    async def _program(self, proxier: Proxier) -> None:
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
            self._ahead = True
            self._commits += 1
            started = time.perf_counter()
            await self._work(lambda: proxier.apply(wanted, self.node))
            self._observer.committed(self.family, time.perf_counter() - started)
            self._ahead = False

    def _remember_stale(self, changes: Iterable[Change]) -> None:
        """Connections can only be forgotten once the kernel has the change: else they would come back as they were."""
        for change in changes:
            before = self._stale.get(change.name)
            self._stale[change.name] = Change(change.name, before.old if before else change.old, change.new)

    def _forget_stale(self, cleaner: ConntrackCleaner) -> None:
        started = time.perf_counter()
        entries = cleaner.clean(self._stale.values(), self.node)
        self._observer.forgot(self.family, time.perf_counter() - started, entries)
        if self.localhost is not None:
            self.localhost.changed(self._stale)
        self._stale.clear()

    async def _resync(self, proxier: Proxier) -> None:
        """Compares all of the kernel's table with all of ours."""
        self._resync_due, self._ahead = False, True
        facts = self.facts()
        if facts != self.node:
            self.node = facts
            for service in list(self.table.services()):
                self._replace(service)
        self._commits += 1
        requests = await self._work(
            lambda: proxier.resync(self.table, self.node), takes_long=len(self.table) > _BURST
        )
        self._ahead = False
        self._remember_stale(Change(name, None, forwarding) for name, forwarding in self.table.items())
        _log.debug("compared the kernel's %s with ours: %d requests", self.family, requests)

    def _replace(self, service: NamespacedName, settle: _Settle | None = None) -> list[Change]:
        """``settle``: other than to the places that its endpoints have in the table."""
        before = self.table.wanted(service)
        settle = settle or (lambda name, forwarding: settle_forwarding(before.get(name), forwarding))
        built = self._build(service)
        changes = self.table.replace(
            service, {name: settle(name, forwarding) for name, forwarding in built.items()}
        )
        for change in changes:
            self._observer.settled(self.family, change)
        return changes

    def _build(self, service: NamespacedName) -> dict[ServicePortName, Forwarding]:
        current = self._caches.services.get(service)
        if current is None:
            return {}
        slices = self._caches.slices.by_index(SLICE_INDEX, str(service))
        try:
            return build_service(current, slices, self.node, self._options.forwarding)
        except (
            _NONSENSE
        ):  # one object that no server should have let in must not take all other Services along
            _log.exception(
                "Service %s or a slice of it makes no sense to %s; it is left out", service, self.family
            )
            return {}

    async def guard(self, proxier: Proxier, audit: Audit) -> None:
        """Notices when somebody else changed what is ours, and has it mended."""
        schedule = AuditSchedule(self._options.audit_interval, self._clock.monotonic())
        while True:
            await self._clock.sleep(self._options.check_interval.total_seconds())
            try:
                if self._is_behind() or not await self._is_intact(proxier, schedule):
                    continue
                if schedule.is_due(self._clock.monotonic()):
                    await self._audit(schedule, audit)
            except FAILURES as error:
                _log.warning("cannot ask the kernel about what is ours for %s: %s", self.family, error)

    def _is_behind(self) -> bool:
        """Whether the kernel cannot be as the table is."""
        return self._resync_due or self._ahead

    async def _is_intact(self, proxier: Proxier, schedule: AuditSchedule) -> bool:
        """Has it mended where it is not."""
        async with self._kernel:
            if self._is_behind() or proxier.is_undisturbed():
                return not self._is_behind()
            schedule.disturbed()
            if await self._work(proxier.is_intact):
                return True
        self._mend("somebody changed what is ours")
        return False

    async def _audit(self, schedule: AuditSchedule, audit: Audit) -> None:
        """Compares everything, in another thread; what was committed meanwhile makes the answer worthless."""
        schedule.begin(self._clock.monotonic())
        commits = self._commits
        found = await asyncio.to_thread(audit, self.table.snapshot(), self.node)
        schedule.end(self._clock.monotonic())
        if self._dirty or self._is_behind() or self._commits != commits:
            schedule.disturbed()
        elif found:
            self._mend(f"the kernel is not as it should be ({len(found)} differences): {found[0]}")

    def _mend(self, why: str) -> None:
        _log.warning("%s: %s; putting it right", self.family, why)
        self._resync_due = True
        self._wake.set()


async def _to_its_end(work: Callable[[], _Found]) -> _Found:
    """In a thread, which whoever is cancelled waits for: what it uses is closed next."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


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
