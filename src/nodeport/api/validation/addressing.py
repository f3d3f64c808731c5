"""Rules on ServiceCIDRs and IPAddresses (``networking.k8s.io/v1``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nodeport.api import ip, names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, invalid, required

_CIDRS = "spec.cidrs"
_IMMUTABLE = "field is immutable"


def validate_service_cidr(obj: JsonObject) -> Iterator[FieldError]:
    """One CIDR, or two of different families, in canonical form."""
    spec = obj.get("spec") or {}
    cidrs: list[str] = spec.get("cidrs") or []
    if not cidrs:
        yield required(_CIDRS, "at least one CIDR required")
    elif len(cidrs) > 2:
        yield invalid(_CIDRS, _go_spec(cidrs), "may only hold up to 2 values")
    elif len(cidrs) == 2 and not _are_of_both_families(cidrs):
        yield invalid(
            _CIDRS,
            _go_spec(cidrs),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        )
    else:
        for index, text in enumerate(cidrs):
            yield from _canonical(text, f"{_CIDRS}[{index}]")


def _go_spec(cidrs: Sequence[str]) -> JsonObject:
    """The API shows the whole spec here, under the field names of its own structure."""
    return {"CIDRs": list(cidrs)}


def _are_of_both_families(cidrs: Sequence[str]) -> bool:
    return {ip.family(text.partition("/")[0]) for text in cidrs} == {"IPv4", "IPv6"}


def _canonical(text: str, path: str) -> Iterator[FieldError]:
    complaints = ip.cidr_complaints(text)
    yield from (invalid(path, text, why) for why in complaints)
    if not complaints:
        wanted = ip.canonical_cidr(text)
        if wanted != text:
            yield invalid(path, text, f'must be in canonical form ("{wanted}")')


def validate_service_cidr_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """The only change there is: a second CIDR joins the first, of the other family."""
    cidrs = (new.get("spec") or {}).get("cidrs") or []
    before = (old.get("spec") or {}).get("cidrs") or []
    if len(cidrs) == len(before):
        for index, (text, kept) in enumerate(zip(cidrs, before, strict=True)):
            if text != kept:
                yield invalid(f"{_CIDRS}[{index}]", text, _IMMUTABLE)
    elif len(before) == 1 and len(cidrs) == 2:
        if cidrs[0] != before[0]:
            yield invalid(f"{_CIDRS}[0]", cidrs[0], _IMMUTABLE)
        yield from validate_service_cidr(new)
    else:
        yield invalid(_CIDRS, (new.get("spec") or {}).get("cidrs"), _IMMUTABLE)


def ip_address_name(text: str) -> tuple[str, ...]:
    """An IPAddress is named by the address itself, in canonical form."""
    complaints = ip.ip_complaints(text)
    if complaints:
        return complaints
    wanted = str(ip.sloppy_ip(text))
    return () if wanted == text else (f'must be in canonical form ("{wanted}")',)


def validate_ip_address(obj: JsonObject) -> Iterator[FieldError]:
    """``spec.parentRef`` says whose address it is; the core group is the empty string."""
    parent = (obj.get("spec") or {}).get("parentRef")
    path = "spec.parentRef"
    if parent is None:
        yield required(path)
        return
    if group := parent.get("group"):
        yield from (invalid(f"{path}.group", group, why) for why in names.dns_subdomain(group))
    for field in ("resource", "name"):
        value = parent.get(field) or ""
        if not value:
            yield required(f"{path}.{field}")
        yield from (invalid(f"{path}.{field}", value, why) for why in names.path_segment(value))
    if namespace := parent.get("namespace"):
        yield from (invalid(f"{path}.namespace", namespace, why) for why in names.path_segment(namespace))


def validate_ip_address_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_ip_address(new)
    parent, before = _parent_shown(new), _parent_shown(old)
    if parent != before:
        yield invalid("spec.parentRef", parent, _IMMUTABLE)


def _parent_shown(obj: JsonObject) -> JsonObject | None:
    """As error texts show it: under the field names of the API's own structure."""
    parent = (obj.get("spec") or {}).get("parentRef")
    if parent is None:
        return None
    return {
        field.capitalize(): parent.get(field) or "" for field in ("group", "resource", "namespace", "name")
    }
