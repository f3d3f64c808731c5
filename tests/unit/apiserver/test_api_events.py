"""Events: one object, visible as ``v1`` and as ``events.k8s.io/v1``."""

from __future__ import annotations

import json
from typing import Any

import pytest

Json = dict[str, Any]
CORE = "/api/v1/namespaces/default/events"
NEW = "/apis/events.k8s.io/v1/namespaces/default/events"
MOMENT = "2026-01-01T12:00:00.000000Z"


def new_event(name: str = "e", **content: Any) -> Json:
    return {
        "metadata": {"name": name, "labels": {"a": "b"}},
        "eventTime": MOMENT, "reportingController": "example.com/c", "reportingInstance": "c-1", "action": "Do",
        "reason": "Done", "type": "Normal", "note": "all went well",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        **content,
    }  # fmt: skip


def core_event(name: str = "e", **content: Any) -> Json:
    return {
        "metadata": {"name": name}, "reason": "Done", "message": "all went well", "count": 3, "type": "Normal",
        "firstTimestamp": "2026-01-01T12:00:00Z", "lastTimestamp": "2026-01-01T12:10:00Z",
        "source": {"component": "c", "host": "h"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        **content,
    }  # fmt: skip


async def test_an_event_of_the_new_version_is_seen_in_the_old_one(raw: Any) -> None:
    made = await raw.create(NEW, new_event())
    assert (made["apiVersion"], made["note"], made["regarding"]["name"]) == (
        "events.k8s.io/v1", "all went well", "p",
    )  # fmt: skip
    old = await raw.get(f"{CORE}/e")
    assert (old["apiVersion"], old["message"], old["involvedObject"]) == (
        "v1",
        made["note"],
        made["regarding"],
    )
    assert (old["reportingComponent"], old["reportingInstance"]) == ("example.com/c", "c-1")
    assert old["metadata"] == made["metadata"]


async def test_what_go_always_prints_of_an_event_is_there_though_nobody_set_it(raw: Any) -> None:
    made = await raw.create(CORE, {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}})
    bare = {
        "involvedObject": {"namespace": "default"}, "source": {}, "firstTimestamp": None, "lastTimestamp": None,
        "eventTime": None, "reportingComponent": "", "reportingInstance": "",
    }  # fmt: skip
    assert without_head(made) == bare
    assert without_head(await raw.get(f"{NEW}/e")) == {
        "regarding": {"namespace": "default"}, "eventTime": None, "deprecatedSource": {},
        "deprecatedFirstTimestamp": None, "deprecatedLastTimestamp": None,
    }  # fmt: skip
    again = await raw("PUT", f"{CORE}/e", {"metadata": {"name": "e"}, **made})
    assert again.json["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    new = await raw.create(NEW, new_event("new"))
    assert (new["deprecatedSource"], new["deprecatedFirstTimestamp"]) == ({}, None)
    assert (await raw.get(f"{CORE}/new"))["lastTimestamp"] is None


def without_head(event: Json) -> Json:
    return {field: value for field, value in event.items() if field not in ("kind", "apiVersion", "metadata")}


async def test_an_event_of_the_old_version_is_seen_in_the_new_one(raw: Any) -> None:
    made = await raw.create(CORE, core_event())
    found = await raw.get(f"{NEW}/e")
    assert found["deprecatedCount"] == 3
    assert found["deprecatedSource"] == {"component": "c", "host": "h"}
    assert found["deprecatedFirstTimestamp"] == made["firstTimestamp"]
    assert not {"count", "source", "message", "involvedObject"} & found.keys()
    listed = await raw.get(NEW)
    assert (listed["kind"], listed["apiVersion"]) == ("EventList", "events.k8s.io/v1")
    assert [each["note"] for each in listed["items"]] == ["all went well"]
    assert "kind" not in listed["items"][0]


async def test_both_versions_show_the_same_table(raw: Any) -> None:
    await raw.create(CORE, core_event())
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    tables = [(await raw("GET", path, Accept=accept)).json for path in (CORE, NEW)]
    assert tables[0]["rows"][0]["cells"] == tables[1]["rows"][0]["cells"]
    assert "all went well" in tables[0]["rows"][0]["cells"]
    assert tables[0]["columnDefinitions"] == tables[1]["columnDefinitions"]


async def test_each_version_selects_by_its_own_fields(raw: Any) -> None:
    await raw.create(NEW, new_event())
    for path, query, names in (
        (NEW, "regarding.name=p", ["e"]), (NEW, "regarding.name=q", []), (NEW, "reportingController=example.com/c", ["e"]),
        (CORE, "involvedObject.name=p,reason=Done", ["e"]), (CORE, "involvedObject.name=q", []),
    ):  # fmt: skip
        found = await raw.get(f"{path}?fieldSelector={query.replace('=', '%3D')}")
        assert [each["metadata"]["name"] for each in found["items"]] == names, query
    for path, query in ((NEW, "involvedObject.name%3Dp"), (CORE, "regarding.name%3Dp")):
        refused = await raw("GET", f"{path}?fieldSelector={query}")
        assert (refused.status, "field label not supported" in refused.message) == (400, True)


async def test_a_patch_speaks_the_version_it_is_sent_to(raw: Any) -> None:
    await raw.create(NEW, new_event())
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T12:01:00.000000Z"}}
    for kind in ("merge-patch", "strategic-merge-patch"):
        series["series"]["count"] += 1  # type: ignore[operator]
        patched = await raw("PATCH", f"{NEW}/e", series, Content_Type=f"application/{kind}+json")
        assert (patched.status, patched.json["series"]["count"]) == (200, series["series"]["count"])
    assert (await raw.get(f"{CORE}/e"))["series"]["count"] == 4
    wrong = await raw(
        "PATCH",
        f"{NEW}/e?fieldValidation=Strict",
        {"message": "x"},
        Content_Type="application/merge-patch+json",
    )
    assert (wrong.status, 'unknown field "message"' in wrong.message) == (422, True)


async def test_deletion_in_one_version_is_deletion_in_both(raw: Any) -> None:
    await raw.create(NEW, new_event())
    assert (await raw("DELETE", f"{NEW}/e")).status == 200
    assert (await raw("GET", f"{CORE}/e")).status == 404
    await raw.create(CORE, core_event("other"))
    assert (await raw("DELETE", NEW)).json["items"][0]["note"] == "all went well"
    assert (await raw.get(CORE))["items"] == []


async def test_watches_of_both_versions_see_every_change(raw: Any) -> None:
    for path, field in ((CORE, "message"), (NEW, "note")):
        async with raw.session.get(f"{raw.url}{path}?watch=1&resourceVersion=1") as stream:
            await raw.create(NEW, new_event(f"by-{field.lower()}"))
            while True:
                event = json.loads(await stream.content.readline())
                if event["object"]["metadata"]["name"] == f"by-{field}":
                    break
            assert (event["type"], event["object"][field]) == ("ADDED", "all went well")
            await raw("DELETE", f"{NEW}/by-{field}")
            event = json.loads(await stream.content.readline())
            assert (event["type"], event["object"]["kind"], event["object"][field]) == (
                "DELETED", "Event", "all went well",
            )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"eventTime": None}, "eventTime: Required value"),
        ({"type": "Odd"}, 'type: Invalid value: "": has invalid value: Odd'),
        ({"action": ""}, "action: Required value"),
        ({"reportingController": ""}, "reportingController: Required value"),
        ({"note": "x" * 1025}, 'message: Invalid value: "": can have at most 1024 characters'),
        ({"deprecatedCount": 1}, 'count: Invalid value: "": needs to be unset'),
        ({"series": {"count": 1, "lastObservedTime": MOMENT}}, 'series.count: Invalid value: "": should be at least 2'),
    ],
)  # fmt: skip
async def test_the_new_version_is_strict(raw: Any, content: Json, complaint: str) -> None:
    refused = await raw("POST", NEW, new_event(**content))
    assert refused.status == 422
    assert complaint in refused.message


async def test_the_old_version_is_lax_and_the_new_one_changes_only_the_series(raw: Any) -> None:
    await raw.create(CORE, core_event(type="Odd"))
    await raw.create(NEW, new_event("fixed"))
    event = await raw.get(f"{NEW}/fixed")
    event["reason"] = "Undone"
    refused = await raw("PUT", f"{NEW}/fixed", event)
    assert (refused.status, 'reason: Invalid value: "Undone": field is immutable' in refused.message) == (
        422,
        True,
    )
    assert (
        await raw("PUT", f"{CORE}/fixed", {**await raw.get(f"{CORE}/fixed"), "reason": "Undone"})
    ).status == 200
