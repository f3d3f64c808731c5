"""A thousand pods on this machine: until all are ready, have answered and are gone, and what each of them costs.

Needs root. A Deployment of the built-in image on as many local nodes as a hundred pods each take; one Service in front.
The cluster is called bench-pods and is removed at the end. ``python bench/pods.py 200`` chooses another number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

NODEPORT = str(Path(sys.executable).with_name("nodeport"))
NAME = "bench-pods"
PODS = 1000
PODS_PER_NODE = 100
PATIENCE = 600.0
VAIN_PER_POD = 20
"""A client that chooses at random meets the last of them after about ln(pods) times as many questions."""
KINDS = ("server", "nodes", "launcher", "zygote", "pod")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Weight:
    """Of all processes of one kind: how many, MB (shared pages by their share), seconds of CPU, open files."""

    count: int = 0
    megabytes: float = 0.0
    seconds: float = 0.0
    descriptors: int = 0


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PODS
    nodes = -(-count // PODS_PER_NODE)
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        try:
            nodeport(kubeconfig, "up", "--nodes", str(nodes))
            measure(kubeconfig, count, nodes)
        finally:
            nodeport(kubeconfig, "down")


def measure(kubeconfig: Path, count: int, nodes: int) -> None:
    before = weights()
    began = time.monotonic()
    nodeport(kubeconfig, "apply", "-f", "-", stdin=manifest(count))
    longest = wait_until(lambda: ready(kubeconfig) == count)
    took = time.monotonic() - began
    after, used = weights(), time.monotonic()
    print(f"{count} pods on {nodes} nodes: ready after {took:.1f} s, {count / took:.0f} a second")
    print(
        f"  meanwhile a get took {longest:.1f} s at most; load {os.getloadavg()[0]:.0f} on {os.cpu_count()} CPUs"
    )
    for kind in KINDS:
        one = after[kind]
        grown = Weight(one.count, one.megabytes - before[kind].megabytes, one.seconds - before[kind].seconds)
        print(
            f"  {kind:<8} {one.count:>5} processes: {grown.megabytes / count:6.2f} MB and "
            f"{1000 * grown.seconds / count:6.1f} ms of CPU a pod; {one.descriptors} open files"
        )
    total = sum(after[kind].megabytes - before[kind].megabytes for kind in KINDS)
    print(f"  all      {total / count:6.2f} MB a pod")
    time.sleep(10)
    idle, passed = weights(), time.monotonic() - used
    rest = sum(idle[kind].seconds - after[kind].seconds for kind in KINDS)
    print(f"  at rest  {100 * rest / passed:.1f} % of a CPU for all of it")
    print(f"  {answering(kubeconfig, count)} pods answered through the node port")
    began = time.monotonic()
    nodeport(kubeconfig, "delete", "deployment", "many")
    wait_until(lambda: pods(kubeconfig) == [])
    print(f"  gone after {time.monotonic() - began:.1f} s")


def manifest(count: int) -> str:
    labels = {"app": "many"}
    container = {"name": "echo", "image": "nodeport/echo"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": count, "selector": {"matchLabels": labels}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"}, "spec": spec}
    ports = [{"port": 80, "targetPort": 8080}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "many"},
        "spec": {"type": "NodePort", "selector": labels, "ports": ports},
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [deployment, service]})


def nodeport(kubeconfig: Path, *words: str, stdin: str = "") -> str:
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    name = ("--name", NAME) if words[0] in ("up", "down") else ()
    return subprocess.run(
        [NODEPORT, *words, *name], env=environment, check=True, stdout=subprocess.PIPE, text=True, input=stdin
    ).stdout


def pods(kubeconfig: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(nodeport(kubeconfig, "get", "pods", "-o", "json"))["items"]
    return found


def ready(kubeconfig: Path) -> int:
    text = nodeport(kubeconfig, "get", "deployment", "many", "-o", "json")
    return int(json.loads(text).get("status", {}).get("readyReplicas") or 0)


def answering(kubeconfig: Path, count: int) -> int:
    """How many of the pods a client meets who asks until it has met all, or met nobody new for long."""
    text = nodeport(kubeconfig, "get", "service", "many", "-o", "json")
    port = json.loads(text)["spec"]["ports"][0]["nodePort"]
    found = json.loads(nodeport(kubeconfig, "get", "nodes", "-o", "json"))["items"][0]["status"]["addresses"]
    host = next(each["address"] for each in found if each["type"] == "InternalIP")
    met, in_vain = set[bytes](), 0
    while len(met) < count and in_vain < VAIN_PER_POD * count:
        with urllib.request.urlopen(f"http://{host}:{port}/hostname", timeout=5) as reply:
            name = reply.read()
        in_vain = 0 if name not in met else in_vain + 1
        met.add(name)
    return len(met)


def wait_until(check: Callable[[], bool]) -> float:
    """The seconds that the longest check took."""
    deadline, longest = time.monotonic() + PATIENCE, 0.0
    while True:
        began = time.monotonic()
        if began > deadline:
            raise TimeoutError(f"not within {PATIENCE:g} s")
        is_so = check()
        longest = max(longest, time.monotonic() - began)
        if is_so:
            return longest
        time.sleep(0.5)


def weights() -> dict[str, Weight]:
    found = {kind: Weight() for kind in KINDS}
    for folder, kind in processes():
        try:
            shares = (folder / "smaps_rollup").read_text().split("Pss:")[1].split()[0]
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            descriptors = len(list((folder / "fd").iterdir()))
        except (OSError, IndexError):
            continue
        one = found[kind]
        one.count += 1
        one.megabytes += int(shares) / 1024
        one.seconds += (int(fields[11]) + int(fields[12])) / TICKS
        one.descriptors += descriptors
    return found


def processes() -> Iterator[tuple[Path, str]]:
    """Those of the cluster; what runs in a pod is known by its cgroup."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            group = (folder / "cgroup").read_text()
            name = (folder / "comm").read_text().strip()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"/nodeport.{NAME}/" in group:
            yield folder, "pod"
        elif f"={NAME}\0".encode() in environment + b"\0" and name == "launcher":
            yield folder, "launcher"
        elif f"={NAME}\0".encode() in environment + b"\0" and any(w.endswith(b"zygote.py") for w in words):
            yield folder, "zygote"
        elif NAME.encode() in words:
            for kind in ("server", "nodes"):
                if kind.encode() in words:
                    yield folder, kind


if __name__ == "__main__":
    main()
