from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from nodeport.kit.logs import configure, get_logger


@pytest.fixture(autouse=True)
def root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_a_line_tells_time_level_room_message_and_extras() -> None:
    stream = io.StringIO()
    configure("INFO", stream=stream)
    get_logger("nodeport.proxy.runner").info("programmed", extra={"services": 12})
    get_logger("proxy").debug("unseen")
    time, rest = stream.getvalue().split(" ", 1)
    assert rest == "INFO proxy.runner programmed services=12\n"
    assert time.endswith("Z")


def test_json_lines_carry_the_same_and_the_traceback() -> None:
    stream = io.StringIO()
    configure(logging.INFO, json=True, stream=stream)
    try:
        raise LookupError("gone")
    except LookupError:
        get_logger("store").exception("refused", extra={"key": "/a"})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["message"], line["key"]) == (
        "error",
        "nodeport.store",
        "refused",
        "/a",
    )
    assert line["error"].endswith("LookupError: gone")


def test_configuring_again_does_not_double_the_lines() -> None:
    stream = io.StringIO()
    configure("INFO", stream=io.StringIO())
    configure("INFO", stream=stream)
    get_logger("nodeport").warning("once")
    assert stream.getvalue().count("once") == 1
