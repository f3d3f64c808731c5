"""The page about conformance names only tests that exist, and every row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "conformance.md").read_text()
ROWS = re.findall(r"(?m)^\| (?!row |---)(.+?) \| (.+) \|$", PAGE)
NETWORK_ROWS, KUBECTL_ROWS = 47, 17


def test_no_row_is_missing_or_told_twice() -> None:
    assert len(ROWS) == len({name for name, _ in ROWS}) == NETWORK_ROWS + KUBECTL_ROWS


@pytest.mark.parametrize(("name", "proof"), ROWS, ids=[name for name, _ in ROWS])
def test_a_row_is_proven_or_explained(name: str, proof: str) -> None:
    if proof.startswith("not yet: "):
        return
    found = re.fullmatch(r"`(tests/[\w/]+\.py)::(\w+)`", proof)
    assert found, f"{name}: neither a test nor an explanation"
    assert re.search(rf"(?m)^(async )?def {found[2]}\(", (ROOT / found[1]).read_text()), proof
