from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nodeport.kit.clock import SystemClock
from nodeport.node.logs import BadLogOption, LogOptions, existing, parse_options, read, render

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def line(second: int, text: str, tag: str = "F") -> str:
    return f"2026-01-02T03:04:{second:02d}.000000001Z stdout {tag} {text}\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_text(line(1, "one") + line(2, "tw", "P") + line(2, "o") + line(3, "three"))
    return path


def test_lines_come_back_as_they_were_written(log: Path) -> None:
    assert b"".join(existing(log, LogOptions())) == b"one\ntwo\nthree\n"


def test_the_tail_counts_stored_lines(log: Path) -> None:
    assert b"".join(existing(log, LogOptions(tail_lines=1))) == b"three\n"
    assert existing(log, LogOptions(tail_lines=0)) == []
    assert len(existing(log, LogOptions(tail_lines=100))) == 4


def test_older_lines_are_left_out(log: Path) -> None:
    since = datetime(2026, 1, 2, 3, 4, 3, tzinfo=UTC)
    assert existing(log, LogOptions(since=since)) == [b"three\n"]


def test_timestamps_come_first() -> None:
    shown = render(line(1, "one").rstrip().encode(), LogOptions(timestamps=True))
    assert shown == b"2026-01-02T03:04:01.000000001Z one\n"


def test_one_stream_can_be_left_out() -> None:
    stored = line(1, "one").rstrip().encode()
    assert render(stored, parse_options({"stream": "Stdout"}, NOW)) == b"one\n"
    assert render(stored, parse_options({"stream": "Stderr"}, NOW)) == b""
    assert render(stored, parse_options({"stream": "All"}, NOW)) == b"one\n"


def test_a_rotated_file_is_read_before_the_current_one(log: Path) -> None:
    log.with_name("0.log.1").write_text(line(0, "zero"))
    assert existing(log, LogOptions())[0] == b"zero\n"


def test_half_a_line_is_not_shown_yet(log: Path) -> None:
    with log.open("a") as file:
        file.write(line(4, "four")[:-1])
    assert existing(log, LogOptions())[-1] == b"three\n"


async def test_bytes_are_limited(log: Path) -> None:
    assert [chunk async for chunk in read(log, LogOptions(limit_bytes=5), SystemClock(), lambda: True)] == [
        b"one\nt"
    ]


async def test_following_ends_with_the_container_and_misses_nothing(log: Path) -> None:
    over = iter((False, True, True))
    found = []
    async for chunk in read(log, LogOptions(follow=True, tail_lines=1), SystemClock(), lambda: next(over)):
        found.append(chunk)
        if len(found) == 1:
            with log.open("a") as file:
                file.write(line(4, "four"))
    assert found == [b"three\n", b"four\n"]


async def test_following_goes_on_in_the_new_file_after_a_rotation(log: Path) -> None:
    over = iter((False, True, True))
    found = []
    async for chunk in read(log, LogOptions(follow=True, tail_lines=0), SystemClock(), lambda: next(over)):
        found.append(chunk)
    assert found == []
    over = iter((False, True, True))
    async for chunk in read(log, LogOptions(follow=True, tail_lines=1), SystemClock(), lambda: next(over)):
        if not found:
            log.rename(log.with_name("0.log.1"))
            log.write_text(line(5, "five"))
        found.append(chunk)
    assert found == [b"three\n", b"five\n"]


def test_since_seconds_may_reach_beyond_all_dates() -> None:
    assert parse_options({"sinceSeconds": str(2**62)}, NOW).since < NOW


def test_options_are_read_from_a_query() -> None:
    found = parse_options({"follow": "true", "tailLines": "0", "limitBytes": "9", "sinceSeconds": "5"}, NOW)
    assert found == LogOptions(True, False, 0, 9, datetime(2026, 1, 2, 3, 4, 0, tzinfo=UTC))


@pytest.mark.parametrize(
    "query",
    [
        {"tailLines": "-1"},
        {"tailLines": "x"},
        {"limitBytes": "0"},
        {"sinceSeconds": "0"},
        {"sinceTime": "now"},
    ],
)
def test_a_bad_option_is_named(query: dict[str, str]) -> None:
    with pytest.raises(BadLogOption, match=next(iter(query))):
        parse_options(query, NOW)
