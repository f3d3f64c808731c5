"""Kinds that run pods."""

from __future__ import annotations

from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.apiserver.subresources import selector_text
from nodeport.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    Cells,
    Column,
    Printer,
    age,
    containers_and_images,
    name_of,
    number,
    pairs,
    since,
    span,
    wide,
)


def _deployment(obj: JsonObject, now: datetime) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    containers, images = containers_and_images(spec.get("template"))
    return [
        name_of(obj), f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0, age(obj, now), containers, images,
        selector_text(spec.get("selector") or {}) or NONE,
    ]  # fmt: skip


def _replica_set(obj: JsonObject, now: datetime) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    containers, images = containers_and_images(spec.get("template"))
    return [
        name_of(obj), spec.get("replicas") or 0, status.get("replicas") or 0, status.get("readyReplicas") or 0,
        age(obj, now), containers, images, selector_text(spec.get("selector") or {}) or NONE,
    ]  # fmt: skip


def _replication_controller(obj: JsonObject, now: datetime) -> Cells:
    cells = _replica_set(obj, now)
    return [*cells[:-1], pairs((obj.get("spec") or {}).get("selector"))]


def _stateful_set(obj: JsonObject, now: datetime) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    return [name_of(obj), ready, age(obj, now), *containers_and_images(spec.get("template"))]


def _daemon_set(obj: JsonObject, now: datetime) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    template = spec.get("template") or {}
    return [
        name_of(obj), status.get("desiredNumberScheduled") or 0, status.get("currentNumberScheduled") or 0,
        status.get("numberReady") or 0, status.get("updatedNumberScheduled") or 0, status.get("numberAvailable") or 0,
        pairs((template.get("spec") or {}).get("nodeSelector")), age(obj, now), *containers_and_images(template),
        selector_text(spec.get("selector") or {}) or NONE,
    ]  # fmt: skip


def _pod_template(obj: JsonObject, now: datetime) -> Cells:
    template = obj.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    return [name_of(obj), *containers_and_images(template), pairs(labels)]


def _job(obj: JsonObject, now: datetime) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    started = status.get("startTime")
    ended = status.get("completionTime")
    duration = "" if not started else span(started, ended) if ended else since(started, now)
    return [
        name_of(obj), job_status(obj), job_completions(spec, status), duration, age(obj, now),
        *containers_and_images(spec.get("template")), selector_text(spec.get("selector") or {}) or NONE,
    ]  # fmt: skip


def job_completions(spec: JsonObject, status: JsonObject) -> str:
    """``done/wanted``; a job without a number of completions is done with one success of its parallel pods."""
    done, parallel = status.get("succeeded") or 0, spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        return f"{done}/{spec['completions']}"
    return f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"


def job_status(job: JsonObject) -> str:
    """The strongest condition's word; deletion hides what has not ended yet."""
    conditions = (job.get("status") or {}).get("conditions") or []
    true = {each.get("type") for each in conditions if each.get("status") == "True"}
    for ending in ("Complete", "Failed"):
        if ending in true:
            return ending
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next(
        (each for each in ("Suspended", "FailureTarget", "SuccessCriteriaMet") if each in true), "Running"
    )


_WIDE = (wide("Containers"), wide("Images"), wide("Selector"))
DEPLOYMENT = Printer(
    (NAME, Column("Ready"), number("Up-to-date"), number("Available"), AGE, *_WIDE), _deployment
)
REPLICA_SET = Printer(
    (NAME, number("Desired"), number("Current"), number("Ready"), AGE, *_WIDE), _replica_set
)
REPLICATION_CONTROLLER = Printer(REPLICA_SET.columns, _replication_controller)
STATEFUL_SET = Printer((NAME, Column("Ready"), AGE, *_WIDE[:2]), _stateful_set)
DAEMON_SET = Printer(
    (
        NAME, number("Desired"), number("Current"), number("Ready"), number("Up-to-date"), number("Available"),
        Column("Node Selector"), AGE, *_WIDE,
    ),
    _daemon_set,
)  # fmt: skip
POD_TEMPLATE = Printer((NAME, Column("Containers"), Column("Images"), Column("Pod Labels")), _pod_template)
JOB = Printer((NAME, Column("Status"), Column("Completions"), Column("Duration"), AGE, *_WIDE), _job)
