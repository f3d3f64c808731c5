"""ClusterIPs of a Service."""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Address

from nodeport.api.meta import JsonObject
from nodeport.api.resources import SERVICES
from nodeport.api.services import EXTERNAL_NAME, is_headless, spec_of, type_of
from nodeport.api.status import Invalid, internal_error, invalid, invalid_object
from nodeport.apiserver.allocators.bands import AllocationError, Full
from nodeport.apiserver.allocators.clusterip import ClusterIPAllocator, guard
from nodeport.apiserver.allocators.reservation import Reservation


class ServiceAddresses:
    def __init__(self, allocator: ClusterIPAllocator) -> None:
        self._allocator = allocator

    def claim_for(self, service: JsonObject, reservation: Reservation, *, dry_run: bool) -> None:
        """Give a Service that needs one its address: the one it names, else any."""
        if type_of(service) == EXTERNAL_NAME or is_headless(service):
            return
        spec = spec_of(service)
        asked = spec.get("clusterIPs") or []
        if not asked:
            spec["clusterIP"] = str(self._any(service, reservation, dry_run=dry_run))
            spec["clusterIPs"] = [spec["clusterIP"]]
            return
        for text in asked:
            self._exactly(service, text, reservation, dry_run=dry_run)

    def change(self, new: JsonObject, old: JsonObject, reservation: Reservation, *, dry_run: bool) -> None:
        """Becoming an ExternalName gives addresses up, ceasing to be one needs them; nothing else moves them."""
        was, becomes = type_of(old) == EXTERNAL_NAME, type_of(new) == EXTERNAL_NAME
        if was and not becomes:
            self.claim_for(new, reservation, dry_run=dry_run)
        elif becomes and not was:
            self.give_back(old, reservation)

    def give_back(self, service: JsonObject, reservation: Reservation) -> None:
        if type_of(service) == EXTERNAL_NAME or is_headless(service):
            return
        for text in spec_of(service).get("clusterIPs") or []:
            address = IPv4Address(text)
            reservation.give_back(guard(address), partial(self._allocator.free, address))

    def _any(self, service: JsonObject, reservation: Reservation, *, dry_run: bool) -> IPv4Address:
        if dry_run:
            return self._allocator.network.network_address
        try:
            address = self._allocator.claim_any()
        except Full as error:
            name = service["metadata"].get("name") or ""
            raise internal_error(f'failed to allocate a serviceIP for Service "{name}": {error}') from error
        self._note(service, address, reservation)
        return address

    def _exactly(self, service: JsonObject, text: str, reservation: Reservation, *, dry_run: bool) -> None:
        address = IPv4Address(text)
        try:
            if dry_run:
                self._allocator.check(address)
                return
            self._allocator.claim(address)
        except AllocationError as error:
            raise _refused(service, text, error) from error
        self._note(service, address, reservation)

    def _note(self, service: JsonObject, address: IPv4Address, reservation: Reservation) -> None:
        reservation.claim(guard(address), owner_of(service), partial(self._allocator.free, address))


def owner_of(service: JsonObject) -> str:
    """What a guard key says: whose number it is."""
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


def _refused(service: JsonObject, text: str, error: AllocationError) -> Invalid:
    field = invalid("spec.clusterIPs", [text], f"failed to allocate IP {text}: {error}")
    return invalid_object(SERVICES, service["metadata"].get("name") or "", [field])
