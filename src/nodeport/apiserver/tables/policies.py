"""Quotas, limits, disruption budgets, priorities, runtimes and controller revisions."""

from __future__ import annotations

from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    Cells,
    Column,
    Printer,
    age,
    name_of,
    number,
)


def _quota(obj: JsonObject, now: datetime) -> Cells:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    shown: dict[bool, list[str]] = {True: [], False: []}
    for resource in sorted(hard):
        shown["limits" in resource].append(f"{resource}: {used.get(resource) or 0}/{hard[resource]}")
    return [name_of(obj), ", ".join(shown[False]), ", ".join(shown[True]), age(obj, now)]


def _limit_range(obj: JsonObject, now: datetime) -> Cells:
    return [name_of(obj), obj["metadata"].get("creationTimestamp") or UNKNOWN]


def _disruption_budget(obj: JsonObject, now: datetime) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    least, most = (
        "N/A" if spec.get(field) is None else str(spec[field]) for field in ("minAvailable", "maxUnavailable")
    )
    return [name_of(obj), least, most, status.get("disruptionsAllowed") or 0, age(obj, now)]


def _priority_class(obj: JsonObject, now: datetime) -> Cells:
    return [
        name_of(obj), obj.get("value") or 0, bool(obj.get("globalDefault")), age(obj, now),
        obj.get("preemptionPolicy") or "",
    ]  # fmt: skip


def _runtime_class(obj: JsonObject, now: datetime) -> Cells:
    return [name_of(obj), obj.get("handler") or "", age(obj, now)]


def _controller_revision(obj: JsonObject, now: datetime) -> Cells:
    owners = obj["metadata"].get("ownerReferences") or []
    owner = next((each for each in owners if each.get("controller")), None)
    return [name_of(obj), _owner(owner) if owner else NONE, obj.get("revision") or 0, age(obj, now)]


def _owner(owner: JsonObject) -> str:
    """``statefulset.apps/web``."""
    group = owner["apiVersion"].rpartition("/")[0]
    return f"{owner['kind'].lower()}{f'.{group}' if group else ''}/{owner['name']}"


QUOTA = Printer((NAME, Column("Request"), Column("Limit"), AGE), _quota)
LIMIT_RANGE = Printer((NAME, Column("Created At")), _limit_range)
DISRUPTION_BUDGET = Printer(
    (NAME, Column("Min Available"), Column("Max Unavailable"), number("Allowed Disruptions"), AGE),
    _disruption_budget,
)
PRIORITY_CLASS = Printer(
    (NAME, number("Value"), Column("Global-Default", type="boolean"), AGE, Column("PreemptionPolicy")),
    _priority_class,
)
RUNTIME_CLASS = Printer((NAME, Column("Handler"), AGE), _runtime_class)
CONTROLLER_REVISION = Printer((NAME, Column("Controller"), number("Revision"), AGE), _controller_revision)
