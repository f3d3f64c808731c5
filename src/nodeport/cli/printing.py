"""Output as kubectl prints it: the server's tables in aligned columns, objects as YAML, JSON or names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.cli.selection import spelled

FORMATS = ("wide", "yaml", "json", "name")
MIN_WIDTH = 6
PADDING = 3


class Columns:
    """Aligns rows; remembers widths, so that what a watch adds stays below its headings."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def lines(self, rows: Sequence[Sequence[str]]) -> Iterable[str]:
        for row in rows:
            for index, cell in enumerate(row):
                width = max(len(cell) + PADDING, MIN_WIDTH)
                if index >= len(self._widths):
                    self._widths.append(width)
                else:
                    self._widths[index] = max(self._widths[index], width)
        for row in rows:
            padded = [cell.ljust(width) for cell, width in zip(row[:-1], self._widths, strict=False)]
            yield "".join([*padded, *row[-1:]]).rstrip(" ") if row else ""


class TablePrinter:
    """Prints ``meta.k8s.io/v1`` Tables of one resource: headings once, then rows."""

    def __init__(
        self,
        resource: Resource,
        *,
        wide: bool = False,
        with_namespace: bool = False,
        with_kind: bool = False,
        with_labels: bool = False,
        headings: bool = True,
    ) -> None:
        self._resource = resource
        self._wide = wide
        self._with_namespace = with_namespace and resource.namespaced
        self._with_kind = with_kind
        self._with_labels = with_labels
        self._headings = headings
        self._columns = Columns()
        self._definitions: list[JsonObject] = []

    def print(self, table: JsonObject) -> None:
        self._definitions = table.get("columnDefinitions") or self._definitions
        rows = [self._cells(row) for row in table.get("rows") or []]
        if self._headings and rows:
            rows.insert(0, self._headings_row())
            self._headings = False
        for line in self._columns.lines(rows):
            click.echo(line)

    def _shown(self) -> list[int]:
        return [i for i, column in enumerate(self._definitions) if self._wide or not column.get("priority")]

    def _headings_row(self) -> list[str]:
        names = [self._definitions[index]["name"].upper() for index in self._shown()]
        return [
            *(["NAMESPACE"] if self._with_namespace else []),
            *names,
            *(["LABELS"] if self._with_labels else []),
        ]

    def _cells(self, row: JsonObject) -> list[str]:
        cells = [_text(row["cells"][index]) for index in self._shown()]
        metadata = (row.get("object") or {}).get("metadata") or {}
        if self._with_kind and cells:
            cells[0] = spelled(self._resource, cells[0])
        if self._with_namespace:
            cells.insert(0, metadata.get("namespace", ""))
        if self._with_labels:
            labels = metadata.get("labels") or {}
            cells.append(",".join(f"{key}={labels[key]}" for key in sorted(labels)) or "<none>")
        return cells


def _text(value: Any) -> str:
    """A cell; only its first line, as kubectl shows no other."""
    if isinstance(value, bool):
        return "true" if value else "false"
    first, newline, _ = ("" if value is None else str(value)).partition("\n")
    return f"{first}..." if newline else first


def print_objects(objects: Sequence[JsonObject], output: str, *, as_list: bool) -> None:
    """Print as YAML or JSON: the object itself, or a ``v1`` List of all of them."""
    shown = [without_managed_fields(obj) for obj in objects]
    whole: JsonObject = shown[0] if not as_list else {
        "apiVersion": "v1", "items": shown, "kind": "List", "metadata": {"resourceVersion": ""},
    }  # fmt: skip
    click.echo(rendered(whole, output), nl=output == "json")


def rendered(obj: JsonObject, output: str) -> str:
    if output == "json":
        return json.dumps(obj, indent=4, sort_keys=True, ensure_ascii=False)
    return _yaml(obj)


def _yaml(obj: JsonObject) -> str:
    from nodeport.api.yamltext import dump

    return dump(obj, width=1 << 20)


def without_managed_fields(obj: JsonObject) -> JsonObject:
    metadata = obj.get("metadata") or {}
    if "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
