"""Completion indexes of an Indexed Job, as its status writes them: ``0-2,5``. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from nodeport.api.meta import JsonObject
from nodeport.api.validation.jobs import INDEXED

INDEX = "batch.kubernetes.io/job-completion-index"
"""Label and annotation of the pods."""


def is_indexed(job: JsonObject) -> bool:
    return bool(job["spec"].get("completionMode") == INDEXED)


def index_of(pod: JsonObject) -> int | None:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def parse_indexes(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """Neighbours are joined, two of them by a comma, more by a dash."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(_run(run) for run in runs)


def _run(run: list[int]) -> str:
    if len(run) > 2:
        return f"{run[0]}-{run[-1]}"
    return ",".join(str(index) for index in run)
