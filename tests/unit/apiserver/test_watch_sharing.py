"""A change is encoded once, however many watch it."""

from __future__ import annotations

import pytest

from nodeport.api.resources import CONFIG_MAPS
from nodeport.api.selectors import parse_field_selector, parse_label_selector
from nodeport.apiserver.encoding import Splicer, decode, encode_stored, key_of, stored_labels
from nodeport.apiserver.options import ListOptions
from nodeport.apiserver.watchviews import ChangeCache, visible_kind
from nodeport.store.base import Event, KeyValue, Revision

SPLICER = Splicer(CONFIG_MAPS)
KEY = key_of(CONFIG_MAPS, "n", "c")


def state(revision: int, **labels: str) -> KeyValue:
    obj = {
        "kind": "ConfigMap", "apiVersion": "v1", "data": {"a": "é"},
        "metadata": {"labels": labels, "name": "c", "namespace": "n", "resourceVersion": "1"},
    }  # fmt: skip
    return KeyValue(KEY, encode_stored(obj), Revision(1), Revision(revision))


def event(revision: int, current: KeyValue | None, previous: KeyValue | None) -> Event:
    return Event(Revision(revision), KEY, current, previous)


def options(labels: str = "", fields: str = "") -> ListOptions:
    return ListOptions(parse_label_selector(labels), parse_field_selector(fields))


def test_stored_bytes_begin_with_metadata_and_lack_what_the_key_tells() -> None:
    stored = state(1).value
    assert stored.startswith(b'{"metadata":{')
    assert set(decode(stored)) == {"metadata", "data"}
    assert "resourceVersion" not in decode(stored)["metadata"]


def test_served_bytes_are_stored_bytes_with_a_head() -> None:
    kv = state(7, color="red")
    served = SPLICER.serve(kv.value, 7)
    assert served.endswith(kv.value[len(b'{"metadata":{') :])
    assert decode(served) == SPLICER.read(kv)
    assert decode(served)["metadata"]["resourceVersion"] == "7"
    assert "resourceVersion" not in decode(SPLICER.serve_without_revision(kv.value))["metadata"]
    assert stored_labels(kv.value) == {"color": "red"}


def test_a_change_becomes_bytes_once() -> None:
    cache = ChangeCache(SPLICER)
    change = event(3, state(3), state(2))
    first = cache.change(change).line("MODIFIED")
    assert cache.change(change).line("MODIFIED") is first
    assert decode(first)["object"]["metadata"]["resourceVersion"] == "3"
    for revision in range(10, 3000):
        cache.change(event(revision, state(revision), None))
    assert cache.change(change).line("MODIFIED") is not first


def test_a_deletion_shows_the_last_state_at_its_own_revision() -> None:
    change = ChangeCache(SPLICER).change(event(9, None, state(4, color="red")))
    shown = decode(change.line("DELETED"))
    assert shown["type"] == "DELETED"
    assert shown["object"]["metadata"]["resourceVersion"] == "9"
    assert shown["object"]["metadata"]["labels"] == {"color": "red"}


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        (None, "red", "ADDED"), (None, "blue", ""), ("red", "red", "MODIFIED"), ("blue", "red", "ADDED"),
        ("red", "blue", "DELETED"), ("blue", "blue", ""), ("red", None, "DELETED"), ("blue", None, ""),
    ],
)  # fmt: skip
def test_what_a_selective_watcher_sees(before: str | None, after: str | None, seen: str) -> None:
    current = state(5, color=after) if after else None
    previous = state(4, color=before) if before else None
    change = ChangeCache(SPLICER).change(event(5, current, previous))
    assert visible_kind(change, options("color=red")) == seen
    assert visible_kind(change, options(fields="metadata.name=other")) == ""
