"""The vocabulary of tables: columns, printers, and cells that several kinds share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from nodeport.api.duration import human_duration
from nodeport.api.meta import JsonObject
from nodeport.kit.clock import parse_rfc3339

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"

Cells = list[str | int]


@dataclass(frozen=True, slots=True)
class Column:
    """``priority`` 1: only in wide output."""

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""

    def definition(self) -> JsonObject:
        return {
            "name": self.name, "type": self.type, "format": self.format,
            "description": self.description or self.name, "priority": self.priority,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Printer:
    """Columns and the function that fills them; a row has as many cells as there are columns."""

    columns: tuple[Column, ...]
    cells: Callable[[JsonObject, datetime], Cells]


NAME = Column("Name", format="name", description="Name must be unique within a namespace.")
AGE = Column("Age", description="Time since the object was created.")


def wide(name: str) -> Column:
    return Column(name, priority=1)


def number(name: str) -> Column:
    return Column(name, type="integer")


def name_of(obj: JsonObject) -> str:
    return str(obj["metadata"].get("name") or "")


def age(obj: JsonObject, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def since(moment: str | None, now: datetime) -> str:
    """The time that has passed, as kubectl shows it."""
    if not moment:
        return UNKNOWN
    try:
        return human_duration(max(now - parse_rfc3339(moment), timedelta()))
    except ValueError:
        return UNKNOWN


def span(start: str, end: str) -> str:
    """The time between two moments, as kubectl shows it."""
    try:
        return since(start, parse_rfc3339(end))
    except ValueError:
        return UNKNOWN


def pairs(labels: Mapping[str, str] | None) -> str:
    """``k=v,...`` in key order or ``<none>``."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def joined(texts: Iterable[str], empty: str = NONE) -> str:
    return ",".join(texts) or empty


def containers_and_images(template: JsonObject | None) -> tuple[str, str]:
    containers = ((template or {}).get("spec") or {}).get("containers") or []
    return ",".join(each.get("name", "") for each in containers), ",".join(
        each.get("image", "") for each in containers
    )
