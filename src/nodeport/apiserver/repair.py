"""Keeps Services, the objects that own their numbers, and the fast views telling one story.

A Service and its guards are written in one commit, so a difference means that someone else wrote to the store, that an
older version did, or that a person removed or changed an IPAddress. Looked for at start, every three minutes, and
whenever an IPAddress changes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import SERVICES
from nodeport.apiserver.allocators import ipaddresses, nodeport
from nodeport.apiserver.allocators.addressplan import AddressPlan, plan_address, plan_addresses, plan_object
from nodeport.apiserver.allocators.claims import uses
from nodeport.apiserver.allocators.clusterip import Address, ClusterIPAllocator
from nodeport.apiserver.allocators.findings import Finding
from nodeport.apiserver.allocators.nodeport import NodePortAllocator
from nodeport.apiserver.allocators.portplan import PortPlan, plan_ports
from nodeport.apiserver.encoding import decode, key_of, prefix_of
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.store.base import (
    Delete,
    Event,
    Expect,
    KeyValue,
    Operation,
    PreconditionFailed,
    Put,
    SlowWatcher,
    Store,
)

INTERVAL = timedelta(minutes=3)
BATCH = 500
PORTS_REPORTER, ADDRESSES_REPORTER = "portallocator-repair-controller", "ipallocator-repair-controller"
Report = Callable[[str, Finding], Awaitable[None]]
"""Tells the world, in the name of a component."""
Mending = Sequence[Operation]
"""Writes that only make sense together."""
_log = get_logger("nodeport.apiserver.repair")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store held at one revision. ``unchanged`` says of each Service how it was then."""

    services: dict[NamespacedName, JsonObject]
    unchanged: dict[NamespacedName, Expect]
    addresses: dict[str, KeyValue]
    ports: dict[int, KeyValue]


class Repair:
    """``run_once`` before the first request is served makes the fast views; ``run`` keeps them right."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        addresses: ClusterIPAllocator,
        ports: NodePortAllocator,
        report: Report,
    ) -> None:
        self._store = store
        self._clock = clock
        self._addresses = addresses
        self._ports = ports
        self._report = report
        self._leaks: dict[int, int] = {}
        self._unowned: set[Address | int] = set()
        self._untold: list[tuple[str, Finding]] = []
        self._faults: Counter[tuple[str, str]] = Counter()
        self._failures: Counter[str] = Counter({"nodeport": 0, "clusterip": 0})

    async def run_once(self) -> int:
        """One look at everything; how many guards had to be mended."""
        found = await self._snapshot()
        await self._complete_views(found)
        mended = await self._mend_ports(found) + await self._mend_addresses(found)
        self._free_what_nobody_owns(found)
        return mended

    async def tell(self) -> None:
        """Report what was found and not told yet."""
        untold, self._untold = self._untold, []
        for component, finding in untold:
            await self._report(component, finding)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_now_and_then())
            group.create_task(self._follow(group))

    async def _look_now_and_then(self) -> None:
        while True:
            await self._carefully(self.tell(), "allocations", "nodeport", "clusterip")
            await self._clock.sleep(INTERVAL.total_seconds())
            await self._carefully(self.run_once(), "allocations", "nodeport", "clusterip")

    async def _carefully(self, work: Awaitable[object], what: str, *families: str) -> None:
        """A fault of one look is counted and logged; the next one may see better."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception:
            self._failures.update(families)
            _log.exception("%s could not be checked", what)

    async def _snapshot(self) -> Snapshot:
        at = self._store.revision
        services, unchanged = {}, {}
        for number, kv in enumerate((await self._store.list(prefix_of(SERVICES), revision=at)).items):
            service = decode(kv.value)
            services[NamespacedName.of(service)] = service
            unchanged[NamespacedName.of(service)] = Expect(kv.key, kv.mod_revision)
            if number % BATCH == BATCH - 1:
                await asyncio.sleep(0)
        addresses = (await self._store.list(ipaddresses.PREFIX, revision=at)).items
        ports = (await self._store.list(nodeport.GUARDS, revision=at)).items
        return Snapshot(
            services,
            unchanged,
            {kv.key.removeprefix(ipaddresses.PREFIX): kv for kv in addresses},
            {nodeport.port_of(kv.key): kv for kv in ports},
        )

    async def _complete_views(self, found: Snapshot) -> None:
        """Note what the store says is taken and is so still."""
        for port, kv in found.ports.items():
            if not self._ports.is_taken(port) and await self._store.get(kv.key) is not None:
                self._ports.load([port])
        for kv in found.addresses.values():
            address = ipaddresses.address_of(kv.key)
            if not self._addresses.is_taken(address) and await self._store.get(kv.key) is not None:
                self._addresses.mark(address)

    async def _mend_ports(self, found: Snapshot) -> int:
        plan = plan_ports(found.services.values(), set(found.ports), self._ports.ports, self._leaks)
        self._leaks = plan.leaks
        self._note(PORTS_REPORTER, "nodeport", plan.findings)
        self._faults["nodeport", "leak"] += len(plan.free)
        self._ports.load(plan.create)
        mended = await self._commit(_port_mendings(plan, found))
        for port in plan.free:
            self._ports.free(port)
        return mended

    async def _mend_addresses(self, found: Snapshot) -> int:
        objects = {name: decode(kv.value) for name, kv in found.addresses.items()}
        plan = plan_addresses(found.services, objects, self._addresses.holds, self._clock.now())
        return await self._apply(plan, found.addresses, found.unchanged)

    async def _apply(
        self, plan: AddressPlan, objects: dict[str, KeyValue], unchanged: Mapping[NamespacedName, Expect]
    ) -> int:
        """How many objects were made or removed; none is made for a Service that has changed meanwhile."""
        self._note(ADDRESSES_REPORTER, "clusterip", plan.findings)
        replaced = [str(address) for address in plan.create if str(address) in objects]
        removals: list[Mending] = [
            [Delete(objects[name].key, expect=objects[name].mod_revision)]
            for name in [*plan.delete, *replaced]
        ]
        now = self._clock.now()
        for address in plan.create:
            self._addresses.mark(address)
        mended = await self._commit(removals)
        mended += await self._commit([
            [unchanged[owner], Put(ipaddresses.guard(address), ipaddresses.stored(address, owner, now), expect=0)]
            for address, owner in plan.create.items()
        ])  # fmt: skip
        for name in plan.delete:
            self._addresses.free(ipaddresses.address_of(objects[name].key))
        return mended

    def _note(self, component: str, family: str, findings: Sequence[Finding]) -> None:
        for finding in findings:
            self._faults[family, finding.kind] += 1
            self._untold.append((component, finding))
            _log.warning("%s: %s", NamespacedName.of(finding.about), finding.message)

    async def _commit(self, mendings: Sequence[Mending]) -> int:
        """As many as still fit what the store holds by now; the others are looked at again in the next run."""
        done = 0
        for at in range(0, len(mendings), BATCH):
            batch = mendings[at : at + BATCH]
            operations = {operation.key: operation for mending in batch for operation in mending}
            try:
                await self._store.commit(list(operations.values()))
                done += len(batch)
            except PreconditionFailed:
                done += sum([await self._commit_one(mending) for mending in batch])
        return done

    async def _commit_one(self, mending: Mending) -> bool:
        try:
            await self._store.commit(mending)
        except PreconditionFailed as error:
            _log.info("left for the next look: %s", error)
            return False
        return True

    def _free_what_nobody_owns(self, found: Snapshot) -> None:
        """Numbers taken in a view without a guard in two looks on end: another server gave them back."""
        addresses = {ipaddresses.address_of(kv.key) for kv in found.addresses.values()}
        unowned: set[Address | int] = set(self._addresses.taken_beside(addresses))
        unowned.update(self._ports.taken_beside(found.ports))
        for number in unowned & self._unowned:
            if isinstance(number, int):
                self._ports.free(number)
            else:
                self._addresses.free(number)
        self._unowned = unowned - self._unowned

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        """React to each change of an IPAddress."""
        while True:
            after = self._store.revision
            try:
                async with self._store.watch(ipaddresses.PREFIX, after) as batches:
                    async for batch in batches:
                        for event in batch:
                            await self._carefully(self._react(event, group), event.key, "clusterip")
                    return
            except SlowWatcher:
                await self.run_once()

    async def _react(self, event: Event, group: asyncio.TaskGroup) -> None:
        if event.current is None:
            await self._was_removed(event)
        elif not await self._was_written_with_its_service(event.current):
            await self._look_at(event.key, group)
        await self.tell()

    async def _was_written_with_its_service(self, kv: KeyValue) -> bool:
        parent = ipaddresses.service_of(decode(kv.value))
        service = await self._service(parent) if parent is not None else None
        return service is not None and service.mod_revision == kv.mod_revision

    async def _service(self, name: NamespacedName) -> KeyValue | None:
        return await self._store.get(key_of(SERVICES, name.namespace, name.name))

    async def _was_removed(self, event: Event) -> None:
        """An address that its Service still uses gets its object back; any other is free."""
        assert event.previous is not None
        address = ipaddresses.address_of(event.key)
        in_use = await self._store.get(event.key) is not None
        parent = ipaddresses.service_of(decode(event.previous.value))
        kv = await self._service(parent) if parent is not None and not in_use else None
        if kv is not None and uses(service := decode(kv.value), str(address)):
            in_use = True
            plan = plan_address(service, str(address), {}, {}, self._addresses.holds)
            await self._apply(plan, {}, {NamespacedName.of(service): Expect(kv.key, kv.mod_revision)})
        self._addresses.settle(address, in_use=in_use)

    async def _look_at(self, key: str, group: asyncio.TaskGroup) -> None:
        kv = await self._store.get(key)
        if kv is None:
            return
        obj = decode(kv.value)
        parent = ipaddresses.service_of(obj)
        service = await self._service(parent) if parent is not None else None
        owner = decode(service.value) if service is not None else None
        plan = plan_object(obj, lambda _: owner, self._clock.now())
        await self._apply(plan, {obj["metadata"]["name"]: kv}, {})
        if plan.again is not None:
            group.create_task(self._look_later(key, plan.again, group))

    async def _look_later(self, key: str, delay: timedelta, group: asyncio.TaskGroup) -> None:
        await self._clock.sleep(delay.total_seconds() + 1)
        await self._carefully(self._look_at(key, group), key, "clusterip")
        await self._carefully(self.tell(), key, "clusterip")

    def metrics(self) -> Iterator[str]:
        for family, what in (("nodeport", "port"), ("clusterip", "ip")):
            name = f"apiserver_{family}_repair"
            yield f"# TYPE {name}_{what}_errors_total counter"
            for (about, kind), number in sorted(self._faults.items()):
                if about == family:
                    yield f'{name}_{what}_errors_total{{type="{kind}"}} {number}'
            yield f"# TYPE {name}_reconcile_errors_total counter"
            yield f"{name}_reconcile_errors_total {self._failures[family]}"


def _port_mendings(plan: PortPlan, found: Snapshot) -> list[Mending]:
    mendings: list[Mending] = [
        [Delete(found.ports[port].key, expect=found.ports[port].mod_revision)] for port in plan.free
    ]
    mendings += (
        [found.unchanged[owner], Put(nodeport.guard(port), str(owner).encode(), expect=0)]
        for port, owner in plan.create.items()
    )
    return mendings
