"""Telling the echo of our own writes from what others did."""

from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.client.cache import Change
from nodeport.controllers.freshness import OwnWrites


def obj(version: str, uid: str = "u") -> JsonObject:
    return {"metadata": {"name": "s", "namespace": "ns", "uid": uid, "resourceVersion": version}}


def test_our_own_write_is_no_news_whether_its_echo_comes_before_or_after_the_answer() -> None:
    own: OwnWrites[str] = OwnWrites()
    own.begin("key")
    own.wrote(obj("5"))
    assert not own.end("key")
    assert not own.is_foreign("key", Change(None, obj("5")))
    own.begin("key")
    assert not own.is_foreign("key", Change(obj("5"), obj("6")))
    own.wrote(obj("6"))
    assert not own.end("key")


def test_what_others_write_is_news_also_when_it_comes_during_a_write_of_ours() -> None:
    own: OwnWrites[str] = OwnWrites()
    assert own.is_foreign("key", Change(None, obj("4")))
    own.begin("key")
    assert not own.is_foreign("key", Change(obj("4"), obj("5")))
    assert not own.is_foreign("key", Change(obj("5"), obj("6")))
    own.wrote(obj("5"))
    assert own.end("key")
    assert own.is_foreign("other key", Change(obj("5"), obj("7")))


def test_a_deletion_is_news_unless_it_was_ours() -> None:
    own: OwnWrites[str] = OwnWrites()
    own.begin("key")
    own.deleted(obj("5", "ours"))
    assert not own.end("key")
    assert not own.is_foreign("key", Change(obj("5", "ours"), None))
    own.wrote(obj("8", "theirs"))
    assert own.is_foreign("key", Change(obj("8", "theirs"), None))
