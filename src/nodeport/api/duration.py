"""Durations as text: ages as kubectl and the server's tables show them, and Go's own form in configurations."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction
from typing import Final

_MICROSECONDS: Final = {
    "ns": Fraction(1, 1000), "us": Fraction(1), "µs": Fraction(1), "μs": Fraction(1), "ms": Fraction(1000),
    "s": Fraction(1_000_000), "m": Fraction(60_000_000), "h": Fraction(3_600_000_000),
}  # fmt: skip
_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_MOST: Final = timedelta(microseconds=2**63 // 1000)


def parse_duration(text: str) -> timedelta:
    """``1h30m``, ``500ms``, ``-1.5s``, ``0`` as Go's ``time.ParseDuration`` reads them, to the microsecond.

    ValueError in Go's words for everything else.
    """
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return timedelta(0)
    parts = list(_PART.finditer(unsigned))
    if not unsigned or "".join(part.group() for part in parts) != unsigned:
        raise ValueError(f'time: invalid duration "{text}"')
    total = sum((Fraction(part[1]) * _MICROSECONDS[part[2]] for part in parts), Fraction(0))
    if total > _MOST / timedelta(microseconds=1):
        raise ValueError(f'time: invalid duration "{text}"')
    return timedelta(microseconds=int(total) * (-1 if text.startswith("-") else 1))


def go_duration(duration: timedelta) -> str:
    """``1h0m0s``, ``1m20s``, ``1.5s``, ``250ms``, ``0s``, as Go prints them."""
    total = duration // timedelta(microseconds=1)
    sign, total = ("-", -total) if total < 0 else ("", total)
    if total < 1_000_000:
        short = (total, "µs") if total < 1000 else (Fraction(total, 1000), "ms")
        return f"{sign}{_decimal(Fraction(short[0]))}{short[1]}" if total else "0s"
    minutes, microseconds = divmod(total, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    lead = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{lead}{_decimal(Fraction(microseconds, 1_000_000))}s"


def _decimal(value: Fraction) -> str:
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


def human_duration(age: timedelta) -> str:
    """``45s``, ``2m3s``, ``3h10m``, ``5d``; ``<invalid>`` for what lies more than a second in the future.

    Rule: the shortest form that is still precise enough at that age, as Kubernetes' ``HumanDuration`` chooses it.
    """
    total = age / timedelta(seconds=1)
    seconds = int(total)
    if seconds < 0:
        return "<invalid>" if seconds < -1 else "0s"
    minutes, hours = seconds // 60, seconds // 3600
    days = hours // 24
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _pair(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _pair(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _pair(whole: int, unit: str, rest: int, rest_unit: str) -> str:
    return f"{whole}{unit}{rest}{rest_unit}" if rest else f"{whole}{unit}"
