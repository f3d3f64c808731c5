"""Resource quantities: ``500m``, ``1.5Gi``, ``2e3``. Exact; the API shows each in one form, its canonical one."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Final

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


@lru_cache(maxsize=4096)
def canonical_quantity(text: str, *, amount: bool = False) -> str:
    """The form in which the API keeps a quantity: the largest suffix that leaves no fraction.

    What Kubernetes takes to be canonical already stays as it is written, such as ``+1`` and ``1E3``. An ``amount`` of
    a resource is rounded up to thousandths, any other quantity to billionths. ``text`` must be a quantity.
    """
    found = _SHAPE.match(text)
    assert found is not None
    _, digits, suffix = found.groups()
    whole, _, part = digits.partition(".")
    whole = whole.lstrip("0") or "0"
    if _is_canonical(whole, part, suffix, least=-3 if amount else _LEAST):
        return text
    value = parse_quantity(text)
    if suffix.endswith("i"):
        value = max(-_LARGEST_BINARY, min(_LARGEST_BINARY, value))
        if value.denominator == 1 and abs(value) >= _BINARY_STEP:
            return format_quantity(value, binary=True)
    return _decimal_text(
        value, least=-3 if amount else _LEAST, powers=suffix[:1] in ("e", "E") and suffix != "E"
    )


_LEAST: Final = -9
_MOST_FAST_DIGITS: Final = 18
_BINARY_STEP: Final = 1024
_LARGEST_BINARY: Final = Fraction(2**63 - 1)
_EXPONENTS: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES: Final = {exponent: suffix for suffix, exponent in _EXPONENTS.items()}
_BINARY_EXPONENTS: Final = {f"{letter}i": 10 * power for power, letter in enumerate("KMGTPE", 1)}


def _is_canonical(whole: str, part: str, suffix: str, *, least: int) -> bool:
    """Whether Kubernetes keeps the text: by the look of its digits, which is nearly the same."""
    if suffix in _BINARY_EXPONENTS:
        exponent = _BINARY_EXPONENTS[suffix]
        precision = 15 - len(whole) - exponent * 3 // 10 - 1
        return not part and precision >= 0 and int(whole) % 8 != 0
    exponent = _EXPONENTS[suffix] if suffix in _EXPONENTS else int(suffix[1:])
    scale, shifted = exponent - len(part), whole + part
    return (
        len(shifted) <= _MOST_FAST_DIGITS
        and scale >= least
        and scale % 3 == 0
        and shifted[0] != "0"
        and not shifted.endswith("000")
    )


def _decimal_text(value: Fraction, *, least: int, powers: bool) -> str:
    """``powers``: with an exponent, ``5e-3``, where others have a suffix."""
    scaled = abs(value) * Fraction(10) ** -least
    number, exponent = -(-scaled.numerator // scaled.denominator), least
    if not number:
        return "0"
    most = _LARGEST_EXPONENT if powers else max(_SUFFIXES)
    while number % 1000 == 0 and exponent < most:
        number, exponent = number // 1000, exponent + 3
    sign = "-" if value < 0 else ""
    if not powers:
        return f"{sign}{number}{_SUFFIXES[exponent]}"
    return f"{sign}{number}e{exponent}" if exponent else f"{sign}{number}"


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
