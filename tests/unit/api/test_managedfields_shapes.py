"""What the maker of a new object owns is remembered by its shape: objects of one shape never differ in that."""

from __future__ import annotations

import random
from typing import Any

import pytest

from nodeport.api import schema
from nodeport.api.managedfields.entries import Owned, encode, updater
from nodeport.api.managedfields.types import type_of
from nodeport.api.managedfields.updates import REMEMBERED_SHAPES, NewFields, Scope, created
from nodeport.api.meta import JsonObject
from nodeport.api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    NODES,
    PODS,
    SERVICES,
    Resource,
)

NOON = "2026-01-01T12:00:00Z"
SCALARS: dict[str, list[Any]] = {
    "string": ["", "x", "0", "TCP"], "integer": [0, 1, 80], "number": [0, 1.5], "boolean": [False, True],
}  # fmt: skip


def scope_of(resource: Resource) -> Scope:
    return Scope.of(type_of(resource.schema), resource.api_version, "", ["status"])


def value(definition: JsonObject, rng: random.Random, depth: int) -> Any:
    """Any value of a type, empty ones and nulls often among them."""
    if rng.random() < 0.1:
        return None
    found = schema.resolve(definition.get("allOf", [definition])[0])
    if "properties" in found:
        names = [name for name in found["properties"] if depth < 4 and rng.random() < 0.4]
        return {name: value(found["properties"][name], rng, depth + 1) for name in names}
    match found.get("type"):
        case "array":
            return [value(found["items"], rng, depth + 1) for _ in range(rng.choice([0, 1, 1, 2]))]
        case "object":
            items = found.get("additionalProperties") or {"type": "string"}
            return {rng.choice("ab"): value(items, rng, depth + 1) for _ in range(rng.choice([0, 1, 2]))}
    return rng.choice(SCALARS.get(found.get("type", "string"), ["", "x"]))


def objects(resource: Resource, count: int) -> list[JsonObject]:
    rng = random.Random(7)
    made = []
    for _ in range(count):
        found = value(schema.schema_of(resource.schema), rng, 0) or {}
        made.append(
            {"apiVersion": resource.api_version, "kind": resource.kind, **found, "metadata": {"name": "x"}}
        )
        if rng.random() < 0.7:
            made[-1]["metadata"]["labels"] = {rng.choice("ab"): rng.choice("xy")}
    return made


@pytest.mark.parametrize(
    "resource", [SERVICES, PODS, DEPLOYMENTS, ENDPOINT_SLICES, NODES, CONFIG_MAPS], ids=lambda row: row.plural
)
def test_remembered_fields_are_those_of_a_fresh_look(resource: Resource) -> None:
    scope = scope_of(resource)
    new, owner = NewFields(scope), updater("kubectl", resource.api_version)
    for obj in objects(resource, 1_500):
        remembered = encode({owner: Owned(new.of(obj), resource.api_version, NOON)})
        assert remembered == encode(created(scope, obj, owner, NOON))
        assert list(map(str, remembered)) == list(map(str, encode(created(scope, obj, owner, NOON)))), (
            "in its order"
        )


def service(**spec: Any) -> JsonObject:
    return {"metadata": {"name": "s", "labels": {"app": "x"}}, "spec": {"ports": [{"port": 80}], **spec}}


def test_names_and_values_do_not_make_a_shape_but_list_keys_do() -> None:
    new = NewFields(scope_of(SERVICES))
    first = new.of(service(clusterIP="10.96.0.1"))
    other = service(clusterIP="10.96.0.2")
    other["metadata"] = {"name": "t", "labels": {"app": "y"}}
    assert new.of(other) is first
    assert new.of(service(clusterIP="10.96.0.1", ports=[{"port": 81}])) != first


def test_what_is_remembered_is_bounded() -> None:
    new = NewFields(scope_of(CONFIG_MAPS))
    first = new.of({"metadata": {"name": "c"}, "data": {"k0": "v"}})
    for number in range(REMEMBERED_SHAPES):
        new.of({"metadata": {"name": "c"}, "data": {f"k{number}": "v"}})
    new.of({"metadata": {"name": "c"}, "data": {"last": "v"}})
    again = new.of({"metadata": {"name": "c"}, "data": {"k0": "v"}})
    assert again == first
    assert again is not first
