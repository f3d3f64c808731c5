"""Node ports of a Service, the health check node port among them.

Rules: pkg/registry/core/service/storage/alloc.go of Kubernetes 1.36.
"""

from __future__ import annotations

from functools import partial

from nodeport.api.meta import JsonObject
from nodeport.api.resources import SERVICES
from nodeport.api.services import (
    LOAD_BALANCER,
    NODE_PORT,
    needs_health_check_node_port,
    needs_node_ports,
    node_ports,
    spec_of,
    type_of,
)
from nodeport.api.status import Invalid, PlainError, internal_error, invalid, invalid_object
from nodeport.apiserver.allocators.bands import AllocationError, AlreadyAllocated, Full
from nodeport.apiserver.allocators.nodeport import NodePortAllocator, guard
from nodeport.apiserver.allocators.reservation import Reservation
from nodeport.apiserver.strategies.serviceips import owner_of

DRY_RUN_BASE = 32768
"""Dry runs answer with numbers above this one: outside the default range, so that nobody takes them for real."""


class ServicePorts:
    def __init__(self, allocator: NodePortAllocator) -> None:
        self._allocator = allocator

    def note_taken(self, port: int) -> None:
        self._allocator.load([port])

    def claim_for(self, service: JsonObject, reservation: Reservation, *, dry_run: bool) -> None:
        """Node ports of a new Service: entries with the same ``port`` share one number."""
        if type_of(service) not in (NODE_PORT, LOAD_BALANCER):
            return
        claims = _Claims(self._allocator, service, reservation, dry_run=dry_run)
        automatic = needs_node_ports(service)
        by_port: dict[int, int] = {}
        entries = _ports(service)
        for index, entry in enumerate(entries):
            number, asked = entry.get("port") or 0, entry.get("nodePort") or 0
            if not asked and not automatic:
                continue
            if number in by_port:
                if not asked:
                    entry["nodePort"] = by_port[number]
                elif asked != by_port[number]:
                    claims.exactly(asked, index)
                continue
            chosen = _asked_for(entries, number)
            if chosen:
                claims.exactly(chosen, index)
            else:
                chosen = claims.any()
            entry["nodePort"] = by_port[number] = chosen
        if needs_health_check_node_port(service):
            claims.health_check()

    def change(self, new: JsonObject, old: JsonObject, reservation: Reservation, *, dry_run: bool) -> None:
        """Claim what is new, note for release what is no longer there; numbers kept are not touched."""
        claims = _Claims(self._allocator, new, reservation, dry_run=dry_run)
        before = node_ports(old) if type_of(old) in (NODE_PORT, LOAD_BALANCER) else set()
        after: set[int] = set()
        if type_of(new) in (NODE_PORT, LOAD_BALANCER):
            after = self._change_ports(new, before, claims)
        for port in sorted(before - after):
            reservation.give_back(guard(port), partial(self._allocator.free, port))
        had, needs = needs_health_check_node_port(old), needs_health_check_node_port(new)
        if needs and not had:
            claims.health_check()
        elif had and not needs:
            self._give_back_health_check(old, reservation)

    @staticmethod
    def _change_ports(new: JsonObject, before: set[int], claims: _Claims) -> set[int]:
        after: set[int] = set()
        seen: set[tuple[str, int]] = set()
        automatic = needs_node_ports(new)
        for index, entry in enumerate(_ports(new)):
            asked = entry.get("nodePort") or 0
            if not asked and not automatic:
                continue
            if not asked:
                asked = entry["nodePort"] = claims.any()
            elif asked not in before and asked not in after:
                claims.exactly(asked, index)
            pair = (entry.get("protocol") or "TCP", asked)
            if pair in seen:
                raise PlainError(f"duplicate nodePort: {{{pair[0]} {asked}}}")
            seen.add(pair)
            after.add(asked)
        return after

    def give_back(self, service: JsonObject, reservation: Reservation) -> None:
        if type_of(service) in (NODE_PORT, LOAD_BALANCER):
            for port in sorted(node_ports(service)):
                reservation.give_back(guard(port), partial(self._allocator.free, port))
        if needs_health_check_node_port(service):
            self._give_back_health_check(service, reservation)

    def _give_back_health_check(self, service: JsonObject, reservation: Reservation) -> None:
        if port := spec_of(service).get("healthCheckNodePort"):
            reservation.give_back(guard(port), partial(self._allocator.free, port))


class _Claims:
    """The claims of one write. A dry run takes nothing."""

    def __init__(
        self, allocator: NodePortAllocator, service: JsonObject, reservation: Reservation, *, dry_run: bool
    ) -> None:
        self._allocator = allocator
        self._service = service
        self._reservation = reservation
        self._dry_run = dry_run
        self._pretended: set[int] = set()

    def exactly(self, port: int, index: int) -> None:
        """422 on the entry at ``index`` when the port cannot be had."""
        try:
            self._take(port)
        except AllocationError as error:
            raise self._refused(port, index, error) from error

    def any(self) -> int:
        try:
            return self._any()
        except Full as error:
            raise internal_error(f"failed to allocate a nodePort: {error}") from error

    def _any(self) -> int:
        if self._dry_run:
            port = max(self._pretended, default=DRY_RUN_BASE) + 1
            self._pretended.add(port)
            return port
        port = self._allocator.claim_any()
        self._note(port)
        return port

    def health_check(self) -> None:
        spec = spec_of(self._service)
        asked = spec.get("healthCheckNodePort") or 0
        try:
            if asked:
                self._take(asked)
            else:
                spec["healthCheckNodePort"] = self._any()
        except Full as error:
            raise internal_error(f"failed to allocate a HealthCheck NodePort 0: {error}") from error
        except AllocationError as error:
            text = f"failed to allocate requested HealthCheck NodePort {asked}: {error}"
            raise internal_error(text) from error

    def _take(self, port: int) -> None:
        if self._dry_run:
            if port in self._pretended or self._allocator.is_taken(port):
                raise AlreadyAllocated("provided port is already allocated")
            self._pretended.add(port)
            return
        self._allocator.claim(port)
        self._note(port)

    def _note(self, port: int) -> None:
        self._reservation.claim(guard(port), owner_of(self._service), partial(self._allocator.free, port))

    def _refused(self, port: int, index: int, error: AllocationError) -> Invalid:
        field = invalid(f"spec.ports[{index}].nodePort", port, str(error))
        return invalid_object(SERVICES, self._service["metadata"].get("name") or "", [field])


def _ports(service: JsonObject) -> list[JsonObject]:
    return spec_of(service).get("ports") or []


def _asked_for(entries: list[JsonObject], number: int) -> int:
    """The first node port that an entry with this port number names; 0 when none does."""
    return next(
        (each["nodePort"] for each in entries if each.get("port") == number and each.get("nodePort")), 0
    )
