"""Fields that an apply would take from other managers, and how that is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from nodeport.api.managedfields.entries import UPDATE, Manager
from nodeport.api.managedfields.sets import Path, Tree, path_text, paths
from nodeport.api.status import Cause
from nodeport.api.status import Conflict as ConflictAnswer

REASON = "FieldManagerConflict"


@dataclass(frozen=True, slots=True)
class Conflict:
    manager: Manager
    path: Path


class Conflicts(Exception):
    """Raised by an apply without force; ``found`` is in the order in which it is told."""

    def __init__(self, found: list[Conflict]) -> None:
        super().__init__(message(found))
        self.found = found


def conflicts_of(taken: Mapping[Manager, Tree]) -> list[Conflict]:
    """Each field of ``taken`` by its manager, managers sorted."""
    return [
        Conflict(manager, path)
        for manager in sorted(taken, key=shown_manager)
        for path in paths(taken[manager])
    ]


def shown_manager(manager: Manager) -> str:
    """``"kubectl" with subresource "status" using v1``; appliers have no version."""
    text = json.dumps(manager.name, ensure_ascii=False)
    if manager.subresource:
        text += f" with subresource {json.dumps(manager.subresource, ensure_ascii=False)}"
    return f"{text} using {manager.api_version}" if manager.operation == UPDATE else text


def message(found: list[Conflict]) -> str:
    """One conflict in one line; several as a list a manager."""
    if len(found) == 1:
        only = found[0]
        return f"Apply failed with 1 conflict: conflict with {shown_manager(only.manager)}: {path_text(only.path)}"
    grouped: dict[str, list[str]] = {}
    for each in found:
        grouped.setdefault(shown_manager(each.manager), []).append(f"- {path_text(each.path)}")
    lines = [line for manager, listed in grouped.items() for line in (f"conflicts with {manager}:", *listed)]
    return f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)


def answer(found: list[Conflict]) -> ConflictAnswer:
    """The 409 with a cause a field."""
    causes = [
        Cause(REASON, f"conflict with {shown_manager(each.manager)}", path_text(each.path)) for each in found
    ]
    return ConflictAnswer(message(found), causes=causes)
