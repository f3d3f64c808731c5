"""Writes what ``reconcile`` plans for one Service at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, labels
from nodeport.api.resources import SERVICES
from nodeport.client.cache import Change
from nodeport.client.events import WARNING, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.endpointslice.changes import SlicePlan
from nodeport.controllers.endpointslice.hints import wants_auto
from nodeport.controllers.endpointslice.reconcile import (
    DEFAULT_MAX_ENDPOINTS,
    LARGEST_MAX_ENDPOINTS,
    MANAGED_BY_LABEL,
    MANAGER,
    SERVICE_NAME_LABEL,
    plan_slices,
)
from nodeport.controllers.endpointslice.topology import (
    Shares,
    TopologyMemory,
    cpu_shares,
    facts_of,
    zone_of,
)
from nodeport.controllers.endpointslice.trigger_time import TriggerTimes
from nodeport.controllers.endpointslice.writer import SliceWriteError, SliceWriter
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.pacing import Pacer
from nodeport.controllers.selection import (
    BY_NODE,
    selected_pods,
    selecting_services,
    selector_of,
    services_to_look_at,
)
from nodeport.kit.backoff import Backoff
from nodeport.kit.clock import Clock

BY_SERVICE = "service"

_STALE = timedelta(milliseconds=20)
_FOREIGN_CHANGE = timedelta(seconds=1)
_LONGEST_WAIT_FOR_NODE = timedelta(seconds=1000)


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
    all turn ready in one second is computed a few times, one of three pods at once. ``batch_period`` is how long
    pods' changes are collected in any case.
    """

    def __init__(
        self,
        client: RestClient,
        informers: EndpointInformers,
        *,
        clock: Clock,
        recorder: EventRecorder,
        max_endpoints: int = DEFAULT_MAX_ENDPOINTS,
        batch_period: timedelta = timedelta(),
    ) -> None:
        if not 1 <= max_endpoints <= LARGEST_MAX_ENDPOINTS:
            raise ValueError(
                f"max_endpoints: {max_endpoints}: a slice holds 1 to {LARGEST_MAX_ENDPOINTS} endpoints"
            )
        self._informers = informers
        self._recorder = recorder
        self._max_endpoints = max_endpoints
        self._batch_period = batch_period
        self._writer = SliceWriter(client, informers.slices, owner="Service", clock=clock, mend=self._mend)
        self._times = TriggerTimes()
        self._topology = TopologyMemory()
        self._waits: dict[NamespacedName, Backoff] = {}
        self._zones: dict[str, str] = {}
        self._shares: Shares | None = None
        self._shares_are_current = False
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
        """Only what others did is looked at, after a second, as Kubernetes does."""
        self._writer.seen(change, service_of)

    def _node_changed(self, change: Change) -> None:
        """A node appeared, left or moved to another zone: its pods' endpoints change."""
        name = change.object["metadata"]["name"]
        if change.new is None:
            self._zones.pop(name, None)
        else:
            self._zones[name] = zone_of(change.new)
        old, new = facts_of(change.old), facts_of(change.new)
        if old == new:
            return
        self._shares_are_current = False
        if self._topology:
            for key in self._topology.unsuited(self._cpu_shares()):
                self.loop.queue.add(key)
        if old[0] != new[0]:
            for pod in self._informers.pods.by_index(BY_NODE, name):
                for key in selecting_services(self._informers.services, pod):
                    self._look_again(key)

    def _look_again(self, key: NamespacedName) -> None:
        self.loop.queue.add_after(key, max(self._batch_period, self._pacer.pause(key)))

    def _mend(self, key: NamespacedName) -> None:
        self.loop.queue.add_after(key, max(self._batch_period, _FOREIGN_CHANGE))

    def _cpu_shares(self) -> Shares | None:
        if not self._shares_are_current:
            self._shares = cpu_shares(self._informers.nodes.list())
            self._shares_are_current = True
        return self._shares

    # --- looking

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        service = self._informers.services.get(key)
        if service is None:
            self._forget(key)
            return None
        if not selector_of(service):
            return None
        if not self._writer.is_caught_up(key):
            return _STALE
        started = time.perf_counter()
        plan = self._plan(key, service)
        self._pacer.note(key, timedelta(seconds=time.perf_counter() - started))
        news = list(self._topology.note(key, plan.zone_hints))  # before nodes can change once more
        try:
            await self._writer.write(key, plan)
        except SliceWriteError as failure:
            self._complain(key, service, str(failure))
            raise failure.reason from None
        finally:
            for event in news:
                self._recorder.event(_reference(service), *event)
        return self._wait_for_nodes(key, service, plan)

    def _forget(self, key: NamespacedName) -> None:
        for memory in (self._times, self._pacer, self._topology, self._writer):
            memory.forget(key)
        self._waits.pop(key, None)

    def _plan(self, key: NamespacedName, service: JsonObject) -> SlicePlan:
        pods = selected_pods(self._informers.pods, service)
        return plan_slices(
            service, pods, self._zones, self._informers.slices.by_index(BY_SERVICE, str(key)),
            shares=self._cpu_shares() if wants_auto(service) else None,
            trigger_time=self._times.oldest_new(key, service, pods), max_endpoints=self._max_endpoints,
        )  # fmt: skip

    def _wait_for_nodes(self, key: NamespacedName, service: JsonObject, plan: SlicePlan) -> timedelta | None:
        """A node that shows up is noticed; this is for one that never does, and for whoever asks why."""
        if not plan.nodeless:
            self._waits.pop(key, None)
            return None
        shown = plan.nodeless[0] if len(plan.nodeless) == 1 else f"[{', '.join(plan.nodeless)}]"
        self._complain(key, service, shown)
        return self._waits.setdefault(key, Backoff(_FOREIGN_CHANGE, _LONGEST_WAIT_FOR_NODE)).next()

    def _complain(self, key: NamespacedName, service: JsonObject, why: str) -> None:
        message = f"Error updating Endpoint Slices for Service {key}: {why}"
        self._recorder.event(_reference(service), WARNING, "FailedToUpdateEndpointSlices", message)


def _reference(service: JsonObject) -> JsonObject:
    return object_reference(SERVICES, service)
