"""A Service's IP families on a cluster that has one or both of them.

Rules: initIPFamilyFields of Kubernetes 1.36; its errors come out before validation, alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodeport.api.ip import family
from nodeport.api.meta import JsonObject
from nodeport.api.services import (
    EXTERNAL_NAME,
    NO_CLUSTER_IP,
    REQUIRE_DUAL_STACK,
    SINGLE_STACK,
    is_headless,
    spec_of,
    stays_preferring_dual_stack,
    type_of,
)
from nodeport.api.status import FieldError, invalid
from nodeport.api.validation.serviceips import validate_cluster_ips

_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}
_FAMILY_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies")


def initialize_families(
    new: JsonObject, old: JsonObject | None, configured: Sequence[str]
) -> list[FieldError]:
    """Fill ``ipFamilyPolicy`` and ``ipFamilies`` of ``new`` in place, or say why not.

    ``configured``: the cluster's families, the primary one first. ``old`` is as ``default_on_read`` leaves it.
    """
    if type_of(new) == EXTERNAL_NAME or stays_preferring_dual_stack(new, old):
        return []
    spec, before = spec_of(new), spec_of(old or {})
    asked = spec.get("ipFamilyPolicy") is not None or any(spec.get(field) for field in _FAMILY_FIELDS)
    if asked and (errors := list(validate_cluster_ips(new, old))):
        return errors
    open_end = spec.get("clusterIP") == NO_CLUSTER_IP and not spec.get("selector")
    if not spec.get("ipFamilyPolicy"):
        without = REQUIRE_DUAL_STACK if open_end else SINGLE_STACK
        spec["ipFamilyPolicy"] = before.get("ipFamilyPolicy") or without
    if old is not None and spec["ipFamilyPolicy"] == SINGLE_STACK:
        _keep_first(spec, before)
    errors = [*_policy_errors(spec, before), *_infer_families(new, spec, configured)]
    if errors:
        return errors
    if open_end:
        _fill(spec, configured[0], both=spec["ipFamilyPolicy"] != SINGLE_STACK)
        return []
    if errors := _configuration_errors(spec, configured):
        return errors
    _fill(spec, configured[0], both=spec["ipFamilyPolicy"] != SINGLE_STACK and len(configured) == 2)
    return []


def _keep_first(spec: JsonObject, before: JsonObject) -> None:
    """A Service that becomes single-stack with its lists untouched gives up the second of each."""
    for field in ("clusterIPs", "ipFamilies"):
        found = spec.get(field) or []
        if len(found) > 1 and found == before.get(field):
            spec[field] = found[:1]


def _policy_errors(spec: JsonObject, before: JsonObject) -> list[FieldError]:
    found = []
    policy = spec["ipFamilyPolicy"]
    addresses, families = spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    if policy != SINGLE_STACK:
        if 0 < len(addresses) < len(before.get("clusterIPs") or []):
            found.append(_policy(policy, f"must be '{SINGLE_STACK}' to release the secondary cluster IP"))
        if 0 < len(families) < len(before.get("ipFamilies") or []):
            found.append(_policy(policy, f"must be '{SINGLE_STACK}' to release the secondary IP family"))
        return found
    wanted = f"must be '{REQUIRE_DUAL_STACK}' or 'PreferDualStack' when multiple"
    if len(addresses) == 2:
        found.append(_policy(policy, f"{wanted} cluster IPs are specified"))
    if len(families) == 2:
        found.append(_policy(policy, f"{wanted} IP families are specified"))
    return found


def _policy(policy: str, detail: str) -> FieldError:
    return invalid("spec.ipFamilyPolicy", policy, detail)


def _infer_families(new: JsonObject, spec: JsonObject, configured: Sequence[str]) -> list[FieldError]:
    """Addresses without a family of their own bring theirs."""
    if is_headless(new):
        return []
    found = []
    addresses, families = spec.get("clusterIPs") or [], list(spec.get("ipFamilies") or [])
    for index, address in enumerate(addresses):
        if index < len(families):
            continue
        one = family(address)
        if one in configured:
            families.append(one)
        else:
            path = f"spec.clusterIPs[{index}]"
            found.append(invalid(path, addresses, f"{one} is not configured on this cluster"))
    if families:
        spec["ipFamilies"] = families
    return found


def _configuration_errors(spec: JsonObject, configured: Sequence[str]) -> list[FieldError]:
    found = []
    policy = spec["ipFamilyPolicy"]
    if policy == REQUIRE_DUAL_STACK and len(configured) < 2:
        found.append(_policy(policy, "this cluster is not configured for dual-stack services"))
    for index, one in enumerate(spec.get("ipFamilies") or []):
        if one not in configured:
            found.append(invalid(f"spec.ipFamilies[{index}]", one, "not configured on this cluster"))
    return found


def _fill(spec: JsonObject, primary: str, *, both: bool) -> None:
    families = spec.get("ipFamilies") or [primary]
    spec["ipFamilies"] = [families[0], _OTHER[families[0]]] if both and len(families) == 1 else families
