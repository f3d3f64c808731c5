"""ServiceCIDRs as the server sees them: the one named ``kubernetes`` that it answers for, and all of them as the ranges
that ClusterIPs are given out of."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from nodeport.api.meta import JsonObject
from nodeport.api.resources import SERVICE_CIDRS
from nodeport.api.status import AlreadyExists, NotFound
from nodeport.apiserver.allocators.clusterip import ClusterIPAllocator, Network
from nodeport.apiserver.allocators.findings import Finding
from nodeport.apiserver.encoding import decode, prefix_of
from nodeport.apiserver.options import WriteOptions
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.repair import Report
from nodeport.apiserver.routes import Target
from nodeport.apiserver.writes import Writer
from nodeport.kit.clock import rfc3339
from nodeport.kit.logs import get_logger
from nodeport.store.base import SlowWatcher, Store

DEFAULT_NAME = "kubernetes"
REPORTER = "kubernetes-service-cidr-controller"
READY = "Ready"
SHORTEST_IPV6_PREFIX = 64
_log = get_logger("nodeport.apiserver.servicecidrs")


def ready_condition(cidr: JsonObject) -> JsonObject | None:
    conditions: list[JsonObject] = (cidr.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == READY), None)


def is_ready(cidr: JsonObject) -> bool:
    """Whether addresses may be given out of it: not while it is being deleted, else unless somebody says no."""
    if cidr["metadata"].get("deletionTimestamp"):
        return False
    condition = ready_condition(cidr)
    return condition is None or condition.get("status") == "True"


def ranges_of(cidrs: Sequence[JsonObject]) -> dict[Network, bool]:
    """Each network of them and whether any that names it is ready; the default's come first."""
    found: dict[Network, bool] = {}
    for cidr in sorted(cidrs, key=lambda each: each["metadata"]["name"] != DEFAULT_NAME):
        for text in (cidr.get("spec") or {}).get("cidrs") or []:
            network = ip_network(text)
            if network.version == 6 and network.prefixlen < SHORTEST_IPV6_PREFIX:
                continue
            found[network] = found.get(network, False) or is_ready(cidr)
    return found


class Ranges:
    """Keeps the allocator's ranges those of the ServiceCIDRs."""

    def __init__(self, store: Store, allocator: ClusterIPAllocator) -> None:
        self._store = store
        self._allocator = allocator

    async def read(self) -> None:
        found = (await self._store.list(prefix_of(SERVICE_CIDRS))).items
        self._allocator.configure(ranges_of([decode(kv.value) for kv in found]))

    async def run(self) -> None:
        """Follow changes, until cancelled."""
        while True:
            after = self._store.revision
            await self.read()
            try:
                async with self._store.watch(prefix_of(SERVICE_CIDRS), after) as batches:
                    async for _ in batches:
                        await self.read()
                    return
            except SlowWatcher:
                continue


class DefaultServiceCidr:
    """Makes the ServiceCIDR ``kubernetes`` out of the server's own ranges, and again when it is gone; one that differs
    from them is told of, not changed, except that a second family joins the first."""

    def __init__(
        self, registry: Registry, writer: Writer, networks: Sequence[Network], report: Report
    ) -> None:
        self._registry = registry
        self._writer = writer
        self._cidrs = [str(network) for network in networks]
        self._report = report
        self._told: set[str] = set()

    async def ensure(self) -> None:
        """Once; to be called every few seconds."""
        try:
            kv = await self._registry.find(SERVICE_CIDRS, "", DEFAULT_NAME)
        except NotFound:
            await self._create()
            kv = await self._registry.find(SERVICE_CIDRS, "", DEFAULT_NAME)
        cidr = self._registry.entry(SERVICE_CIDRS).splicer.read(kv)
        found = (cidr.get("spec") or {}).get("cidrs") or []
        if len(self._cidrs) == 2 and found == self._cidrs[:1]:
            await self._widen()
        elif not cidr["metadata"].get("deletionTimestamp"):
            await self._check(cidr, found)

    async def _create(self) -> None:
        obj = {
            "apiVersion": SERVICE_CIDRS.api_version, "kind": SERVICE_CIDRS.kind,
            "metadata": {"name": DEFAULT_NAME}, "spec": {"cidrs": self._cidrs},
        }  # fmt: skip
        try:
            await self._writer.create(Target(SERVICE_CIDRS), obj, WriteOptions())
        except AlreadyExists:
            return

    async def _widen(self) -> None:
        def change(old: JsonObject) -> JsonObject:
            return {**old, "metadata": dict(old["metadata"]), "spec": {"cidrs": self._cidrs}}

        await self._writer.change(Target(SERVICE_CIDRS, "", DEFAULT_NAME), change, WriteOptions())

    async def _check(self, cidr: JsonObject, found: list[str]) -> None:
        condition = ready_condition(cidr)
        if found != self._cidrs:
            text = (
                f"The default ServiceCIDR [{' '.join(found)}] does not match the controller flag configurations"
                f" [{' '.join(self._cidrs)}]"
            )
            await self._tell_once(cidr, "KubernetesDefaultServiceCIDRInconsistent", text)
        elif condition is None or condition.get("status") == "Unknown":
            await self._set_ready()
        elif condition.get("status") == "False":
            text = f"Configuration matches, but {condition.get('message') or ''}"
            await self._tell_once(cidr, condition.get("reason") or "NotReady", text)

    async def _set_ready(self) -> None:
        def change(old: JsonObject) -> JsonObject:
            status = old.get("status") or {}
            others = [each for each in status.get("conditions") or [] if each.get("type") != READY]
            ready = {
                "type": READY, "status": "True", "reason": "",
                "message": "Kubernetes default Service CIDR is ready",
                "lastTransitionTime": rfc3339(self._registry.clock.now()),
            }  # fmt: skip
            return {
                **old,
                "metadata": dict(old["metadata"]),
                "status": {**status, "conditions": [*others, ready]},
            }

        await self._writer.change(Target(SERVICE_CIDRS, "", DEFAULT_NAME, "status"), change, WriteOptions())

    async def _tell_once(self, cidr: JsonObject, reason: str, text: str) -> None:
        if reason not in self._told:
            self._told.add(reason)
            _log.warning("%s", text)
            await self._report(
                REPORTER, Finding(SERVICE_CIDRS, cidr, reason, "ServiceCIDR", text, "inconsistent")
            )
