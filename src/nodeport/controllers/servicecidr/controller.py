"""Watches ServiceCIDRs, asks for the IPAddresses when one is to go, and writes what the plan says."""

from __future__ import annotations

from datetime import timedelta

from nodeport.api.meta import NamespacedName, is_being_deleted
from nodeport.api.resources import IP_ADDRESSES, SERVICE_CIDRS
from nodeport.client.cache import Change
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.servicecidr.reconcile import FINALIZER, MANAGED_BY, MANAGER, plan_cidr
from nodeport.kit.clock import Clock

MANAGED, NOT_MANAGED = f"{MANAGED_BY}={MANAGER}", f"{MANAGED_BY}!={MANAGER}"
"""Label selectors: the addresses of Services, and all others."""
RECHECK = timedelta(seconds=2)


class ServiceCidrController:
    """IPAddresses are many, change with every Service, and matter only while a range is to go: they are listed then,
    again and again until it may, instead of being followed all the time."""

    def __init__(self, client: RestClient, *, service_cidrs: Informer, clock: Clock) -> None:
        self._client = client
        self._service_cidrs = service_cidrs
        self._clock = clock
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "service-cidr", self.reconcile, clock=clock, informers=(service_cidrs,), workers=1
        )
        service_cidrs.subscribe(self._cidr_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _cidr_changed(self, change: Change) -> None:
        """A range that comes may unblock the deletion of one that it contains."""
        self.loop.queue.add(NamespacedName.of(change.object))
        if change.old is None:
            for cidr in filter(is_being_deleted, self._service_cidrs.list()):
                self.loop.queue.add(NamespacedName.of(cidr))

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        cidr = self._service_cidrs.get(key)
        if cidr is None:
            return None
        going = is_being_deleted(cidr)
        listed = await self._client.list_all(IP_ADDRESSES, label_selector=MANAGED) if going else {"items": []}
        plan = plan_cidr(cidr, self._service_cidrs.list(), listed["items"], self._clock.now())
        if plan.finalizers is not None:
            metadata = {**cidr["metadata"], "finalizers": plan.finalizers}
            cidr = await self._client.update(SERVICE_CIDRS, {**cidr, "metadata": metadata})
        if plan.conditions is not None:
            status = {**(cidr.get("status") or {}), "conditions": plan.conditions}
            await self._client.update(SERVICE_CIDRS, {**cidr, "status": status}, subresource="status")
        waits = going and FINALIZER in cidr["metadata"].get("finalizers", ())
        return plan.again or (RECHECK if waits else None)
