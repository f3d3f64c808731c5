"""Names of images, completed the way every container engine does. Pure.

Grammar source: https://github.com/distribution/reference (reference.go)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_LONGEST = 255


class NotAReference(ValueError):
    """The text names no image."""


@dataclass(frozen=True, slots=True)
class Reference:
    """``tag`` is empty only when there is a digest."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest: ``docker.io/library/web``."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """``web``, ``nodeport/echo``, ``registry.example:5000/a/b:1``, ``web@sha256:…``. Raises NotAReference."""
    rest, _, digest = text.partition("@")
    if "@" in text and not _DIGEST.fullmatch(digest):
        raise NotAReference(_complaint(text))
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, tag = rest, ""
    elif not _TAG.fullmatch(tag):
        raise NotAReference(_complaint(text))
    first, slash, path = head.partition("/")
    is_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, repository = (first, path) if is_registry else (DEFAULT_REGISTRY, head)
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    _check(text, registry, repository)
    return Reference(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest)


def _check(text: str, registry: str, repository: str) -> None:
    if repository.lower() != repository:
        name = repository.removeprefix("library/")
        raise NotAReference(f"{_complaint(text)}: repository name ({name}) must be lowercase")
    fits = len(registry) + len(repository) < _LONGEST
    if not (fits and _REGISTRY.fullmatch(registry) and _REPOSITORY.fullmatch(repository)):
        raise NotAReference(_complaint(text))


def _complaint(text: str) -> str:
    return f'couldn\'t parse image name "{text}": invalid reference format'
