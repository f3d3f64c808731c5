"""Kinds that need only a few cells."""

from __future__ import annotations

from datetime import datetime

from nodeport.api.events import to_core
from nodeport.api.meta import JsonObject
from nodeport.apiserver.tables.columns import (
    AGE,
    NAME,
    UNKNOWN,
    Cells,
    Column,
    Printer,
    age,
    name_of,
    number,
    since,
    wide,
)


def _namespace(obj: JsonObject, now: datetime) -> Cells:
    return [name_of(obj), (obj.get("status") or {}).get("phase") or "", age(obj, now)]


def _config_map(obj: JsonObject, now: datetime) -> Cells:
    return [name_of(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)]


def _secret(obj: JsonObject, now: datetime) -> Cells:
    return [name_of(obj), obj.get("type") or "", len(obj.get("data") or {}), age(obj, now)]


def _service_account(obj: JsonObject, now: datetime) -> Cells:
    return [name_of(obj), len(obj.get("secrets") or []), age(obj, now)]


def _lease(obj: JsonObject, now: datetime) -> Cells:
    return [name_of(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age(obj, now)]


def _event(obj: JsonObject, now: datetime) -> Cells:
    first, last, count = _first_seen(obj), _last_seen(obj), _count(obj)
    involved = obj.get("involvedObject") or {}
    last_text = since(last, now)
    if count > 1 and first:
        last_text = f"{last_text} (x{count} over {since(first, now)})"
    return [
        last_text, obj.get("type") or "", obj.get("reason") or "",
        f"{(involved.get('kind') or '').lower()}/{involved.get('name') or ''}", involved.get("fieldPath") or "",
        _source(obj), (obj.get("message") or "").strip(), since(first, now) if first else UNKNOWN, count, name_of(obj),
    ]  # fmt: skip


def _first_seen(event: JsonObject) -> str | None:
    return event.get("firstTimestamp") or event.get("eventTime")


def _last_seen(event: JsonObject) -> str | None:
    series = event.get("series") or {}
    return series.get("lastObservedTime") or event.get("lastTimestamp") or _first_seen(event)


def _count(event: JsonObject) -> int:
    return int((event.get("series") or {}).get("count") or event.get("count") or 1)


def _source(event: JsonObject) -> str:
    source = event.get("source") or {}
    component = source.get("component") or event.get("reportingComponent") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return f"{component}, {host}" if host else component


def _scale(obj: JsonObject, now: datetime) -> Cells:
    wanted, there = ((obj.get(part) or {}).get("replicas") or 0 for part in ("spec", "status"))
    return [name_of(obj), wanted, there, age(obj, now)]


NAMESPACE = Printer((NAME, Column("Status"), AGE), _namespace)
CONFIG_MAP = Printer((NAME, number("Data"), AGE), _config_map)
SECRET = Printer((NAME, Column("Type"), number("Data"), AGE), _secret)
SERVICE_ACCOUNT = Printer((NAME, number("Secrets"), AGE), _service_account)
LEASE = Printer((NAME, Column("Holder"), AGE), _lease)
EVENT = Printer(
    (
        Column("Last Seen"), Column("Type"), Column("Reason"), Column("Object"), wide("Subobject"), wide("Source"),
        Column("Message"), wide("First Seen"), Column("Count", type="integer", priority=1),
        Column("Name", format="name", priority=1),
    ),
    _event,
)  # fmt: skip
NEW_EVENT = Printer(EVENT.columns, lambda obj, now: _event(to_core(obj), now))
CUSTOM_RESOURCE_DEFINITION = Printer(
    (NAME, Column("Created At", type="date")),
    lambda obj, now: [name_of(obj), obj["metadata"].get("creationTimestamp") or UNKNOWN],
)
SCALE = Printer((NAME, number("Desired"), number("Available"), AGE), _scale)
