"""OpenAPI: complete, consistent in itself, true to the resource table; how its documents are asked for."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from nodeport.api.resources import RESOURCES, Resource
from nodeport.apiserver.encoding import decode
from nodeport.apiserver.openapi import gnostic
from nodeport.apiserver.openapi.components import texts
from nodeport.apiserver.openapi.documents import OpenApi

Json = dict[str, Any]
BASES = sorted({row.base_path.strip("/") for row in RESOURCES})
METHODS = {"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}


def document(name: str) -> Json:
    return decode(gzip.decompress(OpenApi(RESOURCES)._made(name)))


@pytest.fixture(scope="module")
def documents() -> dict[str, Json]:
    return {base: document(base) for base in BASES}


@pytest.fixture(scope="module")
def old() -> Json:
    return document("v2")


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def operations(found: Json) -> Iterator[tuple[str, str, Json, list[Json]]]:
    """(path, method, operation, all parameters)."""
    for path, item in found["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation, [*item.get("parameters", []), *operation.get("parameters", [])]


@pytest.mark.parametrize("base", BASES)
def test_every_reference_leads_somewhere(documents: dict[str, Json], base: str) -> None:
    found = documents[base]
    known = {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}
    assert set(references(found)) <= known


def test_the_old_documents_references_lead_somewhere(old: Json) -> None:
    assert set(references(old)) <= {f"#/definitions/{name}" for name in old["definitions"]}


@pytest.mark.parametrize("base", BASES)
def test_operations_are_named_once_and_say_their_parameters(documents: dict[str, Json], base: str) -> None:
    names = Counter(operation["operationId"] for _, _, operation, _ in operations(documents[base]))
    assert [name for name, count in names.items() if count > 1] == []
    for path, method, _, parameters in operations(documents[base]):
        keys = [(each["in"], each["name"]) for each in parameters]
        assert len(keys) == len(set(keys)), (path, method)
        said = {name for where, name in keys if where == "path"}
        assert said == {part[1:-1] for part in path.split("/") if part.startswith("{")}, (path, method)


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.qualified_name)
def test_every_verb_of_every_row_is_an_operation(documents: dict[str, Json], row: Resource) -> None:
    paths = documents[row.base_path.strip("/")]["paths"]
    namespace = "{namespace}" if row.namespaced else ""
    collection, item = paths.get(row.path(namespace), {}), paths.get(row.path(namespace, "{name}"), {})
    assert {"get", "post", "delete"} & collection.keys() == {
        method for verb, method in (("list", "get"), ("create", "post"), ("deletecollection", "delete"))
        if verb in row.verbs
    }  # fmt: skip
    assert {"get", "put", "patch", "delete"} & item.keys() == {
        METHODS[verb] for verb in ("get", "update", "patch", "delete") if verb in row.verbs
    }
    for sub in row.subresources:
        found = paths[row.path(namespace, "{name}", sub.name)]
        assert found.keys() - {"parameters"} == {METHODS[verb] for verb in sub.verbs}
    assert (f"{row.base_path}/watch/{row.plural}" in paths) is ("watch" in row.verbs)


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.qualified_name)
def test_every_kind_and_its_fields_have_a_description(documents: dict[str, Json], row: Resource) -> None:
    schema = documents[row.base_path.strip("/")]["components"]["schemas"][row.schema]
    assert schema["description"]
    undescribed = [name for name, field in schema["properties"].items() if "description" not in field]
    assert undescribed in ([], ["metadata"])


def test_types_that_are_written_in_two_ways_say_so(documents: dict[str, Json], old: Json) -> None:
    schemas = documents["api/v1"]["components"]["schemas"]
    name = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
    assert schemas[name]["oneOf"] == [{"type": "integer"}, {"type": "string"}]
    assert schemas[name]["format"] == "int-or-string"
    assert "type" not in schemas[name]
    assert (old["definitions"][name]["type"], old["definitions"][name]["format"]) == (
        "string",
        "int-or-string",
    )
    port = schemas["io.k8s.api.core.v1.ServicePort"]
    assert port["properties"]["targetPort"]["allOf"] == [{"$ref": f"#/components/schemas/{name}"}]
    assert port["required"] == ["port"]


def test_the_texts_are_not_kept_with_the_schemas() -> None:
    assert texts() is not texts()


def fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """A reader of protobuf that shares nothing with the writer."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            assert key & 7 == 2
            size = varint()
            yield key >> 3, data[at : at + size]
            at += size


def named(data: bytes) -> tuple[str, bytes]:
    found = dict(fields(data))
    name, value = found[1], found.get(2, b"")
    assert isinstance(name, bytes)
    assert isinstance(value, bytes)
    return name.decode(), value


def part(data: bytes, *numbers: int) -> bytes:
    for number in numbers:
        found = dict(fields(data))[number]
        assert isinstance(found, bytes)
        data = found
    return data


def test_the_protobuf_form_holds_what_the_json_form_holds(old: Json) -> None:
    data = gnostic.document(old)
    assert part(data, 1) == b"2.0"
    definitions = dict(named(each) for _, each in fields(part(data, 9)) if isinstance(each, bytes))
    assert definitions.keys() == old["definitions"].keys()
    port = definitions["io.k8s.api.core.v1.ServicePort"]
    assert part(port, 4).decode() == old["definitions"]["io.k8s.api.core.v1.ServicePort"]["description"]
    assert part(port, 19) == b"port"
    properties = dict(named(each) for _, each in fields(part(port, 25)) if isinstance(each, bytes))
    assert part(properties["nodePort"], 22, 1) == b"integer"
    assert part(properties["targetPort"], 1).startswith(b"#/definitions/")
    paths = dict(named(each) for _, each in fields(part(data, 8)) if isinstance(each, bytes))
    assert paths.keys() == old["paths"].keys()
    patch = part(paths["/api/v1/namespaces/{namespace}/services/{name}"], 8)
    query = [part(each, 1, 2, 3, 4) for number, each in fields(patch) if number == 8 and isinstance(each, bytes)
             and dict(fields(part(each, 1))).get(2)]  # fmt: skip
    assert query == [b"dryRun", b"fieldManager", b"fieldValidation", b"force"]
    extensions = dict(
        named(each) for number, each in fields(patch) if number == 13 and isinstance(each, bytes)
    )
    assert decode(part(extensions["x-kubernetes-group-version-kind"], 2)) == {
        "group": "", "version": "v1", "kind": "Service",
    }  # fmt: skip


def tag(answer: Any) -> str:
    found: dict[str, str] = {name.lower(): value for name, value in answer.headers.items()}
    return found["etag"]


async def test_documents_are_asked_for_by_their_hash(raw: Any) -> None:
    index = await raw("GET", "/openapi/v3")
    url = index.json["paths"]["api/v1"]["serverRelativeURL"]
    found = await raw("GET", url)
    assert found.headers["Cache-Control"] == "public, immutable"
    assert tag(found).strip('"') == url.partition("?hash=")[2]
    assert found.headers["Content-Encoding"] == "gzip"
    stale = await raw("GET", "/openapi/v3/api/v1?hash=0")
    assert stale.json == found.json, "an old hash leads to the new document"
    plain = await raw("GET", "/openapi/v3/api/v1", Accept_Encoding="identity")
    assert (plain.json, "Content-Encoding" in plain.headers) == (found.json, False)
    assert plain.headers["Cache-Control"] == "no-cache, private"


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/openapi/v2", ""), ("/openapi/v3", ""), ("/openapi/v3/apis/apps/v1", ""), ("/openapi/v3/apis/apps", ""),
        ("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"),
        ("/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
        ("/api", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"),
    ],
)  # fmt: skip
async def test_what_a_client_has_already_is_not_sent_again(raw: Any, path: str, accept: str) -> None:
    headers = {"Accept": accept} if accept else {}
    first = await raw("GET", path, **headers)
    assert (first.status, bool(first.body)) == (200, True)
    again = await raw("GET", path, If_None_Match=tag(first), **headers)
    assert (again.status, again.body, tag(again)) == (304, b"", tag(first))
    other = await raw("GET", path, If_None_Match='"other"', **headers)
    assert other.status == 200
