"""ClusterIPs of a Service: one for each of its families.

Rules: pkg/registry/core/service/storage/alloc.go of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nodeport.api.ip import sloppy_ip
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import SERVICES
from nodeport.api.services import EXTERNAL_NAME, is_headless, spec_of, stays_preferring_dual_stack, type_of
from nodeport.api.status import Invalid, internal_error, invalid, invalid_object
from nodeport.apiserver.allocators.bands import AllocationError, Full, NotReady
from nodeport.apiserver.allocators.clusterip import Address, ClusterIPAllocator
from nodeport.apiserver.allocators.ipaddresses import guard, stored
from nodeport.apiserver.allocators.reservation import Reservation
from nodeport.apiserver.strategies.base import WriteContext


class ServiceAddresses:
    def __init__(self, allocator: ClusterIPAllocator) -> None:
        self._allocator = allocator

    def note_taken(self, address: Address) -> None:
        self._allocator.mark(address)

    def claim_for(self, service: JsonObject, reservation: Reservation, context: WriteContext) -> None:
        """Give a Service that needs some its addresses: those it names, else any, one a family."""
        if type_of(service) == EXTERNAL_NAME or is_headless(service):
            return
        spec = spec_of(service)
        claims = _Claims(self._allocator, service, reservation, context)
        spec["clusterIPs"] = claims.fill(spec.get("clusterIPs") or [], spec.get("ipFamilies") or [])
        spec["clusterIP"] = spec["clusterIPs"][0]

    def change(
        self, new: JsonObject, old: JsonObject, reservation: Reservation, context: WriteContext
    ) -> None:
        """Becoming an ExternalName gives addresses up, ceasing to be one needs them; a second family brings a second
        address and takes it along when it goes. Nothing else moves addresses."""
        if stays_preferring_dual_stack(new, old):
            return
        was, becomes = type_of(old) == EXTERNAL_NAME, type_of(new) == EXTERNAL_NAME
        if was and not becomes:
            self.claim_for(new, reservation, context)
        elif was or is_headless(old):
            return
        elif becomes:
            self.give_back(old, reservation)
        else:
            self._change_families(new, old, reservation, context)

    def _change_families(
        self, new: JsonObject, old: JsonObject, reservation: Reservation, context: WriteContext
    ) -> None:
        spec, before = spec_of(new), spec_of(old)
        families, had = spec.get("ipFamilies") or [], before.get("ipFamilies") or []
        addresses = spec.get("clusterIPs") or []
        if (len(had), len(families)) == (1, 2) and not is_headless(new):
            claims = _Claims(self._allocator, new, reservation, context)
            spec["clusterIPs"] = [*addresses[:1], *claims.fill(addresses[1:], families[1:], addresses[:1])]
        elif (len(had), len(families)) == (2, 1):
            for text in (before.get("clusterIPs") or [])[1:]:
                self._give_back_one(text, reservation)

    def give_back(self, service: JsonObject, reservation: Reservation) -> None:
        if type_of(service) == EXTERNAL_NAME or is_headless(service):
            return
        for text in spec_of(service).get("clusterIPs") or []:
            self._give_back_one(text, reservation)

    def _give_back_one(self, text: str, reservation: Reservation) -> None:
        address = sloppy_ip(text)
        if address is not None:
            reservation.give_back(guard(address), partial(self._allocator.free, address))


class _Claims:
    """The claims of one write. A dry run takes nothing."""

    def __init__(
        self,
        allocator: ClusterIPAllocator,
        service: JsonObject,
        reservation: Reservation,
        context: WriteContext,
    ) -> None:
        self._allocator = allocator
        self._service = service
        self._reservation = reservation
        self._context = context

    def fill(self, asked: Sequence[str], families: Sequence[str], before: Sequence[str] = ()) -> list[str]:
        """An address for each family: the one asked for at its place, else any. ``before`` is what the Service has."""
        found = []
        shown = [*before, *asked, *[""] * (len(families) - len(asked))]
        for place, family in enumerate(families):
            if place < len(asked):
                self._exactly(asked[place], shown)
                found.append(asked[place])
            else:
                found.append(str(self._any(6 if family == "IPv6" else 4)))
        return found

    def _any(self, version: int) -> Address:
        try:
            if self._context.dry_run:
                return self._allocator.pretend_any(version)
            address = self._allocator.claim_any(version)
        except (Full, NotReady) as error:
            name = self._service["metadata"].get("name") or ""
            raise internal_error(f'failed to allocate a serviceIP for Service "{name}": {error}') from error
        self._note(address)
        return address

    def _exactly(self, text: str, shown: Sequence[str]) -> None:
        address = sloppy_ip(text)
        if address is None:
            raise ValueError(f"{text!r} was not validated")
        try:
            if self._context.dry_run:
                self._allocator.check(address)
                return
            self._allocator.claim(address)
        except AllocationError as error:
            raise self._refused(text, shown, error) from error
        self._note(address)

    def _note(self, address: Address) -> None:
        """The address in its object's bytes, to be written with the Service."""
        metadata = self._service["metadata"]
        owner = NamespacedName(metadata.get("namespace") or "", metadata.get("name") or "")
        value = stored(address, owner, self._context.now)
        self._reservation.claim(guard(address), value, partial(self._allocator.free, address))

    def _refused(self, text: str, shown: Sequence[str], error: AllocationError) -> Invalid:
        field = invalid("spec.clusterIPs", list(shown), f"failed to allocate IP {text}: {error}")
        return invalid_object(SERVICES, self._service["metadata"].get("name") or "", [field])


def owner_of(service: JsonObject) -> bytes:
    """What a node port's guard says: whose number it is."""
    return f"{service['metadata']['namespace']}/{service['metadata'].get('name') or ''}".encode()
