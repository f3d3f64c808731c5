"""The mission's main job with the real kubectl, oldest and newest: a manifest goes in, every node answers."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, wait_for
from nodeport.testing.outside import OutsideClient
from tooling import tool

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "nodeport.yaml"
NODE_PORT = 30007


@dataclass(frozen=True)
class Kubectl:
    """``kubectl("get", "svc")``: what it printed; fails the test unless its exit code is as expected."""

    program: str
    kubeconfig: Path

    def __call__(self, *words: str, code: int = 0) -> str:
        home = str(self.kubeconfig.parent)
        environment = {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(
            [self.program, *words], env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == code, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(params=["oldest", "newest"])
def kubectl(request: pytest.FixtureRequest, cluster: LocalCluster) -> Kubectl:
    program = tool("kubectl", request.param)
    cluster.up("--nodes", "3")
    return Kubectl(program, cluster.kubeconfig)


def answering_pods(cluster: LocalCluster, client: OutsideClient, port: int) -> set[str]:
    """Who answers a client that is no node; every node must answer every time."""
    return {
        json.loads(client.get(address, port, "/?format=json"))["pod"]
        for address in cluster.node_addresses().values()
        for _ in range(12)
    }


def ready_names(cluster: LocalCluster, count: int) -> set[str]:
    return {pod["metadata"]["name"] for pod in cluster.wait_for_pods(count)}


def test_a_manifest_goes_in_and_every_node_answers(cluster: LocalCluster, kubectl: Kubectl) -> None:
    assert "service/my-nodeport-service created" in kubectl("apply", "-f", str(EXAMPLE))
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/my-deployment")
    with OutsideClient.on(cluster.paths.name) as client:

        def all_answer(count: int) -> bool:
            pods = ready_names(cluster, count)
            return answering_pods(cluster, client, NODE_PORT) == pods

        wait_for(lambda: all_answer(3), "three pods answer on every node")
        for replicas in (1, 5):
            kubectl("scale", "deployment", "my-deployment", f"--replicas={replicas}")
            wait_for(lambda count=replicas: all_answer(count), f"{replicas} pods answer on every node")
        victim = min(ready_names(cluster, 5))
        kubectl("delete", "pod", victim)
        assert victim not in ready_names(cluster, 5)
        wait_for(lambda: all_answer(5), "the pod's successor answers too")
    kubectl("delete", "-f", str(EXAMPLE))
    wait_for(lambda: "No resources found" in kubectl("get", "pods"), "the pods are gone")


def test_create_expose_and_look_at_everything(cluster: LocalCluster, kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "my-deployment", "--image=nodeport/echo", "--replicas=2")
    kubectl("expose", "deployment", "my-deployment", "--type=NodePort", "--port=80", "--target-port=8080")
    pods = ready_names(cluster, 2)
    port = int(kubectl("get", "svc", "my-deployment", "-o", "jsonpath={.spec.ports[0].nodePort}"))
    assert 30086 <= port <= 32767
    with OutsideClient.on(cluster.paths.name) as client:
        wait_for(lambda: answering_pods(cluster, client, port) == pods, "both pods answer on every node")
    everything = kubectl("get", "svc,endpointslices,deploy,rs,pods,nodes", "-o", "wide")
    assert f"80:{port}/TCP" in everything
    assert all(name in everything for name in pods)
    described = kubectl("describe", "svc", "my-deployment")
    assert f"NodePort:                 <unset>  {port}/TCP" in described
    pod = min(pods)
    for word in ("Scheduled", "Pulled", "Created", "Started", "Ready             True"):
        wait_for(lambda word=word: word in kubectl("describe", "pod", pod), f"{word} to be described")
    described = kubectl("describe", "node", "node-1")
    for word in ("PodCIDR:", "KubeletReady", "Non-terminated Pods:"):
        assert word in described, described
    wait_for(lambda: "ScalingReplicaSet" in kubectl("get", "events"), "the event")
    assert "GET /" in kubectl("logs", pod) or "listening" in kubectl("logs", pod)
    assert '"name":"' + pod in kubectl("get", "pods", "-l", "app=my-deployment", "-o", "json").replace(
        ": ", ":"
    )


HAND_MADE = """
apiVersion: v1
kind: Service
metadata: {name: by-hand}
spec:
  type: NodePort
  ports: [{port: 80, targetPort: 8080, nodePort: 30008}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: by-hand}
subsets: [{addresses: [{ip: %s}], ports: [{port: 8080}]}]
"""


def test_hand_made_endpoints_answer_on_every_node(
    cluster: LocalCluster, kubectl: Kubectl, tmp_path: Path
) -> None:
    """Nobody but the mirroring controller tells the nodes of them."""
    kubectl("create", "deployment", "my-deployment", "--image=nodeport/echo", "--replicas=2")
    [chosen, _] = sorted(cluster.wait_for_pods(2), key=lambda pod: pod["metadata"]["name"])
    manifest = tmp_path / "by-hand.yaml"
    manifest.write_text(HAND_MADE % chosen["status"]["podIP"])
    assert "v1 Endpoints is deprecated in v1.33+" in kubectl("apply", "-f", str(manifest))
    with OutsideClient.on(cluster.paths.name) as client:
        name = {chosen["metadata"]["name"]}
        wait_for(lambda: answering_pods(cluster, client, 30008) == name, "the chosen pod answers alone")
        slices = kubectl("get", "endpointslices", "-l", "kubernetes.io/service-name=by-hand", "-o", "yaml")
        assert "endpointslicemirroring-controller.k8s.io" in slices
        kubectl("delete", "endpoints", "by-hand")
        listing = ("get", "endpointslices", "-l", "kubernetes.io/service-name=by-hand")
        wait_for(lambda: "No resources found" in kubectl(*listing), "the mirror goes with its original")


def test_ports_that_cannot_be_had_are_refused_in_kubernetes_words(
    cluster: LocalCluster, kubectl: Kubectl
) -> None:
    kubectl("apply", "-f", str(EXAMPLE))
    assert (
        'The Service "too-late" is invalid: spec.ports[0].nodePort: Invalid value: 30007: provided port is already '
        "allocated"
    ) in kubectl("apply", "-f", str(ROOT / "examples" / "port-taken.yaml"), code=1)
    assert (
        "spec.ports[0].nodePort: Invalid value: 8080: provided port is not in the valid range. The range of valid "
        "ports is 30000-32767"
    ) in kubectl("apply", "-f", str(ROOT / "examples" / "port-out-of-range.yaml"), code=1)
