"""The verbs and locks that a newcomer and CI rely on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = (
    "requirements.lock", "requirements-uv.lock", "requirements-kubectl.lock",
    *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("tests/clients/locks/*.lock"))),
)  # fmt: skip


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_package_by_hash_and_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    pins = re.findall(r"(?m)^[A-Za-z0-9._-]+==\S+.*$", text)
    assert pins
    assert all(pin.endswith("\\") for pin in pins), "each pin goes on with its hashes"
    assert "://" not in text


def test_the_lock_covers_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower() for requirement in wanted}
    locked = set(re.findall(r"(?m)^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text()))
    assert names - locked == set()


@pytest.mark.parametrize("verb", ["demo", "test", "lint", "bench", "docs"])
def test_the_makefile_knows_the_verb(verb: str) -> None:
    assert re.search(rf"(?m)^{verb}:", (ROOT / "Makefile").read_text())
