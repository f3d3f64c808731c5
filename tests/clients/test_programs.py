"""The Python clients, each in an environment of its own, and helm, on the same cluster."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.conftest import kubeconfig_for
from kernel.clusters import LocalCluster
from nodeport.api.resources import NAMESPACES
from tooling import tool

PROGRAMS = Path(__file__).resolve().parent / "programs"
CLIENTS = {
    "kubernetes-21": "kubernetes_client.py",
    "kubernetes-37": "kubernetes_client.py",
    "kubernetes-asyncio-36": "kubernetes_asyncio_client.py",
    "lightkube-1": "lightkube_client.py",
    "kr8s-0.20": "kr8s_client.py",
}
"""Lock -> program."""
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: web\nversion: 0.1.0\n",
    "values.yaml": "port: 80\n",
    "templates/all.yaml": """\
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec:
  type: NodePort
  selector: {app: {{ .Release.Name }}}
  ports: [{port: {{ .Values.port }}, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec: {containers: [{name: main, image: nodeport/echo}]}
""",
}


@pytest.mark.parametrize("name", CLIENTS)
def test_python_client(
    name: str,
    cluster: LocalCluster,
    home: Path,
    namespace: str,
    record_property: Callable[[str, object], None],
) -> None:
    client, _, version = name.rpartition("-")
    record_property("client", client)
    record_property("version", version)
    python = tool("pyclient", name)
    cluster.create(NAMESPACES, {"metadata": {"name": namespace}})
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(PROGRAMS),
        "KUBECONFIG": str(kubeconfig_for(cluster, namespace, home)),
    }  # fmt: skip
    done = subprocess.run(
        [python, str(PROGRAMS / CLIENTS[name]), namespace],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    cluster.delete(NAMESPACES, namespace)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"use"')]
    record_property("uses", told)
    assert told, done.stderr
    assert [each for each in told if not each["ok"]] == [], done.stderr


@pytest.mark.parametrize("version", ["1.20", "1.36"], ids=["helm-3.8", "helm-4.2"])
def test_helm_installs_upgrades_rolls_back_and_removes(
    version: str,
    cluster: LocalCluster,
    home: Path,
    namespace: str,
    record_property: Callable[[str, object], None],
) -> None:
    program = tool("kubectl", version, "helm")
    for key, value in (("client", "helm"), ("version", {"1.20": "3.8", "1.36": "4.2"}[version]),
                       ("verb", "install"), ("use", "install --wait, upgrade, history, rollback, uninstall")):  # fmt: skip
        record_property(key, value)
    chart = home / f"chart-{version}"
    for path, text in CHART.items():
        file = chart / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home),
                   "KUBECONFIG": str(kubeconfig_for(cluster, namespace, home))}  # fmt: skip

    def helm(*words: str) -> str:
        done = subprocess.run(
            [program, *words], env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, f"helm {words}: {done.stdout}{done.stderr}"
        return done.stdout

    helm(
        "install",
        "web",
        str(chart),
        "--create-namespace",
        "--namespace",
        namespace,
        "--wait",
        "--timeout",
        "60s",
    )
    helm(
        "upgrade",
        "web",
        str(chart),
        "--namespace",
        namespace,
        "--set",
        "port=81",
        "--wait",
        "--timeout",
        "60s",
    )
    helm("rollback", "web", "1", "--namespace", namespace, "--wait", "--timeout", "60s")
    assert len(json.loads(helm("history", "web", "--namespace", namespace, "-o", "json"))) == 3
    helm("uninstall", "web", "--namespace", namespace, "--wait")
    cluster.delete(NAMESPACES, namespace)
