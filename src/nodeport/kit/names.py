"""Random name suffixes, as Kubernetes makes them (apimachinery, util/rand and names.SimpleNameGenerator)."""

from __future__ import annotations

import random

SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and nothing that looks like one: no suffix spells a word."""

SUFFIX_LENGTH = 5
MAX_GENERATED_LENGTH = 63
"""A generated name never exceeds a DNS label; a longer base is cut."""


def random_suffix(rng: random.Random, n: int = SUFFIX_LENGTH) -> str:
    """``n`` random characters of ``SUFFIX_ALPHABET``."""
    return "".join(rng.choices(SUFFIX_ALPHABET, k=n))


def generate_name(base: str, rng: random.Random) -> str:
    """``base``, cut where need be, plus a random suffix: what the server makes of ``metadata.generateName``."""
    return base[: MAX_GENERATED_LENGTH - SUFFIX_LENGTH] + random_suffix(rng)
