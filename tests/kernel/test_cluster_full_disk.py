"""A local cluster on a disk that is full."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, is_running, traces, wait_for
from nodeport.api.resources import NODES, PODS, SECRETS
from nodeport.api.status import AlreadyExists, ServiceUnavailable
from nodeport.node.local import Paths


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 14 megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=14m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def cluster_on(disk: Path, tmp_path: Path) -> LocalCluster:
    return LocalCluster(Paths(f"t{secrets.token_hex(4)}", disk, tmp_path / "run"), tmp_path / "kubeconfig")


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
    return filler


def test_a_cluster_is_mended_on_a_full_disk_and_goes_on_when_there_is_room(
    disk: Path, tmp_path: Path
) -> None:
    cluster = cluster_on(disk, tmp_path)
    large = {"type": "Opaque", "stringData": {"k": "x" * 900_000}}
    try:
        cluster.up("--nodes", "1")
        filler = fill(disk)
        cluster.kill("server")
        assert "is mended (server started)" in cluster.up()
        assert cluster.get(NODES, "node-1")["metadata"]["name"] == "node-1"
        with pytest.raises(ServiceUnavailable) as refused:
            cluster.create(SECRETS, {"metadata": {"name": "one"}, **large})
        assert str(disk) not in refused.value.message
        filler.unlink()
        wait_for(lambda: cluster.create(SECRETS, {"metadata": {"name": "one"}, **large}), "room for a Secret")
    finally:
        cluster.nodeport("down")
    assert traces(cluster) == []


def test_pods_live_through_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """What runs goes on without its log; what is to start waits for room, and is told so."""
    cluster = cluster_on(disk, tmp_path)
    try:
        cluster.up("--nodes", "1")
        cluster.pod("talks", command=["sh", "-c", "while :; do echo tick; sleep 0.05; done"])
        wait_for(lambda: "tick" in cluster.log_of("talks"), "the first line")
        filler = fill(disk)
        wait_for(lambda: stands_still(cluster, "talks"), "the log to stop")
        with contextlib.suppress(ServiceUnavailable):  # the store may have no room either
            cluster.pod("waits", command=["sleep", "1000"])
        before = len(cluster.log_of("talks"))
        filler.unlink()
        wait_for(lambda: len(cluster.log_of("talks")) > before, "the log to go on")
        wait_for(lambda: running(cluster, "waits"), "the other pod to run")
        assert cluster.get(PODS, "talks")["status"]["containerStatuses"][0]["restartCount"] == 0
        assert set(cluster.log_of("talks").split()) == {"tick"}
    finally:
        cluster.nodeport("down")
    assert traces(cluster) == []


def stands_still(cluster: LocalCluster, pod: str) -> bool:
    before = len(cluster.log_of(pod))
    time.sleep(0.3)  # six lines would have come
    return len(cluster.log_of(pod)) == before


def running(cluster: LocalCluster, pod: str) -> bool:
    """It is made when it could not be before."""
    with contextlib.suppress(AlreadyExists):
        cluster.pod(pod, command=["sleep", "1000"])
    return is_running(cluster.get(PODS, pod))


def test_a_cluster_that_has_no_room_to_begin_is_told_in_a_sentence(disk: Path, tmp_path: Path) -> None:
    cluster = cluster_on(disk, tmp_path)
    filler = fill(disk)
    said = cluster.nodeport("up", "--nodes", "1", code=1)
    filler.unlink()
    cluster.nodeport("down")
    assert "the disk is full: make room below" in said
    assert "Errno" not in said
    assert traces(cluster) == []
