"""Pods that take more of the disk than they may, on a node with a small disk of its own."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, traces, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import EVENTS, NODES, PODS
from nodeport.node.local import Paths


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """One node that wants 20 of its 96 megabytes to be free."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", place], check=True)
    made = LocalCluster(Paths(f"t{secrets.token_hex(4)}", place, tmp_path / "run"), tmp_path / "kubeconfig")
    try:
        made.up("--nodes", "1", "--eviction-hard", "nodefs.available<20Mi")
        yield made
    finally:
        made.nodeport("down")
        subprocess.run(["umount", place], check=True)
    assert traces(made) == []


def writes(megabytes: int, path: str) -> list[str]:
    return ["sh", "-c", f"head -c {megabytes}M /dev/zero > {path}; exec sleep 1000"]


def limited(limit: str) -> JsonObject:
    return {"limits": {"ephemeral-storage": limit}}


def wait_for_end(cluster: LocalCluster, pod: str) -> tuple[str, str, str]:
    status = cluster.wait_for_pod(pod, lambda pod: pod["status"].get("phase") == "Failed", "to be evicted")[
        "status"
    ]
    return (
        status["reason"],
        status["message"],
        status["containerStatuses"][0]["state"]["terminated"]["reason"],
    )


def events_of(cluster: LocalCluster, pod: str) -> set[str]:
    return {event["reason"] for event in cluster.items(EVENTS) if event["involvedObject"]["name"] == pod}


def condition(obj: JsonObject, kind: str) -> JsonObject:
    found: JsonObject = next(
        (one for one in obj["status"].get("conditions") or () if one["type"] == kind), {}
    )
    return found


def test_pods_beyond_their_limits_are_evicted_and_others_when_the_disk_is_short(
    cluster: LocalCluster,
) -> None:
    cache = {"volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
             "spec_volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}]}  # fmt: skip
    cluster.pod("layer", command=writes(3, "/tmp/file"), resources=limited("2Mi"))
    cluster.pod("volume", command=writes(3, "/cache/file"), **cache)
    cluster.pod("modest", command=writes(1, "/tmp/file"), resources=limited("2Mi"))
    cluster.pod("said", command=["sh", "-c", "head -c 3M /dev/zero | tr '\\0' x | fold; exec sleep 1000"],
                resources=limited("2Mi"))  # fmt: skip
    assert wait_for_end(cluster, "layer") == (
        "Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ", "Error"
    )  # fmt: skip
    assert wait_for_end(cluster, "volume")[1] == 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '
    assert wait_for_end(cluster, "said")[0] == "Evicted"
    wait_for(lambda: "Evicted" in events_of(cluster, "layer"), "the event")
    assert condition(cluster.get(NODES, "node-1"), "DiskPressure")["status"] == "False"

    cluster.pod("greedy", command=writes(70, "/tmp/file"))
    reason, message, _ = wait_for_end(cluster, "greedy")
    assert reason == "Evicted"
    assert message.startswith(
        "The node was low on resource: ephemeral-storage. Threshold quantity: 20480Ki, available: "
    )
    assert "Container main was using 71" in message
    assert condition(cluster.get(PODS, "greedy"), "DisruptionTarget")["reason"] == "TerminationByKubelet"
    wait_for(
        lambda: condition(cluster.get(NODES, "node-1"), "DiskPressure")["status"] == "True", "DiskPressure"
    )
    wait_for(lambda: "node.kubernetes.io/disk-pressure" in taints(cluster), "the taint")
    cluster.pod("refused", spec_tolerations=[{"operator": "Exists"}])
    refused = cluster.wait_for_pod(
        "refused", lambda pod: pod["status"].get("phase") == "Failed", "a refusal"
    )["status"]
    assert (refused["reason"], refused["message"]) == (
        "Evicted", "Pod was rejected: The node had condition: [DiskPressure]. "
    )  # fmt: skip
    assert cluster.get(PODS, "modest")["status"]["phase"] == "Running"


def taints(cluster: LocalCluster) -> set[str]:
    return {one["key"] for one in cluster.get(NODES, "node-1")["spec"].get("taints") or ()}
