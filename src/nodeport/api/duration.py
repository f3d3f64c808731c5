"""Ages as kubectl and the server's tables show them."""

from __future__ import annotations

from datetime import timedelta


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
