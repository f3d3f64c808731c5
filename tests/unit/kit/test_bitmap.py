from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport.kit.bitmap import Bitmap, SparseBitmap, bits


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


@pytest.mark.parametrize("kind", [Bitmap, SparseBitmap])
def test_either_form_does_what_a_plain_set_does(kind: type[Bitmap] | type[SparseBitmap]) -> None:
    rng = random.Random(5)
    size = 3000
    found, model = kind(size), set[int]()
    for _ in range(4000):
        index = rng.randrange(size)
        match rng.randrange(3):
            case 0:
                assert found.set(index) is (index not in model)
                model.add(index)
            case 1:
                assert found.clear(index) is (index in model)
                model.discard(index)
            case _:
                stop = rng.randrange(index, size + 1)
                expected = next((each for each in range(index, stop) if each not in model), None)
                assert found.first_free(index, stop) == expected
    assert found.count == len(model)
    for bad in (-1, size):
        with pytest.raises(IndexError):
            found.test(bad)


@pytest.mark.parametrize("free", [None, 0, 1, 7, 8, 511, 512, 513, 1023, 4095])
def test_the_one_free_bit_after_a_long_run_is_found(free: int | None) -> None:
    found = Bitmap(4096)
    for index in range(4096):
        if index != free:
            found.set(index)
    assert found.first_free() == free
    assert found.first_free(0, free) is None


def test_a_range_too_large_for_bits_is_kept_as_a_set() -> None:
    assert isinstance(bits(1 << 16), Bitmap)
    huge = bits(1 << 64)
    assert isinstance(huge, SparseBitmap)
    assert huge.set((1 << 64) - 1)
    assert huge.first_free((1 << 64) - 1) is None
