"""Roles and who holds them."""

from __future__ import annotations

from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.apiserver.tables.columns import AGE, NAME, UNKNOWN, Cells, Column, Printer, age, name_of, wide


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


ROLE = Printer((NAME, Column("Created At")), _role)
ROLE_BINDING = Printer(
    (NAME, Column("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")), _binding
)
