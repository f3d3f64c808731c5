"""Numbers as clients may write them: what counts, what is quoted, and what is too large for anybody."""

from __future__ import annotations

from typing import Any

import pytest

NAMESPACE = "/api/v1/namespaces/default"
SERVICES = f"{NAMESPACE}/services"
REVISIONS = "/apis/apps/v1/namespaces/default/controllerrevisions"
MERGE, STRATEGIC, JSON, APPLY = (
    "application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json",
    "application/apply-patch+yaml",
)  # fmt: skip


def service(ports: str, **more: str) -> bytes:
    fields = "".join(f',"{name}":{text}' for name, text in more.items())
    return f'{{"metadata": {{"name": "a"}}, "spec": {{"ports": [{ports}]{fields}}}}}'.encode()


@pytest.mark.parametrize("number", ["1E400", "-1E400", "1e2", "80.50"])
async def test_a_number_of_a_wrong_kind_is_quoted_as_it_was_written(raw: Any, number: str) -> None:
    answer = await raw("POST", SERVICES, service(f'{{"port": {number}}}'))
    assert (answer.status, answer.message) == (
        400,
        'Service in version "v1" cannot be handled as a Service: json: cannot unmarshal number '
        f"{number} into Go struct field ServicePort.spec.ports.port of type int32",
    )


async def test_a_number_that_nobody_reads_may_be_as_large_as_it_likes(raw: Any) -> None:
    answer = await raw("POST", SERVICES, service('{"port": 80}', strange="1E400"))
    assert answer.status == 201
    assert "strange" not in answer.json["spec"]


async def test_a_number_that_could_not_be_kept_is_refused(raw: Any) -> None:
    body = b'{"metadata": {"name": "r"}, "revision": 1, "data": {"a": 1E400}}'
    answer = await raw("POST", REVISIONS, body)
    assert (answer.status, answer.message) == (
        400,
        'ControllerRevision in version "v1" cannot be handled as a ControllerRevision: json: cannot unmarshal '
        "number 1E400 into Go value of type float64",
    )
    made = await raw("POST", REVISIONS, body.replace(b"1E400", b"1E2"))
    assert (made.status, made.json["data"]) == (201, {"a": 100.0})


@pytest.mark.parametrize(
    ("kind", "body", "head", "where"),
    [
        (MERGE, b'{"spec": {"strange": 1E400}}', "error decoding patch: ", "value"),
        (STRATEGIC, b'{"spec": {"strange": 1E400}}', "", "value"),
        (
            JSON,
            b'[{"op": "add", "path": "/spec/strange", "value": 1E400}]',
            "error decoding patch: ",
            "struct field jsonPatchOp.value",
        ),
    ],
)
async def test_a_patch_with_a_number_that_is_too_large_is_refused(
    raw: Any, kind: str, body: bytes, head: str, where: str
) -> None:
    await raw("POST", SERVICES, service('{"port": 80}'))
    answer = await raw("PATCH", f"{SERVICES}/a", body, Content_Type=kind)
    told = f"json: cannot unmarshal number 1E400 into Go {where} of type float64"
    assert (answer.status, answer.message) == (400, head + told)


@pytest.mark.parametrize("number", ["90.0", "9e1"])
async def test_whole_numbers_count_as_such_in_strategic_patches_and_configurations(
    raw: Any, number: str
) -> None:
    await raw("POST", SERVICES, service('{"port": 80}'))
    ports = f'{{"spec": {{"ports": [{{"$patch": "replace"}}, {{"port": {number}}}]}}}}'.encode()
    answer = await raw("PATCH", f"{SERVICES}/a", ports, Content_Type=STRATEGIC)
    assert (answer.status, answer.json["spec"]["ports"][0]["port"]) == (200, 90)
    config = f'{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "b"}}, "spec": {{"ports": [{{"port": {number}}}]}}}}'
    answer = await raw("PATCH", f"{SERVICES}/b?fieldManager=t", config.encode(), Content_Type=APPLY)
    assert (answer.status, answer.json["spec"]["ports"][0]["port"]) == (201, 90)


async def test_a_quantity_keeps_how_it_was_written(raw: Any) -> None:
    body = b'{"metadata": {"name": "q"}, "spec": {"hard": {"pods": 1e3, "memory": 1.50}}}'
    made = await raw("POST", f"{NAMESPACE}/resourcequotas", body)
    assert made.json["spec"]["hard"] == {"pods": "1e3", "memory": "1500m"}


async def test_a_kind_that_is_no_text_is_refused_in_a_strategic_patch_too(raw: Any) -> None:
    await raw("POST", SERVICES, service('{"port": 80}'))
    answer = await raw("PATCH", f"{SERVICES}/a", b'{"kind": 5}', Content_Type=STRATEGIC)
    assert (answer.status, answer.message) == (
        422, ' "" is invalid: patch: Invalid value: "map[kind:5]": cannot convert int64 to string',
    )  # fmt: skip


async def test_a_merge_patch_that_is_null_is_none(raw: Any) -> None:
    await raw("POST", SERVICES, service('{"port": 80}'))
    answer = await raw("PATCH", f"{SERVICES}/a", b" null", Content_Type=MERGE)
    assert (answer.status, answer.message) == (400, "Invalid JSON Patch")
