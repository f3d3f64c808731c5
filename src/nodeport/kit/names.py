"""Random names: suffixes as Kubernetes makes them (apimachinery, util/rand and names.SimpleNameGenerator), and UIDs."""

from __future__ import annotations

import os
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


def random_uid() -> str:
    """A version 4 UUID (RFC 9562) from the system's own randomness: every object's ``metadata.uid``."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
