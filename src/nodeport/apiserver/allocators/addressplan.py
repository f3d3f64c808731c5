"""What must be done so that each ClusterIP has its IPAddress object, and each such object its Service (pure).

Rules and texts: pkg/registry/core/service/ipallocator/controller of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nodeport.api.ip import sloppy_ip
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import IP_ADDRESSES, SERVICES
from nodeport.apiserver.allocators import ipaddresses
from nodeport.apiserver.allocators.claims import address_texts_of, uses
from nodeport.apiserver.allocators.clusterip import Address
from nodeport.apiserver.allocators.findings import Finding
from nodeport.kit.clock import parse_rfc3339

LEAK_GRACE = timedelta(seconds=60)
"""An IPAddress without its Service is left alone for so long: the Service may be on its way."""
REFERENCE_GRACE = timedelta(seconds=5)
"""And one that its Service does not use for so long."""

Services = Mapping[NamespacedName, JsonObject]
Objects = Mapping[str, JsonObject]
"""IPAddress objects by name."""


@dataclass(slots=True)
class AddressPlan:
    """``create``: addresses that need an object, with the Services that have them; an old object of that name is
    replaced. ``delete``: names of objects that go. ``again``: after how long to look once more."""

    create: dict[Address, NamespacedName] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)
    again: timedelta | None = None
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: AddressPlan) -> None:
        self.create.update(other.create)
        self.delete += other.delete
        self.findings += other.findings
        if other.again is not None:
            self.again = other.again if self.again is None else min(self.again, other.again)


def plan_addresses(
    services: Services, objects: Objects, in_range: Callable[[Address], bool], now: datetime
) -> AddressPlan:
    """``in_range``: whether any ServiceCIDR could have given an address."""
    plan = AddressPlan()
    for service in services.values():
        for text in address_texts_of(service):
            plan.add(plan_address(service, text, services, objects, in_range))
    replaced = {str(address) for address in plan.create}
    for name, obj in objects.items():
        if name not in replaced:
            plan.add(plan_object(obj, services.get, now))
    return plan


def plan_address(
    service: JsonObject, text: str, services: Services, objects: Objects, in_range: Callable[[Address], bool]
) -> AddressPlan:
    """Whether the ClusterIP ``text`` of a Service is rightly its own."""
    address = sloppy_ip(text)
    if address is None:
        message = f"Cluster IP {text} is not a valid IP; please recreate Service"
        return AddressPlan(findings=[_of_service(service, "ClusterIPNotValid", message, "invalid")])
    shown = f"[IPv{address.version}]: {address}"
    if not in_range(address):
        message = f"Cluster IP {shown} is not within any configured Service CIDR; please recreate service"
        return AddressPlan(findings=[_of_service(service, "ClusterIPOutOfRange", message, "outOfRange")])
    me = NamespacedName.of(service)
    obj = objects.get(str(address))
    if obj is None:
        message = f"Cluster IP {shown} is not allocated; repairing"
        return _recreate(address, service, message)
    parent = ipaddresses.service_of(obj)
    if parent != me:
        other = services.get(parent) if parent is not None else None
        if other is None:
            message = f"the ClusterIP {shown} for Service {me} has a wrong reference; repairing"
            return _recreate(address, service, message)
        if uses(other, str(address)):
            message = (
                f"Cluster IP [IPv{address.version}]:{address} was assigned to multiple services;"
                " please recreate service"
            )
            return AddressPlan(
                findings=[_of_service(service, "ClusterIPAlreadyAllocated", message, "duplicate")]
            )
        plan = AddressPlan(create={address: me})
        plan.findings.append(_wrong_reference(obj, other))
        return plan
    return AddressPlan() if ipaddresses.has_own_labels(obj) else AddressPlan(create={address: me})


def _recreate(address: Address, service: JsonObject, message: str) -> AddressPlan:
    finding = _of_service(service, "ClusterIPNotAllocated", message, "repair")
    return AddressPlan(create={address: NamespacedName.of(service)}, findings=[finding])


def plan_object(
    obj: JsonObject, service_of: Callable[[NamespacedName], JsonObject | None], now: datetime
) -> AddressPlan:
    """Whether an IPAddress still has a reason to be; those that the allocator does not manage always have."""
    if not ipaddresses.is_managed(obj):
        return AddressPlan()
    name = obj["metadata"]["name"]
    parent = ipaddresses.service_of(obj)
    if parent is None:
        shown = (obj.get("spec") or {}).get("parentRef")
        message = (
            f"IPAddress {name} appears to have been modified, not referencing a Service {shown}: cleaning up"
        )
        return _remove(obj, "IPAddressNotAllocated", message)
    service = service_of(parent)
    if service is not None and uses(service, name):
        return AddressPlan()
    left = (LEAK_GRACE if service is None else REFERENCE_GRACE) - _age(obj, now)
    if left >= timedelta():
        return AddressPlan(again=left)
    if service is not None:
        plan = AddressPlan(delete=[name])
        plan.findings.append(_wrong_reference(obj, service))
        return plan
    message = f"IPAddress: {name} for Service {parent} appears to have leaked: cleaning up"
    return _remove(obj, "IPAddressNotAllocated", message)


def _age(obj: JsonObject, now: datetime) -> timedelta:
    born = obj["metadata"].get("creationTimestamp")
    return now - parse_rfc3339(born) if born else LEAK_GRACE * 2


def _remove(obj: JsonObject, reason: str, message: str) -> AddressPlan:
    finding = Finding(IP_ADDRESSES, obj, reason, "IPAddressAllocation", message, "leak")
    return AddressPlan(delete=[obj["metadata"]["name"]], findings=[finding])


def _wrong_reference(obj: JsonObject, service: JsonObject) -> Finding:
    message = (
        f"IPAddress: {obj['metadata']['name']} for Service {NamespacedName.of(service)} has a wrong reference;"
        " cleaning up"
    )
    return Finding(IP_ADDRESSES, obj, "IPAddressWrongReference", "IPAddressAllocation", message, "leak")


def _of_service(service: JsonObject, reason: str, message: str, kind: str) -> Finding:
    action = "ClusterIPValidation" if kind == "invalid" else "ClusterIPAllocation"
    return Finding(SERVICES, service, reason, action, message, kind)
