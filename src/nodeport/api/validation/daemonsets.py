"""Rules on DaemonSets. Texts: the apps/v1 validation of Kubernetes 1.36."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, invalid, not_supported, required
from nodeport.api.validation.apps import (
    always_restarted,
    amount_of,
    at_most_all,
    count_or_percent,
    not_negative,
    selector_update,
    selects_template,
    validate_template,
)
from nodeport.api.validation.labelselectors import validate_label_selector

_STRATEGIES = ("OnDelete", "RollingUpdate")
_COUNTS = (
    "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady", "observedGeneration",
    "updatedNumberScheduled", "numberAvailable", "numberUnavailable", "collisionCount",
)  # fmt: skip


def validate_daemon_set(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template") or {}
    yield from validate_label_selector(selector or {}, "spec.selector")
    yield from selects_template(selector, template)
    if selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield invalid("spec.selector", selector, "empty selector is invalid for daemonset")
    yield from validate_template(template)
    yield from always_restarted(template.get("spec") or {}, "DaemonSet")
    yield from not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    yield from _update_strategy(spec.get("updateStrategy") or {})
    yield from not_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")


def _update_strategy(strategy: JsonObject) -> Iterator[FieldError]:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    path = "spec.updateStrategy.rollingUpdate"
    if kind not in _STRATEGIES:
        yield not_supported("spec.updateStrategy.type", kind, _STRATEGIES)
    elif kind == "OnDelete":
        return
    elif rolling is None:
        yield required(path)
    else:
        unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
        for field, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
            yield from count_or_percent(value, f"{path}.{field}")
            yield from at_most_all(value, f"{path}.{field}")
        if amount_of(unavailable) and amount_of(surge):
            yield invalid(f"{path}.maxSurge", surge, "may not be set when maxUnavailable is non-zero")
        elif not amount_of(unavailable) and not amount_of(surge):
            yield required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0")


def validate_daemon_set_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_daemon_set(new)
    yield from selector_update(new, old)


def validate_daemon_set_status(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    status = new.get("status") or {}
    for field in _COUNTS:
        yield from not_negative(status.get(field), f"status.{field}")
