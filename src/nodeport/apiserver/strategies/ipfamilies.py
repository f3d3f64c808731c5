"""A Service's IP families on a cluster that has only IPv4.

Rules: initIPFamilyFields of Kubernetes 1.36; its errors come out before validation, alone.
"""

from __future__ import annotations

from nodeport.api.ip import family
from nodeport.api.meta import JsonObject
from nodeport.api.services import (
    EXTERNAL_NAME,
    NO_CLUSTER_IP,
    PREFER_DUAL_STACK,
    REQUIRE_DUAL_STACK,
    SINGLE_STACK,
    is_headless,
    spec_of,
    type_of,
)
from nodeport.api.status import FieldError, invalid
from nodeport.api.validation.serviceips import validate_cluster_ips

PRIMARY, OTHER = "IPv4", "IPv6"
_FAMILY_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")


def initialize_families(new: JsonObject, old: JsonObject | None) -> list[FieldError]:
    """Fill ``ipFamilyPolicy`` and ``ipFamilies`` of ``new`` in place, or say why not."""
    if type_of(new) == EXTERNAL_NAME:
        return []
    spec, before = spec_of(new), spec_of(old or {})
    if any(spec.get(field) for field in _FAMILY_FIELDS) and (errors := list(validate_cluster_ips(new, old))):
        return errors
    policy = spec.get("ipFamilyPolicy") or before.get("ipFamilyPolicy")
    selectorless = is_headless(new) and not spec.get("selector")
    if not policy:
        policy = REQUIRE_DUAL_STACK if selectorless else SINGLE_STACK
    unchanged = old is not None and all(
        spec.get(field) == before.get(field) for field in ("clusterIPs", "ipFamilies")
    )
    if policy == PREFER_DUAL_STACK and unchanged:
        spec["ipFamilyPolicy"] = policy
        return []
    if policy == SINGLE_STACK and unchanged:
        _keep_first(spec)
    errors = [*_policy_errors(spec, before, policy), *_configuration_errors(spec, policy, selectorless)]
    if not errors:
        spec["ipFamilyPolicy"] = policy
        _fill_families(spec, policy, selectorless)
    return errors


def _keep_first(spec: JsonObject) -> None:
    for field in ("clusterIPs", "ipFamilies"):
        if len(spec.get(field) or []) > 1:
            spec[field] = spec[field][:1]


def _policy_errors(spec: JsonObject, before: JsonObject, policy: str) -> list[FieldError]:
    found = []
    addresses, families = spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    if policy != SINGLE_STACK:
        if len(before.get("clusterIPs") or []) == 2 and len(addresses) == 1:
            found.append(_policy(policy, f"must be '{SINGLE_STACK}' to release the secondary cluster IP"))
        if len(before.get("ipFamilies") or []) == 2 and len(families) == 1:
            found.append(_policy(policy, f"must be '{SINGLE_STACK}' to release the secondary IP family"))
        return found
    wanted = f"must be '{REQUIRE_DUAL_STACK}' or '{PREFER_DUAL_STACK}' when multiple"
    if len(addresses) == 2:
        found.append(_policy(policy, f"{wanted} cluster IPs are specified"))
    if len(families) == 2:
        found.append(_policy(policy, f"{wanted} IP families are specified"))
    return found


def _policy(policy: str, detail: str) -> FieldError:
    return invalid("spec.ipFamilyPolicy", policy, detail)


def _configuration_errors(spec: JsonObject, policy: str, selectorless: bool) -> list[FieldError]:
    found = []
    addresses, families = spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    for index, address in enumerate(addresses):
        if address != NO_CLUSTER_IP and family(address) == OTHER:
            found.append(
                invalid(f"spec.clusterIPs[{index}]", addresses, f"{OTHER} is not configured on this cluster")
            )
    if selectorless:
        return found
    if policy == REQUIRE_DUAL_STACK:
        found.append(_policy(policy, "this cluster is not configured for dual-stack services"))
    for index, one in enumerate(families):
        if one == OTHER:
            found.append(invalid(f"spec.ipFamilies[{index}]", one, "not configured on this cluster"))
    return found


def _fill_families(spec: JsonObject, policy: str, selectorless: bool) -> None:
    families = spec.get("ipFamilies") or [PRIMARY]
    if selectorless and policy != SINGLE_STACK and len(families) == 1:
        families = [*families, OTHER if families[0] == PRIMARY else PRIMARY]
    spec["ipFamilies"] = families
