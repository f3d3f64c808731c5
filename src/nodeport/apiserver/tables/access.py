"""Roles and who holds them, and requests for certificates."""

from __future__ import annotations

from datetime import datetime, timedelta

from nodeport.api.certificates import APPROVED, DENIED, FAILED, conditions
from nodeport.api.duration import human_duration
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
    wide,
)


def _role(obj: JsonObject, now: datetime) -> Cells:
    return [name_of(obj), obj["metadata"].get("creationTimestamp") or UNKNOWN]


def _binding(obj: JsonObject, now: datetime) -> Cells:
    role = obj.get("roleRef") or {}
    subjects = obj.get("subjects") or []
    accounts = [
        f"{each.get('namespace') or ''}/{each.get('name') or ''}"
        for each in subjects
        if each.get("kind") == "ServiceAccount"
    ]
    return [
        name_of(obj), f"{role.get('kind') or ''}/{role.get('name') or ''}", age(obj, now), _names(subjects, "User"),
        _names(subjects, "Group"), ", ".join(accounts),
    ]  # fmt: skip


def _names(subjects: list[JsonObject], kind: str) -> str:
    return ", ".join(each.get("name") or "" for each in subjects if each.get("kind") == kind)


def _certificate_request(obj: JsonObject, now: datetime) -> Cells:
    spec = obj.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    return [
        name_of(obj), age(obj, now), spec.get("signerName") or NONE, spec.get("username") or "",
        NONE if seconds is None else human_duration(timedelta(seconds=seconds)), _decision(obj),
    ]  # fmt: skip


def _decision(request: JsonObject) -> str:
    words = [kind for kind in (APPROVED, DENIED) if conditions(request, kind)] or ["Pending"]
    if conditions(request, FAILED):
        words.append("Failed")
    if (request.get("status") or {}).get("certificate"):
        words.append("Issued")
    return ",".join(words)


CERTIFICATE_SIGNING_REQUEST = Printer(
    (NAME, AGE, *(Column(name) for name in ("SignerName", "Requestor", "RequestedDuration", "Condition"))),
    _certificate_request,
)
ROLE = Printer((NAME, Column("Created At")), _role)
ROLE_BINDING = Printer(
    (NAME, Column("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")), _binding
)
