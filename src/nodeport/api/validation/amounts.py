"""Rules on the resources that containers and pods ask for: names, quantities, requests beside limits."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity
from nodeport.api.status import FieldError, forbidden, invalid, required

CONTAINER_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_COUNTED = (
    "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps",
    "persistentvolumeclaims", "services.nodeports", "services.loadbalancers",
)  # fmt: skip
STANDARD_RESOURCES = frozenset({
    *CONTAINER_RESOURCES, *_COUNTED, "storage", "requests.storage",
    *(f"{kind}.{name}" for kind in ("requests", "limits") for name in CONTAINER_RESOURCES),
})  # fmt: skip
_PAGES = "hugepages-"
_QUOTA_PAGES = (_PAGES, f"requests.{_PAGES}")
_NOT_NEGATIVE = "must be greater than or equal to 0"


def validate_amounts(resources: JsonObject, path: str) -> Iterator[FieldError]:
    """``{requests, limits}`` of a container, a pod or an overhead."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            yield from _one(name, str(amount), f"{path}.{field}[{name}]")
            if field == "requests":
                yield from _beside_limit(name, str(amount), limits, path)
    asked = {*limits, *requests}
    if any(name.startswith(_PAGES) for name in asked) and not asked & {"cpu", "memory"}:
        yield forbidden(path, "HugePages require cpu or memory")


def _one(name: str, amount: str, path: str) -> Iterator[FieldError]:
    yield from _container_resource(name, path)
    value = parse_quantity(amount)
    if value < 0:
        yield invalid(path, amount, _NOT_NEGATIVE)
    if (name in _COUNTED or is_extended(name)) and value.denominator != 1:
        yield invalid(path, amount, "must be an integer")


def _beside_limit(name: str, amount: str, limits: JsonObject, path: str) -> Iterator[FieldError]:
    """What cannot be overcommitted is requested as it is limited."""
    flexible = is_native(name) and not name.startswith(_PAGES)
    if name not in limits:
        if not flexible:
            yield required(f"{path}.limits", "Limit must be set for non overcommitable resources")
        return
    asked, limit = parse_quantity(amount), parse_quantity(limits[name])
    if asked != limit and not flexible:
        yield invalid(f"{path}.requests", amount, f"must be equal to {name} limit of {limits[name]}")
    elif asked > limit:
        yield invalid(
            f"{path}.requests", amount, f"must be less than or equal to {name} limit of {limits[name]}"
        )


def validate_resource_name(name: str, path: str) -> Iterator[FieldError]:
    complaints = names.qualified_name(name)
    yield from (invalid(path, name, why) for why in complaints)
    if not complaints and "/" not in name and not _is_standard(name):
        yield invalid(path, name, "must be a standard resource type or fully qualified")


def _container_resource(name: str, path: str) -> Iterator[FieldError]:
    yield from validate_resource_name(name, path)
    if "/" not in name:
        if name not in CONTAINER_RESOURCES and not name.startswith(_PAGES):
            yield invalid(path, name, "must be a standard resource for containers")
    elif not is_native(name) and not is_extended(name):
        yield invalid(path, name, "doesn't follow extended resource name standard")


def _is_standard(name: str) -> bool:
    return name in STANDARD_RESOURCES or name.startswith(_QUOTA_PAGES)


def is_native(name: str) -> bool:
    """Kubernetes' own, with or without its domain before it."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    if is_native(name) or name.startswith("requests."):
        return False
    return not names.qualified_name(f"requests.{name}")
