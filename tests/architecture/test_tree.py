"""The house's own rules: what may stand in the tree, and what must."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from nodeport.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "nodeport"
PACKAGES = sorted(path.parent for path in SOURCE.rglob("__init__.py"))
SKIPPED = {".git", ".venv", ".cache", "__pycache__", "_build", "dist", ".hypothesis"}
SKIPPED |= {".mypy_cache", ".ruff_cache", ".pytest_cache", ".import_linter_cache"}

# Spelled in halves, so that this file does not hold them.
REGISTRIES = (
    "pypi." + "org",
    "python" + "hosted",
    "npmjs." + "org",
    "crates." + "io",
    "proxy.golang" + ".org",
)
WORKPLACE = ("/work" + "/main", "/work" + "/shared", "/tmp/" + "contract", "clau" + "de", "anthro" + "pic")
HEAVY = ("aiohttp", "cryptography", "rich", "uvloop", "jsonpatch")


def tracked() -> list[Path]:
    """What git holds or would hold; the whole tree where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        paths = [path for path in ROOT.rglob("*") if not SKIPPED & set(path.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_room_says_what_it_is(package: Path) -> None:
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    assert len(docstring.split()) >= 5, (
        f"{package.name}/__init__.py needs a docstring that says what the room does"
    )
    assert "TODO" not in docstring


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_s_door_holds_no_furniture(package: Path) -> None:
    """``__init__.py`` may explain and name; code belongs in a module that says by its name what it does."""
    body = ast.parse((package / "__init__.py").read_text()).body
    assert not [
        node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [path for path in SOURCE.rglob("*") if path.stem in empty]


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_the_tree_names_no_package_registry_and_no_workplace() -> None:
    found = []
    for path in tracked():
        text = path.read_bytes().decode(errors="replace").lower()
        found += [f"{path.relative_to(ROOT)}: {word}" for word in REGISTRIES + WORKPLACE if word in text]
    assert not found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_imported_and_explains_itself(command: str) -> None:
    loaded = importlib.import_module(f"nodeport.cli.{command}").command
    assert isinstance(loaded, click.Command)
    assert len((loaded.help or "").split()) >= 3


@pytest.mark.parametrize("command", COMMANDS)
def test_the_documentation_mentions_every_command(command: str) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert any(f"nodeport {command}" in page.read_text() for page in pages), (
        f"no page mentions nodeport {command}"
    )


def test_the_command_reference_is_what_the_commands_say() -> None:
    """``make docs`` writes it."""
    code = (
        "import runpy; made = runpy.run_path('tools/make_reference.py');"
        "print(made['render'](made['nodeport']) == made['TARGET'].read_text())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "True\n", f"run make docs; {done.stderr}"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, importlib; from nodeport.cli.main import COMMANDS;"
        "[importlib.import_module(f'nodeport.cli.{name}') for name in COMMANDS];"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr.strip()) == ("", "")
