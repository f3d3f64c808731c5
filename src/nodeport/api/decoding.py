"""Request bodies: JSON and YAML text to plain objects, with the paths of fields that were given twice.

The last value of a duplicate field wins, as it does in Go. Errors are ``BadRequest`` with the API's own texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from nodeport.api.meta import JsonObject
from nodeport.api.numbers import OutOfRange, as_float, spelt
from nodeport.api.status import BadRequest
from nodeport.api.strictness import Repeats

_VERSION_KIND = (
    r'struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }'
)
_SURROGATE = re.compile(r"\\u[dD][89abcdefABCDEF]")
_SUMMARY_BYTES = 30
_WORDS = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
    "Unexpected UTF-8 BOM (decode using utf-8-sig)": "looking for beginning of value",
}


class _Twice(Exception):
    """Some object has a field twice: decode again, slowly, to learn where."""


class _Pairs(list[tuple[str, Any]]):
    """An object whose fields are kept as they came."""


def _strict(pairs: list[tuple[str, Any]]) -> JsonObject:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Twice
    return made


def _no_constant(word: str) -> NoReturn:
    raise json.JSONDecodeError("Expecting value", word, 0)


def _decoders(number: Callable[[str], float]) -> tuple[json.JSONDecoder, json.JSONDecoder]:
    """A fast one that refuses repeated fields, and one that keeps them. ``number``: makes a float of its text."""
    return (
        json.JSONDecoder(object_pairs_hook=_strict, parse_constant=_no_constant, parse_float=number),
        json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_no_constant, parse_float=number),
    )


_decoder, _encoder = msgspec.json.Decoder(), msgspec.json.Encoder()
_PLAIN, _SPELT = _decoders(as_float), _decoders(spelt)


class JsonError(ValueError):
    """What is wrong with a JSON text, in the words of Go's decoder."""


def decode_json(body: bytes, *, expected: str = "", as_spelt: bool = False) -> tuple[JsonObject, Repeats]:
    """The object in ``body`` and the dotted paths of duplicate fields (``spec.ports[0].port``).

    BadRequest when it is no JSON object; ``expected`` is the kind that its text then names. ``as_spelt``: with
    SpeltNumbers, for who can say better what is wrong with one.
    """
    if (canonical := _canonical(body)) is not None:
        return canonical, Repeats()
    try:
        value, repeats = decode_value(body, as_spelt=as_spelt)
    except JsonError as error:
        raise _unrecognized(str(error), body, expected) from error
    if value is None:
        return {}, Repeats()
    if not isinstance(value, dict):
        problem = f"json: cannot unmarshal {json_kind(value)} into Go value of type {_VERSION_KIND}"
        raise _unrecognized(problem, body, expected)
    return value, repeats


def decode_value(body: bytes, *, as_spelt: bool = False) -> tuple[Any, Repeats]:
    """As ``decode_json`` for any JSON value; JsonError when it is none."""
    text = body.decode("utf-8", "replace")
    fast, slow = _SPELT if as_spelt else _PLAIN
    repeats = Repeats()
    repeats.spelt = as_spelt
    try:
        try:
            value = fast.decode(text)
        except _Twice:
            value = _merged(slow.decode(text), "", repeats)
    except json.JSONDecodeError as error:
        raise JsonError(_go_syntax_error(text, error)) from error
    except RecursionError as error:
        raise JsonError("exceeded max depth") from error
    except OutOfRange as error:
        raise JsonError(str(error)) from error
    except ValueError as error:
        raise JsonError(f"invalid number: {error}") from error
    return (_without_surrogates(value) if _SURROGATE.search(text) else value), repeats


def _canonical(body: bytes) -> JsonObject | None:
    """The object, when the body is to the byte what our encoder makes of it: then no field is there twice, no number
    is spelled oddly and no character is half a one. None says nothing: decode again, carefully.

    Compact JSON is what most clients send, and this is several times as fast.
    """
    try:
        value = _decoder.decode(body)
        if isinstance(value, dict) and _encoder.encode(value) == body.rstrip(b"\n"):
            return value
    except (msgspec.MsgspecError, RecursionError, ValueError):
        pass
    return None


def _merged(value: Any, path: str, duplicates: Repeats) -> Any:
    if isinstance(value, _Pairs):
        made: JsonObject = {}
        for key, item in value:
            below = f"{path}.{key}" if path else key
            place = len(duplicates.places) + len(duplicates.again)
            duplicates.places.setdefault(below, place)
            if key in made and below not in duplicates.again:
                duplicates.again[below] = place
                duplicates.append(below)
            made[key] = _merged(item, below, duplicates)
        return made
    if isinstance(value, list):
        return [_merged(item, f"{path}[{index}]", duplicates) for index, item in enumerate(value)]
    return value


def _without_surrogates(value: Any) -> Any:
    """Halves of surrogate pairs replaced by U+FFFD: they could not be encoded again."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return [_without_surrogates(item) for item in value] if isinstance(value, list) else value


def check_version_and_kind(obj: JsonObject, body: bytes, expected: str) -> None:
    """BadRequest unless ``apiVersion`` and ``kind`` are texts that can be, or left out: they are read before anything
    else."""
    for field in ("apiVersion", "kind"):
        value = obj.get(field)
        if value is not None and not isinstance(value, str):
            problem = (
                f"json: cannot unmarshal {json_kind(value)} into Go struct field .{field} of type string"
            )
            raise _unrecognized(problem, body, expected)
    version = obj.get("apiVersion") or ""
    if version.count("/") > 1:
        raise _refused(f"unexpected GroupVersion string: {version}", body, expected)


def json_kind(value: Any) -> str:
    """What Go's decoder calls the value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict | list):
        return "object" if isinstance(value, dict) else "array"
    return "string" if isinstance(value, str) else "number"


def _go_syntax_error(text: str, error: json.JSONDecodeError) -> str:
    stopped = error.pos
    if error.msg == "Expecting ',' delimiter":
        words = "after object key:value pair" if _inside_object(text, stopped) else "after array element"
    else:
        words = _WORDS.get(error.msg, "")
    if error.msg.startswith("Unterminated string") or stopped >= len(text.rstrip()):
        return "unexpected end of JSON input"
    if error.doc != text:
        return "invalid character 'N' looking for beginning of value"
    shown = text[stopped].replace("'", "\\'")
    return f"invalid character '{shown}' {words or 'looking for beginning of value'}"


def _inside_object(text: str, position: int) -> bool:
    """Whether the innermost bracket that is open at ``position`` is a brace."""
    opened: list[str] = []
    for found in re.finditer(r'"(?:\\.|[^"\\])*"|[\[\]{}]', text[:position]):
        match found.group():
            case "{" | "[" as bracket:
                opened.append(bracket)
            case "}" | "]" if opened:
                opened.pop()
    return not opened or opened[-1] == "{"


def _unrecognized(problem: str, body: bytes, expected: str) -> BadRequest:
    return _refused(f"couldn't get version/kind; json parse error: {problem}", body, expected)


def _refused(text: str, body: bytes, expected: str) -> BadRequest:
    if expected:
        text = f"the object provided is unrecognized (must be of type {expected}): {text} ({summary(body)})"
    return BadRequest(text)


def summary(body: bytes) -> str:
    """The first bytes of a body as error texts show them: text when it begins with a brace, else hexadecimal."""
    if not body:
        return "<empty>"
    head = body[:_SUMMARY_BYTES]
    shown = head.decode("utf-8", "replace") if body[:1] == b"{" else head.hex()
    return f"{shown} ..." if len(body) > _SUMMARY_BYTES else shown


def decode_yaml(body: bytes, *, expected: str = "") -> tuple[JsonObject, Repeats]:
    """As ``decode_json`` for the first YAML document of ``body``, read the YAML 1.1 way that Kubernetes reads it."""
    from nodeport.api.yamltext import YamlError, load

    try:
        value, duplicates = load(body.decode())
    except YamlError as error:
        raise BadRequest(f"error converting YAML to JSON: {error}") from error
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise BadRequest(f"error converting YAML to JSON: yaml: invalid UTF-8 in line {line}") from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise _unrecognized(
            f"json: cannot unmarshal {json_kind(value)} into Go value of type {_VERSION_KIND}", body, expected
        )
    return value, duplicates
