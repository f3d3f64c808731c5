"""Label and field selectors: what ``-l`` and ``--field-selector`` say, and what selects pods.

Label syntax: ``a``, ``!a``, ``a=b``, ``a==b``, ``a!=b``, ``a in (b,c)``, ``a notin (b)``, ``a>1``, ``a<1``; a comma
is "and". Field syntax: ``path=value``, ``path==value``, ``path!=value`` with ``\\`` before ``\\``, ``,`` and ``=``.
Faults are ``BadRequest`` in the API's words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.status import BadRequest, FieldError, invalid


class Operator(Enum):
    IN = "in"
    NOT_IN = "notin"
    EQUALS = "="
    DOUBLE_EQUALS = "=="
    NOT_EQUALS = "!="
    GREATER_THAN = "gt"
    LESS_THAN = "lt"
    EXISTS = "exists"
    DOES_NOT_EXIST = "!"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. ``values`` are sorted and distinct."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case Operator.EQUALS | Operator.DOUBLE_EQUALS | Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_EQUALS | Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None
            case Operator.GREATER_THAN | Operator.LESS_THAN:
                return self._compares(value)

    def _compares(self, value: str | None) -> bool:
        left, right = _integer(value or ""), _integer(self.values[0])
        if left is None or right is None:
            return False
        return left > right if self.operator is Operator.GREATER_THAN else left < right

    def __str__(self) -> str:
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator.value} ({','.join(self.values)})"
            case Operator.GREATER_THAN:
                return f"{self.key}>{self.values[0]}"
            case Operator.LESS_THAN:
                return f"{self.key}<{self.values[0]}"
            case _:
                return f"{self.key}{self.operator.value}{self.values[0]}"


_DECIMAL = re.compile(r"[+-]?[0-9]{1,19}\Z")


def _integer(text: str) -> int | None:
    return int(text) if _DECIMAL.match(text) else None


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold; without any, everything matches. ``nothing`` matches no labels at all."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        """Whether it matches everything."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        if self.nothing:
            return False
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        """In the syntax that ``parse_label_selector`` reads."""
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)

_TOKEN = re.compile(r"\s*(!=|==|[=!(),<>]|[^\s=!(),<>]+|\Z)")
_SYMBOLS = frozenset(("!=", "==", "=", "!", "(", ")", ",", "<", ">", ""))
_OPERATORS = {
    "in": Operator.IN, "notin": Operator.NOT_IN, "=": Operator.EQUALS, "==": Operator.DOUBLE_EQUALS,
    "!=": Operator.NOT_EQUALS, ">": Operator.GREATER_THAN, "<": Operator.LESS_THAN,
}  # fmt: skip
_BINARY = "in, notin, =, ==, !=, gt, lt"


class _SyntaxError(ValueError):
    pass


class _Parser:
    """Recursive descent over the tokens of one selector; ``in`` and ``notin`` are keywords only after a key."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = [token for token in _TOKEN.findall(text) if token] + [""]
        self.position = 0

    @property
    def ahead(self) -> str:
        return self.tokens[self.position]

    def take(self) -> str:
        token = self.tokens[self.position]
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def requirements(self) -> Iterator[Requirement]:
        while self.ahead:
            if self.ahead in _SYMBOLS and self.ahead != "!":
                raise _SyntaxError(f"found '{self.ahead}', expected: !, identifier, or 'end of string'")
            try:
                yield self.requirement()
            except _SyntaxError as error:
                raise _SyntaxError(f"unable to parse requirement: {error}") from error
            token = self.take()
            if token == "":
                return
            if token != ",":
                raise _SyntaxError(f"found '{token}', expected: ',' or 'end of string'")
            if self.ahead in _SYMBOLS and self.ahead != "!":
                raise _SyntaxError(f"found '{self.ahead}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        token = self.take()
        absent = token == "!"
        if absent:
            token = self.take()
        if token in _SYMBOLS:
            raise _SyntaxError(f"found '{token}', expected: identifier")
        _accept_key(token)
        if absent or self.ahead in ("", ","):
            return Requirement(token, Operator.DOES_NOT_EXIST if absent else Operator.EXISTS)
        word = self.take()
        operator = _OPERATORS.get(word)
        if operator is None:
            raise _SyntaxError(f"found '{word}', expected: {_BINARY}")
        is_set = operator in (Operator.IN, Operator.NOT_IN)
        values = self.values() if is_set else self.exact_value()
        return _requirement(token, operator, values)

    def exact_value(self) -> set[str]:
        if self.ahead in ("", ","):
            return {""}
        token = self.take()
        if token in _SYMBOLS:
            raise _SyntaxError(f"found '{token}', expected: identifier")
        return {token}

    def values(self) -> set[str]:
        token = self.take()
        if token != "(":
            raise _SyntaxError(f"found '{token}' expected: '('")
        found: set[str] = set()
        expects_value = True
        while True:
            token = self.take()
            if token == ")":
                return found | {""} if expects_value else found
            if token == ",":
                if expects_value:
                    found.add("")
                expects_value = True
            elif token in _SYMBOLS:
                raise _SyntaxError(f"found '{token}', expected: ',', or identifier")
            elif not expects_value:
                raise _SyntaxError(f"found '{token}', expected: ',' or ')'")
            else:
                found.add(token)
                expects_value = False


def _accept_key(key: str) -> None:
    complaints = names.qualified_name(key)
    if complaints:
        raise _SyntaxError(str(invalid("key", key, "; ".join(complaints))).replace("key: ", "<nil>: ", 1))


def _requirement(key: str, operator: Operator, values: Sequence[str] | set[str]) -> Requirement:
    """Checked as every requirement is, however it was written. _SyntaxError with the API's words."""
    ordered = tuple(sorted(set(values)))
    errors: list[FieldError] = []
    complaints = names.qualified_name(key)
    if complaints:
        errors.append(invalid("key", key, "; ".join(complaints)))
    errors += _value_count_errors(operator, ordered)
    for index, value in enumerate(ordered):
        complaints = names.label_value(value)
        if complaints:
            errors.append(invalid(f"values[{index}][{key}]", value, "; ".join(complaints)))
    if errors:
        texts = [str(error) for error in errors]
        raise _SyntaxError(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
    return Requirement(key, operator, ordered)


def _value_count_errors(operator: Operator, values: tuple[str, ...]) -> Iterator[FieldError]:
    match operator:
        case Operator.IN | Operator.NOT_IN:
            if not values:
                yield invalid("values", [], "for 'in', 'notin' operators, values set can't be empty")
        case Operator.EXISTS | Operator.DOES_NOT_EXIST:
            if values:
                yield invalid(
                    "values", list(values), "values set must be empty for exists and does not exist"
                )
        case Operator.GREATER_THAN | Operator.LESS_THAN:
            if len(values) != 1:
                yield invalid(
                    "values", list(values), "for 'Gt', 'Lt' operators, exactly one value is required"
                )
            for index, value in enumerate(values):
                if _integer(value) is None:
                    detail = "for 'Gt', 'Lt' operators, the value must be an integer"
                    yield invalid(f"values[{index}]", value, detail)


def parse_label_selector(text: str) -> LabelSelector:
    """``labelSelector`` of a request. BadRequest when it cannot be read."""
    try:
        return LabelSelector(tuple(_Parser(text).requirements()))
    except _SyntaxError as error:
        raise BadRequest(str(error)) from error


def label_map_selector(wanted: Mapping[str, str] | None) -> LabelSelector:
    """A Service's ``spec.selector``: every label must be equal; none given matches everything."""
    if not wanted:
        return EVERYTHING
    return LabelSelector(tuple(Requirement(key, Operator.EQUALS, (wanted[key],)) for key in sorted(wanted)))


_EXPRESSION_OPERATORS = {
    "In": Operator.IN, "NotIn": Operator.NOT_IN, "Exists": Operator.EXISTS, "DoesNotExist": Operator.DOES_NOT_EXIST,
}  # fmt: skip


def label_selector_of(selector: JsonObject | None) -> LabelSelector:
    """``{matchLabels, matchExpressions}``: None matches nothing, an empty one everything. BadRequest when invalid."""
    if selector is None:
        return NOTHING
    match_labels: dict[str, str] = selector.get("matchLabels") or {}
    made = [Requirement(key, Operator.EQUALS, (match_labels[key],)) for key in sorted(match_labels)]
    for expression in selector.get("matchExpressions") or []:
        operator = _EXPRESSION_OPERATORS.get(expression.get("operator") or "")
        if operator is None:
            raise BadRequest(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        try:
            made.append(_requirement(expression.get("key") or "", operator, expression.get("values") or []))
        except _SyntaxError as error:
            raise BadRequest(str(error)) from error
    return LabelSelector(tuple(made))


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """``requirements``: (path, ``=`` or ``!=``, value); all must hold."""

    requirements: tuple[tuple[str, str, str], ...] = ()

    @property
    def empty(self) -> bool:
        return not self.requirements

    def matches(self, obj: Mapping[str, Any]) -> bool:
        return all(
            (field_value(obj, path) == value) is (operator == "=")
            for path, operator, value in self.requirements
        )

    def exact(self, path: str) -> str | None:
        """The value that ``path`` must equal, when it must."""
        return next(
            (value for found, operator, value in self.requirements if found == path and operator == "="), None
        )

    def __str__(self) -> str:
        return ",".join(f"{path}{operator}{_escaped(value)}" for path, operator, value in self.requirements)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


_TERM = re.compile(r"((?:\\.|[^,\\]|\\\Z)*)(?:,|\Z)", re.S)
_FIELD_OPERATOR = re.compile(r"!=|==|=")


def parse_field_selector(text: str) -> FieldSelector:
    """``fieldSelector`` of a request. BadRequest when it cannot be read; which paths are allowed is not checked."""
    made = []
    for term in sorted(_TERM.findall(text)):
        if not term:
            continue
        found = _FIELD_OPERATOR.search(term)
        if found is None:
            raise BadRequest(f"invalid selector: '{text}'; can't understand '{term}'")
        operator = "!=" if found.group() == "!=" else "="
        made.append((term[: found.start()], operator, _unescaped(term[found.end() :])))
    return FieldSelector(tuple(made))


def _unescaped(value: str) -> str:
    made: list[str] = []
    characters = iter(value)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in ("\\", ",", "="):
                raise BadRequest(f"invalid field selector: invalid escape sequence: \\{escaped}")
            made.append(escaped)
        elif character in ",=":
            raise BadRequest(f"invalid field selector: unescaped character in value: {ord(character)}")
        else:
            made.append(character)
    return "".join(made)


def field_value(obj: Mapping[str, Any], path: str) -> str:
    """The text that field selectors compare with: empty when absent, ``true``/``false`` for booleans.

    Where a path names no scalar, or needs a default, the API's own reading of it applies: a Service's first cluster
    address, an Event's source component, every address of a Pod.
    """
    special = _SPECIAL_FIELDS.get(path)
    if special is not None:
        return special(obj)
    value: Any = obj
    for step in path.split("."):
        if not isinstance(value, Mapping):
            return ""
        value = value.get(step)
    return _text(value)


def _text(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _spec_flag(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda obj: "true" if (obj.get("spec") or {}).get(name) else "false"


def _event_source(obj: Mapping[str, Any]) -> str:
    return str((obj.get("source") or {}).get("component") or obj.get("reportingComponent") or "")


def _pod_ips(obj: Mapping[str, Any]) -> str:
    return ",".join(entry.get("ip", "") for entry in (obj.get("status") or {}).get("podIPs") or [])


def _status_count(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda obj: str((obj.get("status") or {}).get(name) or 0)


_SPECIAL_FIELDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "spec.unschedulable": _spec_flag("unschedulable"),
    "spec.hostNetwork": _spec_flag("hostNetwork"),
    "source": _event_source,
    "status.podIPs": _pod_ips,
    "status.replicas": _status_count("replicas"),
    "status.successful": _status_count("succeeded"),
}
