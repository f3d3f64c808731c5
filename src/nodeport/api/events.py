"""One event, two versions: ``v1`` and ``events.k8s.io/v1`` name the same fields differently."""

from __future__ import annotations

from nodeport.api.meta import JsonObject

_CORE_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_REPORTERS = ("reportingComponent", "reportingInstance")
_NEW_NAMES = {core: new for new, core in _CORE_NAMES.items()}


def to_core(event: JsonObject) -> JsonObject:
    """An ``events.k8s.io/v1`` event's fields under their ``v1`` names; ``apiVersion`` stays."""
    return {_CORE_NAMES.get(field, field): value for field, value in event.items()}


def from_core(event: JsonObject) -> JsonObject:
    """The way back; the new version leaves out who reports when that is not told."""
    return {
        _NEW_NAMES.get(field, field): value
        for field, value in event.items()
        if value or field not in _REPORTERS
    }


def fill_core(event: JsonObject) -> None:
    """In place what Go prints of a ``v1`` event though nobody has set it; a time is null then."""
    for struct in ("involvedObject", "source"):
        event[struct] = event.get(struct) or {}
    for text in _REPORTERS:
        event[text] = event.get(text) or ""
    for time in ("firstTimestamp", "lastTimestamp", "eventTime"):
        event.setdefault(time, None)


def fill_new(event: JsonObject) -> None:
    """The same of an ``events.k8s.io/v1`` event."""
    for struct in ("regarding", "deprecatedSource"):
        event[struct] = event.get(struct) or {}
    for time in ("deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"):
        event.setdefault(time, None)
