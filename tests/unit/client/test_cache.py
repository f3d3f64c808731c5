"""The object cache: what it holds, what it tells, and that its indexes never lie."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.client.cache import Change, ObjectCache


def obj(name: str, version: int, *, uid: str = "u", **labels: str) -> JsonObject:
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": labels,
    }
    return {"metadata": metadata}


KEY = NamespacedName("ns", "a")


def test_a_new_object_is_told_as_new() -> None:
    cache = ObjectCache()
    assert list(cache.upsert(obj("a", 1))) == [Change(None, obj("a", 1))]
    assert cache.get(KEY) == obj("a", 1)


def test_an_event_that_repeats_the_cached_state_is_not_told() -> None:
    cache = ObjectCache()
    list(cache.upsert(obj("a", 2)))
    assert list(cache.upsert(obj("a", 2))) == []


def test_an_overtaken_event_changes_nothing() -> None:
    cache = ObjectCache()
    list(cache.upsert(obj("a", 10)))
    assert list(cache.upsert(obj("a", 9))) == []
    assert cache.get(KEY) == obj("a", 10)


def test_another_uid_under_the_same_name_is_a_deletion_and_a_creation() -> None:
    cache = ObjectCache()
    list(cache.upsert(obj("a", 1, uid="first")))
    first, second = obj("a", 1, uid="first"), obj("a", 5, uid="second")
    assert list(cache.upsert(second)) == [Change(first, None), Change(None, second)]


def test_replacing_tells_what_vanished_unseen() -> None:
    cache = ObjectCache()
    list(cache.replace([obj("a", 1), obj("b", 2)]))
    assert list(cache.replace([obj("b", 2)])) == [Change(obj("a", 1), None)]


def test_each_change_is_visible_when_it_is_told() -> None:
    cache = ObjectCache()
    for change in cache.replace([obj("a", 1), obj("b", 2)]):
        key = NamespacedName.of(change.object)
        assert cache.get(key) is change.new


def test_an_index_follows_its_objects() -> None:
    cache = ObjectCache()
    list(cache.upsert(obj("a", 1, app="web")))
    cache.add_index("app", lambda o: list(o["metadata"]["labels"].values()))
    assert [o["metadata"]["name"] for o in cache.by_index("app", "web")] == ["a"]
    list(cache.upsert(obj("a", 2, app="db")))
    assert cache.by_index("app", "web") == []
    list(cache.remove(KEY))
    assert cache.by_index("app", "db") == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["upsert", "remove", "replace"]), st.sampled_from("abcd"), st.sampled_from("xyz")
    ),
    max_size=40,
)


@given(STEPS)
def test_changes_rebuild_the_cache_and_indexes_match_a_scan(steps: list[tuple[str, str, str]]) -> None:
    cache = ObjectCache()
    cache.add_index("label", lambda o: list(o["metadata"]["labels"].values()))
    rebuilt: dict[NamespacedName, Any] = {}
    for version, (step, name, label) in enumerate(steps, start=1):
        fresh = obj(name, version, uid=label, label=label)
        match step:
            case "upsert":
                changes = list(cache.upsert(fresh))
            case "remove":
                changes = list(cache.remove(NamespacedName("ns", name)))
            case _:
                changes = list(cache.replace([fresh]))
        for change in changes:
            key = NamespacedName.of(change.object)
            assert rebuilt.get(key) == change.old
            rebuilt.pop(key, None)
            if change.new is not None:
                rebuilt[key] = change.new
    assert {NamespacedName.of(o): o for o in cache.list()} == rebuilt
    for label in "xyz":
        scanned = [o for o in cache.list() if o["metadata"]["labels"]["label"] == label]
        found = cache.by_index("label", label)
        assert sorted(o["metadata"]["name"] for o in found) == sorted(o["metadata"]["name"] for o in scanned)
