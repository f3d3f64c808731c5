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
_NEW_NAMES = {core: new for new, core in _CORE_NAMES.items()}


def to_core(event: JsonObject) -> JsonObject:
    """An ``events.k8s.io/v1`` event's fields under their ``v1`` names; ``apiVersion`` stays."""
    return {_CORE_NAMES.get(field, field): value for field, value in event.items()}


def from_core(event: JsonObject) -> JsonObject:
    """The way back."""
    return {_NEW_NAMES.get(field, field): value for field, value in event.items()}
