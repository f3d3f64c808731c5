"""Services: addresses and node ports are taken before validation and given back when the write does not happen.

Rules: pkg/registry/core/service of Kubernetes 1.36; on update claims take effect at once and releases with the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINTS, SERVICES
from nodeport.api.services import (
    EXTERNAL_NAME,
    default_on_read,
    drop_type_dependent_fields,
    normalize_cluster_ips,
    patch_allocated_values,
    spec_of,
    type_of,
)
from nodeport.api.status import invalid_object
from nodeport.apiserver.allocators import ipaddresses, nodeport
from nodeport.apiserver.allocators.reservation import Reservation
from nodeport.apiserver.encoding import key_of
from nodeport.apiserver.strategies.base import Strategy, WriteContext, restore
from nodeport.apiserver.strategies.ipfamilies import initialize_families
from nodeport.apiserver.strategies.serviceips import ServiceAddresses
from nodeport.apiserver.strategies.serviceports import ServicePorts
from nodeport.store.base import Delete


class ServiceStrategy(Strategy):
    """``families``: those of the cluster, the primary one first."""

    def __init__(
        self, addresses: ServiceAddresses, ports: ServicePorts, families: Sequence[str] = ("IPv4",)
    ) -> None:
        super().__init__(SERVICES)
        self._addresses = addresses
        self._ports = ports
        self._families = tuple(families)

    def initial_status(self, obj: JsonObject) -> JsonObject:
        return {"loadBalancer": {}}

    def prepare_create(self, obj: JsonObject, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        _drop_meaningless_policy(obj)

    def begin_create(self, obj: JsonObject, context: WriteContext) -> Reservation:
        reservation = Reservation()
        reservation.on_release(_restoring_spec(obj))
        try:
            normalize_cluster_ips(obj)
            self._initialize_families(obj, None)
            self._addresses.claim_for(obj, reservation, context)
            self._ports.claim_for(obj, reservation, dry_run=context.dry_run)
        except BaseException:
            reservation.release()
            raise
        return reservation

    def begin_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> Reservation:
        old = default_on_read(old, self._families[0])
        patch_allocated_values(new, old)
        normalize_cluster_ips(new, old)
        self._initialize_families(new, old)
        reservation = Reservation()
        try:
            self._addresses.change(new, old, reservation, context)
            self._ports.change(new, old, reservation, dry_run=context.dry_run)
        except BaseException:
            reservation.release()
            raise
        return reservation

    def note_taken(self, guard: str) -> None:
        if guard.startswith(ipaddresses.PREFIX):
            self._addresses.note_taken(ipaddresses.address_of(guard))
        else:
            self._ports.note_taken(nodeport.port_of(guard))

    def prepare_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        restore(new, old, "status")
        drop_type_dependent_fields(new, default_on_read(old, self._families[0]))
        _drop_meaningless_policy(new)

    def begin_delete(self, obj: JsonObject) -> Reservation:
        """The Endpoints of the same name go with the Service."""
        reservation = Reservation()
        self._addresses.give_back(obj, reservation)
        self._ports.give_back(obj, reservation)
        metadata = obj["metadata"]
        reservation.operations.append(Delete(key_of(ENDPOINTS, metadata["namespace"], metadata["name"])))
        return reservation

    def _initialize_families(self, new: JsonObject, old: JsonObject | None) -> None:
        if errors := initialize_families(new, old, self._families):
            raise invalid_object(SERVICES, new["metadata"].get("name") or "", errors)


def _drop_meaningless_policy(service: JsonObject) -> None:
    """An ExternalName is never shown with an internalTrafficPolicy, so none is kept; a wrong one is left for validation
    to find."""
    spec = spec_of(service)
    if type_of(service) == EXTERNAL_NAME and spec.get("internalTrafficPolicy") in ("Cluster", "Local"):
        del spec["internalTrafficPolicy"]


def _restoring_spec(obj: JsonObject) -> Callable[[], None]:
    """Gives ``obj`` the spec back that it has now: whoever did not get the numbers may try again for others."""
    spec = obj.get("spec") or {}
    before = {**spec, "ports": [dict(port) for port in spec["ports"]]} if spec.get("ports") else dict(spec)

    def restore_spec() -> None:
        obj["spec"] = before

    return restore_spec
