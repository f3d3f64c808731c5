"""What patches are refused for and warned of, in Kubernetes' words."""

from __future__ import annotations

import json
from typing import Any

import pytest

Json = dict[str, Any]
SERVICES = "/api/v1/namespaces/default/services"
JSON, MERGE, STRATEGIC = (
    f"application/{kind}+json" for kind in ("json-patch", "merge-patch", "strategic-merge-patch")
)
TWICE = b'{"spec":{"unknown1":1,"type":"NodePort","type":"ClusterIP","unknown2":2,"unknown2":3}}'


@pytest.fixture
async def service(raw: Any) -> str:
    await raw.create(SERVICES, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    return f"{SERVICES}/s"


def causes(answer: Any) -> list[tuple[str, str]]:
    return [(each["field"], each["message"]) for each in answer.json["details"]["causes"]]


@pytest.mark.parametrize("media", [MERGE, STRATEGIC])
async def test_strange_and_repeated_fields_of_merge_patches(raw: Any, service: str, media: str) -> None:
    problems = [
        'duplicate field "spec.type"', 'duplicate field "spec.unknown2"', 'unknown field "spec.unknown1"',
        'unknown field "spec.unknown2"',
    ]  # fmt: skip
    strict = await raw("PATCH", f"{service}?fieldValidation=Strict", TWICE, Content_Type=media)
    assert (strict.status, strict.reason) == (422, "Invalid")
    [(field, message)] = causes(strict)
    assert field == "patch"
    assert message.endswith(f'": strict decoding error: {", ".join(problems)}')
    if media == STRATEGIC:
        assert message.startswith('Invalid value: "map[spec:map[type:ClusterIP unknown1:1 unknown2:3]]": ')
    else:
        assert message.startswith('Invalid value: "{\\"apiVersion\\":\\"v1\\",\\"kind\\":\\"Service\\",')
    warned = await raw("PATCH", service, TWICE, Content_Type=media)
    assert warned.status == 200
    assert warned.warnings == [f"299 - {json.dumps(text)}" for text in problems]
    ignored = await raw("PATCH", f"{service}?fieldValidation=Ignore", TWICE, Content_Type=media)
    assert (ignored.status, ignored.warnings) == (200, [])


async def test_strange_and_repeated_fields_of_json_patches(raw: Any, service: str) -> None:
    body = b"""[{"op":"add","path":"/metadata/labels","value":{"a":"b"},"foo":"bar"},
      {"op":"add","path":"/spec/x","path":"/spec/unknown1","value":1}]"""
    problems = [
        'json patch unknown field "[0].foo"', 'json patch duplicate field "[1].path"',
        'unknown field "spec.unknown1"',
    ]  # fmt: skip
    strict = await raw("PATCH", f"{service}?fieldValidation=Strict", body, Content_Type=JSON)
    [(_, message)] = causes(strict)
    assert message.endswith(f"strict decoding error: {', '.join(problems)}")
    warned = await raw("PATCH", service, body, Content_Type=JSON)
    assert warned.warnings == [f"299 - {json.dumps(text)}" for text in problems]


@pytest.mark.parametrize(
    ("patch", "detail"),
    [
        ({"spec": {"ports": [{"port": 80, "nodePort": "x"}]}}, "unrecognized type: int32"),
        ({"spec": {"publishNotReadyAddresses": 1}}, "unrecognized type: bool"),
        ({"spec": {"clusterIP": 1}}, "cannot convert int64 to string"),
        ({"spec": {"selector": "x"}}, "cannot restore map from string"),
        ({"spec": {"externalIPs": "x"}}, "cannot restore slice from string"),
        ({"spec": "x"}, "cannot restore struct from: string"),
    ],
)
async def test_wrong_types_of_strategic_patches(raw: Any, service: str, patch: Json, detail: str) -> None:
    refused = await raw("PATCH", service, patch, Content_Type=STRATEGIC)
    assert refused.status == 422
    [(field, message)] = causes(refused)
    assert (field, message.rpartition('": ')[2]) == ("patch", detail)
    as_merge = await raw("PATCH", service, patch, Content_Type=MERGE)
    assert (as_merge.status, "json: cannot unmarshal" in as_merge.message) == (422, True)


@pytest.mark.parametrize(
    ("media", "body", "message"),
    [
        (MERGE, b"[]", "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
        (MERGE, b"{", "error decoding patch: unexpected end of JSON input"),
        (STRATEGIC, b'"x"', "json: cannot unmarshal string into Go value of type map[string]interface {}"),
        (STRATEGIC, b"{x", "invalid character 'x' looking for beginning of object key string"),
        (JSON, b"{}", "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        (JSON, b"[1]", "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"),
    ],
)  # fmt: skip
async def test_what_is_no_patch_is_a_bad_request(
    raw: Any, service: str, media: str, body: bytes, message: str
) -> None:
    answer = await raw("PATCH", service, body, Content_Type=media)
    assert (answer.status, answer.message) == (400, message)


async def test_json_patches_are_counted(raw: Any, service: str) -> None:
    operation = {"op": "test", "path": "/metadata/name", "value": "s"}
    assert (await raw("PATCH", service, [operation] * 10_000, Content_Type=JSON)).status == 200
    refused = await raw("PATCH", service, [operation] * 10_001, Content_Type=JSON)
    assert (refused.status, refused.reason, refused.message) == (
        413, "RequestEntityTooLarge",
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
    )  # fmt: skip


async def test_yaml_bodies_are_complained_about_by_line(raw: Any) -> None:
    body = b"metadata: {name: yy}\nspec:\n  zeta: 1\n  type: NodePort\n  type: ClusterIP\n  alpha: 1\n  ports: [{port: 80}]\n"
    strict = await raw("POST", f"{SERVICES}?fieldValidation=Strict", body, Content_Type="application/yaml")
    assert strict.message == (
        'Service in version "v1" cannot be handled as a Service: strict decoding error: yaml: unmarshal errors:\n'
        '  line 5: key "type" already set in map, unknown field "spec.alpha", unknown field "spec.zeta"'
    )
    warned = await raw("POST", SERVICES, body, Content_Type="application/yaml")
    assert warned.warnings == [
        '299 - "line 5: key \\"type\\" already set in map"', '299 - "unknown field \\"spec.alpha\\""',
        '299 - "unknown field \\"spec.zeta\\""',
    ]  # fmt: skip
