"""Keeps one Endpoints object per Service with a selector."""

from __future__ import annotations

import time
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
from nodeport.api.resources import ENDPOINTS
from nodeport.api.status import AlreadyExists, ApiError, Conflict, NotFound
from nodeport.client.cache import Change
from nodeport.client.events import WARNING, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.endpoints.reconcile import plan_endpoints
from nodeport.controllers.endpointslice.trigger_time import TriggerTimes
from nodeport.controllers.endpointslice.writer import is_ending_namespace
from nodeport.controllers.freshness import OwnWrites, WriteGuard
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.pacing import Pacer
from nodeport.controllers.selection import selected_pods, selector_of, services_to_look_at
from nodeport.kit.clock import Clock

_LEADER = "control-plane.alpha.kubernetes.io/leader"
_STALE = timedelta(milliseconds=50)
_BURST = timedelta(milliseconds=50)
"""Pods of one Service change together; this older object may be that much later than the slices."""


class EndpointsController:
    def __init__(
        self,
        client: RestClient,
        *,
        services: Informer,
        pods: Informer,
        endpoints: Informer,
        clock: Clock,
        recorder: EventRecorder,
        batch_period: timedelta = timedelta(),
    ) -> None:
        self._client = client
        self._services = services
        self._pods = pods
        self._endpoints = endpoints
        self._recorder = recorder
        self._burst = max(_BURST, batch_period)
        self._guard: WriteGuard[NamespacedName] = WriteGuard(endpoints, clock)
        self._own: OwnWrites[NamespacedName] = OwnWrites()
        self._times = TriggerTimes()
        self._pacer: Pacer[NamespacedName] = Pacer()
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "endpoints", self.reconcile, clock=clock, informers=(services, pods, endpoints), workers=3
        )
        services.subscribe(self._service_changed)
        endpoints.subscribe(self._endpoints_changed)
        pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        """Also sweeps, at the start, what Services that vanished unseen left behind."""
        for informer in (self._services, self._endpoints):
            await informer.wait_until_synced()
        for existing in self._endpoints.list():
            self.loop.queue.add(NamespacedName.of(existing))
        await self.loop.run()

    def _service_changed(self, change: Change) -> None:
        self.loop.queue.add_after(NamespacedName.of(change.object), _BURST)

    def _endpoints_changed(self, change: Change) -> None:
        """Only what others did; and not without a Service: hand-made Endpoints may come before theirs."""
        key = NamespacedName.of(change.object)
        if self._own.is_foreign(key, change) and self._services.get(key) is not None:
            self.loop.queue.add_after(key, _BURST)

    def _pod_changed(self, change: Change) -> None:
        for key in services_to_look_at(self._services, change):
            self.loop.queue.add_after(key, max(self._burst, self._pacer.pause(key)))

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        if not self._guard.is_caught_up(key):
            return _STALE
        service = self._services.get(key)
        existing = self._endpoints.get(key)
        if service is None:
            self._times.forget(key)
            self._pacer.forget(key)
            await self._delete_orphan(key)
            return None
        if not selector_of(service):
            return None
        started = time.perf_counter()
        pods = selected_pods(self._pods, service)
        since = self._times.oldest_new(key, service, pods)
        wanted = plan_endpoints(service, pods, existing, trigger_time=since)
        self._pacer.note(key, timedelta(seconds=time.perf_counter() - started))
        if wanted is None:
            return None
        await self._write(key, wanted, is_new=existing is None)
        return None

    async def _write(self, key: NamespacedName, wanted: JsonObject, *, is_new: bool) -> None:
        self._own.begin(key)
        try:
            write = self._client.create if is_new else self._client.update
            written = await write(ENDPOINTS, wanted)
            self._guard.wrote(key, written)
            self._own.wrote(written)
        except (Conflict, NotFound, AlreadyExists):
            raise
        except ApiError as error:
            if is_new and is_ending_namespace(error):
                return
            reason = "FailedToCreateEndpoint" if is_new else "FailedToUpdateEndpoint"
            which = "create endpoint for service" if is_new else "update endpoint"
            about = object_reference(ENDPOINTS, wanted)
            self._recorder.event(about, WARNING, reason, f"Failed to {which} {key}: {error}")
            raise
        finally:
            if self._own.end(key):
                self.loop.queue.add_after(key, _BURST)

    async def _delete_orphan(self, key: NamespacedName) -> None:
        """Endpoints go with their Service, hand-made ones too; leader election kept its records here once."""
        existing = self._endpoints.get(key)
        if (
            existing is None
            or _LEADER in (existing["metadata"].get("annotations") or {})
            or is_being_deleted(existing)
        ):
            return
        meta = existing["metadata"]
        await self._client.delete(ENDPOINTS, meta["name"], meta["namespace"], uid=meta["uid"])
        self._guard.deleted(key, existing)
