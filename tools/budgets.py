"""Size budgets: the tail is what goes bad, so longest file, longest function and deepest nesting are watched.

python tools/budgets.py        fails above the limits, prints the worst, and what is above the goals
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREES = ("src", "tests", "tools", "bench")
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Budget:
    """``goal`` is what we write towards; ``limit`` is an error. ``source_only``: tests are free of it."""

    what: str
    goal: int
    limit: int
    source_only: bool = False


FILE = Budget("lines in a file", 400, 600)
FUNCTION = Budget("lines in a function", 40, 60)
NESTING = Budget("levels of nesting", 3, 4, source_only=True)
NESTERS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.Match)
SCOPES = (ast.With, ast.AsyncWith)
"""Looked into, but no level of their own: a ``with`` decides nothing."""


@dataclass(frozen=True, slots=True, order=True)
class Measure:
    size: int
    where: str
    budget: str


def measures(path: Path) -> Iterator[Measure]:
    text = path.read_text()
    where = str(path.relative_to(ROOT))
    yield Measure(len(text.splitlines()), where, FILE.what)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            place = f"{where}:{node.lineno} {node.name}"
            yield Measure(function_lines(node), place, FUNCTION.what)
            yield Measure(depth(node.body), place, NESTING.what)


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From ``def`` to the end, without the docstring."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def depth(body: list[ast.stmt]) -> int:
    """How deep statements nest below ``body``; ``elif`` and a nested function do not count as deeper."""
    deepest = 0
    for node in body:
        if isinstance(node, SCOPES):
            deepest = max(deepest, depth(node.body))
        elif isinstance(node, NESTERS):
            deepest = max(deepest, 1 + max(depth(block) for block in blocks(node)), chained(node))
    return deepest


def blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "finalbody"):
        yield getattr(node, name, [])
    if not is_elif(node):
        yield getattr(node, "orelse", [])
    for inner in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
        yield inner.body


def is_elif(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)


def chained(node: ast.stmt) -> int:
    return depth(node.orelse) if isinstance(node, ast.If) and is_elif(node) else 0


def main() -> int:
    paths = [path for tree in TREES for path in sorted((ROOT / tree).rglob("*.py"))]
    found = [measure for path in paths for measure in measures(path)]
    failed = False
    for budget in (FILE, FUNCTION, NESTING):
        mine = [
            m
            for m in found
            if m.budget == budget.what and not (budget.source_only and m.where.startswith("tests"))
        ]
        mine.sort(reverse=True)
        beyond = [measure for measure in mine if measure.size > budget.limit]
        above = sum(measure.size > budget.goal for measure in mine)
        failed = failed or bool(beyond)
        print(
            f"{budget.what}: goal {budget.goal} ({above} of {len(mine)} above), limit {budget.limit}; the worst:"
        )
        for measure in beyond or mine[:SHOWN]:
            print(f"  {measure.size:4} {measure.where}{'  TOO MUCH' if measure in beyond else ''}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
