"""Nodes of a local cluster that are hurt on purpose: Services go on, pods move, and all is well when it is undone."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import dns.message
import pytest

from kernel.clusters import LocalCluster, call, local_cluster, wait_for
from nodeport.api.clusterdns import NODE_PORT
from nodeport.api.meta import JsonObject
from nodeport.api.resources import DEPLOYMENTS, ENDPOINT_SLICES, NODES, PODS, SERVICES
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import RouteSocket
from nodeport.node import hurt, loss, namespaces, network, processes
from nodeport.node.hurt import Hurt, Power

ICMPV6_FILTER = 1
"""``linux/icmpv6.h``: the socket module has no name for it."""
SOON = [
    {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
    for why in ("not-ready", "unreachable")
]


@pytest.fixture(scope="module")
def hurtable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalCluster, int]]:
    """Three nodes that may be silent for four seconds, and the node port of ``web``, whose pods wait one more."""
    with local_cluster(tmp_path_factory.mktemp("hurt")) as cluster:
        cluster.up("--nodes", "3", "--node-monitor-grace-period", "4s")
        container = {"name": "web", "image": "nodeport/echo", "ports": [{"containerPort": 8080}]}
        template = {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [container], "tolerations": SOON},
        }
        spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}
        cluster.create(DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec})
        ports = [{"port": 80, "targetPort": 8080}]
        wanted = {"type": "NodePort", "selector": {"app": "web"}, "ports": ports}
        made = cluster.create(SERVICES, {"metadata": {"name": "web"}, "spec": wanted})
        cluster.wait_for_pods(3)
        yield cluster, int(made["spec"]["ports"][0]["nodePort"])


def condition(cluster: LocalCluster, node: str) -> str:
    found = cluster.get(NODES, node)["status"]["conditions"]
    return next(str(each["status"]) for each in found if each["type"] == "Ready")


def taints(cluster: LocalCluster, node: str) -> set[tuple[str, str]]:
    return {(each["key"], each["effect"]) for each in cluster.get(NODES, node)["spec"].get("taints") or ()}


def endpoint_nodes(cluster: LocalCluster) -> list[str]:
    return sorted(
        endpoint["nodeName"]
        for item in cluster.items(ENDPOINT_SLICES)
        if item["metadata"]["labels"].get("kubernetes.io/service-name") == "web"
        for endpoint in item.get("endpoints") or ()
        if endpoint["conditions"]["ready"]
    )


def pods_on(cluster: LocalCluster, node: str) -> list[JsonObject]:
    return [pod for pod in cluster.items(PODS) if pod["spec"].get("nodeName") == node]


def victim_of(cluster: LocalCluster) -> str:
    return str(cluster.ready_pods()[0]["spec"]["nodeName"])


def answers(address: str, port: int) -> bool:
    """Whether anybody does soon."""
    try:
        return bool(call(address, port, patience=3))
    except OSError:
        return False


@pytest.mark.parametrize(("order", "undo"), [("stop", "start"), ("partition", "heal"), ("pause", "resume")])
def test_a_service_goes_on_beside_a_failed_node_which_comes_back_ready(
    hurtable: tuple[LocalCluster, int], order: str, undo: str
) -> None:
    cluster, port = hurtable
    victim = victim_of(cluster)
    addresses = cluster.node_addresses()
    others = [address for name, address in addresses.items() if name != victim]
    cluster.nodeport("node", order, victim)
    wait_for(lambda: condition(cluster, victim) == "Unknown", f"{victim} to be given up")
    wait_for(lambda: ("node.kubernetes.io/unreachable", "NoExecute") in taints(cluster, victim), "the taint")
    assert f"{victim} is hurt on purpose" in cluster.nodeport("status", code=1)
    wait_for(
        lambda: len(endpoint_nodes(cluster)) == 3 and victim not in endpoint_nodes(cluster), "pods elsewhere"
    )
    for address in others:
        wait_for(lambda address=address: answers(address, port), f"{address} to answer")
        assert {call(address, port)["node"] for _ in range(10)}.isdisjoint({victim})
    if order != "pause":  # its kernel forwards on
        assert not answers(addresses[victim], port)
    cluster.nodeport("node", undo, victim)
    wait_for(
        lambda: condition(cluster, victim) == "True" and not taints(cluster, victim), f"{victim} to be ready"
    )
    cluster.wait_for_pods(3)
    wait_for(lambda: answers(addresses[victim], port), f"{victim} to answer")
    wait_for(lambda: is_healthy(cluster), "all to be well")


def is_healthy(cluster: LocalCluster) -> bool:
    """As far as the command says, which exits with 1 when anything is not."""
    try:
        return "healthy" in cluster.nodeport("status")
    except AssertionError:
        return False


def test_pods_of_a_stopped_node_are_killed_and_start_anew_with_it(hurtable: tuple[LocalCluster, int]) -> None:
    cluster, _ = hurtable
    cluster.pod("loyal", spec_tolerations=[{"operator": "Exists"}])
    first = cluster.wait_for_pod("loyal", ready, "readiness")
    node = first["spec"]["nodeName"]
    cluster.nodeport("node", "stop", node)
    wait_for(lambda: not ready(cluster.get(PODS, "loyal")), "the pod to be taken as not ready")
    cluster.nodeport("node", "start", node)
    again = cluster.wait_for_pod("loyal", ready, "readiness")
    assert again["metadata"]["uid"] == first["metadata"]["uid"]
    assert again["status"]["containerStatuses"][0]["restartCount"] == 1
    cluster.delete(PODS, "loyal", gracePeriodSeconds=0)
    cluster.wait_for_pods(3)


def test_a_paused_pod_goes_on_where_it_was(hurtable: tuple[LocalCluster, int]) -> None:
    cluster, _ = hurtable
    script = "import itertools, time\nfor i in itertools.count(): print(i, flush=True); time.sleep(0.05)"
    count = ["python3", "-c", script]
    cluster.pod("counter", command=count, spec_tolerations=[{"operator": "Exists"}])
    node = cluster.wait_for_pod("counter", ready, "readiness")["spec"]["nodeName"]
    cluster.nodeport("node", "pause", node)
    log = next((cluster.paths.data / "nodes" / node / "logs").glob("default_counter_*/main/0.log"))
    still = wait_for(lambda: standing_still(log), "the log to stand still")
    cluster.nodeport("node", "resume", node)
    after = wait_for(
        lambda: len(log.read_text()) > len(still) and cluster.get(PODS, "counter"), "more output"
    )
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    cluster.delete(PODS, "counter", gracePeriodSeconds=0)
    cluster.wait_for_pods(3)


def standing_still(log: Path) -> str:
    """What it says, if nothing is added; what was said last may still be on its way."""
    before = log.read_text()
    time.sleep(0.3)  # what does not happen can only be waited for
    return before if log.read_text() == before else ""


@pytest.mark.parametrize(("order", "undo"), [("pause", "resume"), ("partition", "heal")])
def test_pods_that_ran_on_are_ready_again_with_their_node(
    hurtable: tuple[LocalCluster, int], order: str, undo: str
) -> None:
    cluster, _ = hurtable
    cluster.pod("patient", spec_tolerations=[{"operator": "Exists"}])
    node = cluster.wait_for_pod("patient", ready, "readiness")["spec"]["nodeName"]
    cluster.nodeport("node", order, node)
    wait_for(lambda: not ready(cluster.get(PODS, "patient")), "the pod to be taken as not ready")
    cluster.nodeport("node", undo, node)
    again = cluster.wait_for_pod("patient", ready, "readiness")
    assert again["status"]["containerStatuses"][0]["restartCount"] == 0
    cluster.delete(PODS, "patient", gracePeriodSeconds=0)
    cluster.wait_for_pods(3)


def test_a_partitioned_node_restarts_containers_itself_and_hears_nothing_until_it_is_healed(
    hurtable: tuple[LocalCluster, int], tmp_path: Path
) -> None:
    cluster, _ = hurtable
    node = victim_of(cluster)
    (tmp_path / "shared").mkdir(mode=0o777)
    placed = {"spec_nodeName": node, "spec_tolerations": [{"operator": "Exists"}]}
    script = "until [ -e /shared/end ]; do sleep 0.05; done; rm /shared/end; exit 1"
    cluster.pod(
        "frail", command=["sh", "-c", script], volumeMounts=[{"name": "shared", "mountPath": "/shared"}],
        spec_volumes=[{"name": "shared", "hostPath": {"path": str(tmp_path / "shared")}}], **placed,
    )  # fmt: skip
    cluster.pod("doomed", **placed)
    cluster.wait_for_pod("frail", ready, "readiness")
    doomed = cluster.wait_for_pod("doomed", ready, "readiness")
    cluster.nodeport("node", "partition", node)
    end = tmp_path / "shared" / "end"
    end.touch()
    logs = cluster.paths.data / "nodes" / node / "logs"
    wait_for(lambda: not end.exists(), "the container to end")
    wait_for(lambda: any(logs.glob("default_frail_*/main/1.log")), "another run, by the agent alone")
    assert restarts(cluster, "frail") == 0
    cluster.delete(PODS, "doomed", gracePeriodSeconds=1)
    victim = network.pod_netns(cluster.paths.name, network.digest(doomed["metadata"]["uid"], 12))
    time.sleep(1.5)  # what does not happen can only be waited for
    assert namespaces.exists(victim)
    cluster.nodeport("node", "heal", node)
    wait_for(lambda: not namespaces.exists(victim), "the pod to end")
    wait_for(lambda: restarts(cluster, "frail") == 1, "the news")
    cluster.delete(PODS, "frail", gracePeriodSeconds=0)
    wait_for(lambda: condition(cluster, node) == "True" and not taints(cluster, node), f"{node} to be ready")
    cluster.wait_for_pods(3)


def test_a_partitioned_node_answers_for_the_names_that_it_knew(hurtable: tuple[LocalCluster, int]) -> None:
    cluster, _ = hurtable
    node = victim_of(cluster)
    cluster.nodeport("node", "partition", node)
    cluster.create(SERVICES, {"metadata": {"name": "late"}, "spec": {"ports": [{"port": 80}]}})
    others = [name for name in cluster.node_addresses() if name != node]
    wait_for(lambda: resolved(cluster, others[0], "late"), "another node to know the new name")
    assert resolved(cluster, node, "web") == [cluster.get(SERVICES, "web")["spec"]["clusterIP"]]
    assert resolved(cluster, node, "late") == []
    cluster.nodeport("node", "heal", node)
    late = cluster.get(SERVICES, "late")["spec"]["clusterIP"]
    wait_for(lambda: resolved(cluster, node, "late") == [late], "the node to know it")
    cluster.delete(SERVICES, "late")
    wait_for(lambda: condition(cluster, node) == "True" and not taints(cluster, node), f"{node} to be ready")
    cluster.wait_for_pods(3)


def resolved(cluster: LocalCluster, node: str, service: str) -> list[str]:
    """What the node's own name server says, asked on the node."""
    netns = network.node_netns(cluster.paths.name, node)
    question = dns.message.make_query(f"{service}.default.svc.cluster.local", "A")
    with open_in(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(10)
        sock.sendto(question.to_wire(), (cluster.node_addresses()[node], NODE_PORT))
        found = dns.message.from_wire(sock.recv(4096))
    return [str(each) for answers in found.answer for each in answers]


def restarts(cluster: LocalCluster, pod: str) -> int:
    return int(cluster.get(PODS, pod)["status"]["containerStatuses"][0]["restartCount"])


def test_a_node_stays_hurt_when_the_process_of_the_nodes_is_killed(
    hurtable: tuple[LocalCluster, int],
) -> None:
    cluster, port = hurtable
    victim = victim_of(cluster)
    cluster.nodeport("node", "stop", victim)
    cluster.kill("nodes")
    assert "do not run" in cluster.nodeport("node", "start", victim, code=1)
    cluster.up()
    assert hurt.load(hurt.applied_file(cluster.paths))[victim].power is Power.STOPPED
    assert not answers(cluster.node_addresses()[victim], port)
    cluster.nodeport("node", "start", victim)
    wait_for(lambda: condition(cluster, victim) == "True", f"{victim} to be ready")
    cluster.wait_for_pods(3)


def test_a_lossy_link_loses_packets_and_heals_without_a_trace(hurtable: tuple[LocalCluster, int]) -> None:
    cluster, port = hurtable
    node, address = next(iter(cluster.node_addresses().items()))
    assert f"{node} is 50% loss" in cluster.nodeport("node", "loss", node, "50")
    for each in cluster.get(NODES, node)["status"]["addresses"]:
        if each["type"] == "InternalIP":
            received = sum(echoed(each["address"]) for _ in range(60))
            assert 0 < received < 60, each  # each packet and each answer has even chances
    cluster.nodeport("node", "loss", node, "0")
    wait_for(lambda: answers(address, port), "an answer")
    tables = subprocess.run(
        ["nsenter", f"--net={network.node_netns(cluster.paths.name, node)}", "nft", "list", "tables"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert loss.NAME not in tables


def test_a_delayed_link_stays_so_whatever_is_killed_and_heals_without_a_trace(
    hurtable: tuple[LocalCluster, int],
) -> None:
    cluster, port = hurtable
    node, address = next(iter(cluster.node_addresses().items()))
    before = fabric_links(cluster)
    pid_file = cluster.paths.run / "nodes" / node / "delay.pid"
    assert f"{node} is 60 ms delay ± 10 ms" in cluster.nodeport("node", "delay", node, "60", "--jitter", "10")
    assert f"{node} is hurt on purpose: 60 ms delay" in cluster.nodeport("status", code=1)
    wait_for(lambda: took(address, port) >= 0.2, "a connection and an answer, each there and back")
    program = processes.living(pid_file)
    assert program is not None
    cluster.kill("nodes")
    cluster.up()
    assert processes.living(pid_file) == program
    program.send(signal.SIGKILL)
    wait_for(lambda: processes.living(pid_file) not in (None, program), "another program")
    wait_for(lambda: took(address, port) >= 0.2, "the delay to be back")
    cluster.nodeport("node", "partition", node)
    assert not answers(address, port)
    cluster.nodeport("node", "heal", node)
    wait_for(lambda: took(address, port) >= 0.2, "the link to be as slow as before")
    assert f"{node} is running" in cluster.nodeport("node", "delay", node, "0")
    assert fabric_links(cluster) == before
    assert processes.living(pid_file) is None
    wait_for(lambda: condition(cluster, node) == "True" and not taints(cluster, node), f"{node} to be ready")
    cluster.wait_for_pods(3)


def took(address: str, port: int) -> float:
    """Seconds until an answer. OSError when there is none."""
    began = time.monotonic()
    call(address, port)
    return time.monotonic() - began


def fabric_links(cluster: LocalCluster) -> dict[str, int]:
    """The links of the fabric, and whose ports they are."""
    with RouteSocket(network.fabric_netns(cluster.paths.name)) as fabric:
        return {name: link.master for name, link in fabric.links().items()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stop", "node-9"), "no node 'node-9'; it has node-1 to node-3"),
        (("loss", "node-1", "101"), "'101' must be a number of % from 0 to 100"),
        (("delay", "node-1", "soon"), "'soon' must be a number of ms from 0 to 60000"),
        (("delay", "node-1", "5", "--jitter", "6"), "--jitter 6: must be at most the delay, 5 ms"),
        (("delay", "node-1", "-1"), "-1"),
        (("explode", "node-1"), "explode"),
    ],
)
def test_what_cannot_be_done_is_told(
    hurtable: tuple[LocalCluster, int], words: tuple[str, ...], said: str
) -> None:
    cluster, _ = hurtable
    assert said in cluster.nodeport("node", *words, code=1)
    assert not any(map(str, hurt.load(hurt.wanted_file(cluster.paths)).values()))


def test_an_order_that_does_not_fit_names_the_one_that_does(hurtable: tuple[LocalCluster, int]) -> None:
    cluster, _ = hurtable
    cluster.nodeport("node", "pause", "node-1")
    assert "`nodeport node resume node-1` first" in cluster.nodeport("node", "stop", "node-1", code=1)
    cluster.nodeport("node", "resume", "node-1")
    assert hurt.load(hurt.wanted_file(cluster.paths))["node-1"] == Hurt()


def test_down_takes_hurt_nodes_along(tmp_path: Path) -> None:
    with local_cluster(tmp_path) as cluster:
        cluster.up("--nodes", "3", "--node-monitor-grace-period", "1s")
        cluster.deploy(3, probe=False)
        cluster.nodeport("node", "delay", "node-2", "5")
        for order, node in (("pause", "node-1"), ("partition", "node-2"), ("stop", "node-3")):
            cluster.nodeport("node", order, node)


def echoed(address: str) -> bool:
    """Whether one ICMP echo request is answered soon."""
    old = ip_address(address).version == 4
    request = bytes(
        (8 if old else 128, 0, 0xF7, 0xFF, 0, 0, 0, 0)
    )  # type, code, checksum, identifier, number
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if old else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        if not old:  # the answers alone, of all types
            wanted = ~(1 << 129) & (1 << 256) - 1
            sock.setsockopt(protocol, ICMPV6_FILTER, wanted.to_bytes(32, "little"))
        sock.connect((address, 0))
        sock.settimeout(0.05)
        try:
            sock.send(request)
            return bool(sock.recv(100))
        except OSError:
            return False


def ready(pod: JsonObject) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions") or ()
    )
