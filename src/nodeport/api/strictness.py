"""What strict decoding complains about, in the words and the order of the Kubernetes API's decoder.

A JSON text is complained about as it is read: a field that is not known where it comes first, one that is given twice
where it comes again. A YAML text is first converted, which sorts its fields and knows repetitions by their lines. The
outcome of a patch is read sorted; what is given twice is what the patch's own text gives twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

_YAML = "yaml: unmarshal errors:\n"


class Repeats(list[str]):
    """The dotted paths of fields that a text gives twice, in the order in which they come again.

    ``places``: where each path of a JSON text comes first; ``again``: where it comes again. ``lines``: of a YAML text,
    the line and key of each repetition; None for JSON. ``spelt``: there may be SpeltNumbers in the value.
    """

    def __init__(self, paths: Iterable[str] = (), lines: Iterable[tuple[int, str]] | None = None) -> None:
        super().__init__(paths)
        self.places: dict[str, int] = {}
        self.again: dict[str, int] = {}
        self.lines = None if lines is None else list(lines)
        self.spelt = False


def problems_of(unknown: Iterable[str], repeats: list[str], *, patched: bool = False) -> list[str]:
    """One text for each problem. ``patched``: ``unknown`` is of what a patch made, ``repeats`` of the patch."""
    strange = [f'unknown field "{path}"' for path in unknown]
    if not repeats and not patched and getattr(repeats, "lines", None) is None:
        return strange
    if isinstance(repeats, Repeats) and repeats.lines is not None and not patched:
        lines = [f"  line {line}: key {json.dumps(key)} already set in map" for line, key in repeats.lines]
        head = [_YAML + "\n".join(lines)] if lines else []
        return head + [f'unknown field "{path}"' for path in sorted(unknown, key=_steps)]
    twice = [f'duplicate field "{path}"' for path in repeats]
    if patched or not isinstance(repeats, Repeats):
        return twice + [f'unknown field "{path}"' for path in sorted(unknown, key=_steps)]
    return _as_read(list(unknown), repeats)


def _as_read(unknown: list[str], repeats: Repeats) -> list[str]:
    """Both kinds in the order of the text; of what is not known, repetition is not told."""
    found = [(repeats.places.get(path, 0), f'unknown field "{path}"') for path in unknown]
    for path in repeats:
        if not any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in unknown):
            found.append((repeats.again[path], f'duplicate field "{path}"'))
    return [text for _, text in sorted(found, key=lambda entry: entry[0])]


def _steps(path: str) -> list[tuple[int, str]]:
    """The path's fields and indexes, so that paths sort as a text with sorted fields is read."""
    return [
        (int(step[1:-1]), "") if step.startswith("[") else (0, step)
        for step in re.findall(r"\[\d+\]|[^.\[]+|\[", path)
    ]


def warnings_of(problems: Iterable[str]) -> list[str]:
    """The problems as warnings: each line of YAML's on its own."""
    made: list[str] = []
    for text in problems:
        if text.startswith(_YAML):
            made.extend(line.strip() for line in text.removeprefix(_YAML).splitlines())
        else:
            made.append(text)
    return made
