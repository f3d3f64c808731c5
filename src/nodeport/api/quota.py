"""What objects use of a namespace's quotas, and whether that is too much. Rules: Kubernetes' quota evaluators."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.pods import qos_class
from nodeport.api.quantity import format_quantity, parse_quantity
from nodeport.api.resources import PERSISTENT_VOLUME_CLAIMS, PODS, RESOURCES, SERVICES, Resource
from nodeport.api.storage import class_of

Usage = dict[str, Fraction]

_COUNTED = frozenset((
    "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims",
))  # fmt: skip
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_MUST_BE_SAID = frozenset(name for each in _COMPUTE for name in (each, f"requests.{each}", f"limits.{each}"))
_ONE = Fraction(1)
_CLAIMED = "requests.storage"
_OF_CLASS = ".storageclass.storage.k8s.io/"
"""Between a StorageClass and what is limited of its claims."""


def usage_of(resource: Resource, obj: JsonObject) -> Usage:
    """What one object uses, by the names that quotas limit."""
    made: Usage = {f"count/{resource.qualified_name}": _ONE}
    if resource is PODS:
        if (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return made
        made |= _pod_usage(obj.get("spec") or {})
    elif resource is SERVICES:
        made |= _service_usage(obj.get("spec") or {})
    elif resource is PERSISTENT_VOLUME_CLAIMS:
        made |= _claim_usage(obj)
    if not resource.group and resource.plural in _COUNTED:
        made[resource.plural] = _ONE
    return made


def _claim_usage(claim: JsonObject) -> Usage:
    """What a claim asks for, of all storage and of its class."""
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    made: Usage = {}
    if "storage" in requests:
        made[_CLAIMED] = parse_quantity(str(requests["storage"]))
    if name := class_of(claim):
        of_class = {f"{name}{_OF_CLASS}{each}": amount for each, amount in made.items()}
        made |= {**of_class, f"{name}{_OF_CLASS}{PERSISTENT_VOLUME_CLAIMS.plural}": _ONE}
    return made


def _service_usage(spec: JsonObject) -> Usage:
    ports = Fraction(len(spec.get("ports") or []))
    match spec.get("type"):
        case "NodePort":
            return {"services.nodeports": ports}
        case "LoadBalancer":
            allocated = spec.get("allocateLoadBalancerNodePorts")
            if allocated is False:
                ports = Fraction(sum(1 for port in spec.get("ports") or [] if port.get("nodePort")))
            return {"services.loadbalancers": _ONE, "services.nodeports": ports}
    return {}


def _amounts(container: JsonObject, kind: str) -> Usage:
    found = (container.get("resources") or {}).get(kind) or {}
    return {name: parse_quantity(str(amount)) for name, amount in found.items()}


def _sum(parts: Iterable[Mapping[str, Fraction]]) -> Usage:
    made: defaultdict[str, Fraction] = defaultdict(Fraction)
    for part in parts:
        for name, amount in part.items():
            made[name] += amount
    return dict(made)


def pod_amounts(spec: JsonObject, kind: str) -> Usage:
    """A pod's ``requests`` or ``limits``: its containers together, or the largest init container beside the sidecars,
    and the overhead."""
    initial = spec.get("initContainers") or []
    sidecars = [each for each in initial if each.get("restartPolicy") == "Always"]
    beside = _sum(_amounts(each, kind) for each in sidecars)
    total = _sum((beside, *(_amounts(each, kind) for each in spec.get("containers") or [])))
    for each in initial:
        if each not in sidecars:
            for name, amount in _sum((beside, _amounts(each, kind))).items():
                total[name] = max(total.get(name, Fraction()), amount)
    if kind == "limits" and not total:
        return total
    return _sum(
        (total, {name: parse_quantity(str(each)) for name, each in (spec.get("overhead") or {}).items()})
    )


def _pod_usage(spec: JsonObject) -> Usage:
    made: Usage = {}
    for kind in ("requests", "limits"):
        for name, amount in pod_amounts(spec, kind).items():
            made[f"{kind}.{name}"] = amount
            if kind == "requests" and name in _COMPUTE:
                made[name] = amount
    return made


def rows_that_use(names: Iterable[str]) -> list[Resource]:
    """The rows whose objects can use any of ``names``."""
    wanted = set(names)
    return [
        row
        for row in RESOURCES
        if row.namespaced
        and not row.stored_as
        and (
            f"count/{row.qualified_name}" in wanted
            or (not row.group and row.plural in wanted & _COUNTED)
            or (row is SERVICES and not wanted.isdisjoint(("services.nodeports", "services.loadbalancers")))
            or (
                row is PERSISTENT_VOLUME_CLAIMS
                and any(each == _CLAIMED or _OF_CLASS in each for each in wanted)
            )
            or (row is PODS and any(name in _MUST_BE_SAID or name.startswith("requests.") for name in wanted))
        )
    ]


def concerns(spec: JsonObject, resource: Resource, obj: JsonObject) -> bool:
    """Whether a quota of this ``spec`` counts the object: scopes are about pods only."""
    scopes = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or []]
    scopes += (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    if not scopes:
        return True
    return resource is PODS and all(_in_scope(each, obj) for each in scopes)


def _in_scope(scope: JsonObject, pod: JsonObject) -> bool:
    spec = pod.get("spec") or {}
    match scope.get("scopeName"):
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return qos_class(pod) == "BestEffort"
        case "NotBestEffort":
            return qos_class(pod) != "BestEffort"
        case "PriorityClass":
            return _selects(scope, spec.get("priorityClassName") or "")
    return False


def _selects(scope: JsonObject, value: str) -> bool:
    match scope.get("operator"):
        case "In":
            return value in (scope.get("values") or [])
        case "NotIn":
            return value not in (scope.get("values") or [])
        case "DoesNotExist":
            return not value
    return bool(value)


def unsaid(names: Iterable[str], pod: JsonObject) -> str:
    """What a pod's containers must say because a quota limits it; empty when they do."""
    missing: defaultdict[str, set[str]] = defaultdict(set)
    spec = pod.get("spec") or {}
    for container in (*(spec.get("containers") or []), *(spec.get("initContainers") or [])):
        said = _pod_usage({"containers": [container]})
        for name in _MUST_BE_SAID.intersection(names):
            if name not in said:
                missing[name].add(container.get("name") or "")
    return "; ".join(f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing))


def hard_limits(spec: JsonObject) -> Usage:
    return {name: parse_quantity(str(amount)) for name, amount in (spec.get("hard") or {}).items()}


def exceeded(quota: str, hard: Usage, used: Usage, wanted: Usage) -> str:
    """The complaint about what is wanted beyond what is used; empty when there is room."""
    over = sorted(
        name
        for name, amount in wanted.items()
        if amount > 0 and name in hard and used.get(name, Fraction()) + amount > hard[name]
    )
    if not over:
        return ""
    said = [",".join(f"{name}={shown(name, part.get(name, Fraction()))}" for name in over)
            for part in (wanted, used, hard)]  # fmt: skip
    return f"exceeded quota: {quota}, requested: {said[0]}, used: {said[1]}, limited: {said[2]}"


def shown(name: str, amount: Fraction) -> str:
    return format_quantity(amount, binary="memory" in name or "storage" in name)


def difference(new: Usage, old: Usage) -> Usage:
    """What a change uses more, or less."""
    return {name: new.get(name, Fraction()) - old.get(name, Fraction()) for name in {*new, *old}}


def used_of(spec: JsonObject, objects: Iterable[tuple[Resource, JsonObject]]) -> Usage:
    """What a quota counts of the objects in its namespace: every name that it limits."""
    used: Usage = dict.fromkeys(spec.get("hard") or {}, Fraction())
    for resource, obj in objects:
        if concerns(spec, resource, obj):
            for name, amount in usage_of(resource, obj).items():
                if name in used:
                    used[name] += amount
    return used


def status_of(spec: JsonObject, used: Usage) -> JsonObject:
    hard: dict[str, Any] = spec.get("hard") or {}
    return {"hard": dict(hard), "used": {name: shown(name, used[name]) for name in hard}}
