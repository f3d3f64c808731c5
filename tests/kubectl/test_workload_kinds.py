"""ReplicationControllers, StatefulSets, DaemonSets and Jobs through the real kubectl, oldest and newest."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually
from tooling import tool

ROOT = Path(__file__).resolve().parents[2]

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "v1", "ports": [{"containerPort": 6379}]}]},
}
SELECTOR = {"matchLabels": {"app": "web"}}


def manifest(kind: str, **spec: Any) -> str:
    version = "v1" if kind == "ReplicationController" else "apps/v1"
    return json.dumps(
        {
            "apiVersion": version, "kind": kind, "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"template": TEMPLATE, **spec},
        }
    )  # fmt: skip


class Shell:
    """``await shell("get pods")``: kubectl's output; fails with it when kubectl does."""

    def __init__(self, cluster: ControlledCluster, binary: str, folder: Path) -> None:
        self._options = [
            binary,
            "--kubeconfig",
            str(folder / "kubeconfig"),
            "--cache-dir",
            str(folder / "cache"),
        ]
        cluster.api.write_kubeconfig(folder / "kubeconfig")

    async def __call__(self, words: str, stdin: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            *self._options, *words.split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 90)
        assert process.returncode == 0, f"kubectl {words}\n{out.decode()}"
        return out.decode()

    async def until(self, words: str, shown: str) -> None:
        """Ask until kubectl prints ``shown``: old ones cannot wait for a value themselves."""

        async def is_shown() -> bool:
            return await self(words) == shown

        await eventually(is_shown)


@pytest.fixture(scope="module", params=["oldest", "newest"])
def binary(request: pytest.FixtureRequest) -> str:
    return tool("kubectl", request.param)


async def test_a_replication_controller_is_exposed_scaled_patched_and_deleted(
    binary: str, tmp_path: Path
) -> None:
    async with controlled_cluster() as cluster:
        shell = Shell(cluster, binary, tmp_path)
        await shell("create -f -", manifest("ReplicationController", replicas=1, selector={"app": "web"}))
        await shell.until("get rc web -o jsonpath={.status.readyReplicas}", "1")
        await shell("expose rc web --name=rm2 --port=1234 --target-port=6379")
        await shell("expose service rm2 --name=rm3 --port=2345 --target-port=6379")
        shown = await shell(
            "get service rm2 rm3 -o jsonpath={.items[*].spec.ports[0].port}/{.items[*].spec.selector}"
        )
        assert shown == '1234 2345/{"app":"web"} {"app":"web"}'
        await shell("scale rc web --current-replicas=1 --replicas=3 --timeout=60s")
        table = await shell("get rc web --no-headers")
        assert table.split()[:4] == ["web", "3", "3", "3"]
        for name in (await shell("get pods -l app=web -o name")).split():
            await shell(f'patch {name} -p {{"metadata":{{"annotations":{{"x":"y"}}}}}}')
        assert await shell("get pods -o jsonpath={.items[*].metadata.annotations.x}") == "y y y"
        described = await shell("describe rc web")
        assert "3 Running / 0 Waiting / 0 Succeeded / 0 Failed" in described
        assert "SuccessfulCreate" in described
        assert "Controlled By:" in await shell("describe pods")
        await shell("delete rc web --timeout=60s")
        await shell.until("get pods -l app=web -o name", "")


@pytest.mark.parametrize(("kind", "word"), [("StatefulSet", "statefulset"), ("DaemonSet", "daemonset")])
async def test_a_set_is_rolled_out_and_undone(binary: str, tmp_path: Path, kind: str, word: str) -> None:
    async with controlled_cluster(nodes=3) as cluster:
        shell = Shell(cluster, binary, tmp_path)
        sized = {"replicas": 3, "serviceName": "web"} if kind == "StatefulSet" else {}
        await shell("apply -f -", manifest(kind, selector=SELECTOR, **sized))
        await shell(f"rollout status {word}/web --timeout=60s")
        await shell(f"set image {word}/web c=v2")
        await shell(f"rollout status {word}/web --timeout=60s")
        history = await shell(f"rollout history {word}/web")
        assert [line.split()[0] for line in history.splitlines()[2:] if line.strip()] == ["1", "2"]
        assert "v1" in await shell(f"rollout history {word}/web --revision=1")
        await shell(f"rollout undo {word}/web")
        await shell(f"rollout status {word}/web --timeout=60s")
        images = await shell("get pods -o jsonpath={.items[*].spec.containers[0].image}")
        assert images == "v1 v1 v1"
        before = set((await shell("get pods -o jsonpath={.items[*].metadata.uid}")).split())
        await shell(f"rollout restart {word}/web")
        await shell(f"rollout status {word}/web --timeout=60s")
        after = set((await shell("get pods -o jsonpath={.items[*].metadata.uid}")).split())
        assert len(after) == 3
        assert not after & before
        assert "3 Running / 0 Waiting" in await shell(f"describe {word} web")
        await shell("get all")
        await shell(f"delete {word} web --cascade=foreground --timeout=60s")
        assert await shell("get pods,controllerrevisions -o name") == ""


async def test_a_stateful_set_is_scaled(binary: str, tmp_path: Path) -> None:
    async with controlled_cluster() as cluster:
        shell = Shell(cluster, binary, tmp_path)
        await shell("apply -f -", manifest("StatefulSet", selector=SELECTOR, replicas=1, serviceName="web"))
        await shell("scale statefulset web --replicas=3")
        await shell("rollout status statefulset/web --timeout=60s")
        assert (await shell("get pods -o name")).split() == ["pod/web-0", "pod/web-1", "pod/web-2"]
        assert (await shell("get sts web --no-headers")).split()[:2] == ["web", "3/3"]


async def test_a_job_is_created_described_and_deleted(binary: str, tmp_path: Path) -> None:
    async with controlled_cluster() as cluster:
        shell = Shell(cluster, binary, tmp_path)
        await shell("create job once --image=v1 -- true")
        await shell.until("get job once -o jsonpath={.status.active}", "1")
        described = await shell("describe job once")
        assert "1 Active" in described or "1 Running" in described
        assert "SuccessfulCreate" in described
        await shell("delete job once --timeout=60s")
        await shell.until("get pods -l job-name=once -o name", "")
