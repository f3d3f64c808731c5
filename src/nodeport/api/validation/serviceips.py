"""A Service's cluster addresses and IP families: how they must fit one another, how they may change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nodeport.api import ip, services
from nodeport.api.meta import JsonObject
from nodeport.api.services import EXTERNAL_NAME, NO_CLUSTER_IP, SINGLE_STACK
from nodeport.api.status import FieldError, duplicate, invalid, not_supported, required

_FAMILIES = ("IPv4", "IPv6")
_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_FIXED = "may not change once set"


def validate_cluster_ips(service: JsonObject, old: JsonObject | None) -> Iterator[FieldError]:
    spec = services.spec_of(service)
    if spec.get("type") == EXTERNAL_NAME:
        return
    yield from _agreement(spec)
    yield from _families(spec)
    addresses: list[str] = spec.get("clusterIPs") or []
    malformed = list(_addresses(addresses, services.spec_of(old or {}).get("clusterIPs") or []))
    yield from malformed
    if len(addresses) > 2:
        yield invalid("spec.clusterIPs", addresses, "may only hold up to 2 values")
    if malformed:
        return
    if len(addresses) > 1 and len({ip.family(address) for address in addresses}) < 2:
        yield invalid("spec.clusterIPs", addresses, "may specify no more than one IP for each IP family")
    if not services.is_headless(service):
        yield from _match_families(addresses, spec.get("ipFamilies") or [])


def _agreement(spec: JsonObject) -> Iterator[FieldError]:
    address, addresses = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if address and not addresses:
        yield required("spec.clusterIPs")
    elif address and addresses[0] != address:
        yield invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`")
    elif addresses and not address:
        yield invalid("spec.clusterIPs", addresses, "must be empty when `clusterIP` is not specified")


def _families(spec: JsonObject) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, family in enumerate(spec.get("ipFamilies") or []):
        path = f"spec.ipFamilies[{index}]"
        if family not in _FAMILIES:
            yield not_supported(path, family, _FAMILIES)
        if family in seen:
            yield duplicate(path, family)
        seen.add(family)
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _POLICIES:
        yield not_supported("spec.ipFamilyPolicy", policy, _POLICIES)


def _addresses(addresses: Sequence[str], tolerated: Sequence[str]) -> Iterator[FieldError]:
    for index, address in enumerate(addresses):
        if index == 0 and address == NO_CLUSTER_IP:
            if len(addresses) > 1:
                yield invalid("spec.clusterIPs", list(addresses), "'None' must be the first and only value")
        elif address not in tolerated or ip.sloppy_ip(address) is None:
            yield from (
                invalid(f"spec.clusterIPs[{index}]", address, why) for why in ip.ip_complaints(address)
            )


def _match_families(addresses: Sequence[str], families: Sequence[str]) -> Iterator[FieldError]:
    for index, (address, family) in enumerate(zip(addresses, families, strict=False)):
        if family in _FAMILIES and ip.family(address) != family:
            detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            yield invalid(f"spec.clusterIPs[{index}]", address, detail)


def validate_cluster_ip_update(service: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """A Service keeps its primary address and family for life, unless it is or becomes an ExternalName."""
    if EXTERNAL_NAME in (services.type_of(service), services.type_of(old)):
        return
    headless, was_headless = services.is_headless(service), services.is_headless(old)
    spec, before = services.spec_of(service), services.spec_of(old)
    if not (headless and was_headless):
        yield from _list_update(spec, before, "clusterIPs", "clusterIP")
    if not headless and not was_headless:
        yield from _list_update(spec, before, "ipFamilies", "ipFamily")


def _list_update(spec: JsonObject, before: JsonObject, field: str, singular: str) -> Iterator[FieldError]:
    new, old = spec.get(field) or [], before.get(field) or []
    if len(new) == len(old):
        for index, (value, previous) in enumerate(zip(new, old, strict=True)):
            if value != previous:
                yield invalid(f"spec.{field}[{index if field == 'clusterIPs' else 0}]", new, _FIXED)
        return
    if len(old) > len(new) and not spec.get("clusterIPs"):
        yield invalid(f"spec.{field}[0]", new, f"primary {singular} can not be unset")
    if new and old and new[0] != old[0]:
        yield invalid(f"spec.{field}[0]", spec.get("clusterIPs") or [], _FIXED)
    if len(old) > len(new) == 1 and spec.get("ipFamilyPolicy") != SINGLE_STACK:
        detail = f"must be set to 'SingleStack' when releasing the secondary {singular}"
        yield invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail)
