"""ServiceCIDRs and IPAddresses."""

from __future__ import annotations

import random
from functools import partial

from nodeport.api.ip import sloppy_ip
from nodeport.api.meta import JsonObject
from nodeport.api.resources import IP_ADDRESSES, SERVICE_CIDRS
from nodeport.apiserver.allocators.clusterip import ClusterIPAllocator
from nodeport.apiserver.allocators.reservation import Reservation
from nodeport.apiserver.strategies.base import Strategy, WriteContext, restore

_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")


class ServiceCidrStrategy(Strategy):
    """/status writes status alone: its metadata is that of the main resource."""

    def __init__(self) -> None:
        super().__init__(SERVICE_CIDRS)

    def prepare_status_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        super().prepare_status_update(new, old, context)
        for field in _METADATA:
            restore(new["metadata"], old["metadata"], field)


class IPAddressStrategy(Strategy):
    """An IPAddress that somebody makes keeps its address from Services; one that somebody removes is looked into
    before anyone gets the address: the Service that has it may still be there."""

    def __init__(self, allocator: ClusterIPAllocator) -> None:
        super().__init__(IP_ADDRESSES)
        self._allocator = allocator

    def generate_name(self, base: str, rng: random.Random) -> str:
        """Nothing can be added to an address."""
        return base

    def begin_create(self, obj: JsonObject, context: WriteContext) -> Reservation:
        reservation = Reservation()
        address = sloppy_ip(obj["metadata"].get("name") or "")
        if address is None or context.dry_run:
            return reservation
        if self._allocator.mark(address):
            reservation.on_release(partial(self._allocator.free, address))
        reservation.on_commit(partial(self._allocator.mark, address))
        return reservation

    def begin_delete(self, obj: JsonObject) -> Reservation:
        reservation = Reservation()
        address = sloppy_ip(obj["metadata"]["name"])
        if address is not None:
            reservation.on_commit(partial(self._allocator.doubt, address))
        return reservation
