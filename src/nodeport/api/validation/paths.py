"""Paths inside containers and volumes, and the modes of the files there."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api.status import FieldError, invalid


def without_backsteps(text: str, path: str) -> Iterator[FieldError]:
    if ".." in text.split("/"):
        yield invalid(path, text, "must not contain '..'")


def descending(text: str, path: str) -> Iterator[FieldError]:
    """A relative path that stays below where it begins."""
    if text.startswith("/"):
        yield invalid(path, text, "must be a relative path")
    yield from without_backsteps(text, path)


def not_reserved(text: str, path: str) -> Iterator[FieldError]:
    """A descending path in a volume that the node writes, whose own names begin with two dots."""
    yield from descending(text, path)
    if text.startswith("..") and not text.startswith("../"):
        yield invalid(path, text, "must not start with '..'")


def validate_mode(mode: int | None, path: str) -> Iterator[FieldError]:
    if mode is not None and not 0 <= mode <= 0o777:
        yield invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive")
