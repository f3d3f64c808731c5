"""Writes what ``reconcile`` plans for one Endpoints object at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, labels
from nodeport.api.resources import ENDPOINTS
from nodeport.client.cache import Change
from nodeport.client.events import WARNING, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.endpointslice.changes import SlicePlan
from nodeport.controllers.endpointslice.reconcile import MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from nodeport.controllers.endpointslice.writer import SliceWriteError, SliceWriter
from nodeport.controllers.endpointslicemirroring.reconcile import (
    DEFAULT_MAX_ENDPOINTS_PER_SUBSET,
    MANAGER,
    is_to_be_mirrored,
    plan_mirror,
)
from nodeport.controllers.loop import ReconcileLoop
from nodeport.kit.clock import Clock

BY_ENDPOINTS = "endpoints"

_STALE = timedelta(milliseconds=20)
_RETRY_MAXIMUM = timedelta(seconds=100)


@dataclass(frozen=True, slots=True)
class MirroringInformers:
    """Shared caches; slices indexed by Endpoints under ``BY_ENDPOINTS``."""

    endpoints: Informer
    services: Informer
    slices: Informer


def index_mirrored_slices(found: JsonObject) -> list[str]:
    """For the slice informer: the Endpoints that a slice of this controller mirrors."""
    endpoints = endpoints_of(found)
    return [str(endpoints)] if endpoints is not None else []


def endpoints_of(found: JsonObject) -> NamespacedName | None:
    has = labels(found)
    if has.get(MANAGED_BY_LABEL) != MANAGER or not has.get(SERVICE_NAME_LABEL):
        return None
    return NamespacedName(found["metadata"]["namespace"], has[SERVICE_NAME_LABEL])


class EndpointSliceMirroringController:
    """``batch_period`` is how long changes to mirrored slices are collected before they are undone."""

    def __init__(
        self,
        client: RestClient,
        informers: MirroringInformers,
        *,
        clock: Clock,
        recorder: EventRecorder,
        max_endpoints_per_subset: int = DEFAULT_MAX_ENDPOINTS_PER_SUBSET,
        batch_period: timedelta = timedelta(),
    ) -> None:
        if not 1 <= max_endpoints_per_subset <= DEFAULT_MAX_ENDPOINTS_PER_SUBSET:
            raise ValueError(
                f"max_endpoints_per_subset: {max_endpoints_per_subset}: a slice holds"
                f" 1 to {DEFAULT_MAX_ENDPOINTS_PER_SUBSET} endpoints"
            )
        self._informers = informers
        self._recorder = recorder
        self._maximum = max_endpoints_per_subset
        self._batch_period = batch_period
        self._writer = SliceWriter(client, informers.slices, owner="Endpoints", clock=clock, mend=self._mend)
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "endpointslicemirroring", self.reconcile, clock=clock, retry_maximum=_RETRY_MAXIMUM,
            informers=(informers.endpoints, informers.services, informers.slices),
        )  # fmt: skip
        informers.endpoints.subscribe(self._endpoints_changed)
        informers.services.subscribe(self._service_changed)
        informers.slices.subscribe(self._slice_changed)

    async def run(self) -> None:
        await self.loop.run()

    # --- what to look at

    def _endpoints_changed(self, change: Change) -> None:
        """Those that a controller computes for a selecting Service are nothing to mirror."""
        key = NamespacedName.of(change.object)
        service = self._informers.services.get(key)
        selects = service is not None and service["spec"].get("selector")
        if not selects or self._mirrors(key):
            self.loop.queue.add(key)

    def _service_changed(self, change: Change) -> None:
        """Only whether there is one, and whether it selects pods, matters."""
        had, has = (
            None if service is None else bool(service["spec"].get("selector"))
            for service in (change.old, change.new)
        )
        if had != has:
            self.loop.queue.add(NamespacedName.of(change.object))

    def _slice_changed(self, change: Change) -> None:
        self._writer.seen(change, endpoints_of)

    def _mend(self, key: NamespacedName) -> None:
        self.loop.queue.add_after(key, self._batch_period)

    def _mirrors(self, key: NamespacedName) -> list[JsonObject]:
        return self._informers.slices.by_index(BY_ENDPOINTS, str(key))

    # --- looking

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        if not self._writer.is_caught_up(key):
            return _STALE
        endpoints, service = self._informers.endpoints.get(key), self._informers.services.get(key)
        if endpoints is None or not is_to_be_mirrored(endpoints, service):
            await self._write(key, SlicePlan(delete=tuple(self._mirrors(key))))
            self._writer.forget(key)
            return None
        plan = plan_mirror(endpoints, self._mirrors(key), maximum=self._maximum)
        for reason, message in plan.events:
            self._recorder.event(object_reference(ENDPOINTS, endpoints), WARNING, reason, message)
        await self._write(key, plan.slices)
        return None

    async def _write(self, key: NamespacedName, plan: SlicePlan) -> None:
        try:
            await self._writer.write(key, plan)
        except SliceWriteError as failure:
            raise failure.reason from None
