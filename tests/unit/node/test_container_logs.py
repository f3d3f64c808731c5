from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nodeport.kit.clock import SystemClock
from nodeport.node.containerlog import ContainerLog, set_aside
from nodeport.node.logs import BadLogOption, LogOptions, LogReader, parse_options, read, render

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def line(second: int, text: str, tag: str = "F") -> str:
    return f"2026-01-02T03:04:{second:02d}.000000001Z stdout {tag} {text}\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_text(line(1, "one") + line(2, "tw", "P") + line(2, "o") + line(3, "three"))
    return path


def existing(log: Path, options: LogOptions) -> list[bytes]:
    """What is shown of what there is now, line by line."""
    with LogReader(log) as reader:
        if options.tail_lines is not None:
            reader.skip_to_tail(options.tail_lines, options)
        found = []
        while (lines := reader.lines()) is not None:
            found += [shown for line in lines if (shown := render(line, options))]
        return found


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


async def test_following_goes_on_in_the_new_files_after_rotations(log: Path) -> None:
    over = iter((False, False, False, True, True))
    found = []
    async for chunk in read(log, LogOptions(follow=True, tail_lines=1), SystemClock(), lambda: next(over)):
        if not found:
            with log.open("a") as file:
                file.write(line(4, "four"))
            log.rename(log.with_name("0.log.1"))
            log.with_name("0.log.2").write_text(line(5, "five"))
            log.write_text(line(6, "six"))
        found.append(chunk)
    assert b"".join(found) == b"three\nfour\nfive\nsix\n"


async def test_a_log_that_begins_while_it_is_followed_is_read(tmp_path: Path) -> None:
    log, over, found = tmp_path / "0.log", iter((False, True, True)), []

    def ended() -> bool:
        log.write_text(line(1, "one"))
        return next(over)

    async for chunk in read(log, LogOptions(follow=True), SystemClock(), ended):
        found.append(chunk)
    assert found == [b"one\n"]


@pytest.mark.parametrize("follow_every", [1, 3, 7])
def test_a_reader_gets_every_line_once_however_often_the_log_is_rotated(
    tmp_path: Path, follow_every: int
) -> None:
    path = tmp_path / "0.log"
    log, found, written = ContainerLog(str(path), 200, 5), [], []
    with LogReader(path) as reader:
        for number in range(100):
            written.append(f"line {number}")
            log.write("stdout", f"line {number}\n".encode())
            if number % follow_every == 0:
                while (lines := reader.lines()) is not None:
                    found += lines
        while (lines := reader.lines()) is not None:
            found += lines
    assert [one.split(b" ", 3)[3].decode() for one in found] == written
    assert [number for number, _ in set_aside(str(path))] == sorted(
        number for number, _ in set_aside(str(path))
    )
    assert len(list(tmp_path.iterdir())) == 5
    assert all(file.stat().st_size <= 200 for file in tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 2, 5, 500, 1999, 2000, 3000])
def test_a_tail_reaches_over_files_and_blocks(tmp_path: Path, count: int) -> None:
    path = tmp_path / "0.log"
    log = ContainerLog(str(path), 100_000, 9)
    for number in range(2000):
        log.write("stdout" if number % 2 else "stderr", (f"line {number} " + "x" * 100 + "\n").encode())
    log.append(b"half a line")
    assert len(set_aside(str(path))) >= 2
    shown = existing(path, LogOptions(tail_lines=count))
    assert [int(one.split()[1]) for one in shown] == list(range(2000))[-count:]
    odd = existing(path, LogOptions(tail_lines=count, stream=b"stdout"))
    assert [int(one.split()[1]) for one in odd] == list(range(1, 2000, 2))[-count:]


def test_long_lines_are_kept_in_parts_and_come_back_whole(tmp_path: Path) -> None:
    log, long = ContainerLog(str(tmp_path / "0.log")), b"y" * 40_000
    for at in range(0, len(long), 16384):
        log.write("stdout", long[at : at + 16384])
    log.write("stdout", b"\n")
    log.write("stderr", b"no line break")
    log.close_stream("stderr")
    assert b"".join(existing(tmp_path / "0.log", LogOptions())) == long + b"\nno line break"


def test_where_there_is_no_more_room_whole_lines_are_lost(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: a write is cut short, further ones fail."""
    path = tmp_path / "0.log"
    program = (
        "import resource, sys\n"
        "from nodeport.node.containerlog import ContainerLog\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "log = ContainerLog(sys.argv[1])\n"
        "for number in range(100): log.write('stdout', f'line {number}\\n'.encode())\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    text = path.read_text()
    assert 900 < len(text) <= 1000
    assert text.endswith("\n")
    shown = [int(one.split()[1]) for one in existing(path, LogOptions())]
    assert shown == list(range(len(shown)))


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
