from __future__ import annotations

import click
import pytest

from nodeport.cli.node import MILLISECONDS, PERCENT


@pytest.mark.parametrize(("text", "number"), [("10", 10.0), ("10%", 10.0), ("0.5", 0.5), ("100%", 100.0)])
def test_a_figure_may_name_its_unit(text: str, number: float) -> None:
    assert PERCENT.convert(text, None, None) == number
    assert MILLISECONDS.convert("50ms", None, None) == 50.0


@pytest.mark.parametrize("text", ["101", "-1", "x", "nan", "inf", "", "50ms"])
def test_what_is_no_such_figure_is_told_with_what_is(text: str) -> None:
    with pytest.raises(click.BadParameter, match=f"'{text}' must be a number of % from 0 to 100"):
        PERCENT.convert(text, None, None)
