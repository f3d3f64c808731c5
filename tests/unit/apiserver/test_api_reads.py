"""get, list and watch over HTTP: pages, selectors, revisions, forms, bookmarks."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from nodeport.apiserver import listing, watch

Json = dict[str, Any]
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"


def config_map(name: str, **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": labels}, "data": {"a": "b"}}


async def fill(raw: Any, count: int) -> None:
    for index in range(count):
        await raw.create(CONFIG_MAPS, config_map(f"c{index:02}", parity="even" if index % 2 == 0 else "odd"))


def names(found: Json) -> list[str]:
    return [each["metadata"]["name"] for each in found["items"]]


class Stream:
    """Watch events, one at a time."""

    def __init__(self, response: Any) -> None:
        self.response = response

    async def next(self) -> tuple[str, Json]:
        async with asyncio.timeout(30):
            line = await self.response.content.readline()
        event = json.loads(line)
        return event["type"], event["object"]

    async def end(self) -> bytes:
        async with asyncio.timeout(30):
            rest: bytes = await self.response.content.read()
        return rest


@asynccontextmanager
async def watching(raw: Any, path: str, **headers: str) -> AsyncIterator[Stream]:
    async with raw.session.get(raw.url + path, headers=headers) as response:
        assert response.status == 200, await response.read()
        yield Stream(response)


async def test_a_list_is_of_one_revision_and_its_items_are_bare(raw: Any) -> None:
    empty = await raw.get(CONFIG_MAPS)
    assert empty["items"] == []
    assert int(empty["metadata"]["resourceVersion"]) > 0
    await fill(raw, 2)
    found = await raw.get(CONFIG_MAPS)
    assert (found["kind"], found["apiVersion"]) == ("ConfigMapList", "v1")
    assert set(found["items"][0]) == {"metadata", "data"}
    assert found["metadata"]["resourceVersion"] == found["items"][1]["metadata"]["resourceVersion"]


async def test_pages_are_of_one_snapshot(raw: Any) -> None:
    await fill(raw, 5)
    first = await raw.get(f"{CONFIG_MAPS}?limit=2")
    assert names(first) == ["c00", "c01"]
    assert first["metadata"]["remainingItemCount"] == 3
    await raw("DELETE", f"{CONFIG_MAPS}/c03")
    await raw.create(CONFIG_MAPS, config_map("c99"))
    second = await raw.get(f"{CONFIG_MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert names(second) == ["c02", "c03"]
    third = await raw.get(f"{CONFIG_MAPS}?limit=2&continue={second['metadata']['continue']}")
    assert names(third) == ["c04"]
    assert "continue" not in third["metadata"]
    assert {page["metadata"]["resourceVersion"] for page in (first, second, third)} == {
        first["metadata"]["resourceVersion"]
    }


async def test_pages_with_a_selector_hold_as_many_as_asked(raw: Any) -> None:
    await fill(raw, 6)
    first = await raw.get(f"{CONFIG_MAPS}?limit=2&labelSelector=parity%3Dodd")
    assert names(first) == ["c01", "c03"]
    assert "remainingItemCount" not in first["metadata"]
    rest = await raw.get(
        f"{CONFIG_MAPS}?limit=2&labelSelector=parity%3Dodd&continue={first['metadata']['continue']}"
    )
    assert names(rest) == ["c05"]


async def test_an_expired_page_is_410(raw: Any, api: Any) -> None:
    await fill(raw, 3)
    first = await raw.get(f"{CONFIG_MAPS}?limit=1")
    await fill_over(raw)
    await api.store.compact(api.store.revision)
    answer = await raw("GET", f"{CONFIG_MAPS}?limit=1&continue={first['metadata']['continue']}")
    assert (answer.status, answer.reason) == (410, "Expired")
    assert answer.message.startswith("The provided continue parameter is too old")
    fresh = answer.json["metadata"]["continue"]
    rest = await raw.get(f"{CONFIG_MAPS}?limit=5&continue={fresh}")
    assert names(rest) == ["c01", "c02"], "as the list is now"
    assert int(rest["metadata"]["resourceVersion"]) >= api.store.revision - 1
    old = await raw("GET", f"{CONFIG_MAPS}?resourceVersion=1&resourceVersionMatch=Exact")
    assert (old.status, old.message) == (410, "The resourceVersion for the provided list is too old.")
    both = await raw("GET", f"{CONFIG_MAPS}?resourceVersion=3&continue={first['metadata']['continue']}")
    assert both.status == 400


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("x", ": "), ("[]", ": "),
        ('{"v":"meta.k8s.io/v2","rv":1,"start":"a"}', ": server does not recognize this encoded version"),
        ('{"v":"meta.k8s.io/v1","start":"a"}', ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)"),
        ('{"v":"meta.k8s.io/v1","rv":-2,"start":"a"}', ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)"),
        ('{"v":"meta.k8s.io/v1","rv":1}', ": encoded start key empty (version meta.k8s.io/v1)"),
        ('{"v":"meta.k8s.io/v1","rv":1,"start":"../../a"}', ": ../../a"),
    ],
)  # fmt: skip
async def test_what_is_no_continue_token_is_refused(raw: Any, body: str, complaint: str) -> None:
    token = base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")
    answer = await raw("GET", f"{CONFIG_MAPS}?continue={token}")
    assert (answer.status, answer.reason) == (400, "BadRequest")
    assert answer.message.startswith(f"invalid continue token: continue key is not valid{complaint}")


async def fill_over(raw: Any) -> None:
    for index in range(3):
        await raw("PUT", f"{CONFIG_MAPS}/c00", {"metadata": {"name": "c00"}, "data": {"a": str(index)}})


async def test_a_list_at_an_exact_revision_shows_the_past(raw: Any) -> None:
    await fill(raw, 2)
    past = (await raw.get(CONFIG_MAPS))["metadata"]["resourceVersion"]
    await raw("DELETE", f"{CONFIG_MAPS}/c00")
    exact = await raw.get(f"{CONFIG_MAPS}?resourceVersion={past}&resourceVersionMatch=Exact")
    assert names(exact) == ["c00", "c01"]
    assert exact["metadata"]["resourceVersion"] == past
    newer = await raw.get(f"{CONFIG_MAPS}?resourceVersion={past}&resourceVersionMatch=NotOlderThan")
    assert names(newer) == ["c01"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersion=1&resourceVersionMatch=Sideways", 422),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422),
        ("sendInitialEvents=true", 422),
        ("sendInitialEvents=false", 422),
        ("watch=1&sendInitialEvents=false", 422),
        ("watch=1&sendInitialEvents=true&resourceVersion=1&resourceVersionMatch=Exact", 422),
        ("watch=1&sendInitialEvents=true", 422),
        ("watch=1&resourceVersion=1&resourceVersionMatch=NotOlderThan", 422),
        ("resourceVersion=abc", 422),
        ("resourceVersion=18446744073709551616", 422),
        ("resourceVersion=" + 5000 * "9", 422),
        ("limit=x", 400),
        ("labelSelector=a%20b", 400),
        ("fieldSelector=spec.nonsense%3Dx", 400),
        ("fieldSelector=nonsense", 400),
    ],
)
async def test_options_that_make_no_sense_are_refused(raw: Any, query: str, status: int) -> None:
    answer = await raw("GET", f"{CONFIG_MAPS}?{query}")
    assert answer.status == status, answer.body
    assert answer.json["kind"] == "Status"


async def test_a_revision_that_never_comes_times_out(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "FRESHNESS_PATIENCE", watch.timedelta(milliseconds=50))
    await fill(raw, 1)
    initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    for query in (
        "?resourceVersion=99999",
        f"?watch=1&{initial}&resourceVersion=99999",
        "/c00?resourceVersion=99999",
    ):
        answer = await raw("GET", f"{CONFIG_MAPS}{query}")
        assert (answer.status, answer.reason) == (504, "Timeout")
        assert answer.message.startswith("Timeout: Too large resource version: 99999, current: ")
        assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_a_watch_from_a_revision_to_come_waits_for_it(raw: Any) -> None:
    await fill(raw, 1)
    future = int((await raw.get(CONFIG_MAPS))["metadata"]["resourceVersion"]) + 1
    url = f"{raw.url}{CONFIG_MAPS}?watch=1&resourceVersion={future}&timeoutSeconds=10"
    async with raw.session.get(url) as response:
        assert response.status == 200
        for name in ("early", "late"):
            await raw.create(CONFIG_MAPS, {"metadata": {"name": name}})
        event = json.loads(await response.content.readline())
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "late")
    empty = await raw("GET", f"{CONFIG_MAPS}?watch=1&resourceVersion=99999&timeoutSeconds=1")
    assert (empty.status, empty.body) == (200, b"")


async def test_fields_select(raw: Any) -> None:
    await fill(raw, 3)
    assert names(await raw.get(f"{CONFIG_MAPS}?fieldSelector=metadata.name%3Dc01")) == ["c01"]
    assert names(await raw.get(f"{CONFIG_MAPS}?fieldSelector=metadata.name!%3Dc01")) == ["c00", "c02"]
    for name, node in (("a", "node-1"), ("b", "")):
        spec = {"containers": [{"name": "c", "image": "i"}], **({"nodeName": node} if node else {})}
        await raw.create(PODS, {"metadata": {"name": name}, "spec": spec})
    assert names(await raw.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1")) == ["a"]
    assert names(await raw.get("/api/v1/pods?fieldSelector=spec.nodeName%3D")) == ["b"]
    answer = await raw("GET", f"{CONFIG_MAPS}?fieldSelector=spec.foo%3Dx")
    assert answer.message == (
        '"spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace"'
    )
    answer = await raw("GET", f"{PODS}?fieldSelector=spec.foo%3Dx")
    assert answer.message == "field label not supported: spec.foo"


async def test_large_lists_are_compressed_for_who_asks(raw: Any) -> None:
    for index in range(3):
        await raw.create(CONFIG_MAPS, {"metadata": {"name": f"big{index}"}, "data": {"a": "x" * 60_000}})
    plain = await raw("GET", CONFIG_MAPS, Accept_Encoding="identity")
    assert "Content-Encoding" not in plain.headers
    packed = await raw("GET", CONFIG_MAPS, Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.body == plain.body


async def test_tables_have_columns_cells_and_objects(raw: Any) -> None:
    await fill(raw, 1)
    table = (await raw("GET", CONFIG_MAPS, Accept=TABLE)).json
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [each["name"] for each in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    row = table["rows"][1] if table["rows"][0]["cells"][0] != "c00" else table["rows"][0]
    assert row["cells"][:2] == ["c00", 1]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    full = (await raw("GET", f"{CONFIG_MAPS}/c00?includeObject=Object", Accept=TABLE)).json
    assert full["rows"][0]["object"]["data"] == {"a": "b"}
    bare = (await raw("GET", f"{CONFIG_MAPS}/c00?includeObject=None", Accept=TABLE)).json
    assert bare["rows"][0]["object"] is None


async def test_metadata_can_be_had_alone(raw: Any) -> None:
    await fill(raw, 1)
    found = (await raw("GET", CONFIG_MAPS, Accept=METADATA)).json
    assert found["kind"] == "PartialObjectMetadataList"
    assert set(found["items"][0]) == {"kind", "apiVersion", "metadata"}


async def test_a_watch_without_a_revision_begins_with_what_is_there(raw: Any) -> None:
    await fill(raw, 2)
    async with watching(raw, f"{CONFIG_MAPS}?watch=1") as stream:
        assert [(await stream.next())[0] for _ in range(2)] == ["ADDED", "ADDED"]
        await raw.create(CONFIG_MAPS, config_map("new"))
        kind, obj = await stream.next()
        assert (kind, obj["metadata"]["name"], obj["kind"]) == ("ADDED", "new", "ConfigMap")
        await raw("PUT", f"{CONFIG_MAPS}/new", {"metadata": {"name": "new"}})
        assert (await stream.next())[0] == "MODIFIED"
        await raw("DELETE", f"{CONFIG_MAPS}/new")
        deleted, last = await stream.next()
        assert deleted == "DELETED"
        assert int(last["metadata"]["resourceVersion"]) > int(obj["metadata"]["resourceVersion"]) + 1


async def test_a_watch_from_a_revision_shows_what_came_after(raw: Any) -> None:
    await fill(raw, 1)
    revision = (await raw.get(CONFIG_MAPS))["metadata"]["resourceVersion"]
    await raw.create(CONFIG_MAPS, config_map("later"))
    async with watching(raw, f"{CONFIG_MAPS}?watch=true&resourceVersion={revision}") as stream:
        assert (await stream.next())[1]["metadata"]["name"] == "later"


async def test_an_object_that_leaves_a_selector_is_deleted_for_its_watchers(raw: Any) -> None:
    async with watching(raw, f"{CONFIG_MAPS}?watch=1&labelSelector=color%3Dred") as stream:
        await raw.create(CONFIG_MAPS, config_map("c", color="blue"))
        await raw("PUT", f"{CONFIG_MAPS}/c", config_map("c", color="red"))
        assert (await stream.next())[0] == "ADDED"
        await raw("PUT", f"{CONFIG_MAPS}/c", config_map("c", color="red", more="x"))
        assert (await stream.next())[0] == "MODIFIED"
        await raw("PUT", f"{CONFIG_MAPS}/c", config_map("c", color="green"))
        kind, obj = await stream.next()
        assert (kind, obj["metadata"]["labels"]["color"]) == ("DELETED", "red")


async def test_a_compacted_revision_is_an_error_event(raw: Any, api: Any) -> None:
    await fill(raw, 3)
    await api.store.compact(api.store.revision)
    async with watching(raw, f"{CONFIG_MAPS}?watch=1&resourceVersion=1") as stream:
        kind, status = await stream.next()
        assert (kind, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
        assert status["message"].startswith("too old resource version: 1 (")
        assert await stream.end() == b""


async def test_a_watch_list_ends_its_beginning_with_a_bookmark(raw: Any) -> None:
    await fill(raw, 2)
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with watching(raw, f"{CONFIG_MAPS}?{query}") as stream:
        assert [(await stream.next())[0] for _ in range(2)] == ["ADDED", "ADDED"]
        kind, bookmark = await stream.next()
        assert (kind, bookmark["kind"]) == ("BOOKMARK", "ConfigMap")
        assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        await raw.create(CONFIG_MAPS, config_map("new"))
        assert (await stream.next())[0] == "ADDED"


async def test_bookmarks_tell_of_progress_elsewhere(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BOOKMARK_INTERVAL", watch.timedelta(milliseconds=20))
    async with watching(raw, f"{CONFIG_MAPS}?watch=1&allowWatchBookmarks=true") as stream:
        await raw.create("/api/v1/namespaces/default/secrets", {"metadata": {"name": "elsewhere"}})
        kind, bookmark = await stream.next()
        assert (kind, set(bookmark)) == ("BOOKMARK", {"kind", "apiVersion", "metadata"})
        assert int(bookmark["metadata"]["resourceVersion"]) > 0


async def test_a_watch_ends_when_its_time_is_over(raw: Any) -> None:
    async with watching(raw, f"{CONFIG_MAPS}?watch=1&timeoutSeconds=1") as stream:
        assert await stream.end() == b""


async def test_watched_tables_define_their_columns_once(raw: Any) -> None:
    async with watching(raw, f"{CONFIG_MAPS}?watch=1", Accept=TABLE) as stream:
        await raw.create(CONFIG_MAPS, config_map("a"))
        await raw.create(CONFIG_MAPS, config_map("b"))
        _, first = await stream.next()
        _, second = await stream.next()
        assert [each["name"] for each in first["columnDefinitions"]] == ["Name", "Data", "Age"]
        assert second["columnDefinitions"] == []
        assert second["rows"][0]["cells"][0] == "b"


async def test_the_legacy_watch_paths_work(raw: Any) -> None:
    await fill(raw, 2)
    async with watching(raw, "/api/v1/watch/namespaces/default/configmaps/c01") as stream:
        assert (await stream.next())[1]["metadata"]["name"] == "c01"
        await raw("DELETE", f"{CONFIG_MAPS}/c00")
        await raw("DELETE", f"{CONFIG_MAPS}/c01")
        assert (await stream.next())[0] == "DELETED"


async def test_a_watch_of_all_namespaces_sees_them_all(raw: Any) -> None:
    await raw.create("/api/v1/namespaces", {"metadata": {"name": "other"}})
    async with watching(raw, "/api/v1/configmaps?watch=1") as stream:
        await raw.create("/api/v1/namespaces/other/configmaps", config_map("a"))
        await raw.create(CONFIG_MAPS, config_map("b"))
        found = [(await stream.next())[1]["metadata"] for _ in range(2)]
        assert [(each["namespace"], each["name"]) for each in found] == [("other", "a"), ("default", "b")]


async def test_a_watcher_that_hangs_up_is_forgotten(raw: Any, api: Any) -> None:
    async with watching(raw, f"{CONFIG_MAPS}?watch=1") as stream:
        assert b'apiserver_longrunning_requests{verb="watch"} 1' in (await raw("GET", "/metrics")).body
        stream.response.close()
    async with asyncio.timeout(30):
        while b'apiserver_longrunning_requests{verb="watch"} 0' not in (await raw("GET", "/metrics")).body:
            await asyncio.sleep(0.01)


async def test_every_answer_about_endpoints_says_that_they_are_deprecated(raw: Any) -> None:
    path = "/api/v1/namespaces/default/endpoints"
    warning = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    for answer in (
        await raw("POST", path, {"metadata": {"name": "e"}}),
        await raw("GET", path),
        await raw("GET", f"{path}/e"),
    ):
        assert answer.warnings == [warning]


@pytest.mark.parametrize(
    ("query", "agent", "lines"),
    [
        ("", "kubectl", 1),
        ("?pretty=true", "kubectl", 9),
        ("", "curl/8.0", 9),
        ("?pretty=false", "curl/8.0", 1),
    ],
)
async def test_json_is_indented_for_human_eyes(raw: Any, query: str, agent: str, lines: int) -> None:
    await fill(raw, 1)
    answer = await raw("GET", f"{CONFIG_MAPS}/c00{query}", User_Agent=agent)
    assert len(answer.body.splitlines()) >= lines
    assert (len(answer.body.splitlines()) == 1) is (lines == 1)
    assert answer.json["metadata"]["name"] == "c00"
