"""kubectl port-forward and the proxy subresources on a whole cluster."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kernel.clusters import LocalCluster, wait_for
from kernel.kubectls import StreamingKubectl, kubectl_program
from nodeport.api.resources import PODS, SERVICES

SPDY = {"KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
TUNNELS = {"KUBECTL_PORT_FORWARD_WEBSOCKETS": "true"}


@pytest.fixture(scope="module")
def cluster(module_cluster: LocalCluster) -> LocalCluster:
    """Two nodes, two pods named by their Deployment, and the Service ``web``."""
    module_cluster.up("--nodes", "2")
    module_cluster.deploy(2)
    return module_cluster


@pytest.fixture(params=["oldest", "newest", "oldest-spdy", "newest-spdy"])
def kubectl(request: pytest.FixtureRequest, cluster: LocalCluster) -> StreamingKubectl:
    which, _, protocol = request.param.partition("-")
    return StreamingKubectl(kubectl_program(which), cluster.kubeconfig, SPDY if protocol else TUNNELS)


def pod_name(cluster: LocalCluster) -> str:
    return min(pod["metadata"]["name"] for pod in cluster.items(PODS))


@contextmanager
def forwarded(kubectl: StreamingKubectl, what: str, *ports: int) -> Iterator[list[int]]:
    """The local ports that lead to ``ports``."""
    with kubectl.started("port-forward", what, *(f":{port}" for port in ports)) as process:
        yield [local_port(process, port) for port in ports]


def local_port(process: subprocess.Popen[bytes], port: int) -> int:
    assert process.stdout is not None
    while line := process.stdout.readline().decode():
        if match := re.match(rf"Forwarding from 127\.0\.0\.1:(\d+) -> {port}", line):
            return int(match[1])
    raise AssertionError(f"kubectl ended: {process.wait()}")


def fetch(port: int, path: str = "/?format=json") -> dict[str, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        found: dict[str, str] = json.loads(answer.read())
        return found


def test_a_pods_ports_are_forwarded_to_its_loopback(cluster: LocalCluster, kubectl: StreamingKubectl) -> None:
    name = pod_name(cluster)
    with forwarded(kubectl, f"pod/{name}", 8080) as (port,):
        for _ in range(5):
            found = fetch(port)
            assert (found["pod"], found["server"]) == (name, "127.0.0.1:8080")


def test_a_service_is_forwarded_to_one_of_its_pods(cluster: LocalCluster, kubectl: StreamingKubectl) -> None:
    with forwarded(kubectl, "service/web", 80) as (port,):
        assert fetch(port)["pod"] in {pod["metadata"]["name"] for pod in cluster.items(PODS)}


def test_a_client_that_has_said_all_still_hears_the_answer(
    cluster: LocalCluster, kubectl: StreamingKubectl
) -> None:
    with forwarded(kubectl, f"pod/{pod_name(cluster)}", 8080) as (port,):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            while data := sock.recv(65536):
                answer += data
        assert answer.startswith(b"HTTP/1.1 200")


def test_a_port_that_nobody_listens_on_is_named(cluster: LocalCluster, kubectl: StreamingKubectl) -> None:
    with kubectl.started("port-forward", f"pod/{pod_name(cluster)}", ":9") as process:
        port = local_port(process, 9)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            assert sock.recv(1) == b""
        assert process.stdout is not None
        said = ""
        while "connection refused" not in said:
            line = process.stdout.readline().decode()
            assert line, said
            said += line
        assert "error forwarding port 9 to pod" in said


def test_pods_and_services_are_reached_through_the_api(
    cluster: LocalCluster, kubectl: StreamingKubectl
) -> None:
    base, name = "/api/v1/namespaces/default", pod_name(cluster)
    path = f"{base}/pods/{name}/proxy/some/path?a=1&format=json"
    assert json.loads(kubectl.out("get", "--raw", path))["path"] == "/some/path?a=1&format=json"
    assert (
        json.loads(kubectl.out("get", "--raw", f"{base}/pods/http:{name}:8080/proxy/?format=json"))["pod"]
        == name
    )
    pods = {pod["metadata"]["name"] for pod in cluster.items(PODS)}

    def both_answer() -> bool:
        path = f"{base}/services/web:80/proxy/?format=json"
        return {json.loads(kubectl.out("get", "--raw", path))["pod"] for _ in range(8)} == pods

    wait_for(both_answer, "both pods answer for the Service")
    refused = kubectl.run("get", "--raw", f"{base}/services/web:81/proxy/")
    assert 'no service port 81 found for service "web"' in refused.err


def test_a_service_without_endpoints_is_unavailable(cluster: LocalCluster) -> None:
    cluster.create(
        SERVICES, {"metadata": {"name": "empty"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}
    )
    kubectl = StreamingKubectl(kubectl_program("newest"), cluster.kubeconfig)
    path = "/api/v1/namespaces/default/services/empty/proxy/"

    def is_refused() -> bool:
        return 'no endpoints available for service "empty"' in kubectl.run("get", "--raw", path).err

    wait_for(is_refused, "the Endpoints are there and empty")


def test_a_node_is_asked_through_the_api(cluster: LocalCluster, kubectl: StreamingKubectl) -> None:
    assert kubectl.out("get", "--raw", "/api/v1/nodes/node-1/proxy/healthz") == "ok"
    pods = json.loads(kubectl.out("get", "--raw", "/api/v1/nodes/node-2/proxy/pods"))["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-2"}


def test_kubectl_proxy_leads_a_browser_to_a_pod(cluster: LocalCluster, kubectl: StreamingKubectl) -> None:
    with kubectl.started("proxy", "--port=0") as process:
        assert process.stdout is not None
        match = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline().decode())
        assert match
        path = f"/api/v1/namespaces/default/pods/{pod_name(cluster)}/proxy"
        assert fetch(int(match[1]), f"{path}/?format=json")["path"] == "/?format=json"
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(int(match[1]), "/api/v1/namespaces/default/pods/none/proxy/")
        refused.value.close()
        assert refused.value.code == 404


def test_a_drain_evicts_all_pods_of_a_node(cluster: LocalCluster) -> None:
    kubectl = StreamingKubectl(kubectl_program("newest"), cluster.kubeconfig)
    said = kubectl.out("drain", "node-1", "--timeout=50s")
    assert "node/node-1 drained" in said
    wait_for(
        lambda: {pod["spec"].get("nodeName") for pod in cluster.wait_for_pods(2)} == {"node-2"},
        "all are on node-2",
    )
    kubectl.out("uncordon", "node-1")
