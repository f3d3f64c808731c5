"""JSON numbers as they were written: Go's errors quote them, and some are more than a float can hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

_EXPONENT_FROM = 1e21
"""Whole numbers below are JSON without a point or an exponent."""


class OutOfRange(ValueError):
    """No float holds the number; the text is Go's."""


class SpeltNumber(float):
    """A number that is written otherwise than we would write it: ``1e2``, ``80.50``, ``1E400``, which is infinite."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> SpeltNumber:
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text


def spelt(text: str) -> float:
    """A float that knows how it was written where that tells more."""
    value = float(text)
    return value if repr(value) == text else SpeltNumber(text)


def as_float(text: str) -> float:
    """Raises OutOfRange."""
    value = float(text)
    if math.isinf(value):
        raise OutOfRange(f"json: cannot unmarshal number {text} into Go value of type float64")
    return value


def plain(value: Any) -> Any:
    """A JSON value whose numbers are floats and no more. Raises OutOfRange."""
    return _with_floats(
        value, lambda number: as_float(number.text) if isinstance(number, SpeltNumber) else number
    )


def whole(value: Any) -> Any:
    """A JSON value whose numbers are integers where they can be: ``80.0`` is 80."""
    return _with_floats(value, whole_number)


def _with_floats(value: Any, changed: Callable[[float], float]) -> Any:
    """A copy of a JSON value, its floats ``changed``."""
    if isinstance(value, dict):
        return {key: _with_floats(item, changed) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_floats(item, changed) for item in value]
    return changed(value) if isinstance(value, float) else value


def whole_number(value: float) -> int | float:
    return int(value) if value.is_integer() and abs(value) < _EXPONENT_FROM else value
