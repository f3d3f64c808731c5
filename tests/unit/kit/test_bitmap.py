from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport.kit.bitmap import Bitmap


def test_a_new_bitmap_is_clear() -> None:
    bitmap = Bitmap(2768)
    assert (len(bitmap), bitmap.count, bitmap.first_free()) == (2768, 0, 0)


def test_setting_and_clearing_say_whether_anything_changed() -> None:
    bitmap = Bitmap(10)
    assert [bitmap.set(9), bitmap.set(9), bitmap.test(9), bitmap.count] == [True, False, True, 1]
    assert [bitmap.clear(9), bitmap.clear(9), bitmap.test(9), bitmap.count] == [True, False, False, 0]


@pytest.mark.parametrize("index", [-1, 10])
def test_there_is_nothing_outside(index: int) -> None:
    with pytest.raises(IndexError):
        Bitmap(10).set(index)


def test_a_full_range_has_no_free_bit() -> None:
    bitmap = Bitmap(100)
    for index in range(86):
        bitmap.set(index)
    assert bitmap.first_free(0, 86) is None
    assert bitmap.first_free() == 86
    assert bitmap.first_free(99, 1000) == 99


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, set[int], int, int]:
    """(size, taken bits, start, stop)"""
    size = draw(st.integers(0, 70))
    taken = draw(st.sets(st.integers(0, max(size - 1, 0)), max_size=size))
    return size, taken, draw(st.integers(-3, 80)), draw(st.integers(-3, 80))


@given(cases())
def test_it_agrees_with_a_set_of_numbers(case: tuple[int, set[int], int, int]) -> None:
    size, taken, start, stop = case
    bitmap = Bitmap(size)
    for index in taken:
        bitmap.set(index)
    assert bitmap.count == len(taken)
    free = [index for index in range(size) if index not in taken and start <= index < stop]
    assert bitmap.first_free(start, stop) == (free[0] if free else None)
