"""Every verb of kubectl, from the oldest to the newest version, on a real cluster."""

from __future__ import annotations

import os

import pytest

import clients.rows
from clients.kit import ROWS, Kit, Row
from tooling import tool_module

VERSIONS: list[str] = tool_module("kubectl").versions(os.environ.get("NODEPORT_KUBECTL", "ends"))
assert VERSIONS, "NODEPORT_KUBECTL is a word or versions that tools/kubectl.py knows"
assert clients.rows.__all__, "importing the rows fills the table"
CASES = [(row, version) for version in VERSIONS for row in ROWS.found if row.fits(version)]

# What kubectl prints when it is asked for nothing, less its headings.
UNCOVERED = frozenset(
    {"alpha", "help", "completion", "options", "plugin", "uncordon", "drain", "taint", "kuberc"}
)


@pytest.mark.parametrize(("row", "version"), CASES, ids=[f"{row.name}-{version}" for row, version in CASES])
def test_kubectl(row: Row, version: str, kit: Kit, record_property: object) -> None:
    assert callable(record_property)
    for name, value in (("client", "kubectl"), ("version", version), ("verb", row.verb), ("use", row.use)):
        record_property(name, value)
    row.steps(kit)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_verb_that_kubectl_offers_has_a_row(version: str, kit: Kit) -> None:
    offered = {
        line.split()[0]
        for line in kit("--help").splitlines()
        if line.startswith("  ") and not line.startswith("   ")
    }
    verbs = {word for word in offered if word.isalpha() or "-" in word} - {"kubectl"}
    assert verbs - UNCOVERED <= {row.verb for row in ROWS.found}
