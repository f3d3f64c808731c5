"""Clusters for kernel tests: real ones, under names and roots of their own, gone after each test."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, local_cluster, traces
from nodeport.node.local import Paths


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
