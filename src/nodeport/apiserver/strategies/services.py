"""Services: addresses and node ports are taken before validation and given back when the write does not happen.

Rules: pkg/registry/core/service of Kubernetes 1.36; on update claims take effect at once and releases with the commit.
"""

from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINTS, SERVICES
from nodeport.api.services import (
    default_on_read,
    drop_type_dependent_fields,
    normalize_cluster_ips,
    patch_allocated_values,
)
from nodeport.api.status import invalid_object
from nodeport.apiserver.allocators.reservation import Reservation
from nodeport.apiserver.encoding import key_of
from nodeport.apiserver.strategies.base import Strategy, WriteContext, restore
from nodeport.apiserver.strategies.ipfamilies import initialize_families
from nodeport.apiserver.strategies.serviceips import ServiceAddresses
from nodeport.apiserver.strategies.serviceports import ServicePorts
from nodeport.store.base import Delete


class ServiceStrategy(Strategy):
    def __init__(self, addresses: ServiceAddresses, ports: ServicePorts) -> None:
        super().__init__(SERVICES)
        self._addresses = addresses
        self._ports = ports

    def initial_status(self, obj: JsonObject) -> JsonObject:
        return {"loadBalancer": {}}

    def begin_create(self, obj: JsonObject, context: WriteContext) -> Reservation:
        normalize_cluster_ips(obj)
        self._initialize_families(obj, None)
        reservation = Reservation()
        try:
            self._addresses.claim_for(obj, reservation, dry_run=context.dry_run)
            self._ports.claim_for(obj, reservation, dry_run=context.dry_run)
        except BaseException:
            reservation.release()
            raise
        return reservation

    def begin_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> Reservation:
        old = default_on_read(old)
        patch_allocated_values(new, old)
        normalize_cluster_ips(new, old)
        self._initialize_families(new, old)
        reservation = Reservation()
        try:
            self._addresses.change(new, old, reservation, dry_run=context.dry_run)
            self._ports.change(new, old, reservation, dry_run=context.dry_run)
        except BaseException:
            reservation.release()
            raise
        return reservation

    def prepare_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        restore(new, old, "status")
        drop_type_dependent_fields(new, default_on_read(old))

    def begin_delete(self, obj: JsonObject) -> Reservation:
        """The Endpoints of the same name go with the Service."""
        reservation = Reservation()
        self._addresses.give_back(obj, reservation)
        self._ports.give_back(obj, reservation)
        metadata = obj["metadata"]
        reservation.operations.append(Delete(key_of(ENDPOINTS, metadata["namespace"], metadata["name"])))
        return reservation

    @staticmethod
    def _initialize_families(new: JsonObject, old: JsonObject | None) -> None:
        if errors := initialize_families(new, old):
            raise invalid_object(SERVICES, new["metadata"].get("name") or "", errors)
