"""A version 2 document in protobuf, the only form in which Go clients read it: messages of ``openapi.v2``.

Only what our documents hold is written. Extensions and defaults are YAML texts there; JSON is YAML.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodeport.api.meta import JsonObject
from nodeport.apiserver.encoding import encode

_LENGTH = 2
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}
_SCHEMA_TEXTS = {"$ref": 1, "format": 2, "title": 3, "description": 4}


def document(found: JsonObject) -> bytes:
    """``Document``: 1 swagger, 2 info, 8 paths, 9 definitions."""
    info = _text(1, found["info"]["title"]) + _text(2, found["info"]["version"])
    paths = b"".join(_message(2, _named(path, _path(item))) for path, item in found["paths"].items())
    definitions = b"".join(
        _message(1, _named(name, _schema(each))) for name, each in found["definitions"].items()
    )
    return _text(1, found["swagger"]) + _message(2, info) + _message(8, paths) + _message(9, definitions)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _text(number: int, content: str) -> bytes:
    return _message(number, content.encode()) if content else b""


def _texts(number: int, contents: Iterable[str]) -> bytes:
    return b"".join(_message(number, each.encode()) for each in contents)


def _flag(number: int, value: object) -> bytes:
    return _varint(number << 3) + b"\x01" if value else b""


def _named(name: str, value: bytes) -> bytes:
    """1 name, 2 value: how the messages spell maps."""
    return _text(1, name) + _message(2, value)


def _any(value: object) -> bytes:
    """``Any``: 2 YAML."""
    return _text(2, encode(value).decode())


def _extensions(number: int, found: JsonObject) -> bytes:
    return b"".join(
        _message(number, _named(key, _any(value))) for key, value in found.items() if key.startswith("x-")
    )


def _schema(found: JsonObject) -> bytes:
    """``Schema``: 5 default, 19 required, 21 additionalProperties, 22 type, 23 items, 25 properties, 31 extensions."""
    made = [_text(number, found[key]) for key, number in _SCHEMA_TEXTS.items() if key in found]
    if "default" in found:
        made.append(_message(5, _any(found["default"])))
    made.append(_texts(19, found.get("required", ())))
    if "additionalProperties" in found:
        made.append(_message(21, _message(1, _schema(found["additionalProperties"]))))
    if "type" in found:
        made.append(_message(22, _text(1, found["type"])))
    if "items" in found:
        made.append(_message(23, _message(1, _schema(found["items"]))))
    if "properties" in found:
        fields = (_message(1, _named(name, _schema(sub))) for name, sub in found["properties"].items())
        made.append(_message(25, b"".join(fields)))
    made.append(_extensions(31, found))
    return b"".join(made)


def _path(item: JsonObject) -> bytes:
    """``PathItem``: a field for each method, 9 parameters."""
    made = [
        _message(_METHODS[method], _operation(found)) for method, found in item.items() if method in _METHODS
    ]
    return b"".join(made) + _parameters(9, item.get("parameters", ()))


def _operation(found: JsonObject) -> bytes:
    """``Operation``: 1 tags, 3 description, 5 operationId, 6 produces, 7 consumes, 8 parameters, 9 responses,
    10 schemes, 13 extensions."""
    responses = b"".join(
        _message(1, _named(code, _message(1, _response(answer))))
        for code, answer in found["responses"].items()
    )
    return b"".join((
        _texts(1, found.get("tags", ())), _text(3, found.get("description", "")),
        _text(5, found.get("operationId", "")), _texts(6, found.get("produces", ())),
        _texts(7, found.get("consumes", ())), _parameters(8, found.get("parameters", ())), _message(9, responses),
        _texts(10, found.get("schemes", ())), _extensions(13, found),
    ))  # fmt: skip


def _response(answer: JsonObject) -> bytes:
    """``Response``: 1 description, 2 schema (in a choice of its own)."""
    made = _text(1, answer["description"])
    return made + _message(2, _message(1, _schema(answer["schema"]))) if "schema" in answer else made


def _parameters(number: int, found: Iterable[JsonObject]) -> bytes:
    """``ParametersItem`` 1 ``Parameter``: 1 in the body, 2 elsewhere."""
    return b"".join(_message(number, _message(1, _parameter(each))) for each in found)


def _parameter(found: JsonObject) -> bytes:
    match found["in"]:
        case "body":
            fields = (
                _text(2, found["name"]), _text(3, "body"), _flag(4, found.get("required")),
                _message(5, _schema(found["schema"])),
            )  # fmt: skip
            return _message(1, b"".join(fields))
        case "path":
            rest = (_text(4, found["name"]), _text(5, found["type"]), _flag(19, found.get("uniqueItems")))
            choice = 4
        case _:
            rest = (_text(4, found["name"]), _text(6, found["type"]), _flag(20, found.get("uniqueItems")))
            choice = 3
    head = (
        _flag(1, found.get("required")),
        _text(2, found["in"]),
        _text(3, found.get("description", "")),
    )
    return _message(2, _message(choice, b"".join((*head, *rest))))
