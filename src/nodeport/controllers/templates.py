"""Pod templates as values: when two are the same, and a short name for one. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from nodeport.api.meta import JsonObject
from nodeport.kit.names import SUFFIX_ALPHABET


def template_hash(template: JsonObject, collisions: int) -> str:
    """A short name for a template: FNV-1a of its canonical JSON, in letters that spell nothing."""
    number = 0x811C9DC5
    for byte in msgspec.json.encode([settled(template), collisions], order="sorted"):
        number = ((number ^ byte) * 0x01000193) & 0xFFFFFFFF
    return "".join(SUFFIX_ALPHABET[ord(digit) % len(SUFFIX_ALPHABET)] for digit in str(number))


def settled(value: Any) -> Any:
    """Without what Go leaves out when empty: ``creationTimestamp: null`` is no difference."""
    if isinstance(value, dict):
        found = {key: settled(entry) for key, entry in value.items()}
        return {key: entry for key, entry in found.items() if entry is not None and entry not in ({}, [])}
    if isinstance(value, list):
        return [settled(entry) for entry in value]
    return value
