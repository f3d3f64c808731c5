"""What the conditions of a namespace on its way out say: pure. Reasons and texts: Kubernetes 1.36."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.controllers.conditions import find
from nodeport.kit.clock import rfc3339


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of one resource after it was told to go; ``failure`` is why that could not be done."""

    resource: Resource
    count: int = 0
    finalizers: Counter[str] = field(default_factory=Counter)
    failure: str = ""

    @property
    def is_nothing(self) -> bool:
        return not (self.count or self.failure)


def remaining_of(resource: Resource, items: Iterable[JsonObject]) -> Remaining:
    listed = list(items)
    finalizers = Counter(name for obj in listed for name in obj["metadata"].get("finalizers") or ())
    return Remaining(resource, len(listed), finalizers)


def deletion_conditions(
    before: Sequence[JsonObject], left: Iterable[Remaining], now: datetime
) -> list[JsonObject]:
    """All five of them, those that hold and those that do not; equal to ``before`` when nothing changed."""
    found = [each for each in left if not each.is_nothing]
    made = list(before)
    for kind, calm, told in (
        ("NamespaceDeletionDiscoveryFailure", ("ResourcesDiscovered", "All resources successfully discovered"), None),
        ("NamespaceDeletionGroupVersionParsingFailure",
         ("ParsedGroupVersions", "All legacy kube types successfully parsed"), None),
        ("NamespaceDeletionContentFailure",
         ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"), _failed(found)),
        ("NamespaceContentRemaining", ("ContentRemoved", "All content successfully removed"), _remain(found)),
        ("NamespaceFinalizersRemaining",
         ("ContentHasNoFinalizers", "All content-preserving finalizers finished"), _finalizers(found)),
    ):  # fmt: skip
        reason, message = told or calm
        condition = {
            "type": kind, "status": "True" if told else "False", "lastTransitionTime": rfc3339(now),
            "reason": reason, "message": message,
        }  # fmt: skip
        _put(made, condition)
    return made


def _put(conditions: list[JsonObject], new: JsonObject) -> None:
    old = find(conditions, new["type"])
    if old is None:
        conditions.append(new)
        return
    if old.get("status") == new["status"]:
        new = {**new, "lastTransitionTime": old.get("lastTransitionTime") or new["lastTransitionTime"]}
    conditions[conditions.index(old)] = new


def _failed(left: Sequence[Remaining]) -> tuple[str, str] | None:
    failures = [each.failure for each in left if each.failure]
    if not failures:
        return None
    return (
        "ContentDeletionFailed",
        f"Failed to delete all resource types, {len(failures)} remaining: {', '.join(failures)}",
    )


def _remain(left: Sequence[Remaining]) -> tuple[str, str] | None:
    told = sorted(
        f"{each.resource.plural}.{each.resource.group} has {each.count} resource instances"
        for each in left
        if each.count
    )
    return ("SomeResourcesRemain", f"Some resources are remaining: {', '.join(told)}") if told else None


def _finalizers(left: Sequence[Remaining]) -> tuple[str, str] | None:
    total: Counter[str] = sum((each.finalizers for each in left), Counter())
    if not total:
        return None
    told = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(total.items()))
    return "SomeFinalizersRemain", f"Some content in the namespace has finalizers remaining: {told}"
