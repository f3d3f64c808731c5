"""Logging for daemons: one line an event on standard error, for people or as JSON."""

from __future__ import annotations

import json as json_module
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

ROOT = "nodeport"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def get_logger(name: str) -> logging.Logger:
    """The logger ``nodeport.NAME``; a module passes its ``__name__``."""
    return logging.getLogger(name if name == ROOT or name.startswith(f"{ROOT}.") else f"{ROOT}.{name}")


def configure(level: int | str, *, json: bool = False, stream: TextIO | None = None) -> None:
    """Send records of ``level`` and above to ``stream`` (standard error). Called again, it replaces its handler.

    What is passed as ``extra=`` is shown as ``key=value``, or as members of the JSON object.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if json else LineFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, (JsonFormatter, LineFormatter)):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(level)


class LineFormatter(logging.Formatter):
    """``2026-01-02T03:04:05.678Z INFO proxy.runner programmed services=12``"""

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(f" {key}={value}" for key, value in _extra(record).items())
        name = record.name.removeprefix(f"{ROOT}.")
        line = f"{_time(record)} {record.levelname} {name} {record.getMessage()}{extra}"
        error = _error(self, record)
        return f"{line}\n{error}" if error else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, the extras, ``error`` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        members: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if error := _error(self, record):
            members["error"] = error
        return json_module.dumps(members, default=str, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _error(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""
