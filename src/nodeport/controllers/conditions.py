"""Lists of conditions, as the workload kinds keep them."""

from __future__ import annotations

from collections.abc import Iterable

from nodeport.api.meta import JsonObject


def find(conditions: Iterable[JsonObject] | None, kind: str) -> JsonObject | None:
    return next((condition for condition in conditions or () if condition.get("type") == kind), None)


def replaced(conditions: Iterable[JsonObject] | None, new: JsonObject) -> list[JsonObject]:
    """The list with ``new`` in it; unchanged when status and reason are, with the old transition time when
    only the reason changed.
    """
    before = list(conditions or ())
    old = find(before, new["type"])
    if old is None:
        return [*before, new]
    if (old.get("status"), old.get("reason")) == (new["status"], new.get("reason")):
        return before
    if old.get("status") == new["status"] and old.get("lastTransitionTime"):
        new = {**new, "lastTransitionTime": old["lastTransitionTime"]}
    return [new if condition is old else condition for condition in before]


def removed(conditions: Iterable[JsonObject] | None, kind: str) -> list[JsonObject]:
    return [condition for condition in conditions or () if condition.get("type") != kind]
