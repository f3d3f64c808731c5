"""Warnings for people, as HTTP headers."""

from __future__ import annotations

from collections.abc import Sequence

MAX_TOTAL_BYTES = 4096
MAX_ONE_BYTES = 256


def warning_headers(texts: Sequence[str]) -> list[str]:
    """``299 - "text"``, each text once; long ones are cut when all together would be too long."""
    unique = list(dict.fromkeys(_printable(text) for text in texts))
    if sum(len(text) for text in unique) > MAX_TOTAL_BYTES:
        unique = [text[:MAX_ONE_BYTES] for text in unique]
    headers, size = [], 0
    for text in unique:
        size += len(text)
        if size > MAX_TOTAL_BYTES:
            break
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        headers.append(f'299 - "{escaped}"')
    return headers


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
