"""Rules on events: lax for ``v1``, which has always taken nearly anything, strict for ``events.k8s.io/v1``.

Both name the fields of ``v1`` in their complaints, as the Kubernetes API does.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.events import to_core
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, invalid, required
from nodeport.api.validation.meta import immutable

MOST_CHARACTERS = 128
MOST_NOTE_CHARACTERS = 1024
_SAME_NAMESPACE = "does not match event.namespace"
_UNSET = "needs to be unset"
_FIXED = (
    ("involvedObject", "involvedObject"), ("reason", "reason"), ("message", "message"), ("source", "source"),
    ("firstTimestamp", "firstTimestamp"), ("lastTimestamp", "lastTimestamp"), ("count", "count"), ("type", "type"),
    ("eventTime", "eventTime"), ("action", "action"), ("related", "related"),
    ("reportingComponent", "reportingController"), ("reportingInstance", "reportingInstance"),
)  # fmt: skip
"""(field, what complaints call it)."""


def validate_event(obj: JsonObject) -> Iterator[FieldError]:
    """A ``v1`` event. One that has an ``eventTime`` was written the new way and must say more."""
    namespace = (obj.get("metadata") or {}).get("namespace") or ""
    involved = (obj.get("involvedObject") or {}).get("namespace") or ""
    if obj.get("eventTime"):
        if not involved and namespace not in ("default", "kube-system"):
            yield invalid("involvedObject.namespace", involved, _SAME_NAMESPACE)
        yield from _new_style(obj)
    elif (involved and involved != namespace) or (not involved and namespace not in ("", "default")):
        yield invalid("involvedObject.namespace", involved, _SAME_NAMESPACE)


def _new_style(obj: JsonObject) -> Iterator[FieldError]:
    controller = obj.get("reportingComponent") or ""
    if not controller:
        yield required("reportingController")
    yield from (invalid("reportingController", controller, why) for why in names.qualified_name(controller))
    for field in ("reportingInstance", "action", "reason"):
        text = obj.get(field) or ""
        if not text:
            yield required(field)
        yield from _short(field, text, MOST_CHARACTERS)
    yield from _short("message", obj.get("message") or "", MOST_NOTE_CHARACTERS)


def _short(field: str, text: str, limit: int) -> Iterator[FieldError]:
    if len(text.encode()) > limit:
        yield invalid(field, "", f"can have at most {limit} characters")


def validate_event_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return validate_event(new)


def validate_new_event(obj: JsonObject) -> Iterator[FieldError]:
    """An ``events.k8s.io/v1`` event."""
    core = to_core(obj)
    yield from validate_event(core)
    yield from _series(core)
    if not core.get("eventTime"):
        yield required("eventTime")
    if core.get("type") not in ("Normal", "Warning"):
        yield invalid("type", "", f"has invalid value: {core.get('type') or ''}")
    for field in ("firstTimestamp", "lastTimestamp", "count"):
        if core.get(field):
            yield invalid(field, "", _UNSET)
    source = core.get("source") or {}
    if source.get("component") or source.get("host"):
        yield invalid("source", "", _UNSET)


def _series(core: JsonObject) -> Iterator[FieldError]:
    series = core.get("series")
    if series is None:
        return
    if (series.get("count") or 0) < 2:
        yield invalid("series.count", "", "should be at least 2")
    if not series.get("lastObservedTime"):
        yield required("series.lastObservedTime")


def validate_new_event_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """Only the series goes on."""
    core, before = to_core(new), to_core(old)
    yield from validate_event(core)
    if core.get("series") != before.get("series"):
        yield from _series(core)
    for field, shown in _FIXED:
        yield from immutable(core.get(field), before.get(field), shown)
