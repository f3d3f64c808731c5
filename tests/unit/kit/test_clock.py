from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from nodeport.kit.clock import SystemClock, elapsed, parse_rfc3339, rfc3339, rfc3339_micro

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=UTC)


def test_a_time_is_written_in_whole_seconds_of_utc() -> None:
    assert rfc3339(MOMENT) == "2026-01-02T03:04:05Z"
    assert rfc3339(MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))) == "2026-01-02T03:04:05Z"


def test_a_micro_time_always_has_six_decimals() -> None:
    assert rfc3339_micro(MOMENT) == "2026-01-02T03:04:05.000060Z"
    assert rfc3339_micro(MOMENT.replace(microsecond=0)) == "2026-01-02T03:04:05.000000Z"


@pytest.mark.parametrize(
    "text",
    ["2026-01-02T03:04:05.00006Z", "2026-01-02t03:04:05.000060z", "2026-01-02T05:04:05.000060+02:00",
     "2026-01-02T03:04:05.000060999Z"],
)  # fmt: skip
def test_every_form_of_one_moment_is_read_as_that_moment(text: str) -> None:
    assert parse_rfc3339(text) == MOMENT
    assert parse_rfc3339(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z",
                                  "2026-01-02 03:04:05Z", "20260102T030405Z"])  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)


def test_a_time_without_a_zone_is_a_bug() -> None:
    with pytest.raises(ValueError, match="zone"):
        rfc3339(datetime(2026, 1, 2))


async def test_the_system_clock_goes_forward_and_knows_utc() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert elapsed(before, clock) >= timedelta(0)
    assert clock.now().utcoffset() == timedelta(0)
