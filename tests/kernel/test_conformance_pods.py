"""Conformance rows that ask pods of one image, each named after its upstream test. The image is a program of ours."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.clusters import LocalCluster, is_running, local_cluster, wait_for
from kernel.kubectls import StreamingKubectl, kubectl_program
from nodeport.api.meta import JsonObject
from nodeport.api.resources import DEPLOYMENTS, ENDPOINT_SLICES, PODS, SERVICES

AGNHOST = Path(__file__).parent / "programs" / "agnhost"
IMAGE = "registry.k8s.io/e2e-test-images/agnhost"
HTTP, UDP, DIALER = 8083, 8081, 9080
NODES = ("node-1", "node-2")
numbers = itertools.count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("conformance")) as made:
        made.up("--nodes", "2", "--image", f"{IMAGE}={AGNHOST}")
        yield made


@pytest.fixture(scope="module")
def kubectl(cluster: LocalCluster) -> StreamingKubectl:
    return StreamingKubectl(kubectl_program("newest"), cluster.kubeconfig)


def begin(cluster: LocalCluster, name: str, *args: str, app: str = "", **spec: Any) -> None:
    container: JsonObject = {"name": "agnhost", "image": f"{IMAGE}:2.63.0", "args": list(args)}
    if ports := spec.pop("ports", None):
        container["ports"] = ports
    metadata = {"name": name, "labels": {"app": app or name}}
    cluster.create(PODS, {"metadata": metadata, "spec": {"containers": [container], **spec}})


def run(cluster: LocalCluster, name: str, *args: str, **spec: Any) -> str:
    """A running pod; its address."""
    begin(cluster, name, *args, **spec)
    return str(cluster.wait_for_pod(name, is_running, "it runs")["status"]["podIP"])


def asks(kubectl: StreamingKubectl, pod: str, script: str) -> str:
    """What a script says in a pod, in one line; empty when it failed."""
    done = kubectl.run("exec", pod, "--", "bash", "-c", script)
    return done.out.decode().strip() if done.code == 0 else ""


def by_tcp(host: str, port: int) -> str:
    return f"curl -sg --connect-timeout 2 --max-time 4 http://{host}:{port}/hostName"


def by_udp(host: str, port: int) -> str:
    return f"exec 3<>/dev/udp/{host}/{port}; echo hostName >&3; timeout 2 dd bs=100 count=1 <&3 2>/dev/null"


def wait_for_answer(kubectl: StreamingKubectl, pod: str, script: str, wanted: str) -> None:
    wait_for(lambda: asks(kubectl, pod, script) == wanted, f"{wanted} to answer {script}")


def places(cluster: LocalCluster, service: str) -> dict[str, list[int]]:
    """The ports of the ready endpoints by address."""
    found: dict[str, set[int]] = {}
    for item in cluster.items(ENDPOINT_SLICES):
        if item["metadata"]["labels"].get("kubernetes.io/service-name") != service:
            continue
        for endpoint in item.get("endpoints") or ():
            if endpoint["conditions"]["ready"]:
                ports = {port["port"] for port in item["ports"]}
                found.setdefault(endpoint["addresses"][0], set()).update(ports)
    return {address: sorted(ports) for address, ports in found.items()}


def change(cluster: LocalCluster, name: str, edit: Callable[[JsonObject], None]) -> None:
    found = cluster.get(SERVICES, name)
    edit(found["spec"])
    with cluster.session() as session:
        session.request("PUT", SERVICES.path("default", name), body=found)


def test_services_should_serve_multiport_endpoints_from_pods(
    cluster: LocalCluster, kubectl: StreamingKubectl
) -> None:
    ports = [{"name": f"portname{n}", "port": 79 + n, "targetPort": f"svc{n}"} for n in (1, 2)]
    spec = {"selector": {"app": "multi"}, "ports": ports}
    cluster.create(SERVICES, {"metadata": {"name": "multi"}, "spec": spec})
    run(cluster, "multi-asks", "pause")
    addresses = []
    for number, port in ((1, 100), (2, 101)):
        own = [{"name": f"svc{number}", "containerPort": port}]
        netexec = ("netexec", "--http-port", str(port), "--udp-port", "-1")
        addresses.append(run(cluster, f"multi-{number}", *netexec, app="multi", ports=own))
    first, second = addresses
    wait_for(lambda: places(cluster, "multi") == {first: [100], second: [101]}, "both endpoints")
    for number in (1, 2):
        wait_for_answer(kubectl, "multi-asks", by_tcp("multi", 79 + number), f"multi-{number}")
    cluster.delete(PODS, "multi-1")
    wait_for(lambda: places(cluster, "multi") == {second: [101]}, "the second endpoint")
    wait_for_answer(kubectl, "multi-asks", by_tcp("multi", 81), "multi-2")
    wait_for_answer(kubectl, "multi-asks", by_tcp("multi", 80), "")
    cluster.delete(PODS, "multi-2")
    wait_for(lambda: places(cluster, "multi") == {}, "no endpoint")


def test_services_should_serve_endpoints_on_same_port_and_different_protocols(
    cluster: LocalCluster, kubectl: StreamingKubectl
) -> None:
    both = [{"name": kind.lower(), "port": 80, "protocol": kind} for kind in ("TCP", "UDP")]
    spec = {"selector": {"app": "both"}, "ports": both}
    address = cluster.create(SERVICES, {"metadata": {"name": "both"}, "spec": spec})["spec"]["clusterIP"]
    run(cluster, "both-asks", "pause")
    own = [{"containerPort": 80, "protocol": kind} for kind in ("TCP", "UDP")]
    pod = run(cluster, "both-pod", "netexec", "--http-port", "80", "--udp-port", "80", app="both", ports=own)
    wait_for(lambda: places(cluster, "both") == {pod: [80]}, "the endpoint")
    asked = {"TCP": by_tcp(address, 80), "UDP": by_udp(address, 80)}
    for ports in (both, both[:1], both[1:]):
        change(cluster, "both", lambda spec: spec.update(ports=ports))  # noqa: B023
        kept = {port["protocol"] for port in ports}
        for kind, script in asked.items():
            wait_for_answer(kubectl, "both-asks", script, "both-pod" if kind in kept else "")


def test_hostport_validates_that_there_is_no_conflict_between_pods_with_same_hostport(
    cluster: LocalCluster, kubectl: StreamingKubectl
) -> None:
    node = cluster.node_addresses()["node-1"]
    wanted = (("127.0.0.1", "TCP"), (node, "TCP"), (node, "UDP"))
    for number, (host, protocol) in enumerate(wanted, 1):
        own = [{"containerPort": 8080 if protocol == "TCP" else 8081, "hostPort": 54323}]
        own[0] |= {"hostIP": host, "protocol": protocol}
        run(
            cluster,
            f"hostport-{number}",
            "netexec",
            ports=own,
            nodeSelector={"kubernetes.io/hostname": "node-1"},
        )
    run(cluster, "hostport-asks", "pause", hostNetwork=True, nodeName="node-1")
    loopback = by_tcp("127.0.0.1", 54323)
    wait_for_answer(kubectl, "hostport-asks", loopback, "hostport-1")
    wait_for_answer(kubectl, "hostport-asks", f"{loopback} --interface {node}", "hostport-1")
    wait_for_answer(kubectl, "hostport-asks", by_tcp(node, 54323), "hostport-2")
    wait_for_answer(kubectl, "hostport-asks", by_udp(node, 54323), "hostport-3")


@pytest.fixture(scope="module")
def netservers(cluster: LocalCluster) -> dict[str, str]:
    """A pod on each node, and one that asks, with and one without the node's network: addresses by name."""
    probe = {"httpGet": {"path": "/healthz", "port": HTTP}, "periodSeconds": 1}
    args = ["netexec", "--http-port", str(HTTP), "--udp-port", str(UDP)]
    container = {"name": "webserver", "image": IMAGE, "args": args, "readinessProbe": probe}
    names = [f"netserver-{number}" for number in range(len(NODES))]
    for name, node in zip(names, NODES, strict=True):
        selector = {"kubernetes.io/hostname": node}
        spec = {"containers": [container], "nodeSelector": selector}
        cluster.create(PODS, {"metadata": {"name": name}, "spec": spec})
    begin(cluster, "test-container-pod", "netexec", "--http-port", str(DIALER), "--udp-port", "-1")
    begin(cluster, "host-test-container-pod", "pause", hostNetwork=True)
    asking = ("test-container-pod", "host-test-container-pod")
    ready = [cluster.wait_for_pod(name, is_running, "it runs") for name in (*names, *asking)]
    for name in names:
        cluster.wait_for_pod(name, lambda pod: pod["status"]["containerStatuses"][0]["ready"], "it is ready")
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in ready}


def dialled(kubectl: StreamingKubectl, netservers: dict[str, str], protocol: str, port: int) -> None:
    """Each pod is asked by the pod, through the pod's own program."""
    for name in ("netserver-0", "netserver-1"):
        query = f"request=hostname&protocol={protocol}&host={netservers[name]}&port={port}&tries=1"
        script = f"curl -gs 'http://{netservers['test-container-pod']}:{DIALER}/dial?{query}'"
        said = asks(kubectl, "test-container-pod", script)
        assert json.loads(said) == {"responses": [name]}


def test_granular_checks_pods_should_function_for_intra_pod_communication_http(
    kubectl: StreamingKubectl, netservers: dict[str, str]
) -> None:
    dialled(kubectl, netservers, "http", HTTP)


def test_granular_checks_pods_should_function_for_intra_pod_communication_udp(
    kubectl: StreamingKubectl, netservers: dict[str, str]
) -> None:
    dialled(kubectl, netservers, "udp", UDP)


def test_granular_checks_pods_should_function_for_node_pod_communication_http(
    kubectl: StreamingKubectl, netservers: dict[str, str]
) -> None:
    for name in ("netserver-0", "netserver-1"):
        assert asks(kubectl, "host-test-container-pod", by_tcp(netservers[name], HTTP)) == name


def test_granular_checks_pods_should_function_for_node_pod_communication_udp(
    kubectl: StreamingKubectl, netservers: dict[str, str]
) -> None:
    for name in ("netserver-0", "netserver-1"):
        assert asks(kubectl, "host-test-container-pod", by_udp(netservers[name], UDP)) == name


def deployment(name: str, role: str, replicas: int, *args: str, port: int) -> JsonObject:
    labels = {"app": "guestbook" if role == "frontend" else "agnhost", "role": role}
    container = {"name": name, "image": IMAGE, "args": list(args), "ports": [{"containerPort": port}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def service(name: str, role: str, port: int, target: int) -> JsonObject:
    spec = {"selector": {"role": role}, "ports": [{"port": port, "targetPort": target}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def test_guestbook_application_should_create_and_stop_a_working_application(
    cluster: LocalCluster, kubectl: StreamingKubectl
) -> None:
    backend = ("--http-port", "6379")
    items = [
        service("agnhost-replica", "replica", 6379, 6379),
        service("agnhost-primary", "primary", 6379, 6379),
        service("frontend", "frontend", 80, 80),
        deployment("frontend", "frontend", 3, "guestbook", "--http-port", "80", port=80),
        deployment("agnhost-primary", "primary", 1, "guestbook", *backend, port=6379),
        deployment(
            "agnhost-replica", "replica", 2, "guestbook", "--replicaof", "agnhost-primary:6379", *backend, port=6379
        ),
    ]  # fmt: skip
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode()
    kubectl.out("create", "-f", "-", stdin=manifest)
    for name in ("frontend", "agnhost-primary", "agnhost-replica"):
        kubectl.out("rollout", "status", f"deployment/{name}", "--timeout=60s")

    def book(**query: str) -> JsonObject:
        words = "&".join(f"{key}={value}" for key, value in query.items())
        path = f"{SERVICES.path('default', 'frontend')}/proxy/guestbook?{words}"
        done = kubectl.run("get", "--raw", path)
        found: JsonObject = json.loads(done.out) if done.code == 0 else {}
        return found

    wait_for(lambda: book(cmd="get", key="messages") == {"data": ""}, "the empty guestbook")
    wait_for(lambda: book(cmd="set", key="messages", value="TestEntry"), "the entry to be taken")
    asked = lambda: [book(cmd="get", key="messages") for _ in range(6)]  # noqa: E731
    wait_for(lambda: asked() == [{"data": "TestEntry"}] * 6, "every replica to have the entry")
    kubectl.out("delete", "--grace-period=0", "--force", "-f", "-", stdin=manifest)
    assert not [item for item in cluster.items(DEPLOYMENTS) if item["metadata"]["name"] == "frontend"]
    guests = lambda: [  # noqa: E731
        pod for pod in cluster.items(PODS) if "role" in pod["metadata"].get("labels", {})
    ]
    wait_for(lambda: not guests(), "the pods to go")
