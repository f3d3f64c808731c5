"""The same in OpenAPI version 2 (Swagger): older clients validate and explain by it."""

from __future__ import annotations

from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.apiserver.openapi.components import REFERENCE, Texts, definition

_OLD_REFERENCE = "#/definitions/"


def swagger(info: JsonObject, paths: JsonObject, names: list[str], prose: Texts) -> JsonObject:
    """``paths`` as version 3 says them; ``names`` of all definitions."""
    return {
        "swagger": "2.0",
        "info": info,
        "paths": {path: _path(item) for path, item in paths.items()},
        "definitions": {
            name: old_references(definition(name, prose.get(name, {}), _described)) for name in names
        },
    }


def _described(sub: JsonObject, text: str) -> JsonObject:
    return {"description": text, **sub} if text else sub


def old_references(node: Any) -> Any:
    """``node`` with version 2's references."""
    if isinstance(node, dict):
        return {
            key: value.replace(REFERENCE, _OLD_REFERENCE) if key == "$ref" and isinstance(value, str)
            else old_references(value)
            for key, value in node.items()
        }  # fmt: skip
    if isinstance(node, list):
        return [old_references(value) for value in node]
    return node


def _path(item: JsonObject) -> JsonObject:
    made = {method: _operation(found) for method, found in item.items() if method != "parameters"}
    return {**made, "parameters": [_parameter(each) for each in item.get("parameters", ())]}


def _parameter(found: JsonObject) -> JsonObject:
    return {**{key: value for key, value in found.items() if key != "schema"}, **found["schema"]}


def _operation(found: JsonObject) -> JsonObject:
    skipped = ("parameters", "requestBody", "responses")
    made = {key: value for key, value in found.items() if key not in skipped}
    given = [_parameter(each) for each in found.get("parameters", ())]
    body = found.get("requestBody")
    if body is not None:
        made["consumes"] = list(body["content"])
        given.insert(0, _body(body))
    if given:
        made["parameters"] = given
    produced = found["responses"].get("200", {}).get("content") or {}
    made["produces"] = list(produced)
    made["schemes"] = ["https"]
    made["responses"] = {
        code: _response(answer)
        for code, answer in found["responses"].items()
        if code not in ("default", "101")
    }
    return made


def _body(body: JsonObject) -> JsonObject:
    made: JsonObject = {"name": "body", "in": "body", "schema": _first_schema(body["content"])}
    return {**made, "required": True} if body.get("required") else made


def _response(answer: JsonObject) -> JsonObject:
    made: JsonObject = {"description": answer["description"]}
    if answer.get("content"):
        made["schema"] = _first_schema(answer["content"])
    return made


def _first_schema(content: JsonObject) -> JsonObject:
    """Version 2 knows one schema for all media types, and no alternatives."""
    schema: JsonObject = next(iter(content.values()))["schema"]
    found: JsonObject = old_references(schema["anyOf"][0] if "anyOf" in schema else schema)
    return found
