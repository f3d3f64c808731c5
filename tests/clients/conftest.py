"""One cluster for all clients; each use of one gets a namespace of its own. The outcomes can be written to a file."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clients.kit import Kit
from kernel.clusters import LocalCluster, local_cluster
from tooling import tool

RESULTS = os.environ.get("NODEPORT_CLIENT_RESULTS", "")
"""Where to write ``[{client, version, verb, use, outcome, why}]``; ``make clients`` makes the documentation of it."""

_PATHS = re.compile(r"(/[\w.-]+){3,}")
"""This machine's paths, which the page does not tell."""

_outcomes: list[dict[str, Any]] = []


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("clients")) as made:
        made.up("--nodes", "2")
        yield made


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-").removeprefix("test-")
    return f"{words[:40].strip('-')}-{secrets.token_hex(3)}"


def kubeconfig_for(cluster: LocalCluster, namespace: str, folder: Path) -> Path:
    """The cluster's kubeconfig with another default namespace."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = namespace
    path = folder / f"kubeconfig-{namespace}"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


@pytest.fixture
def kit(request: pytest.FixtureRequest, cluster: LocalCluster, home: Path, namespace: str) -> Iterator[Kit]:
    version = request.getfixturevalue("version")
    own = home / version
    own.mkdir(exist_ok=True)
    made = Kit(
        Path(tool("kubectl", version)), kubeconfig_for(cluster, namespace, home), own, namespace, version
    )
    made("create", "namespace", namespace)
    try:
        yield made
    finally:
        made("delete", "namespace", namespace, "--wait=false")


def _part(told: dict[str, Any]) -> dict[str, Any]:
    """The outcome of one use among several that a client's program told of."""
    if not told:
        return {}
    return {"use": told["use"], "outcome": "passed" if told["ok"] else "failed", "why": told["why"]}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    facts = dict(item.user_properties)
    if report.when == "call" and "client" in facts:
        reason = _PATHS.sub("…", str(call.excinfo.value)) if call.excinfo else ""
        if call.excinfo and call.excinfo.errisinstance(subprocess.TimeoutExpired):
            reason = "it did not end in time"
        outcome = {"outcome": report.outcome, "why": reason.partition("\n")[0][:300]}
        parts = facts.pop("uses", None) or [{}]
        _outcomes.extend({**facts, **outcome, **_part(each)} for each in parts)
    return report


def pytest_sessionfinish() -> None:
    if RESULTS and _outcomes:
        Path(RESULTS).write_text(json.dumps(_outcomes, indent=1) + "\n")
