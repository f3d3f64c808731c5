"""A reader of an informer's cache who can be cut off, and hears afterwards what happened."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import SERVICES
from nodeport.client.informer import Change, Informer
from nodeport.client.rest import RestClient
from nodeport.client.view import View


def svc(name: str, version: int, port: int = 80) -> JsonObject:
    return {
        "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": str(version)},
        "spec": {"port": port},
    }


def key(name: str) -> NamespacedName:
    return NamespacedName("ns", name)


class Source(Informer):
    """Is told what happens, by the test."""

    def __init__(self) -> None:
        super().__init__(cast(RestClient, None), SERVICES)

    def put(self, *objects: JsonObject) -> None:
        for obj in objects:
            self._take(self._cache.upsert(obj))

    def drop(self, name: str) -> None:
        self._take(self._cache.remove(key(name)))

    def complete(self) -> None:
        self._synced.set()


@pytest.fixture
def source() -> Source:
    made = Source()
    made.put(svc("a", 1), svc("b", 2))
    made.complete()
    return made


def heard_by(view: View) -> list[tuple[int, int]]:
    """The versions, old and new, of every change; 0 for none."""
    found: list[tuple[int, int]] = []

    def version(obj: JsonObject | None) -> int:
        return int(obj["metadata"]["resourceVersion"]) if obj else 0

    def hear(change: Change) -> None:
        if change.new is not None:
            assert view.get(NamespacedName.of(change.new)) == change.new
        found.append((version(change.old), version(change.new)))

    view.subscribe(hear)
    return found


def test_a_view_sees_and_hears_what_the_informer_does(source: Source) -> None:
    view = View(source)
    heard = heard_by(view)
    source.put(svc("a", 3))
    source.drop("b")
    assert heard == [(0, 1), (0, 2), (1, 3), (2, 0)]
    assert len(view) == 1
    assert view.get(key("a")) is source.get(key("a"))


def test_cut_off_it_shows_all_as_it_was_and_hears_the_difference_afterwards(source: Source) -> None:
    view = View(source)
    view.add_index("port", lambda obj: [str(obj["spec"]["port"])])
    heard = heard_by(view)
    del heard[:]
    view.cut()
    view.cut()
    source.put(svc("a", 3, port=81), svc("c", 4), svc("d", 5))
    source.drop("b")
    source.drop("d")
    assert heard == []
    assert [each["metadata"]["name"] for each in view.by_index("port", "80")] == ["a", "b"]
    assert view.get(key("a")) == svc("a", 1)
    view.join()
    view.join()
    assert sorted(heard) == [(0, 4), (1, 3), (2, 0)]
    assert [each["metadata"]["name"] for each in view.by_index("port", "80")] == ["c"]
    source.put(svc("a", 6))
    assert heard[-1] == (3, 6)


def test_who_subscribes_to_a_view_that_is_cut_off_hears_what_it_shows(source: Source) -> None:
    view = View(source)
    view.cut()
    source.put(svc("c", 3))
    heard = heard_by(view)
    assert heard == [(0, 1), (0, 2)]
    view.join()
    assert heard[2:] == [(0, 3)]


def test_views_of_one_informer_share_indexes_and_nothing_else(source: Source) -> None:
    one, other = View(source), View(source)
    for view in (one, other, one):
        view.add_index("name", lambda obj: [obj["metadata"]["name"]])
    one.cut()
    source.put(svc("c", 3))
    assert other.by_index("name", "c") == [svc("c", 3)]
    assert one.by_index("name", "c") == []


async def test_a_view_that_was_cut_off_before_there_was_a_list_is_complete_only_when_joined() -> None:
    source = Source()
    view = View(source)
    view.cut()
    source.put(svc("a", 1))
    source.complete()
    assert not view.synced
    waiting = asyncio.create_task(view.wait_until_synced())
    await asyncio.sleep(0)
    assert not waiting.done()
    view.join()
    await waiting
    assert view.synced
    assert view.get(key("a")) is not None


async def test_a_view_is_not_run(source: Source) -> None:
    with pytest.raises(RuntimeError, match="a view of services"):
        await View(source).run()
