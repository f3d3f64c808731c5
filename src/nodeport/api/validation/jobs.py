"""Rules on Jobs. Texts: the batch/v1 validation of Kubernetes 1.36."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, forbidden, invalid, not_supported, required
from nodeport.api.validation.apps import (
    not_negative,
    selects_template,
    validate_template,
)
from nodeport.api.validation.labelselectors import validate_label_selector
from nodeport.api.validation.meta import immutable

LEGACY_UID_LABEL, LEGACY_NAME_LABEL = "controller-uid", "job-name"
UID_LABEL, NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
INDEXED, NON_INDEXED = "Indexed", "NonIndexed"

_COUNTS = (
    "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
    "backoffLimitPerIndex", "maxFailedIndexes",
)  # fmt: skip
_MODES = (INDEXED, NON_INDEXED)
_REPLACEMENT = ("Failed", "TerminatingOrFailed")
_MOST_PARALLEL = 100_000
_FIXED = (
    "selector",
    "completionMode",
    "podFailurePolicy",
    "backoffLimitPerIndex",
    "managedBy",
    "successPolicy",
)
_NOT_CARRIED_OUT = (
    "podFailurePolicy",
    "successPolicy",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
    "managedBy",
)


def validate_job(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    if not spec.get("manualSelector"):
        yield from _generated_selector(obj)
    yield from _content(obj, spec)


def _generated_selector(obj: JsonObject) -> Iterator[FieldError]:
    """Labels that the server writes itself must not have been given other values by the user."""
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    uid, name = meta.get("uid") or "", meta.get("name") or ""
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    wanted = {LEGACY_UID_LABEL: uid, LEGACY_NAME_LABEL: name, UID_LABEL: uid, NAME_LABEL: name}
    for key, value in wanted.items():
        if key not in labels:
            yield required("spec.template.metadata.labels[" + key + "]", f"must be '{value}'")
        elif labels[key] != value:
            yield invalid(f"spec.template.metadata.labels[{key}]", labels[key], f"must be '{value}'")
    selector = spec.get("selector") or {}
    if any(wanted.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        yield invalid("spec.selector", selector, "`selector` not auto-generated")


def _content(obj: JsonObject, spec: JsonObject) -> Iterator[FieldError]:
    for field in _COUNTS:
        yield from not_negative(spec.get(field), f"spec.{field}")
    yield from _completion_mode(obj, spec)
    policy = spec.get("podReplacementPolicy")
    if policy and policy not in _REPLACEMENT:
        yield not_supported("spec.podReplacementPolicy", policy, _REPLACEMENT)
    for field in _NOT_CARRIED_OUT:
        if spec.get(field) is not None:
            yield forbidden(f"spec.{field}", "is not carried out by this cluster's Job controller")
    template = spec.get("template") or {}
    yield from validate_template(template)
    yield from _restart_policy((template.get("spec") or {}).get("restartPolicy") or "")
    if spec.get("selector") is None:
        yield required("spec.selector")
    else:
        yield from validate_label_selector(spec["selector"], "spec.selector")
        yield from selects_template(spec["selector"], template)


def _completion_mode(obj: JsonObject, spec: JsonObject) -> Iterator[FieldError]:
    mode, completions, parallelism = (
        spec.get(name) for name in ("completionMode", "completions", "parallelism")
    )
    if mode is not None and mode not in _MODES:
        yield not_supported("spec.completionMode", mode, _MODES)
    if mode != INDEXED:
        return
    if completions is None:
        yield required("spec.completions", f"when completion mode is {INDEXED}")
    elif completions > 0:
        name = (obj.get("metadata") or {}).get("name") or ""
        host = f"{name}-{completions - 1}"
        if names.dns_label(host):
            detail = f"will not able to create pod with invalid DNS label: {host}"
            yield invalid("metadata.name", name, detail)
    if (parallelism or 0) > _MOST_PARALLEL:
        detail = f"must be less than or equal to {_MOST_PARALLEL} when completion mode is {INDEXED}"
        yield invalid("spec.parallelism", parallelism, detail)


def _restart_policy(policy: str) -> Iterator[FieldError]:
    path = "spec.template.spec.restartPolicy"
    if policy in ("", "Always"):
        yield required(path, 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        yield not_supported(path, policy, ("Never", "OnFailure"))


def validate_job_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    yield from _content(new, spec)
    yield from _completions_update(spec, before)
    for field in _FIXED:
        yield from immutable(spec.get(field), before.get(field), f"spec.{field}")
    template, was = spec.get("template"), before.get("template")
    is_free = _may_change_template(before, old.get("status") or {})
    if not is_free or _without_scheduling(template) != _without_scheduling(was):
        yield from immutable(template, was, "spec.template")


def _completions_update(spec: JsonObject, before: JsonObject) -> Iterator[FieldError]:
    """An Indexed Job may grow or shrink together with its parallelism."""
    now, then = spec.get("completions"), before.get("completions")
    if now == then:
        return
    if spec.get("completionMode") == INDEXED and now is not None and now == spec.get("parallelism"):
        return
    yield from immutable(now, then, "spec.completions")


def _may_change_template(before: JsonObject, status: JsonObject) -> bool:
    """Where pods may run can be changed while a Job is suspended and was never started."""
    return bool(before.get("suspend")) and not status.get("startTime")


def _without_scheduling(template: Any) -> Any:
    if not isinstance(template, dict):
        return template
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    free = ("nodeSelector", "affinity", "tolerations", "schedulingGates")
    kept = {key: value for key, value in spec.items() if key not in free}
    return {
        "metadata": {key: value for key, value in meta.items() if key not in ("labels", "annotations")},
        "spec": kept,
    }


def validate_job_status(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    status, before = new.get("status") or {}, old.get("status") or {}
    for field in ("active", "succeeded", "failed", "ready", "terminating"):
        yield from not_negative(status.get(field), f"status.{field}")
    types = {each.get("type"): each.get("status") for each in status.get("conditions") or []}
    if types.get("Complete") == "True" and types.get("Failed") == "True":
        yield invalid(
            "status.conditions", status["conditions"], "cannot set Complete=True and Failed=true conditions"
        )
    for each in before.get("conditions") or []:
        kind = each.get("type")
        if kind in ("Complete", "Failed") and each.get("status") == "True" and types.get(kind) != "True":
            detail = f"cannot disable the terminal {kind}=True condition"
            yield invalid("status.conditions", status.get("conditions"), detail)
