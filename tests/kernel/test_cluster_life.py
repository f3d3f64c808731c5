"""A local cluster as a user has it: up, killed in parts, mended, rebooted, down."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from kernel.clusters import LocalCluster, call, is_running, traces, wait_for
from nodeport.api.resources import DEPLOYMENTS, ENDPOINT_SLICES, NODES, PODS, SERVICES
from nodeport.node import local, namespaces, network, processes
from nodeport.node.oci import cgroups
from nodeport.testing.outside import OutsideClient

NewCluster = Callable[[], LocalCluster]


def test_up_makes_every_node_ready_and_writes_the_kubeconfig(cluster: LocalCluster) -> None:
    said = cluster.up("--nodes", "2")
    assert str(cluster.kubeconfig) in said
    ready = [
        node["metadata"]["name"] for node in cluster.items(NODES)
        for condition in node["status"]["conditions"] if condition["type"] == "Ready" and condition["status"] == "True"
    ]  # fmt: skip
    assert sorted(ready) == ["node-1", "node-2"]
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    assert config["current-context"] == cluster.paths.name
    assert "already running" in cluster.up()
    assert "healthy" in cluster.nodeport("status")


def test_every_file_of_a_cluster_is_readable_by_root_only(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1")
    for root in (cluster.paths.data, cluster.paths.run):
        for path in (root, *root.rglob("*")):
            if cluster.paths.images in path.parents:
                continue  # what every container sees; nobody else comes so far down
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert mode & 0o077 == 0 or not path.is_file(), f"{path} has mode {mode:o}"
            assert not path.is_dir() or path.parent != root.parent or mode == 0o700


def test_a_token_opens_the_api_as_a_certificate_does(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1")
    config = local.load(cluster.paths)
    assert config is not None
    authority = ssl.create_default_context(cafile=str(cluster.paths.certificate("ca")))

    def status_with(token: str) -> int:
        request = urllib.request.Request(
            f"{config.url}/api/v1/nodes", headers={"Authorization": f"Bearer {token}"}
        )
        try:
            with urllib.request.urlopen(request, context=authority) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    assert status_with(cluster.paths.token.read_text().strip()) == 200
    assert status_with("wrong") == 401


def test_a_kubeconfig_that_cannot_be_written_is_told_before_anything_starts(cluster: LocalCluster) -> None:
    said = cluster.nodeport("up", "--kubeconfig", "/proc/no/such", code=1)
    assert "--kubeconfig /proc/no/such" in said
    assert traces(cluster) == []


def test_a_node_port_answers_on_every_node(cluster: LocalCluster) -> None:
    cluster.up()
    port = cluster.deploy(2)
    pods = {pod["metadata"]["name"] for pod in cluster.ready_pods()}
    for address in cluster.node_addresses().values():
        wait_for(
            lambda at=address: {call(at, port)["pod"] for _ in range(20)} == pods,
            f"all pods behind {address}",
        )


def test_pods_reach_the_api_server_and_each_other_by_cluster_ip(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "2")
    cluster.deploy(1)
    web = cluster.get(SERVICES, "web")["spec"]["clusterIP"]
    kubernetes = cluster.get(SERVICES, "kubernetes")["spec"]["clusterIP"]
    script = (
        "import ssl, urllib.request as r; t = ssl._create_unverified_context();"
        f"print(r.urlopen('https://{kubernetes}/version', context=t).status, r.urlopen('http://{web}/healthz').status)"
    )
    cluster.pod("client", command=["python3", "-c", script], spec_restartPolicy="Never")
    cluster.wait_for_pod("client", lambda pod: pod["status"].get("phase") == "Succeeded", "success")
    assert cluster.log_of("client").split() == ["200", "200"]


def test_killed_nodes_process_leaves_pods_running_and_the_next_one_takes_them_over(
    cluster: LocalCluster,
) -> None:
    cluster.up("--nodes", "2")
    port = cluster.deploy(2)
    before = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0] for pod in cluster.ready_pods()}
    address = cluster.node_addresses()["node-1"]
    wait_for(lambda: call(address, port), "the rules to know the pods")
    cluster.kill("nodes")
    assert call(address, port)["pod"] in before
    assert cluster.nodeport("status", code=1).count("dead") == 1
    assert "mended (nodes started)" in cluster.up()
    assert call(address, port)["pod"] in before
    after = {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0] for pod in cluster.wait_for_pods(2)
    }
    assert after == before
    cluster.delete(PODS, next(iter(before)))
    wait_for(
        lambda: next(iter(before)) not in {pod["metadata"]["name"] for pod in cluster.items(PODS)}, "deletion"
    )
    cluster.wait_for_pods(2)


def test_killed_server_comes_back_with_all_objects(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1")
    port = cluster.deploy(1)
    uid = cluster.get(SERVICES, "web")["metadata"]["uid"]
    wait_for(lambda: call(cluster_address(cluster), port), "the rules to know the pod")
    cluster.kill("server")
    assert call(cluster_address(cluster), port)["node"] == "node-1"
    assert "mended (server started)" in cluster.up()
    assert cluster.get(SERVICES, "web")["metadata"]["uid"] == uid
    assert len(cluster.wait_for_pods(1)) == 1


def cluster_address(cluster: LocalCluster) -> str:
    config = local.load(cluster.paths)
    assert config is not None
    return str(config.plan(cluster.paths.name).node(1).address)


def test_after_a_reboot_objects_come_back_and_pods_run_anew(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "2")
    port = cluster.deploy(2)
    names = {pod["metadata"]["name"] for pod in cluster.ready_pods()}
    reboot(cluster)
    cluster.up()
    wait_for(lambda: restart_counts(cluster) == [1, 1], "both containers to have started again")
    assert {pod["metadata"]["name"] for pod in cluster.wait_for_pods(2)} == names
    heard = wait_for(lambda: call(cluster.node_addresses()["node-2"], port), "an answer")
    assert heard["pod"] in names


def test_after_a_reboot_no_pod_answers_under_the_address_of_another(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1")
    port = cluster.deploy(1)
    mine = cluster.ready_pods()[0]
    cluster.pod("a-pod-that-starts-first")
    cluster.wait_for_pod("a-pod-that-starts-first", is_running, "running")
    reboot(cluster)
    cluster.up()
    wait_for(lambda: restart_counts(cluster) == [1, 1], "both containers to have started again")
    again = cluster.get(PODS, mine["metadata"]["name"])
    assert again["status"]["podIPs"] == mine["status"]["podIPs"]
    wait_for(lambda: call(cluster_address(cluster), port), "the rules to know the pod")
    heard = {call(cluster_address(cluster), port)["pod"] for _ in range(10)}
    assert heard == {mine["metadata"]["name"]}


def reboot(cluster: LocalCluster) -> None:
    """What a reboot leaves: nothing that runs, no namespace, no /run."""
    for process in processes.of_cluster(cluster.paths.name):
        process.send(9)  # type: ignore[arg-type]
    wait_for(lambda: not processes.of_cluster(cluster.paths.name), "all processes to end")
    cgroups.kill_below(cluster.paths.name)
    cgroups.remove_below(cluster.paths.name)
    network.remove_cluster(cluster.paths.name)
    for path in cluster.paths.run.rglob("ns/*"):
        namespaces.remove(path)
    shutil.rmtree(cluster.paths.run)


def restart_counts(cluster: LocalCluster) -> list[int]:
    return [pod["status"]["containerStatuses"][0]["restartCount"] for pod in cluster.ready_pods()]


@pytest.mark.parametrize("victims", [("server",), ("nodes",), ("server", "nodes")])
def test_down_leaves_nothing_after_a_kill_of(cluster: LocalCluster, victims: tuple[str, ...]) -> None:
    cluster.up("--nodes", "2")
    cluster.deploy(2, probe=False)
    for part in victims:
        cluster.kill(part)
    cluster.nodeport("down")
    assert traces(cluster) == []


def test_down_leaves_nothing_with_half_of_the_state_missing(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "2")
    cluster.deploy(2, probe=False)
    cluster.kill("nodes")
    shutil.rmtree(cluster.paths.data)
    for file in cluster.paths.run.glob("*.pid"):
        file.unlink()
    namespaces.remove(network.node_netns(cluster.paths.name, "node-1"))
    cluster.nodeport("down")
    assert [trace for trace in traces(cluster) if "kubeconfig" not in trace] == []


def test_containers_die_with_the_cluster(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1")
    cluster.deploy(2, probe=False)
    pods = [pod["status"]["podIP"] for pod in cluster.ready_pods()]
    cluster.nodeport("down")
    for address in pods:
        with pytest.raises(OSError):  # noqa: PT011 - no route, or nobody there
            urllib.request.urlopen(f"http://{address}:8080/", timeout=1)


def test_up_with_more_nodes_grows_the_cluster_and_keeps_its_pods(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1")
    port = cluster.deploy(1)
    before = cluster.ready_pods()[0]["status"]["containerStatuses"]
    assert "grown from 1 to 3 nodes" in cluster.up("--nodes", "3")
    assert cluster.wait_for_pods(1)[0]["status"]["containerStatuses"] == before
    for address in cluster.node_addresses().values():
        assert wait_for(lambda address=address: call(address, port), "an answer")["node"] == "node-1"
    assert len(cluster.node_addresses()) == 3
    assert "can only grow" in cluster.nodeport("up", "--nodes", "2", code=1)


def test_a_cluster_chooses_how_many_endpoints_a_slice_holds_and_changes_its_mind(
    cluster: LocalCluster,
) -> None:
    """The server alone is started anew for that."""
    cluster.up("--nodes", "1", "--max-endpoints-per-slice", "1")
    cluster.deploy(2, probe=False)

    def sizes() -> list[int]:
        of_web = [s for s in cluster.items(ENDPOINT_SLICES) if s["metadata"]["name"].startswith("web-")]
        return sorted(len(found["endpoints"]) for found in of_web)

    wait_for(lambda: sizes() == [1, 1], "a slice for each pod")
    nodes = cluster.pid("nodes")
    cluster.up("--max-endpoints-per-slice", "3")
    assert cluster.pid("nodes") == nodes
    with cluster.session() as session:
        session.request(
            "PATCH", DEPLOYMENTS.path("default", "web"), body={"spec": {"replicas": 4}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
    wait_for(lambda: sizes() == [1, 3], "the further two join one of them")


def test_two_clusters_live_side_by_side(new_cluster: NewCluster) -> None:
    one, other = new_cluster(), new_cluster()
    one.up("--nodes", "1")
    other.up("--nodes", "1")
    assert one.deploy(1, node_port=30007) == other.deploy(1, node_port=30007) == 30007
    for cluster in (one, other):
        address = cluster_address(cluster)
        heard = wait_for(lambda at=address: call(at, 30007), "the rules to know the pod")
        assert heard["pod"] == cluster.ready_pods()[0]["metadata"]["name"]
    one.nodeport("down")
    assert call(cluster_address(other), 30007)["node"] == "node-1"
    contexts = yaml.safe_load(other.kubeconfig.read_text())["contexts"]
    assert [context["name"] for context in contexts] == [other.paths.name]


def test_a_taken_port_is_named(cluster: LocalCluster) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        said = cluster.nodeport("up", "--api-port", str(port), code=1)
    assert f"port {port} of 127.0.0.1" in said
    assert "--api-port" in said
    assert traces(cluster) == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--max-endpoints-per-slice", "1001"), "--max-endpoints-per-slice 1001: must be from 1 to 1000"),
        (("--nodes", "0"), "--nodes 0: must be from 1 to"),
        (("--nodes", "256"), "--nodes 256: must be from 1 to"),
        (("--service-node-port-range", "40000-30000"), "'40000-30000': must be FIRST-LAST"),
        (("--service-cluster-ip-range", "10.96.0.1/16"), "'10.96.0.1/16': must be a CIDR"),
        (("--nodeport-addresses", "everywhere"), "'everywhere': must be 'primary' or CIDRs"),
    ],
)
def test_bad_wishes_are_named_and_leave_nothing(
    cluster: LocalCluster, words: tuple[str, ...], named: str
) -> None:
    assert named in cluster.nodeport("up", *words, code=1)
    assert traces(cluster) == []


def test_a_killed_container_is_started_again_and_its_former_log_is_kept(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1")
    cluster.pod("web", command=["sh", "-c", "echo hello from run $(date +%s%N); sleep 1000"])
    pod = cluster.wait_for_pod("web", is_running, "running")
    first = wait_for(lambda: cluster.log_of("web"), "the first run's log")
    assert first.startswith("hello from run")
    launcher_child = container_pid(cluster, pod["metadata"]["uid"], 0)
    os.kill(launcher_child, 9)
    pod = cluster.wait_for_pod(
        "web",
        lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1 and is_running(pod),
        "a restart",
    )
    last = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "Error")
    wait_for(lambda: cluster.log_of("web") != first and cluster.log_of("web"), "the new run's log")
    assert cluster.log_of("web", previous="true") == first


def test_a_pod_whose_network_namespace_was_taken_away_gets_a_new_one(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1")
    cluster.pod("bereft")
    pod = cluster.wait_for_pod("bereft", is_running, "running")
    uid = pod["metadata"]["uid"]
    netns = network.pod_netns(cluster.paths.name, network.digest(uid, 12))
    namespaces.remove(netns)
    os.kill(container_pid(cluster, uid, 0), 9)
    again = cluster.wait_for_pod(
        "bereft",
        lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1 and is_running(pod),
        "a restart",
    )
    assert namespaces.exists(netns)
    assert wait_for(lambda: call(again["status"]["podIP"], 8080)["pod"] == "bereft", "an answer of the pod")


def container_pid(cluster: LocalCluster, uid: str, attempt: int) -> int:
    file = (
        cluster.paths.run
        / "nodes"
        / "node-1"
        / "pods"
        / uid
        / "containers"
        / "main"
        / str(attempt)
        / "running"
    )
    return int(wait_for(file.read_text, "the container to run").split()[0])


def test_no_call_fails_while_pods_are_deleted_and_replaced(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "2")
    port = cluster.deploy(3)
    addresses = list(cluster.node_addresses().values())
    with OutsideClient.on(cluster.paths.name) as client, ThreadPoolExecutor(1) as background:
        for address in addresses:
            wait_for(lambda at=address: client.get(at, port, "/hostname"), f"the rules at {address}")
        stop = threading.Event()

        def call_all_the_time() -> int:
            answered = 0
            while not stop.is_set():
                client.get(addresses[answered % 2], port, "/hostname")
                answered += 1
            return answered

        calling = background.submit(call_all_the_time)
        try:
            for _ in range(3):
                victim = cluster.ready_pods()[0]["metadata"]["name"]
                cluster.delete(PODS, victim)
                wait_for(
                    lambda victim=victim: (
                        victim not in {pod["metadata"]["name"] for pod in cluster.items(PODS)}
                    ),
                    "the pod to go",
                )
                cluster.wait_for_pods(3)
        finally:
            stop.set()
        assert calling.result() > 10
