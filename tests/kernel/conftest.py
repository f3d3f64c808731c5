"""Namespaces and clusters for kernel tests: real ones, under names and roots of their own, gone after each test.

And the outcomes of the packet suite, for the documentation.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, local_cluster, traces
from kernel.topology import Topology, answering_topology
from nodeport.node.local import Paths

PACKET_RESULTS = os.environ.get("NODEPORT_PACKET_RESULTS", "")
"""Where to write ``[{stage, mode, family, protocol, row, outcome}]``; ``tools/make_semantics.py`` reads it."""
STAGES = {
    "test_the_oracle_decides_as_the_row_says": "oracle",
    "test_the_rendered_rules_do_as_the_row_says": "rules",
    "test_real_packets_do_as_the_row_says": "packets",
}
_packet_results: list[dict[str, str]] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    stage = STAGES.get(getattr(item, "originalname", ""))
    if PACKET_RESULTS and stage and (report.when == "call" or report.outcome == "failed"):
        given = item.callspec.params  # type: ignore[attr-defined]
        mode, family = given.get("programmed", (given.get("traced", ""), given.get("family")))
        told = {
            "stage": stage,
            "mode": mode,
            "family": family,
            "protocol": given["protocol"].name,
            "row": given["row"],
        }
        _packet_results.append(
            {name: str(value) for name, value in told.items()} | {"outcome": report.outcome}
        )
    return report


def pytest_sessionfinish() -> None:
    if PACKET_RESULTS:
        Path(PACKET_RESULTS).parent.mkdir(parents=True, exist_ok=True)
        Path(PACKET_RESULTS).write_text(json.dumps(_packet_results) + "\n")


@pytest.fixture(scope="module")
def made() -> Iterator[Topology]:
    """Nodes, pods that answer and a client, for all tests of a module."""
    with answering_topology() as built:
        yield built


@pytest.fixture
def netns() -> Iterator[Path]:
    """A network namespace with nothing in it."""
    name = f"npk.{secrets.token_hex(5)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[Callable[[], LocalCluster]]:
    """Makes clusters that are not up yet; each is taken down, and must have left nothing."""
    made: list[LocalCluster] = []

    def make() -> LocalCluster:
        name = f"t{secrets.token_hex(4)}"
        made.append(LocalCluster(Paths(name, tmp_path / "data", tmp_path / "run"), tmp_path / "kubeconfig"))
        return made[-1]

    yield make
    for cluster in made:
        cluster.nodeport("down")
        assert traces(cluster) == []


@pytest.fixture
def cluster(new_cluster: Callable[[], LocalCluster]) -> LocalCluster:
    return new_cluster()


@pytest.fixture(scope="module")
def module_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One for all tests of a file, not up yet."""
    with local_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found
