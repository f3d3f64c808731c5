"""What a client asks of exec, before a node hears of it."""

from __future__ import annotations

import pytest

from nodeport.api.status import BadRequest
from nodeport.apiserver.requests import Address
from nodeport.apiserver.streams.remotecommand import asked_streams


def asked(text: str) -> Address:
    pairs = dict(part.partition("=")[::2] for part in text.split("&"))
    return Address("/", pairs, text)


def test_words_and_streams_are_handed_on_in_order() -> None:
    assert asked_streams(asked("command=a&command=b&stdout=1")) == [
        ("command", "a"),
        ("command", "b"),
        ("output", "1"),
    ]


def test_no_word_may_hold_a_nul() -> None:
    with pytest.raises(BadRequest, match=r'command: "a\\x00b": no word of a command may hold a NUL'):
        asked_streams(asked("command=a%00b&stdout=1"))
