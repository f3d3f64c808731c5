"""Local clusters for tests, used as a user uses them: through the commands and the API."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.resources import DEPLOYMENTS, NODES, PODS, SERVICES, Resource
from nodeport.api.status import ApiError
from nodeport.cli.errors import Unreachable
from nodeport.cli.session import Session
from nodeport.client.config import ClientConfig
from nodeport.node import local, network, processes
from nodeport.node.local import Paths
from nodeport.node.oci import cgroups

PATIENCE = 60.0
POLL = 0.02


def wait_for(check: Callable[[], Any], what: str, *, patience: float = PATIENCE) -> Any:
    """The first true answer of ``check``; the API may be away meanwhile."""
    deadline = time.monotonic() + patience
    while True:
        try:
            if found := check():
                return found
        except (Unreachable, OSError, ApiError):
            pass
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(POLL)


@dataclass
class LocalCluster:
    """What a user does with a cluster, and what only a test wants to know. ``around``: how each command begins."""

    paths: Paths
    kubeconfig: Path
    log: list[str] = field(default_factory=list)
    around: tuple[str, ...] = ()

    def nodeport(self, *words: str, code: int = 0) -> str:
        command = [
            *self.around, str(Path(sys.executable).with_name("nodeport")), *words, "--name", self.paths.name,
            "--data-root", str(self.paths.data_root), "--run-root", str(self.paths.run_root),
        ]  # fmt: skip
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=100, check=False
        )
        assert done.returncode == code, f"{words}: {done.returncode}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout + done.stderr

    def up(self, *words: str) -> str:
        return self.nodeport("up", *words)

    def logs(self) -> str:
        files = (self.paths.data / "logs").glob("*.log")
        return "".join(f"\n--- {file.name}\n{file.read_text()[-3000:]}" for file in files)

    def session(self) -> Session:
        config = local.load(self.paths)
        assert config is not None
        identity = self.paths.certificate("admin"), self.paths.key("admin")
        return Session(ClientConfig(config.url, self.paths.certificate("ca").read_bytes(), *identity))

    def get(self, resource: Resource, name: str = "", namespace: str = "default") -> JsonObject:
        with self.session() as session:
            return session.get(resource.path(namespace, name))

    def items(self, resource: Resource) -> list[JsonObject]:
        found: list[JsonObject] = self.get(resource).get("items") or []
        return found

    def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        with self.session() as session:
            return session.request("POST", resource.path("default"), body=obj).body

    def delete(self, resource: Resource, name: str, **options: object) -> JsonObject:
        """What the API answers: the object, when it is still there."""
        with self.session() as session:
            return session.request("DELETE", resource.path("default", name), body=options or None).body

    def log_of(self, pod: str, **query: object) -> str:
        """The log of a pod's container as the API serves it."""
        config = local.load(self.paths)
        assert config is not None
        tls = self.session().config.ssl_context()
        words = "&".join(f"{key}={value}" for key, value in query.items())
        with urllib.request.urlopen(
            f"{config.url}{PODS.path('default', pod, 'log')}?{words}", context=tls
        ) as answer:
            return str(answer.read().decode())

    def pid(self, part: str) -> int:
        process = processes.living(self.paths.pid(part))
        assert process is not None, f"{part} does not run"
        return process.pid

    def kill(self, part: str) -> None:
        pid = self.pid(part)
        os.kill(pid, 9)
        wait_for(lambda: not processes.start_time(pid), f"{part} to die")

    def node_addresses(self) -> dict[str, str]:
        return {
            node["metadata"]["name"]: node["status"]["addresses"][0]["address"] for node in self.items(NODES)
        }

    def ready_pods(self) -> list[JsonObject]:
        return [
            pod for pod in self.items(PODS)
            if not pod["metadata"].get("deletionTimestamp")
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        ]  # fmt: skip

    def wait_for_pods(self, count: int) -> list[JsonObject]:
        def settled() -> list[JsonObject] | None:
            found = self.ready_pods()
            return found if len(found) == count == len(self.items(PODS)) else None

        found: list[JsonObject] = wait_for(settled, f"{count} ready pods")
        return found

    def deploy(self, replicas: int, *, node_port: int = 0, probe: bool = True) -> int:
        """The echo Deployment ``web`` behind a NodePort Service; the port it was given."""
        container: JsonObject = {"name": "web", "image": "nodeport/echo", "ports": [{"containerPort": 8080}]}
        if probe:
            container["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
        template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
        self.create(DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec})
        port: JsonObject = {"port": 80, "targetPort": 8080}
        if node_port:
            port["nodePort"] = node_port
        service = self.create(SERVICES, {
            "metadata": {"name": "web"},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [port]},
        })  # fmt: skip
        self.wait_for_pods(replicas)
        return int(service["spec"]["ports"][0]["nodePort"])

    def pod(self, name: str, **container: Any) -> JsonObject:
        """Create a bare pod of one container ``main``; ``spec_*`` keywords go into the pod's spec."""
        spec = {
            key.removeprefix("spec_"): container.pop(key)
            for key in list(container)
            if key.startswith("spec_")
        }
        main = {"name": "main", "image": "nodeport/echo", **container}
        return self.create(PODS, {"metadata": {"name": name}, "spec": {"containers": [main], **spec}})

    def wait_for_pod(self, name: str, check: Callable[[JsonObject], Any], what: str) -> JsonObject:
        def satisfied() -> JsonObject | None:
            pod = self.get(PODS, name)
            return pod if check(pod) else None

        found: JsonObject = wait_for(satisfied, f"pod {name}: {what}")
        return found


@contextmanager
def local_cluster(root: Path, around: tuple[str, ...] = ()) -> Iterator[LocalCluster]:
    """A cluster under a name of its own, not up yet; it is taken down and must have left nothing."""
    paths = Paths(f"t{secrets.token_hex(4)}", root / "data", root / "run")
    made = LocalCluster(paths, root / "kubeconfig", around=around)
    try:
        yield made
    finally:
        made.nodeport("down")
        assert traces(made) == []


def call(address: str, port: int, path: str = "/?format=json", *, patience: float = 10.0) -> JsonObject:
    """What the echo program answers; OSError when nobody does within so many seconds."""
    host = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=patience) as answer:
        found: JsonObject = json.loads(answer.read())
        return found


def is_running(pod: JsonObject) -> bool:
    return bool(pod["status"].get("phase") == "Running")


def traces(cluster: LocalCluster) -> list[str]:
    """All that is left of a cluster on this machine."""
    name = cluster.paths.name
    found = [f"process {process.pid}" for process in processes.of_cluster(name)]
    found += [str(path) for path in network.cluster_netns(name)]
    found += [str(path) for path in (cluster.paths.data, cluster.paths.run) if path.exists()]
    if network.host_has_link(network.host_link(name)):
        found.append(network.host_link(name))
    found += [f"process {pid} in a cgroup" for pid in cgroups.processes_below(name)]
    found += [str(root) for root in cgroups.hierarchies() if (root / cgroups.of_cluster(name)[1:]).exists()]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"/{name}/" in line]
    if cluster.kubeconfig.exists() and name in cluster.kubeconfig.read_text():
        found.append(str(cluster.kubeconfig))
    return found
