"""Objects -> ``meta.k8s.io/v1`` Tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.apiserver.tables.printers import printer_of

API_VERSION = "meta.k8s.io/v1"


class TableView:
    """Makes the tables of one answer; the column definitions of a watch come with its first event only.

    ``include``: ``None``, ``Metadata`` or ``Object``, what a row carries beside its cells.
    """

    def __init__(self, resource: Resource, include: str) -> None:
        self._printer = printer_of(resource)
        self._include = include
        self._defined = False

    def table(self, objects: Iterable[JsonObject], metadata: JsonObject, now: datetime) -> JsonObject:
        return {
            "kind": "Table",
            "apiVersion": API_VERSION,
            "metadata": metadata,
            "columnDefinitions": [column.definition() for column in self._printer.columns],
            "rows": [self._row(obj, now) for obj in objects],
        }

    def event(self, obj: JsonObject, now: datetime) -> JsonObject:
        """A watched object as a table of one row; a bookmark, which has no name, as a table of none."""
        metadata = obj.get("metadata") or {}
        shown = {"resourceVersion": metadata.get("resourceVersion", "")}
        is_bookmark = not metadata.get("name")
        if is_bookmark and metadata.get("annotations"):
            shown["annotations"] = metadata["annotations"]
        found = self.table([] if is_bookmark else [obj], shown, now)
        if self._defined:
            found["columnDefinitions"] = []
        self._defined = self._defined or not is_bookmark
        return found

    def _row(self, obj: JsonObject, now: datetime) -> JsonObject:
        row: JsonObject = {"cells": self._printer.cells(obj, now)}
        match self._include:
            case "Object":
                row["object"] = obj
            case "None":
                row["object"] = None
            case _:
                row["object"] = {
                    "kind": "PartialObjectMetadata", "apiVersion": API_VERSION, "metadata": obj["metadata"],
                }  # fmt: skip
        return row
