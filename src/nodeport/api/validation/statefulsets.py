"""Rules on StatefulSets. Texts: the apps/v1 validation of Kubernetes 1.36."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, forbidden, invalid, required
from nodeport.api.validation.apps import (
    always_restarted,
    amount_of,
    at_most_all,
    count_or_percent,
    not_negative,
    selects_template,
    validate_template,
)
from nodeport.api.validation.labelselectors import validate_label_selector

_MANAGEMENT = ("OrderedReady", "Parallel")
_STRATEGIES = ("RollingUpdate", "OnDelete")
_RETENTION = ("Retain", "Delete")
_MUTABLE = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip
_IMMUTABLE_TEXT = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_NO_CLAIMS = "nothing binds persistent volume claims here: use volumes in the template"
_COUNTS = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
_SMALLER = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")


def validate_stateful_set(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    yield from _management(spec.get("podManagementPolicy") or "")
    yield from _update_strategy(spec.get("updateStrategy") or {})
    yield from _retention(spec.get("persistentVolumeClaimRetentionPolicy") or {})
    if spec.get("volumeClaimTemplates"):
        yield forbidden("spec.volumeClaimTemplates", _NO_CLAIMS)
    yield from not_negative(spec.get("replicas"), "spec.replicas")
    yield from not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    yield from not_negative((spec.get("ordinals") or {}).get("start"), "spec.ordinals.start")
    yield from not_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")
    if service := spec.get("serviceName"):
        yield from (invalid("spec.serviceName", service, why) for why in names.dns_label(service))
    yield from _selector_and_template(spec)


def _selector_and_template(spec: JsonObject) -> Iterator[FieldError]:
    selector, template = spec.get("selector"), spec.get("template") or {}
    if selector is None:
        yield required("spec.selector")
        yield from selects_template(selector, template)
    else:
        yield from validate_label_selector(selector, "spec.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            yield invalid("spec.selector", selector, "empty selector is invalid for statefulset")
        else:
            yield from selects_template(selector, template)
    yield from validate_template(template)
    yield from always_restarted(template.get("spec") or {}, "StatefulSet")


def _management(policy: str) -> Iterator[FieldError]:
    if not policy:
        yield required("spec.podManagementPolicy")
    elif policy not in _MANAGEMENT:
        yield invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'")


def _update_strategy(strategy: JsonObject) -> Iterator[FieldError]:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    path = "spec.updateStrategy.rollingUpdate"
    if not kind:
        yield required("spec.updateStrategy")
    elif kind not in _STRATEGIES:
        yield invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'")
    elif rolling is not None and kind == "OnDelete":
        yield invalid(path, rolling, "only allowed for updateStrategy 'RollingUpdate'")
    elif rolling is not None:
        yield from not_negative(rolling.get("partition"), f"{path}.partition")
        unavailable = rolling.get("maxUnavailable")
        if unavailable is not None:
            yield from count_or_percent(unavailable, f"{path}.maxUnavailable")
            if amount_of(unavailable) == 0:
                yield invalid(f"{path}.maxUnavailable", unavailable, "cannot be 0")
            yield from at_most_all(unavailable, f"{path}.maxUnavailable")


def _retention(policy: JsonObject) -> Iterator[FieldError]:
    for field in ("whenDeleted", "whenScaled"):
        value = policy.get(field)
        if value and value not in _RETENTION:
            path = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
            yield invalid(path, value, "must be either 'Retain' or 'Delete'")


def validate_stateful_set_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    fixed = {*spec, *before}.difference(_MUTABLE)
    if any(spec.get(field) != before.get(field) for field in fixed):
        yield forbidden("spec", _IMMUTABLE_TEXT)
    yield from validate_stateful_set(new)


def validate_stateful_set_status(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    status = new.get("status") or {}
    for field in (*_COUNTS, "observedGeneration", "collisionCount"):
        yield from not_negative(status.get(field), f"status.{field}")
    replicas = status.get("replicas") or 0
    for field in _SMALLER:
        count = status.get(field) or 0
        if count > replicas:
            yield invalid(f"status.{field}", count, "cannot be greater than status.replicas")
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        yield invalid("status.availableReplicas", available, "cannot be greater than status.readyReplicas")
