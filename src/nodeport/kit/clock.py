"""Time as an argument: who needs to know it is given a ``Clock``; and its text forms in the API."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_CENTURY_SECONDS = 100 * 365 * 24 * 3600


class Clock(Protocol):
    """Wall time for people, monotonic time for intervals, and waiting."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes backwards."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def rfc3339(moment: datetime) -> str:
    """``2026-01-02T03:04:05Z``: whole seconds in UTC, how the API writes a Time. ``moment`` is aware."""
    return _utc(moment).isoformat(timespec="seconds")[:19] + "Z"


def rfc3339_micro(moment: datetime) -> str:
    """``2026-01-02T03:04:05.000006Z``: always six decimals, how the API writes a MicroTime. ``moment`` is aware."""
    return _utc(moment).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> datetime:
    """The moment that ``text`` names, in UTC. Raises ``ValueError`` when it is no RFC 3339 time with an offset.

    More than six decimals are cut off.
    """
    if len(text) < len("2026-01-02T03:04:05Z") or text[10] not in "Tt" or not text.isascii():
        raise ValueError(f"{text!r} is not a time as RFC 3339 writes it")
    moment = datetime.fromisoformat(text.upper())
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} lacks an offset from UTC")
    return moment.astimezone(UTC)


def elapsed(since: float, clock: Clock) -> timedelta:
    """How long ago ``since`` was, a reading of ``clock.monotonic()``."""
    return timedelta(seconds=clock.monotonic() - since)


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without a zone could be anywhere")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def bounded_seconds(count: int) -> timedelta:
    """So many seconds, a century at most: the API takes numbers of 64 bits, and no date is that far away."""
    return timedelta(seconds=min(max(count, -_CENTURY_SECONDS), _CENTURY_SECONDS))
