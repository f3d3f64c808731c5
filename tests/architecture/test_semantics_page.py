"""The page of semantics is what a run of the whole packet suite writes in which every row did as it says."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from kernel.aspects import ASPECT_ROWS
from kernel.modes import MODES, SuiteMode
from kernel.packets import ROWS

ROOT = Path(__file__).resolve().parents[2]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_semantics", ROOT / "tools" / "make_semantics.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def modes(page: str) -> list[SuiteMode]:
    """One that not every kernel has is on the page once results of such a kernel were given to the tool."""
    return [mode for mode in MODES if mode.everywhere or f"as packets, in mode {mode}" in page]


def complete_run(tool: ModuleType) -> Iterator[dict[str, str]]:
    places = [("oracle", "")]
    places += [("rules", mode.name) for mode in MODES if mode.tracer is not None]
    places += [("packets", mode.name) for mode in modes(tool.OUTPUT.read_text())]
    for stage, mode in places:
        for family in tool.FAMILIES:
            for protocol in tool.PROTOCOLS:
                for row in (*ROWS, *ASPECT_ROWS):
                    told = {"stage": stage, "mode": mode, "family": family, "protocol": protocol}
                    yield {**told, "row": str(row), "outcome": "passed"}


def test_the_page_is_current_and_nothing_on_it_failed_or_is_missing() -> None:
    tool = generator()
    assert tool.OUTPUT.read_text() == tool.page(complete_run(tool)), "run: make semantics"


def test_a_row_that_fails_in_a_mode_is_told_in_its_cell() -> None:
    tool = generator()
    results = list(complete_run(tool))
    for result in results:
        if (result["stage"], result["mode"], result["row"]) == ("packets", MODES[0].name, str(ROWS[1])):
            result["outcome"] = "failed"
    page = tool.page(results)
    assert f"`{ROWS[1].expected}` (not in {MODES[0].name})" in page
    assert page != tool.OUTPUT.read_text()
