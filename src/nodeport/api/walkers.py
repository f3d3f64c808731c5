"""Schema walkers: a definition compiled into three functions over plain JSON.

``fits`` is the fast path: true when every field is known and every value has its type; no paths are built.
``report`` walks again, slowly, to say what is wrong and where. ``prune`` brings an object into the form that Go's
encoder would give it. Recursive definitions are tied through the walker object, which is made before its fields.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nodeport.api.numbers import SpeltNumber
from nodeport.api.quantity import canonical_quantity, is_quantity, quantity_error
from nodeport.api.timestamps import micro_timestamp_error, timestamp_error

_REFERENCE = "#/components/schemas/"
_INT_BOUNDS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"
_OPAQUE = ("io.k8s.apimachinery.pkg.runtime.RawExtension", "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1")

Fits = Callable[[Any], bool]
Report = Callable[[Any, str, "_Place", "_Findings"], None]
Prune = Callable[[Any], Any]
Complain = Callable[[Any, "_Place", "_Findings"], None]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where Go's decoder believes to be: innermost struct and dotted field names without indexes."""

    struct: str = ""
    path: str = ""

    def below(self, struct: str, name: str) -> _Place:
        return _Place(struct, f"{self.path}.{name}" if self.path else name)


@dataclass(slots=True)
class _Findings:
    unknown: list[str] = field(default_factory=list)
    type_error: str | None = None
    conversion_error: str | None = None
    ended: bool = False

    def wrong(self, value: Any, place: _Place, go_type: str, go_kind: str = "") -> None:
        """``go_kind``: struct, map, slice or the name of a scalar kind."""
        self.fault(_mismatch(value, place, go_type), _conversion_error(value, go_type, go_kind))

    def wrong_within(self, value: Any, place: _Place, go_type: str) -> None:
        """``go_type``: what a type with a decoder of its own decodes into. A conversion knows no place then."""
        self.fault(_mismatch(value, place, go_type), _mismatch(value, _Place(), go_type), ends=True)

    def fault(self, text: str, conversion: str = "", *, ends: bool = False) -> None:
        """The first fault is told, but one of a type with a decoder of its own ends the decoding and is told instead.
        A conversion ends with any."""
        if self.conversion_error is None:
            self.conversion_error = conversion or text
        if self.type_error is None or (ends and not self.ended):
            self.type_error = text
        self.ended = self.ended or ends


def _mismatch(value: Any, place: _Place, go_type: str) -> str:
    where = f"struct field {place.struct}.{place.path}" if place.struct else "value"
    return f"json: cannot unmarshal {_json_kind(value, go_type)} into Go {where} of type {go_type}"


def _conversion_error(value: Any, go_type: str, go_kind: str) -> str:
    """What Go says when it makes a struct of a map instead of decoding a text."""
    kind = float if isinstance(value, float) else type(value)
    given = {str: "string", bool: "bool", int: "int64", float: "float64", dict: "map", list: "slice"}[kind]
    if go_kind in ("map", "slice"):
        return f"cannot restore {go_kind} from {given}"
    if go_kind == "struct":
        return f"cannot restore struct from: {given}"
    if (given == "int64" and go_kind == "string") or (given == "float64" and go_kind.startswith("int")):
        return f"cannot convert {given} to {go_type}"
    return f"unrecognized type: {go_kind}"


def _json_kind(value: Any, go_type: str) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case dict():
            return "object"
        case list():
            return "array"
        case _:
            return f"number {value}" if go_type in ("int32", "int64") else "number"


class Walker:
    """One type. ``zero`` is what a null element of a list or map of this type becomes."""

    __slots__ = ("fits", "go_type", "prune", "report_at", "zero")

    fits: Fits
    report_at: Report
    prune: Prune
    go_type: str
    zero: Callable[[], Any]

    def report(self, value: Any) -> tuple[tuple[str, ...], str | None, str | None]:
        """(unknown fields, first type error, the same as a conversion's error) of a whole object."""
        findings = _Findings()
        self.report_at(value, "", _Place(), findings)
        return tuple(findings.unknown), findings.type_error, findings.conversion_error


class Compiler:
    """Makes the walkers of one set of definitions, each once."""

    def __init__(self, definitions: dict[str, Any], go_types: dict[str, Any]) -> None:
        self.definitions = definitions
        self.go_types = go_types
        self.made: dict[str, Walker] = {}
        self._making: dict[str, Walker] = {}
        self._lock = threading.RLock()

    def walker(self, name: str) -> Walker:
        """The walker of the definition ``name``, with all that it leads to; KeyError when there is none.

        Large objects are walked by another thread, which must see none that is half made.
        """
        found = self.made.get(name)
        if found is None:
            with self._lock:
                found = self.named(name)
                self.made |= self._making
                self._making = {}
        return found

    def named(self, name: str) -> Walker:
        """The walker of the definition ``name``, which may not be finished yet."""
        found = self.made.get(name) or self._making.get(name)
        if found is None:
            found = self._making[name] = Walker()
            found.go_type = _go_name(name)
            self.fill(found, self.definitions[name], name)
        return found

    def of(self, schema: dict[str, Any], go_type: str) -> Walker:
        if "$ref" in schema:
            return self.named(schema["$ref"].removeprefix(_REFERENCE))
        walker = Walker()
        walker.go_type = go_type
        self.fill(walker, schema, "")
        return walker

    def fill(self, walker: Walker, schema: dict[str, Any], name: str) -> None:
        kind, form = schema.get("type"), schema.get("format")
        if name in _OPAQUE or kind is None:
            _fill_opaque(walker)
        elif "properties" in schema or (kind == "object" and name):
            self.fill_struct(walker, schema, name)
        elif "additionalProperties" in schema:
            self.fill_map(walker, schema)
        elif kind == "array":
            self.fill_list(walker, schema)
        elif name == _MICRO_TIME:
            _fill_timestamp(walker, micro_timestamp_error)
        elif form in _FORMATS:
            _FORMATS[form](walker)
        elif kind == "integer":
            _fill_integer(walker, form or "int64")
        else:
            _fill_scalar(walker, {"string": str, "boolean": bool, "number": float}.get(kind, dict))

    def fill_struct(self, walker: Walker, schema: dict[str, Any], name: str) -> None:
        facts = self.go_types.get(name) or {}
        types: dict[str, str] = facts.get("types") or {}
        fields = {
            key: self.of(sub, types.get(key) or _default_go_type(sub))
            for key, sub in schema.get("properties", {}).items()
        }
        walker.fits = _struct_fits(fields)
        walker.report_at = _struct_report(fields, name.rpartition(".")[2], walker)
        walker.prune = _struct_prune(fields, frozenset(facts.get("kept") or ()))
        walker.zero = dict

    def fill_map(self, walker: Walker, schema: dict[str, Any]) -> None:
        item_walker = self.of(
            schema["additionalProperties"], _default_go_type(schema["additionalProperties"])
        )

        def fits(value: Any) -> bool:
            if type(value) is not dict:
                return value is None
            test = item_walker.fits
            return all(item is None or test(item) for item in value.values())

        def report(value: Any, path: str, place: _Place, findings: _Findings) -> None:
            if type(value) is not dict:
                if value is not None:
                    findings.wrong(value, place, walker.go_type, "map")
                return
            for key, item in value.items():
                if item is not None:
                    item_walker.report_at(item, f"{path}.{key}", place, findings)

        def prune(value: Any) -> Any:
            prune_item = _amount_text if item_walker.prune is _quantity_text else item_walker.prune
            for key, item in value.items():
                value[key] = item_walker.zero() if item is None else prune_item(item)
            return value

        walker.fits, walker.report_at, walker.prune, walker.zero = fits, report, prune, dict

    def fill_list(self, walker: Walker, schema: dict[str, Any]) -> None:
        item_walker = self.of(schema["items"], _default_go_type(schema["items"]))

        def fits(value: Any) -> bool:
            if type(value) is not list:
                return value is None
            test = item_walker.fits
            return all(item is None or test(item) for item in value)

        def report(value: Any, path: str, place: _Place, findings: _Findings) -> None:
            if type(value) is not list:
                if value is not None:
                    findings.wrong(value, place, walker.go_type, "slice")
                return
            for index, item in enumerate(value):
                if item is not None:
                    item_walker.report_at(item, f"{path}[{index}]", place, findings)

        def prune(value: Any) -> Any:
            value[:] = [item_walker.zero() if item is None else item_walker.prune(item) for item in value]
            return value

        walker.fits, walker.report_at, walker.prune, walker.zero = fits, report, prune, list


def _struct_fits(fields: dict[str, Walker]) -> Fits:
    known = fields.get

    def fits(value: Any) -> bool:
        if type(value) is not dict:
            return value is None
        for key, item in value.items():
            found = known(key)
            if found is None or (item is not None and not found.fits(item)):
                return False
        return True

    return fits


def _struct_report(fields: dict[str, Walker], struct: str, walker: Walker) -> Report:
    def report(value: Any, path: str, place: _Place, findings: _Findings) -> None:
        if type(value) is not dict:
            if value is not None:
                findings.wrong(value, place, walker.go_type, "struct")
            return
        for key, item in value.items():
            below = f"{path}.{key}" if path else key
            found = fields.get(key)
            if found is None:
                findings.unknown.append(below)
            elif item is not None:
                found.report_at(item, below, place.below(struct, key), findings)

    return report


def _struct_prune(fields: dict[str, Walker], kept: frozenset[str]) -> Prune:
    """``kept``: fields whose empty values stay."""

    def prune(value: Any) -> Any:
        for key, item in list(value.items()):
            found = fields.get(key)
            if found is None or item is None:
                del value[key]
                continue
            if item.__class__ is dict or item.__class__ is list:
                found.prune(item)
            if not item and key not in kept:
                del value[key]
        return value

    return prune


def _go_name(name: str) -> str:
    """``v1.ServiceSpec`` of ``io.k8s.api.core.v1.ServiceSpec``."""
    return ".".join(name.split(".")[-2:])


def _default_go_type(schema: dict[str, Any]) -> str:
    """The Go type that a schema most likely stands for, as decoding errors print it."""
    if "$ref" in schema:
        return _go_name(schema["$ref"])
    match schema.get("type"), schema.get("format"):
        case "array", _:
            return f"[]{_default_go_type(schema['items'])}"
        case "object", _ if "additionalProperties" in schema:
            return f"map[string]{_default_go_type(schema['additionalProperties'])}"
        case "integer", form:
            return str(form or "int64")
        case "number", _:
            return "float64"
        case "boolean", _:
            return "bool"
        case "string", "byte":
            return "[]uint8"
        case "string", _:
            return "string"
    return "interface {}"


def _same(value: Any) -> Any:
    return value


def _fill_opaque(walker: Walker) -> None:
    walker.fits, walker.prune, walker.zero = (lambda _value: True), _same, lambda: None
    walker.report_at = lambda _value, _path, _place, _findings: None


def _fill(walker: Walker, fits: Fits, zero: Callable[[], Any], complain: Complain) -> None:
    """A scalar."""

    def report(value: Any, _path: str, place: _Place, findings: _Findings) -> None:
        if not fits(value):
            complain(value, place, findings)

    walker.fits, walker.report_at, walker.prune, walker.zero = fits, report, _same, zero


def _fill_scalar(walker: Walker, kind: type) -> None:
    accepted = (int, float) if kind is float else (kind,)
    name = {str: "string", bool: "bool", float: "float64"}.get(kind, "map")
    _fill(walker, lambda value: value.__class__ in accepted, kind, _told_by_go(walker, name))


def _fill_integer(walker: Walker, form: str) -> None:
    low, high = _INT_BOUNDS[form]
    _fill(
        walker, lambda value: value.__class__ is int and low <= value <= high, int, _told_by_go(walker, form)
    )


def _told_by_go(walker: Walker, go_kind: str) -> Complain:
    return lambda value, place, findings: findings.wrong(value, place, walker.go_type, go_kind)


def _fill_int_or_string(walker: Walker) -> None:
    low, high = _INT_BOUNDS["int32"]

    def fits(value: Any) -> bool:
        return value.__class__ is str or (value.__class__ is int and low <= value <= high)

    _fill(walker, fits, int, lambda value, place, findings: findings.wrong_within(value, place, "int32"))


def _fill_quantity(walker: Walker) -> None:
    def fits(value: Any) -> bool:
        return value.__class__ in (str, int, float, SpeltNumber) and is_quantity(str(value).strip())

    def complain(value: Any, _place: _Place, findings: _Findings) -> None:
        findings.fault(quantity_error("" if isinstance(value, dict | list) else str(value)) or "", ends=True)

    _fill(walker, fits, lambda: "0", complain)
    walker.prune = _quantity_text


_EXACT = 1 << 53
"""Below this a float tells its integer exactly."""


def _quantity_text(value: Any) -> Any:
    """Canonical. A number becomes text: 1e2 is read as 100.0, and is 100."""
    return canonical_quantity(_number_text(value))


def _amount_text(value: Any) -> Any:
    """Of a list of resources, ``{"cpu": "500m"}``."""
    return canonical_quantity(_number_text(value), amount=True)


def _number_text(value: Any) -> str:
    if value.__class__ is str:
        return str(value).strip()
    if isinstance(value, SpeltNumber):
        return value.text
    return str(int(value)) if abs(value) < _EXACT and value == int(value) else str(value)


def _fill_timestamp(walker: Walker, error_of: Callable[[str], str | None] = timestamp_error) -> None:
    def fits(value: Any) -> bool:
        return value.__class__ is str and error_of(value) is None

    def complain(value: Any, place: _Place, findings: _Findings) -> None:
        if isinstance(value, str):
            findings.fault(error_of(value) or "", ends=True)
        else:
            findings.wrong_within(value, place, "string")

    _fill(walker, fits, lambda: None, complain)


def _fill_bytes(walker: Walker) -> None:
    def fits(value: Any) -> bool:
        return value.__class__ is str and _base64_fault(value) is None

    def complain(value: Any, place: _Place, findings: _Findings) -> None:
        if isinstance(value, str):
            findings.fault(_base64_fault(value) or "")
        else:
            findings.wrong(value, place, walker.go_type)

    _fill(walker, fits, str, complain)


_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")


def _base64_fault(text: str) -> str | None:
    """Go's words about text that is not padded standard base64; line breaks are allowed, as Go allows them."""
    joined = text.replace("\n", "").replace("\r", "")
    try:
        base64.b64decode(joined, validate=True)
    except (binascii.Error, ValueError):
        found = _NOT_BASE64.search(joined)
        return f"illegal base64 data at input byte {found.start() if found else len(joined) // 4 * 4}"
    return None


_FORMATS: dict[str, Callable[[Walker], None]] = {
    "int-or-string": _fill_int_or_string,
    "quantity": _fill_quantity,
    "date-time": _fill_timestamp,
    "byte": _fill_bytes,
}
