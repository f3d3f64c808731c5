"""The demonstration behind ``make demo``: a cluster of three nodes, one NodePort Service, a client outside of it.

Everything shown is real: kubectl is the Kubernetes project's own, the node ports are opened by nftables in each node's
kernel, and the client is a network namespace on the nodes' network that belongs to no node.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nodeport.testing.outside import OutsideClient

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
NAME = "demo"
NODE_PORT = 30007
CALLS_PER_NODE = 12

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


class DemoFailed(Exception):
    """A step did not show what it should."""


@dataclass
class Cluster:
    """The demo's cluster, its kubeconfig and the two programs that talk to it."""

    kubectl: Path
    kubeconfig: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {
            **os.environ, "KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.kubeconfig.parent / "cache"),
        }  # fmt: skip

    def run(self, *command: str, fails: bool = False, show: bool = True) -> str:
        """Run a command as a user would and show it with its output; raise when its success is not as expected."""
        program = {"kubectl": str(self.kubectl), "nodeport": str(Path(sys.executable).with_name("nodeport"))}[
            command[0]
        ]
        if show:
            console.print(f"[bold green]$[/] [bold]{' '.join(shown(word) for word in command)}[/]")
        done = subprocess.run(
            [program, *command[1:]],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = (done.stdout + done.stderr).rstrip()
        if show and output:
            console.print(output, style="red" if done.returncode else "", markup=False)
        if (done.returncode != 0) is not fails:
            raise DemoFailed(f"{' '.join(command)} ended with exit code {done.returncode}: {output}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, object]:
        loaded: dict[str, object] = json.loads(
            self.run("kubectl", "get", *arguments, "-o", "json", show=False)
        )
        return loaded


def shown(word: str) -> str:
    """A command-line word as the reader would type it."""
    return word.replace(f"{ROOT}/", "")


@contextmanager
def step(title: str) -> Iterator[None]:
    console.print()
    console.rule(f"[bold cyan]{title}[/]", align="left", style="cyan")
    yield


@dataclass
class Answers:
    """What a client heard: per node, how often each pod answered, and how many calls failed."""

    by_node: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(counter.total() for counter in self.by_node.values())


def short(pod: str) -> str:
    """The part of a generated pod name that tells it from its siblings."""
    return pod.rsplit("-", 1)[-1]


def call_every_node(client: OutsideClient, nodes: dict[str, str], port: int) -> Answers:
    answers = Answers({node: Counter() for node in nodes})
    for node, address in nodes.items():
        for _ in range(CALLS_PER_NODE):
            try:
                said = json.loads(client.get(address, port, "/?format=json"))
            except OSError as error:
                answers.failures.append(f"{node}: {error}")
                continue
            answers.by_node[node][f"{short(said['pod'])}@{said['node']}"] += 1
    return answers


def show_answers(answers: Answers, nodes: dict[str, str], port: int, pods_on: Counter[str]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("CALLED", "PODS THERE", "ANSWERED BY"):
        table.add_column(heading)
    for node, address in nodes.items():
        heard = (
            ", ".join(f"{pod} ×{count}" for pod, count in sorted(answers.by_node[node].items())) or "nobody"
        )
        table.add_row(f"http://{address}:{port} ({node})", str(pods_on[node]), heard)
    console.print(table)
    if answers.failures:
        raise DemoFailed(f"{len(answers.failures)} calls failed, first: {answers.failures[0]}")


class Traffic:
    """A background client that calls the nodes in turn, and counts, while the cluster is changed under it."""

    def __init__(self, client: OutsideClient, addresses: list[str], port: int, *, most: int = 5000) -> None:
        self._client, self._addresses, self._port, self._most = client, addresses, port, most
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answered = 0
        self.failures: list[str] = []

    def _run(self) -> None:
        for number in range(self._most):
            if self._stop.wait(0.01):
                return
            address = self._addresses[number % len(self._addresses)]
            try:
                self._client.get(address, self._port, "/")
                self.answered += 1
            except OSError as error:
                self.failures.append(f"{address}: {error}")

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def report(self) -> None:
        console.print(f"meanwhile the client made {self.answered + len(self.failures)} calls: ", end="")
        console.print(f"[green]{self.answered} answered[/], [{'red' if self.failures else 'green'}]"
                      f"{len(self.failures)} failed[/]")  # fmt: skip
        if self.failures:
            raise DemoFailed(f"a call failed during the change: {self.failures[0]}")


def ready_pods(cluster: Cluster) -> Counter[str]:
    """How many ready, staying pods each node runs."""
    found: Counter[str] = Counter()
    for pod in cluster.get("pods", "-l", "app=my-app")["items"]:  # type: ignore[attr-defined]
        conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
        if conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp"):
            found[pod["spec"]["nodeName"]] += 1
    return found


def wait_for_pods(cluster: Cluster, count: int, seconds: float = 60) -> Counter[str]:
    deadline = time.monotonic() + seconds
    while (found := ready_pods(cluster)).total() != count:
        if time.monotonic() > deadline:
            raise DemoFailed(f"{found.total()} pods are ready after {seconds:.0f} s, expected {count}")
        time.sleep(0.1)
    return found


def node_addresses(cluster: Cluster) -> dict[str, str]:
    found = {}
    for node in cluster.get("nodes")["items"]:  # type: ignore[attr-defined]
        internal = (a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        found[node["metadata"]["name"]] = next(internal)
    return found


def scale(cluster: Cluster, client: OutsideClient, nodes: dict[str, str], replicas: int) -> None:
    with Traffic(client, list(nodes.values()), NODE_PORT) as traffic:
        cluster.run("kubectl", "scale", "deployment", "my-deployment", f"--replicas={replicas}")
        pods_on = wait_for_pods(cluster, replicas)
        time.sleep(0.3)
    show_answers(call_every_node(client, nodes, NODE_PORT), nodes, NODE_PORT, pods_on)
    traffic.report()


def show(cluster: Cluster) -> None:
    """The whole story, on a cluster that is up."""
    nodes = node_addresses(cluster)
    with OutsideClient.on(NAME) as client:
        with step("A manifest goes in"):
            cluster.run("kubectl", "apply", "-f", str(EXAMPLES / "nodeport.yaml"))
            cluster.run(
                "kubectl", "rollout", "status", "deployment/my-deployment", "--timeout=60s", show=False
            )
            pods_on = wait_for_pods(cluster, 3)
            cluster.run("kubectl", "get", "deployments,pods,services", "-o", "wide")
        with step(f"Every node answers on port {NODE_PORT}, for a client that is no node ({client.address})"):
            show_answers(call_every_node(client, nodes, NODE_PORT), nodes, NODE_PORT, pods_on)
            cluster.run("nodeport", "service", "my-nodeport-service", "--url")
        with step("3 → 1: the same address keeps answering, also on nodes without a pod"):
            scale(cluster, client, nodes, 1)
        with step("1 → 5"):
            scale(cluster, client, nodes, 5)
        with step("A pod is deleted; another takes its place"):
            victim = cluster.get("pods", "-l", "app=my-app")["items"][0]["metadata"]["name"]  # type: ignore[index]
            with Traffic(client, list(nodes.values()), NODE_PORT) as traffic:
                cluster.run("kubectl", "delete", "pod", victim)
                pods_on = wait_for_pods(cluster, 5)
            show_answers(call_every_node(client, nodes, NODE_PORT), nodes, NODE_PORT, pods_on)
            traffic.report()
        with step("A Service that names no node port is given one"):
            cluster.run("kubectl", "apply", "-f", str(EXAMPLES / "automatic-port.yaml"))
            cluster.run("kubectl", "get", "service", "my-automatic-service")
            service = cluster.get("service", "my-automatic-service")
            port = service["spec"]["ports"][0]["nodePort"]  # type: ignore[index]
            show_answers(call_every_node(client, nodes, port), nodes, port, pods_on)
    with step("Refused: a port that is taken, and one out of range"):
        cluster.run("kubectl", "apply", "-f", str(EXAMPLES / "port-taken.yaml"), fails=True)
        cluster.run("kubectl", "apply", "-f", str(EXAMPLES / "port-out-of-range.yaml"), fails=True)


def kubectl_path() -> Path:
    """The newest of the kubectl binaries that the demo and the tests bring along."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "kubectl.py"), "newest"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip())


def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nodeport-demo-") as folder:
        cluster = Cluster(kubectl_path(), Path(folder) / "kubeconfig")
        try:
            with step("A cluster of one control plane and three nodes"):
                cluster.run(
                    "nodeport", "up", "--name", NAME, "--nodes", "3", "--kubeconfig", str(cluster.kubeconfig)
                )
                cluster.run("kubectl", "get", "nodes", "-o", "wide")
            show(cluster)
        except DemoFailed as failure:
            console.print(f"[bold red]The demo failed:[/] {failure}")
            return 1
        finally:
            with step("And everything is taken down again"):
                cluster.run("nodeport", "down", "--name", NAME, "--kubeconfig", str(cluster.kubeconfig))
    console.print(f"\n[bold]Done in {time.monotonic() - started:.1f} s.[/]")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
