"""Rules on quotas, limits, disruption budgets, priorities, runtimes and controller revisions."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity
from nodeport.api.status import FieldError, duplicate, forbidden, invalid, not_supported, required
from nodeport.api.validation.amounts import is_extended, validate_resource_name
from nodeport.api.validation.apps import at_most_all, count_or_percent, not_negative
from nodeport.api.validation.labelselectors import validate_label_selector
from nodeport.api.validation.meta import immutable
from nodeport.api.validation.others import validate_resource_list

HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_SCOPES = ("BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating",
           "VolumeAttributesClass")  # fmt: skip
_WHOLE = frozenset((
    "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims",
    "services.nodeports", "services.loadbalancers",
))  # fmt: skip
_OF_PODS = frozenset((
    "pods", "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage",
    "limits.cpu", "limits.memory", "limits.ephemeral-storage",
))  # fmt: skip
_OF_QUOTAS = _WHOLE | _OF_PODS | {"requests.storage"}
_PAGES = ("hugepages-", "requests.hugepages-")
_AMOUNTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_LIMIT_TYPES_FORBIDDING_DEFAULTS = ("Pod", "PersistentVolumeClaim")
_LIMIT_TYPES = (*_LIMIT_TYPES_FORBIDDING_DEFAULTS, "Container")
_IMMUTABLE = "field is immutable"


def validate_quota(obj: JsonObject) -> Iterator[FieldError]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    for path, amounts in (("spec.hard", spec.get("hard")), ("status.hard", status.get("hard")),
                          ("status.used", status.get("used"))):  # fmt: skip
        yield from _quota_amounts(amounts or {}, path)
    yield from _scopes(spec)


def _scopes(spec: JsonObject) -> Iterator[FieldError]:
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in _SCOPES:
            yield invalid("spec.scopes", scopes, "unsupported scope")
        allowed = {"pods"} if scope == "BestEffort" else _OF_PODS
        for name in spec.get("hard") or {}:
            if (name in _WHOLE or name in _OF_PODS) and name not in allowed:
                yield invalid("spec.scopes", scopes, "unsupported scope applied to resource")
    for pair in (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")):
        if {*pair} <= {*scopes}:
            yield invalid("spec.scopes", scopes, "conflicting scopes")


def _quota_amounts(amounts: JsonObject, path: str) -> Iterator[FieldError]:
    for name, amount in amounts.items():
        where = f"{path}[{name}]"
        yield from validate_resource_name(name, where)
        if "/" not in name and name not in _OF_QUOTAS and not name.startswith(_PAGES):
            yield invalid(where, name, "must be a standard resource for quota")
        value = parse_quantity(str(amount))
        if value < 0:
            yield invalid(where, str(amount), "must be greater than or equal to 0")
        if (name in _WHOLE or is_extended(name)) and value.denominator != 1:
            yield invalid(where, str(amount), "must be an integer")


def validate_quota_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_quota(new)
    scopes, before = ((each.get("spec") or {}).get("scopes") or [] for each in (new, old))
    if sorted(scopes) != sorted(before):
        yield invalid("spec.scopes", scopes, _IMMUTABLE)


def validate_quota_status(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return validate_quota(new)


def validate_limit_range(obj: JsonObject) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, item in enumerate((obj.get("spec") or {}).get("limits") or []):
        path, kind = f"spec.limits[{index}]", item.get("type") or ""
        yield from _limit_type(kind, f"{path}.type")
        if kind in seen:
            yield duplicate(f"{path}.type", kind)
        seen.add(kind)
        yield from _limits(item, kind, path)


def _limit_type(kind: str, path: str) -> Iterator[FieldError]:
    faults = names.qualified_name(kind)
    if not faults and "/" not in kind and kind not in _LIMIT_TYPES:
        faults = ("must be a standard limit type or fully qualified",)
    yield from (invalid(path, kind, why) for why in faults)


def _limits(item: JsonObject, kind: str, path: str) -> Iterator[FieldError]:
    for field in _AMOUNTS:
        yield from validate_resource_list(item.get(field) or {}, f"{path}.{field}")
    if kind in _LIMIT_TYPES_FORBIDDING_DEFAULTS:
        for field in ("default", "defaultRequest"):
            if item.get(field):
                yield forbidden(f"{path}.{field}", f"may not be specified when `type` is '{kind}'")
    if kind == "PersistentVolumeClaim" and not (
        {"storage"} & {*(item.get("min") or {}), *(item.get("max") or {})}
    ):
        why = "either minimum or maximum storage value is required, but neither was provided"
        yield required(f"{path}.limits", why)
    yield from _orders(item, path)


_ORDERS = (
    ("min", "min", "max", "max", "min", "min"),
    ("min", "min", "defaultRequest", "default request", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "default request", "max", "max", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "default request", "default", "default limit", "defaultRequest", "defaultRequest"),
    ("min", "min", "default", "default", "default", "min"),
    ("default", "default", "max", "max", "default", "max"),
)
"""What may not exceed what: two fields with their words, the field that is blamed, and the one that is shown."""


def _orders(item: JsonObject, path: str) -> Iterator[FieldError]:
    """min <= defaultRequest <= default <= max, resource by resource."""
    amounts: dict[str, dict[str, str]] = {field: item.get(field) or {} for field in _AMOUNTS}
    for resource in sorted({name for found in amounts.values() for name in found}):
        known = {field: found[resource] for field, found in amounts.items() if resource in found}
        for lower, lower_word, higher, higher_word, blamed, shown in _ORDERS:
            if lower not in known or higher not in known:
                continue
            if parse_quantity(known[lower]) > parse_quantity(known[higher]):
                why = f"{lower_word} value {known[lower]} is greater than {higher_word} value {known[higher]}"
                yield invalid(f"{path}.{blamed}[{resource}]", known[shown], why)
        yield from _ratio(known, f"{path}.maxLimitRequestRatio[{resource}]")


def _ratio(known: dict[str, str], path: str) -> Iterator[FieldError]:
    """How many times its request a limit may be: once at least, and not more than the bounds leave room for."""
    ratio = known.get("maxLimitRequestRatio")
    if ratio is None:
        return
    if parse_quantity(ratio) < 1:
        yield invalid(path, ratio, f"ratio {ratio} is less than 1")
    low, high = (parse_quantity(known.get(field, "0")) for field in ("min", "max"))
    if low and "max" in known and parse_quantity(ratio) > high / low:
        yield invalid(path, ratio, f"ratio {ratio} is greater than max/min = {float(high / low):f}")


def validate_limit_range_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return validate_limit_range(new)


def validate_disruption_budget(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")
    for field in ("minAvailable", "maxUnavailable"):
        if spec.get(field) is not None:
            yield from count_or_percent(spec[field], f"spec.{field}")
            yield from at_most_all(spec[field], f"spec.{field}")
    if spec.get("selector") is not None:
        yield from validate_label_selector(spec["selector"], "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in ("AlwaysAllow", "IfHealthyBudget"):
        yield not_supported("spec.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget"))


def validate_disruption_budget_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return validate_disruption_budget(new)


def validate_disruption_budget_status(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    status = new.get("status") or {}
    for field in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        yield from not_negative(status.get(field), f"status.{field}")


def validate_priority_class(obj: JsonObject) -> Iterator[FieldError]:
    name, value = (obj.get("metadata") or {}).get("name") or "", obj.get("value") or 0
    if name.startswith("system-"):
        why = _not_the_system_class(name, value, obj)
        if why:
            head = "priority class names with 'system-' prefix are reserved for system use only. error: "
            yield forbidden("metadata.name", head + why)
    elif value > HIGHEST_USER_PRIORITY:
        why = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        yield forbidden("value", why)
    policy = obj.get("preemptionPolicy")
    if policy is not None and policy not in ("Never", "PreemptLowerPriority"):
        yield not_supported("preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))


def _not_the_system_class(name: str, value: int, obj: JsonObject) -> str:
    known = SYSTEM_PRIORITIES.get(name)
    if known is None:
        return f"{name} is not a known system priority class"
    if value != known:
        return f"value of {name} PriorityClass must be {known}"
    return f"globalDefault of {name} PriorityClass must be false" if obj.get("globalDefault") else ""


def validate_priority_class_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    if (new.get("value") or 0) != (old.get("value") or 0):
        yield forbidden("value", "may not be changed in an update.")
    yield from immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")


def validate_runtime_class(obj: JsonObject) -> Iterator[FieldError]:
    handler = obj.get("handler") or ""
    if not handler:
        yield required("handler")
    else:
        yield from (invalid("handler", handler, why) for why in names.dns_label(handler))
    overhead = (obj.get("overhead") or {}).get("podFixed") or {}
    yield from validate_resource_list(overhead, "overhead.podFixed")


def validate_runtime_class_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from immutable(new.get("handler"), old.get("handler"), "handler")


def validate_controller_revision(obj: JsonObject) -> Iterator[FieldError]:
    if obj.get("data") is None:
        yield required("data", "data is mandatory")
    yield from not_negative(obj.get("revision"), "revision")


def validate_controller_revision_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_controller_revision(new)
    yield from immutable(new.get("data"), old.get("data"), "data")
