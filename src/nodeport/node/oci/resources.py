"""What a container may use, as cgroup figures; and what it may know of that, for the downward API. Pure.

Rule source: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/ ; figures as a kubelet's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity

SHARES_PER_CPU, LEAST_SHARES, MOST_SHARES = 1024, 2, 262144
PERIOD = 100_000
"""Microseconds."""
LEAST_QUOTA = 1000
_CPU, _MEMORY = "cpu", "memory"


def cgroup_figures(container: Mapping[str, Any]) -> JsonObject:
    """``linux.resources``: shares by what is asked for, quota and memory by the limits; in v1's words."""
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    asked = _amount(requests, _CPU) if _CPU in requests else _amount(limits, _CPU)
    cpu: JsonObject = {"shares": shares(asked)}
    if limit := _amount(limits, _CPU):
        cpu |= {"quota": max(math.ceil(limit * PERIOD), LEAST_QUOTA), "period": PERIOD}
    found: JsonObject = {"cpu": cpu}
    if limit := _amount(limits, _MEMORY):
        found["memory"] = {"limit": int(limit)}
    return found


def shares(cpus: Fraction) -> int:
    return min(max(int(cpus * SHARES_PER_CPU), LEAST_SHARES), MOST_SHARES)


def told(container: Mapping[str, Any], resource: str, divisor: str, capacity: Mapping[str, str]) -> str:
    """A ``resourceFieldRef``'s value, in units of ``divisor``, rounded up; a missing limit is the node's ``capacity``.

    Raises KeyError for what is no resource of a container.
    """
    kind, _, name = resource.partition(".")
    amounts = dict((container.get("resources") or {}).get(kind) or {})
    if kind not in ("limits", "requests") or not name:
        raise KeyError(resource)
    if kind == "limits" and name not in amounts and name in capacity:
        amounts[name] = capacity[name]
    unit = parse_quantity(divisor or "0") or Fraction(1)
    return str(math.ceil(_amount(amounts, name) / unit))


def _amount(amounts: Mapping[str, Any], name: str) -> Fraction:
    return parse_quantity(str(amounts.get(name) or 0))
