"""Watches ServiceCIDRs and IPAddresses, and writes what the plan says."""

from __future__ import annotations

from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
from nodeport.api.resources import SERVICE_CIDRS
from nodeport.client.cache import Change
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.servicecidr.reconcile import contains, managed_address, plan_cidr
from nodeport.kit.clock import Clock


class ServiceCidrController:
    def __init__(
        self, client: RestClient, *, service_cidrs: Informer, ip_addresses: Informer, clock: Clock
    ) -> None:
        self._client = client
        self._service_cidrs = service_cidrs
        self._ip_addresses = ip_addresses
        self._clock = clock
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "service-cidr", self.reconcile, clock=clock, informers=(service_cidrs, ip_addresses), workers=1
        )
        service_cidrs.subscribe(self._cidr_changed)
        ip_addresses.subscribe(self._address_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _cidr_changed(self, change: Change) -> None:
        """A range that comes may unblock the deletion of one that it contains."""
        self.loop.queue.add(NamespacedName.of(change.object))
        if change.old is None:
            for cidr in self._going():
                self.loop.queue.add(NamespacedName.of(cidr))

    def _address_changed(self, change: Change) -> None:
        """Only a range that is to go cares for its addresses."""
        going = self._going()
        address = managed_address(change.object) if going else None
        if address is not None:
            for cidr in going:
                if contains(cidr, address):
                    self.loop.queue.add(NamespacedName.of(cidr))

    def _going(self) -> list[JsonObject]:
        return [cidr for cidr in self._service_cidrs.list() if is_being_deleted(cidr)]

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        cidr = self._service_cidrs.get(key)
        if cidr is None:
            return None
        everyone, addresses = self._service_cidrs.list(), self._ip_addresses.list()
        plan = plan_cidr(cidr, everyone, addresses, self._clock.now())
        if plan.finalizers is not None:
            metadata = {**cidr["metadata"], "finalizers": plan.finalizers}
            cidr = await self._client.update(SERVICE_CIDRS, {**cidr, "metadata": metadata})
        if plan.conditions is not None:
            status = {**(cidr.get("status") or {}), "conditions": plan.conditions}
            await self._client.update(SERVICE_CIDRS, {**cidr, "status": status}, subresource="status")
        return plan.again
