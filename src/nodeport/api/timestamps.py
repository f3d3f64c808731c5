"""Timestamps as the API reads them: RFC 3339, and Go's words for what is not."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SHAPE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,]\d+)?(?:Z|[+-](\d\d):(\d\d))\Z", re.ASCII
)
_LAYOUT = "2006-01-02T15:04:05Z07:00"
_PARTS = (
    (re.compile(r"[0-9]{4}"), "2006"), (re.compile(r"-"), "-"),
    (re.compile(r"[0-9]{2}"), "01"), (re.compile(r"-"), "-"),
    (re.compile(r"[0-9]{2}"), "02"), (re.compile(r"T"), "T"), (re.compile(r"[0-9]{2}"), "15"), (re.compile(r":"), ":"),
    (re.compile(r"[0-9]{2}"), "04"), (re.compile(r":"), ":"), (re.compile(r"[0-9]{2}(?:[.,][0-9]+)?"), "05"),
    (re.compile(r"Z|[+-][0-9]{2}:[0-9]{2}"), "Z07:00"),
)  # fmt: skip
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


_MICRO_LAYOUT = "2006-01-02T15:04:05.000000Z07:00"
_MICRO_PARTS = (
    *_PARTS[:-2], (re.compile(r"[0-9]{2}"), "05"), (re.compile(r"[.,][0-9]{6}"), ".000000"), _PARTS[-1],
)  # fmt: skip


def micro_timestamp_error(text: str) -> str | None:
    """As ``timestamp_error`` of a time that is told with six digits after the second, no more and no less."""
    wrong = _shape_error(text, _MICRO_LAYOUT, _MICRO_PARTS)
    return wrong or timestamp_error(text)


def timestamp_error(text: str) -> str | None:
    """Go's parse error for ``text`` read as RFC 3339, or None when it is fine."""
    found = _SHAPE.match(text)
    if found is None:
        return _shape_error(text, _LAYOUT, _PARTS)
    year, month, day, hour, minute, second = (int(found.group(part)) for part in range(1, 7))
    wrong = _out_of_range(year, month, day) or _clock_out_of_range(hour, minute, second)
    return f'parsing time "{text}": {wrong} out of range' if wrong else None


def _out_of_range(year: int, month: int, day: int) -> str:
    if not 1 <= month <= 12:
        return "month"
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    last = 28 if month == 2 and not leap else _DAYS[month - 1]
    return "" if 1 <= day <= last else "day"


def _clock_out_of_range(hour: int, minute: int, second: int) -> str:
    if hour > 23:
        return "hour"
    if minute > 59:
        return "minute"
    return "second" if second > 59 else ""


def _shape_error(text: str, layout: str, parts: Sequence[tuple[re.Pattern[str], str]]) -> str | None:
    position = 0
    for pattern, element in parts:
        found = pattern.match(text, position)
        if found is None:
            return f'parsing time "{text}" as "{layout}": cannot parse "{text[position:]}" as "{element}"'
        position = found.end()
    return f'parsing time "{text}": extra text: "{text[position:]}"' if position < len(text) else None
