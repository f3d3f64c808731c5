"""Writes what ``reconcile`` plans for one Service at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted, labels
from nodeport.api.resources import ENDPOINT_SLICES, SERVICES
from nodeport.api.status import ApiError, Conflict, Forbidden, NotFound
from nodeport.client.cache import Change
from nodeport.client.events import WARNING, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.endpointslice.reconcile import (
    DEFAULT_MAX_ENDPOINTS,
    MANAGED_BY_LABEL,
    MANAGER,
    SERVICE_NAME_LABEL,
    SlicePlan,
    plan_slices,
)
from nodeport.controllers.endpointslice.trigger_time import TriggerTimes
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.pacing import Pacer
from nodeport.controllers.selection import (
    BY_NODE,
    selected_pods,
    selecting_services,
    selector_of,
    services_to_look_at,
)
from nodeport.kit.clock import Clock

BY_SERVICE = "service"
ZONE_LABEL = "topology.kubernetes.io/zone"

_STALE = timedelta(milliseconds=20)
_FOREIGN_CHANGE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class EndpointInformers:
    """Shared caches with the indexes of ``selection``; slices indexed by Service under ``BY_SERVICE``."""

    services: Informer
    pods: Informer
    slices: Informer
    nodes: Informer


def index_managed_slices(found: JsonObject) -> list[str]:
    """For the slice informer: the Service of a slice that this controller manages."""
    service = service_of(found)
    return [str(service)] if service is not None else []


def service_of(found: JsonObject) -> NamespacedName | None:
    has = labels(found)
    if has.get(MANAGED_BY_LABEL) != MANAGER or not has.get(SERVICE_NAME_LABEL):
        return None
    return NamespacedName(found["metadata"]["namespace"], has[SERVICE_NAME_LABEL])


class EndpointSliceController:
    """Bursts are met by looking at a Service at most for a tenth of the time: a Service of 5,000 pods that
    all turn ready in one second is computed a few times, one of three pods at once.
    """

    def __init__(
        self,
        client: RestClient,
        informers: EndpointInformers,
        *,
        clock: Clock,
        recorder: EventRecorder,
        max_endpoints: int = DEFAULT_MAX_ENDPOINTS,
    ) -> None:
        self._client = client
        self._informers = informers
        self._recorder = recorder
        self._max_endpoints = max_endpoints
        self._guard: WriteGuard[NamespacedName] = WriteGuard(informers.slices, clock)
        self._times = TriggerTimes()
        self._pacer: Pacer[NamespacedName] = Pacer()
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "endpointslice", self.reconcile, clock=clock,
            informers=(informers.services, informers.pods, informers.slices, informers.nodes),
        )  # fmt: skip
        informers.services.subscribe(self._service_changed)
        informers.pods.subscribe(self._pod_changed)
        informers.slices.subscribe(self._slice_changed)
        informers.nodes.subscribe(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    # --- what to look at

    def _service_changed(self, change: Change) -> None:
        self.loop.queue.add(NamespacedName.of(change.object))

    def _pod_changed(self, change: Change) -> None:
        for key in services_to_look_at(self._informers.services, change):
            self._look_again(key)

    def _slice_changed(self, change: Change) -> None:
        """Most such changes are our own; those of others are looked at after a second, as Kubernetes does."""
        for found in (change.old, change.new):
            key = service_of(found) if found is not None else None
            if key is not None:
                self.loop.queue.add_after(key, _FOREIGN_CHANGE)

    def _node_changed(self, change: Change) -> None:
        """A node appeared, left or moved to another zone: its pods' endpoints change."""
        if change.old is not None and change.new is not None and _zone(change.old) == _zone(change.new):
            return
        for pod in self._informers.pods.by_index(BY_NODE, change.object["metadata"]["name"]):
            for key in selecting_services(self._informers.services, pod):
                self._look_again(key)

    def _look_again(self, key: NamespacedName) -> None:
        self.loop.queue.add_after(key, self._pacer.pause(key))

    # --- looking

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        service = self._informers.services.get(key)
        if service is None:
            self._times.forget(key)
            self._pacer.forget(key)
            return None
        if not selector_of(service) or is_being_deleted(service):
            return None
        if not self._guard.is_caught_up(key):
            return _STALE
        started = time.perf_counter()
        plan = self._plan(key, service)
        self._pacer.note(key, timedelta(seconds=time.perf_counter() - started))
        if plan:
            await self._write(key, service, plan)
        return _FOREIGN_CHANGE if plan.is_missing_nodes else None

    def _plan(self, key: NamespacedName, service: JsonObject) -> SlicePlan:
        pods = selected_pods(self._informers.pods, service)
        zones = {node["metadata"]["name"]: _zone(node) for node in self._informers.nodes.list()}
        return plan_slices(
            service, pods, zones, self._informers.slices.by_index(BY_SERVICE, str(key)),
            trigger_time=self._times.oldest_new(key, service, pods), max_endpoints=self._max_endpoints,
        )  # fmt: skip

    async def _write(self, key: NamespacedName, service: JsonObject, plan: SlicePlan) -> None:
        try:
            for new in plan.create:
                self._guard.wrote(key, await self._client.create(ENDPOINT_SLICES, new))
            for changed in plan.update:
                self._guard.wrote(key, await self._client.update(ENDPOINT_SLICES, changed))
            for old in plan.delete:
                await self._delete(key, old)
        except (Conflict, NotFound):
            raise  # the cache was behind after all
        except ApiError as error:
            if isinstance(error, Forbidden) and _is_terminating(error):
                return
            message = f"Error updating Endpoint Slices for Service {key}: {error}"
            reference = object_reference(SERVICES, service)
            self._recorder.event(reference, WARNING, "FailedToUpdateEndpointSlices", message)
            raise

    async def _delete(self, key: NamespacedName, old: JsonObject) -> None:
        meta = old["metadata"]
        try:
            await self._client.delete(ENDPOINT_SLICES, meta["name"], meta["namespace"], uid=meta["uid"])
        except NotFound:
            return
        self._guard.deleted(key, old)


def _zone(node: JsonObject) -> str:
    return labels(node).get(ZONE_LABEL, "")


def _is_terminating(error: ApiError) -> bool:
    return any(cause.reason == "NamespaceTerminating" for cause in error.causes)
