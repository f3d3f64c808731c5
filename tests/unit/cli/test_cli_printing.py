from __future__ import annotations

import json

import pytest

from nodeport.api.resources import DEPLOYMENTS, SERVICES
from nodeport.api.status import Forbidden, NotFound, invalid, invalid_object, required
from nodeport.cli.errors import ServerRefused
from nodeport.cli.printing import TablePrinter, print_objects

TABLE = {
    "columnDefinitions": [{"name": "Name"}, {"name": "Ready"}, {"name": "IP", "priority": 1}],
    "rows": [
        {
            "cells": ["a", "1/1", "10.0.0.1"],
            "object": {"metadata": {"namespace": "default", "labels": {"x": "y"}}},
        },
        {"cells": ["much-longer", None, "10.0.0.2"], "object": {"metadata": {"namespace": "default"}}},
    ],
}


def test_columns_are_aligned_as_kubectl_aligns_them(capsys: pytest.CaptureFixture[str]) -> None:
    TablePrinter(SERVICES).print(TABLE)
    assert capsys.readouterr().out.splitlines() == ["NAME          READY", "a             1/1", "much-longer"]


def test_wide_namespace_kind_and_labels_add_columns(capsys: pytest.CaptureFixture[str]) -> None:
    TablePrinter(DEPLOYMENTS, wide=True, with_namespace=True, with_kind=True, with_labels=True).print(TABLE)
    headings, first, second = capsys.readouterr().out.splitlines()
    assert headings.split() == ["NAMESPACE", "NAME", "READY", "IP", "LABELS"]
    assert first.split() == ["default", "deployment.apps/a", "1/1", "10.0.0.1", "x=y"]
    assert second.endswith("10.0.0.2   <none>")


def test_what_a_watch_adds_stays_below_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    printer = TablePrinter(SERVICES)
    printer.print(TABLE)
    printer.print({"columnDefinitions": None, "rows": TABLE["rows"][:1]})  # type: ignore[index]
    assert capsys.readouterr().out.splitlines()[-1] == "a             1/1"


def test_headings_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    TablePrinter(SERVICES, headings=False).print(TABLE)
    assert "NAME" not in capsys.readouterr().out


def test_objects_are_shown_as_yaml_in_key_order_without_managed_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    obj = {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "a", "managedFields": [{}]},
        "x": ["1"],
    }
    print_objects([obj], "yaml", as_list=False)
    assert capsys.readouterr().out == "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nx:\n- '1'\n"


def test_several_objects_are_shown_as_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_objects([{"metadata": {"name": "a"}}], "json", as_list=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["kind"], shown["apiVersion"], len(shown["items"])) == ("List", "v1", 1)


def test_a_refusal_is_told_in_kubectl_s_words() -> None:
    assert ServerRefused(NotFound('services "x" not found')).format_message() == (
        'Error from server (NotFound): services "x" not found'
    )
    assert ServerRefused(Forbidden("no"), while_doing='error when creating "f"').format_message() == (
        'Error from server (Forbidden): error when creating "f": no'
    )


def test_one_fault_is_told_in_one_line_and_several_as_a_list() -> None:
    one = invalid_object(
        SERVICES, "x", [invalid("spec.ports[0].nodePort", 30007, "provided port is already allocated")]
    )
    assert ServerRefused(one, while_doing="ignored").format_message() == (
        'The Service "x" is invalid: spec.ports[0].nodePort: Invalid value: 30007: provided port is already allocated'
    )
    two = invalid_object(DEPLOYMENTS, "x", [required("spec.a"), required("spec.b")])
    assert ServerRefused(two).format_message() == (
        'The Deployment "x" is invalid: \n* spec.a: Required value\n* spec.b: Required value'
    )
