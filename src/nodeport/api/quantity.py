"""Resource quantities: ``500m``, ``1.5Gi``, ``2e3``. Kept as written; parsed only to be compared and added."""

from __future__ import annotations

import re
from fractions import Fraction

_SHAPE = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d{1,9}|)\Z", re.ASCII)
_LOOSE = re.compile(r"[+-]?[0-9.]+[eEinumkKMGTP]*[-+]?[0-9]*\Z")
_FORMAT_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_SUFFIX_ERROR = "unable to parse quantity's suffix"
_NUMBER_ERROR = "unable to parse numeric part of quantity"
_POWERS: dict[str, Fraction] = {
    "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15),
    "E": Fraction(10**18), "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30),
    "Ti": Fraction(2**40), "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip
_LARGEST_EXPONENT = _MOST_DIGITS = 40
"""Far beyond what the API counts with (2**63), and small enough to be counted with."""


def is_quantity(text: str) -> bool:
    return _SHAPE.match(text) is not None


def quantity_error(text: str) -> str | None:
    """Kubernetes' words about a text that is no quantity; None for one that is."""
    if is_quantity(text):
        return None
    if _LOOSE.match(text) is None:
        return _FORMAT_ERROR
    number = re.match(r"[+-]?[0-9.]+", text)
    return _NUMBER_ERROR if number and number.group().count(".") > 1 else _SUFFIX_ERROR


def parse_quantity(text: str | int | float) -> Fraction:
    """The exact value. ValueError with Kubernetes' words when it is none."""
    found = _SHAPE.match(str(text))
    if found is None:
        raise ValueError(quantity_error(str(text)))
    sign, digits, suffix = found.groups()
    whole, _, part = digits.partition(".")
    value = Fraction(10) ** _MOST_DIGITS
    if len(whole.lstrip("0")) <= _MOST_DIGITS:
        value = Fraction(f"{whole.lstrip('0') or '0'}.{part[:_MOST_DIGITS] or '0'}")
    if suffix in _POWERS:
        value *= _POWERS[suffix]
    else:
        exponent = max(-_LARGEST_EXPONENT, min(_LARGEST_EXPONENT, int(suffix[1:])))
        value *= Fraction(10) ** exponent
    return -value if sign == "-" else value


def format_quantity(value: Fraction, *, binary: bool) -> str:
    """The shortest exact text: with ``Ki``, ``Mi``, … when ``binary``, else with decimal suffixes; ``m`` for parts."""
    if value.denominator != 1:
        thousandths = value * 1000
        return f"{-(-thousandths.numerator // thousandths.denominator)}m"
    step, suffixes = (1024, ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")) if binary else (1000, tuple("kMGTPE"))
    number, suffix = value.numerator, ""
    for each in suffixes:
        if not number or number % step:
            break
        number, suffix = number // step, each
    return f"{number}{suffix}"
