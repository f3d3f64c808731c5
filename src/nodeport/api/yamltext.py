"""YAML to plain JSON values, as Kubernetes reads manifests: YAML 1.1 booleans, no dates, no sexagesimal numbers; and
plain JSON values to YAML that is read so.

Values are made of the parser's events, in one pass: libyaml's composer recurses in C, and a deep enough text would end
the process.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from nodeport.api.numbers import whole_number
from nodeport.api.strictness import Repeats

_TRUE = frozenset(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"))
_FALSE = frozenset(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"))
_NO_NUMBER = re.compile(r"([-+]?)\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_STRING_TAG = "tag:yaml.org,2002:str"
_MERGE = "<<"
_DEEPEST = 200
_MOST_NODES = 400_000
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(ValueError):
    """What is wrong with a YAML text, and on which line."""


class _Builder:
    """One document's value. Counts what it makes, so that aliases of aliases cannot explode."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.repeats = Repeats(lines=())
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.steps: list[str | int] = []
        self.made = 0

    def value(self, event: Any) -> Any:
        """Of the node that begins with ``event``."""
        before = self.made
        self.count(1)
        if event.__class__ is yaml.ScalarEvent:
            made = scalar(event.value, quoted=_is_text(event))
        elif event.__class__ is yaml.AliasEvent:
            return self.alias(event.anchor)
        elif event.__class__ is yaml.SequenceStartEvent:
            made = self.sequence()
        else:
            made = self.mapping()
        if event.anchor:
            self.anchors[event.anchor] = (made, self.made - before)
        return made

    def count(self, nodes: int) -> None:
        self.made += nodes
        if self.made > _MOST_NODES:
            if self.anchors:
                raise YamlError("yaml: document contains excessive aliasing")
            raise YamlError(f"yaml: document holds more than {_MOST_NODES} values: send it as JSON")
        if len(self.steps) > _DEEPEST:
            raise YamlError(f"yaml: exceeded max depth of {_DEEPEST}")

    def alias(self, anchor: str | None) -> Any:
        """A copy: whoever gets the value may change it."""
        if anchor is None or anchor not in self.anchors:
            raise YamlError(f"yaml: unknown anchor '{anchor}' referenced")
        made, size = self.anchors[anchor]
        self.count(size - 1)
        return copy.deepcopy(made)

    def sequence(self) -> list[Any]:
        made: list[Any] = []
        self.steps.append(0)
        while (event := self.loader.get_event()).__class__ is not yaml.SequenceEndEvent:
            self.steps[-1] = len(made)
            made.append(self.value(event))
        self.steps.pop()
        return made

    def mapping(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        self.steps.append("")
        while (event := self.loader.get_event()).__class__ is not yaml.MappingEndEvent:
            key = self.steps[-1] = self.key(event)
            began = self.loader.get_event()
            value = self.value(began)
            if key == _MERGE and not getattr(event, "style", None):
                merged = {**_merge_sources(value), **merged}
                continue
            if key in own:
                self.repeated(key, began.start_mark.line + 1)
            own[key] = value
        self.steps.pop()
        return {**merged, **own} if merged else own

    def key(self, event: Any) -> str:
        """A scalar, or an alias of one, as text."""
        if event.__class__ is yaml.ScalarEvent:
            return _key_text(self.value(event))
        value = self.alias(event.anchor) if event.__class__ is yaml.AliasEvent else []
        if isinstance(value, dict | list):
            raise YamlError(f"yaml: line {event.start_mark.line + 1}: invalid map key")
        return _key_text(value)

    def repeated(self, key: str, line: int) -> None:
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps)[1:]
        assert self.repeats.lines is not None
        self.repeats.lines.append((line, key))
        if path not in self.repeats:
            self.repeats.append(path)


def _merge_sources(value: Any) -> dict[str, Any]:
    """What ``<<`` brings: of several mappings the first that has a key wins."""
    made: dict[str, Any] = {}
    for source in value if isinstance(value, list) else [value]:
        if not isinstance(source, dict):
            raise YamlError("yaml: map merge requires map or sequence of maps as the value")
        made = {**source, **made}
    return made


def _is_text(event: Any) -> bool:
    """Quoted, a block, or tagged as a string."""
    return bool(event.style) or event.tag in (_STRING_TAG, "!")


def _key_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def scalar(text: str, *, quoted: bool) -> Any:
    """The JSON value of a scalar; quoted ones and block texts are strings."""
    if quoted:
        return text
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INTEGER.match(text):
        return _integer(text)
    if _FLOAT.match(text):
        return _number(text)
    if found := _NO_NUMBER.match(text):
        raise YamlError(f"json: unsupported value: {'NaN' if found[3] else (found[1] or '+') + 'Inf'}")
    return text


def _number(text: str) -> int | float | str:
    """``1e3`` is 1000; what no float can hold is a text."""
    value = float(text)
    if math.isinf(value):
        return text
    return whole_number(value)


def _integer(text: str) -> int | str:
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    if digits[:2] in ("0b", "0o", "0x"):
        return sign * int(digits, 0) if len(digits) > 2 else text
    return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)


def load(text: str) -> tuple[Any, Repeats]:
    """The first document's value and its duplicate fields. YamlError for what is no YAML."""
    for value, repeats in load_all(text):
        return value, repeats
    return None, Repeats(lines=())


def load_with_lines(text: str) -> tuple[Any, list[tuple[int, str]]]:
    """The first document's value, and (line, key) of every key that was there already."""
    value, repeats = load(text)
    return value, list(repeats.lines or ())


def load_all(text: str) -> Iterator[tuple[Any, Repeats]]:
    """Every document of a stream: (value, duplicate fields); None for an empty document."""
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        raise YamlError(f"yaml: {error}") from error
    try:
        while not isinstance(event := loader.get_event(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder(loader)
                value = builder.value(loader.get_event())
                loader.get_event()
                yield value, builder.repeats
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise YamlError(f"yaml: {where}{error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise error if isinstance(error, YamlError) else YamlError(f"yaml: {error}") from error
    finally:
        loader.dispose()


class _Dumper(_SafeDumper):  # type: ignore[misc]  # libyaml's where there is one
    """Quotes what would not be read back as the text that it is."""


def _represent_text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value else None if _is_plain(value) else "'"
    return dumper.represent_scalar(_STRING_TAG, value, style=style)


def _is_plain(text: str) -> bool:
    try:
        return isinstance(scalar(text, quoted=False), str)
    except YamlError:
        return False


_Dumper.add_representer(str, _represent_text)


def dump(value: Any, *, sort_keys: bool = True, width: int = 80) -> str:
    """Block style, lists not indented, texts of several lines as blocks: as Go's encoder writes it."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=sort_keys, width=width, allow_unicode=True, default_flow_style=False
    )
    return text
