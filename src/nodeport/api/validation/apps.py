"""Rules on Deployments, ReplicaSets and ReplicationControllers, and what all workloads share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.selectors import label_selector_of
from nodeport.api.status import ApiError, FieldError, forbidden, invalid, not_supported, required
from nodeport.api.validation.labelselectors import validate_label_selector
from nodeport.api.validation.meta import immutable, validate_annotations, validate_labels
from nodeport.api.validation.pods import validate_pod_spec

_PERCENT = re.compile(r"([0-9]{1,9})%\Z")
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for"
    " validation is '[0-9]+%')"
)
_NOT_NEGATIVE = "must be greater than or equal to 0"


def not_negative(value: int | None, path: str) -> Iterator[FieldError]:
    if value is not None and value < 0:
        yield invalid(path, value, _NOT_NEGATIVE)


def validate_deployment(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    yield from not_negative(spec.get("replicas"), "spec.replicas")
    yield from _selector_and_template(spec, "deployment")
    yield from _strategy(spec.get("strategy") or {})
    yield from not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    yield from not_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        yield from not_negative(deadline, "spec.progressDeadlineSeconds")
        if deadline <= (spec.get("minReadySeconds") or 0):
            yield invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def validate_deployment_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_deployment(new)
    yield from selector_update(new, old)


def validate_replica_set(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    yield from not_negative(spec.get("replicas"), "spec.replicas")
    yield from not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    yield from _selector_and_template(spec, "replicaset")


def validate_replica_set_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_replica_set(new)
    yield from selector_update(new, old)


def validate_replication_controller(obj: JsonObject) -> Iterator[FieldError]:
    """Its selector is a plain map of labels."""
    spec = obj.get("spec") or {}
    yield from not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    selector = spec.get("selector") or {}
    if not selector:
        yield required("spec.selector")
    yield from not_negative(spec.get("replicas"), "spec.replicas")
    template = spec.get("template")
    if template is None:
        yield required("spec.template")
        return
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selector.items() <= labels.items():
        yield invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from validate_template(template)
    yield from always_restarted(template.get("spec") or {}, "ReplicationController")


def validate_replication_controller_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return validate_replication_controller(new)


def selector_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    selector, before = (new.get("spec") or {}).get("selector"), (old.get("spec") or {}).get("selector")
    yield from immutable(selector, before, "spec.selector")


def _selector_and_template(spec: JsonObject, kind: str) -> Iterator[FieldError]:
    selector = spec.get("selector")
    if selector is None:
        yield required("spec.selector")
    else:
        yield from validate_label_selector(selector, "spec.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            yield invalid("spec.selector", selector, f"empty selector is invalid for {kind}")
    template = spec.get("template") or {}
    if selector != {}:
        yield from selects_template(selector, template)
    yield from validate_template(template)
    yield from always_restarted(template.get("spec") or {}, "ReplicaSet")


def selects_template(selector: JsonObject | None, template: JsonObject) -> Iterator[FieldError]:
    """No selector selects nothing."""
    labels = (template.get("metadata") or {}).get("labels")
    try:
        matches = selector is not None and label_selector_of(selector).matches(labels or {})
    except ApiError:
        yield invalid("spec.selector", selector, "invalid label selector")
        return
    if not matches:
        yield invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")


def validate_template(template: JsonObject, path: str = "spec.template") -> Iterator[FieldError]:
    """A pod template, but for its restart policy."""
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    yield from validate_labels(meta.get("labels") or {}, f"{path}.labels")
    yield from validate_annotations(meta.get("annotations") or {}, f"{path}.annotations")
    yield from validate_pod_spec(spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        yield forbidden(f"{path}.spec.ephemeralContainers", detail)


def validate_pod_template(obj: JsonObject) -> Iterator[FieldError]:
    """One that is stored by itself, for whoever may make pods of it."""
    yield from validate_template(obj.get("template") or {}, "template")


def validate_pod_template_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    yield from validate_pod_template(new)


def always_restarted(spec: JsonObject, kind: str) -> Iterator[FieldError]:
    """The pods of every kind but Job run until they are removed. ``spec`` is the template's; ``kind`` for the text."""
    policy = spec.get("restartPolicy")
    if policy and policy != "Always":
        yield not_supported("spec.template.spec.restartPolicy", policy, ("Always",))
    if spec.get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {kind} is not Supported"
        yield forbidden("spec.template.spec.activeDeadlineSeconds", detail)


def _strategy(strategy: JsonObject) -> Iterator[FieldError]:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            detail = "may not be specified when strategy `type` is 'Recreate'"
            yield forbidden("spec.strategy.rollingUpdate", detail)
    elif kind != "RollingUpdate":
        yield not_supported("spec.strategy.type", kind, ("Recreate", "RollingUpdate"))
    elif rolling is None:
        yield required("spec.strategy.rollingUpdate", "this should be defaulted and never be nil")
    else:
        yield from _rolling_update(rolling, "spec.strategy.rollingUpdate")


def _rolling_update(rolling: JsonObject, path: str) -> Iterator[FieldError]:
    surge, unavailable = rolling.get("maxSurge"), rolling.get("maxUnavailable")
    for field, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        yield from count_or_percent(value, f"{path}.{field}")
    if amount_of(unavailable) == 0 and amount_of(surge) == 0:
        yield invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
    yield from at_most_all(unavailable, f"{path}.maxUnavailable")


def count_or_percent(value: Any, path: str) -> Iterator[FieldError]:
    if isinstance(value, str) and not _PERCENT.match(value):
        yield invalid(path, value, _PERCENT_TEXT)
    elif isinstance(value, int):
        yield from not_negative(value, path)


def at_most_all(value: Any, path: str) -> Iterator[FieldError]:
    percent = _PERCENT.match(value) if isinstance(value, str) else None
    if percent and int(percent.group(1)) > 100:
        yield invalid(path, value, "must not be greater than 100%")


def amount_of(value: Any) -> int:
    """The number of a count or a percentage; 0 of what is neither."""
    if isinstance(value, int):
        return value
    percent = _PERCENT.match(value or "")
    return int(percent.group(1)) if percent else 0


_COUNTS = ("replicas", "fullyLabeledReplicas", "updatedReplicas", "readyReplicas", "availableReplicas",
           "unavailableReplicas")  # fmt: skip


def _status_counts(obj: JsonObject) -> Iterator[FieldError]:
    status = obj.get("status") or {}
    yield from not_negative(status.get("observedGeneration"), "status.observedGeneration")
    for field in _COUNTS:
        yield from not_negative(status.get(field), f"status.{field}")
    replicas = status.get("replicas") or 0
    for field in ("fullyLabeledReplicas", "updatedReplicas", "readyReplicas", "availableReplicas"):
        count = status.get(field) or 0
        if count > replicas:
            yield invalid(f"status.{field}", count, "cannot be greater than status.replicas")
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        yield invalid("status.availableReplicas", available, "cannot be greater than readyReplicas")


def validate_deployment_status(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return _status_counts(new)


def validate_replica_set_status(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return _status_counts(new)
