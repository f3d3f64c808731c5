"""YAML to plain JSON values, as Kubernetes reads manifests: YAML 1.1 booleans, no dates, no sexagesimal numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

_TRUE = frozenset(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"))
_FALSE = frozenset(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"))
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_STRING_TAG = "tag:yaml.org,2002:str"
_MERGE = "<<"
_DEEPEST = 200
_MOST_NODES = 400_000
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(ValueError):
    """What is wrong with a YAML text, and on which line."""


class _Converter:
    """One document. Counts what it makes, so that aliases of aliases cannot explode."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.duplicates: list[str] = []
        self.repeated: list[tuple[int, str]] = []
        self.made = 0

    def convert(self, node: yaml.Node, path: str, depth: int) -> Any:
        self.made += 1
        if depth > _DEEPEST or self.made > _MOST_NODES:
            raise YamlError("yaml: document contains excessive aliasing or nesting")
        if isinstance(node, yaml.ScalarNode):
            return scalar(node.value, quoted=self.is_text(node))
        if isinstance(node, yaml.SequenceNode):
            return [
                self.convert(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)
            ]
        return self.mapping(node, path, depth)

    def is_text(self, node: yaml.ScalarNode) -> bool:
        """Quoted, a block, or tagged ``!!str`` where the text alone would not be a string."""
        if node.style:
            return True
        plain = self.loader.resolve(yaml.ScalarNode, node.value, (True, False))
        return bool(node.tag == _STRING_TAG and plain != _STRING_TAG)

    def mapping(self, node: Any, path: str, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(key_node)
            below = f"{path}.{key}" if path else key
            value = self.convert(value_node, below, depth + 1)
            if key == _MERGE and not key_node.style:
                for source in value if isinstance(value, list) else [value]:
                    if not isinstance(source, dict):
                        raise YamlError("yaml: map merge requires map or sequence of maps as the value")
                    merged = {**source, **merged}
                continue
            if key in own:
                self.repeated.append((key_node.start_mark.line + 1, key))
                if below not in self.duplicates:
                    self.duplicates.append(below)
            own[key] = value
        return {**merged, **own} if merged else own


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise YamlError(f"yaml: line {node.start_mark.line + 1}: invalid map key")
    value = scalar(node.value, quoted=bool(node.style))
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
        return float(text)
    return text


def _integer(text: str) -> int | str:
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    if digits[:2] in ("0b", "0o", "0x"):
        return sign * int(digits, 0) if len(digits) > 2 else text
    return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)


def load(text: str) -> tuple[Any, list[str]]:
    """The first document's value and its duplicate fields. YamlError for what is no YAML."""
    for value, duplicates in load_all(text):
        return value, duplicates
    return None, []


def load_with_lines(text: str) -> tuple[Any, list[tuple[int, str]]]:
    """The first document's value, and (line, key) of every key that was there already."""
    for converter, value in _documents(text):
        return value, converter.repeated
    return None, []


def load_all(text: str) -> Iterator[tuple[Any, list[str]]]:
    """Every document of a stream: (value, duplicate fields); None for an empty document."""
    for converter, value in _documents(text):
        yield value, converter.duplicates


def _documents(text: str) -> Iterator[tuple[_Converter, Any]]:
    _refuse_depth(text)
    loader = _Loader(text)
    try:
        while loader.check_node():
            converter = _Converter(loader)
            yield converter, converter.convert(loader.get_node(), "", 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise YamlError(f"yaml: {where}{error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise YamlError(f"yaml: {error}") from error
    finally:
        loader.dispose()


def _refuse_depth(text: str) -> None:
    """Look at the events first: libyaml's composer recurses in C, and a deep enough text would end the process."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > _DEEPEST:
                    raise YamlError(f"yaml: exceeded max depth of {_DEEPEST}")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except (yaml.YAMLError, UnicodeError):
        return  # Told by whoever composes it, document by document.
