from __future__ import annotations

from datetime import timedelta

import pytest

from nodeport.kit.backoff import Backoff


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_delays_double_up_to_the_maximum() -> None:
    backoff = Backoff(seconds(1), seconds(5))
    assert [backoff.next() for _ in range(5)] == [seconds(number) for number in (1, 2, 4, 5, 5)]


def test_success_begins_anew() -> None:
    backoff = Backoff(seconds(1), seconds(60), factor=3)
    assert [backoff.next(), backoff.next()] == [seconds(1), seconds(3)]
    backoff.reset()
    assert backoff.next() == seconds(1)


def test_jitter_lengthens_by_its_share_and_does_not_add_up() -> None:
    backoff = Backoff(seconds(1), seconds(4), jitter=0.5, random=lambda: 0.5)
    assert [backoff.next() for _ in range(3)] == [seconds(1.25), seconds(2.5), seconds(5)]


def test_years_of_failures_do_not_overflow() -> None:
    backoff = Backoff(seconds(1), timedelta(minutes=5))
    assert [backoff.next() for _ in range(2000)][-1] == timedelta(minutes=5)


@pytest.mark.parametrize(("initial", "maximum", "factor"), [(0, 1, 2), (2, 1, 2), (1, 2, 0.5)])
def test_a_backoff_that_cannot_work_is_refused(initial: int, maximum: int, factor: float) -> None:
    with pytest.raises(ValueError, match="backoff"):
        Backoff(seconds(initial), seconds(maximum), factor)
