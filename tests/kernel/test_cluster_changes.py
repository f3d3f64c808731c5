"""What is changed in pods that run: ephemeral containers that are added, and cpu and memory that are resized."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernel.clusters import LocalCluster, is_running, local_cluster, wait_for
from kernel.kubectls import StreamingKubectl, kubectl_program
from nodeport.api.meta import JsonObject
from nodeport.api.resources import EVENTS, NODES, PODS
from nodeport.node.oci import cgroups

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("changes")) as made:
        made.up("--nodes", "1")
        yield made


@pytest.fixture(scope="module")
def kubectl(cluster: LocalCluster) -> StreamingKubectl:
    return StreamingKubectl(kubectl_program("newest"), cluster.kubeconfig)


def debugger(pod: JsonObject, name: str) -> JsonObject:
    """The status of an ephemeral container; empty when there is none yet."""
    found = pod["status"].get("ephemeralContainerStatuses") or ()
    return next((each for each in found if each["name"] == name), {})


def state(cluster: LocalCluster, pod: str, name: str, wanted: str) -> JsonObject:
    found = cluster.wait_for_pod(pod, lambda pod: wanted in debugger(pod, name).get("state", {}), wanted)
    return debugger(found, name)


def test_an_ephemeral_container_sees_its_targets_processes(
    cluster: LocalCluster, kubectl: StreamingKubectl
) -> None:
    cluster.pod("watched", command=["bash", "-c", "exec -a the-target sleep infinity"])
    cluster.wait_for_pod("watched", is_running, "it runs")
    script = "read line; tr '\\0' ' ' < /proc/1/cmdline; echo $line"
    debug = (
        "debug",
        "watched",
        "--image",
        "nodeport/echo",
        "-c",
        "looks",
        "--target",
        "main",
        "-i",
        "--quiet",
    )
    done = kubectl.run(*debug, "--", "bash", "-c", script, stdin=b"typed\n")
    assert (done.code, b"the-target infinity" in done.out, b"typed" in done.out) == (0, True, True), done
    ended = state(cluster, "watched", "looks", "terminated")
    assert (ended["state"]["terminated"]["exitCode"], ended["restartCount"], ended["ready"]) == (0, 0, False)
    assert "the-target" in cluster.log_of("watched", container="looks")
    pod = cluster.get(PODS, "watched")
    assert pod["status"]["phase"] == "Running"
    assert pod["metadata"]["generation"] == pod["status"]["observedGeneration"] == 2


def test_what_runs_beside_a_pod_is_entered_stays_and_ends_with_it(
    cluster: LocalCluster, kubectl: StreamingKubectl
) -> None:
    cluster.pod("beside", spec_terminationGracePeriodSeconds=1)
    cluster.wait_for_pod("beside", is_running, "it runs")
    keep = ("--image", "nodeport/echo", "--profile", "general", "--", "sleep", "infinity")
    kubectl.out("debug", "beside", "-c", "stays", *keep)
    first = state(cluster, "beside", "stays", "running")["containerID"]
    said = kubectl.out("exec", "beside", "-c", "stays", "--", "cat", "/proc/1/cmdline")
    assert said == "sleep\0infinity\0"
    cluster.kill("nodes")
    cluster.up()
    assert state(cluster, "beside", "stays", "running")["containerID"] == first
    with cluster.session() as session:
        session.request("DELETE", PODS.path("default", "beside"))
    wait_for(lambda: all(pod["metadata"]["name"] != "beside" for pod in cluster.items(PODS)), "it to go")


def resize(kubectl: StreamingKubectl, pod: str, resources: str) -> None:
    patch = f'{{"spec":{{"containers":[{{"name":"main","resources":{resources}}}]}}}}'
    kubectl.out("patch", "pod", pod, "--subresource", "resize", "-p", patch)


def condition(pod: JsonObject, kind: str) -> JsonObject:
    return next((each for each in pod["status"]["conditions"] if each["type"] == kind), {})


def resized(cluster: LocalCluster, pod: str, check: Callable[[JsonObject], Any], what: str) -> JsonObject:
    """The container's status once no resize is under way and ``check`` is true of it."""

    def done(found: JsonObject) -> bool:
        under_way = condition(found, "PodResizeInProgress") or condition(found, "PodResizePending")
        observed = found["status"]["observedGeneration"] == found["metadata"]["generation"]
        return observed and not under_way and check(found["status"]["containerStatuses"][0])

    status: JsonObject = cluster.wait_for_pod(pod, done, what)["status"]["containerStatuses"][0]
    return status


def figures(cluster: LocalCluster, container_id: str) -> tuple[int, int]:
    """Quota in microseconds and memory limit in bytes, as the kernel has them."""
    group = cgroups.of_container(cluster.paths.name, container_id.rpartition("/")[2]).lstrip("/")
    if cgroups.is_unified():
        root = cgroups.ROOT / group
        return int((root / "cpu.max").read_text().split()[0]), int((root / "memory.max").read_text())
    quota = (cgroups.ROOT / "cpu" / group / "cpu.cfs_quota_us").read_text()
    return int(quota), int((cgroups.ROOT / "memory" / group / "memory.limit_in_bytes").read_text())


def amounts(cpu: str, memory: str) -> str:
    return f'{{"requests":{{"cpu":"100m","memory":"32Mi"}},"limits":{{"cpu":"{cpu}","memory":"{memory}"}}}}'


BEFORE = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}


def test_a_running_container_is_given_more_and_less(cluster: LocalCluster, kubectl: StreamingKubectl) -> None:
    cluster.pod("sized", resources=BEFORE)
    cluster.wait_for_pod("sized", is_running, "it runs")
    first = resized(cluster, "sized", lambda one: one.get("resources") == BEFORE, "what it was given")
    assert first["allocatedResources"] == BEFORE["requests"]
    assert figures(cluster, first["containerID"]) == (20_000, 64 * MEGABYTE)
    for cpu, memory, found in (("300m", "128Mi", (30_000, 128)), ("150m", "96Mi", (15_000, 96))):
        resize(kubectl, "sized", amounts(cpu, memory))
        limits = {"cpu": cpu, "memory": memory}
        after = resized(cluster, "sized", lambda one: one["resources"]["limits"] == limits, "the new limits")  # noqa: B023
        assert figures(cluster, after["containerID"]) == (found[0], found[1] * MEGABYTE)
        assert (after["containerID"], after["restartCount"]) == (first["containerID"], 0)
    wait_for(lambda: {"ResizeStarted", "ResizeCompleted"} <= events_of(cluster, "sized"), "the events")


def events_of(cluster: LocalCluster, pod: str) -> set[str]:
    return {each["reason"] for each in cluster.items(EVENTS) if each["involvedObject"]["name"] == pod}


def test_memory_that_is_in_use_is_not_taken_away(cluster: LocalCluster, kubectl: StreamingKubectl) -> None:
    hold = "import time; held = b'x' * (60 << 20); print('held', flush=True); time.sleep(9999)"
    cluster.pod("full", command=["python3", "-c", hold], resources={"limits": {"memory": "128Mi"}})
    cluster.wait_for_pod("full", is_running, "it runs")
    wait_for(lambda: cluster.log_of("full") == "held\n", "the memory to be held")
    resize(kubectl, "full", '{"requests":{"memory":"32Mi"},"limits":{"memory":"32Mi"}}')
    wait_for(
        lambda: condition(cluster.get(PODS, "full"), "PodResizeInProgress").get("reason") == "Error",
        "the error",
    )
    pod = cluster.get(PODS, "full")
    assert "below current usage" in condition(pod, "PodResizeInProgress")["message"]
    assert pod["status"]["containerStatuses"][0]["resources"]["limits"] == {"memory": "128Mi"}
    resize(kubectl, "full", '{"requests":{"memory":"100Mi"},"limits":{"memory":"100Mi"}}')
    resized(cluster, "full", lambda one: one["resources"]["limits"] == {"memory": "100Mi"}, "the other limit")


def test_a_container_that_asks_for_it_is_started_anew(
    cluster: LocalCluster, kubectl: StreamingKubectl
) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    cluster.pod("anew", resources=BEFORE, resizePolicy=policy)
    cluster.wait_for_pod("anew", is_running, "it runs")
    resize(kubectl, "anew", amounts("300m", "64Mi"))
    resized(
        cluster,
        "anew",
        lambda one: one["restartCount"] == 0 and one["resources"]["limits"]["cpu"] == "300m",
        "cpu",
    )
    resize(kubectl, "anew", amounts("300m", "128Mi"))
    after = resized(
        cluster, "anew", lambda one: one["restartCount"] == 1 and "running" in one["state"], "a restart"
    )
    assert after["resources"]["limits"] == {"cpu": "300m", "memory": "128Mi"}
    assert figures(cluster, after["containerID"]) == (30_000, 128 * MEGABYTE)


def test_what_the_node_does_not_have_waits(cluster: LocalCluster, kubectl: StreamingKubectl) -> None:
    cluster.pod("greedy", resources={"requests": {"cpu": "10m"}})
    cluster.wait_for_pod("greedy", is_running, "it runs")
    resize(kubectl, "greedy", '{"requests":{"cpu":"1000"}}')
    pending = wait_for(lambda: condition(cluster.get(PODS, "greedy"), "PodResizePending"), "the refusal")
    assert (pending["status"], pending["reason"]) == ("True", "Infeasible")
    assert pending["message"].startswith(
        "Node didn't have enough capacity: cpu, requested: 1000000, capacity: "
    )
    resize(kubectl, "greedy", '{"requests":{"cpu":"20m"}}')
    resized(cluster, "greedy", lambda one: one["allocatedResources"] == {"cpu": "20m"}, "what there is")


def test_a_deferred_resize_is_done_when_another_pod_leaves(
    cluster: LocalCluster, kubectl: StreamingKubectl
) -> None:
    capacity = int(cluster.get(NODES, "node-1", "")["status"]["capacity"]["cpu"])
    most = f"{capacity * 1000 - 600}m"
    cluster.pod("big", resources={"requests": {"cpu": most}}, spec_nodeName="node-1")
    cluster.pod("small", resources={"requests": {"cpu": "10m"}}, spec_nodeName="node-1")
    for name in ("big", "small"):
        cluster.wait_for_pod(name, is_running, "it runs")
    resize(kubectl, "small", f'{{"requests":{{"cpu":"{most}"}}}}')
    pending = wait_for(lambda: condition(cluster.get(PODS, "small"), "PodResizePending"), "the wait")
    assert pending["reason"] == "Deferred"
    cluster.delete(PODS, "big", gracePeriodSeconds=0)
    resized(cluster, "small", lambda one: one["allocatedResources"] == {"cpu": most}, "what was free")
