"""What kubectl waits for when it rolls out, undoes, pauses and deletes: the real binary, all controllers."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from nodeport.testing.controlplane import ControlledCluster, controlled_cluster
from tooling import tool

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["oldest", "newest"])
def binary(request: pytest.FixtureRequest) -> str:
    return tool("kubectl", request.param)


async def kubectl(cluster: ControlledCluster, binary: str, folder: Path, words: str) -> str:
    """Its output; fails with it when kubectl does."""
    config = folder / "kubeconfig"
    if not config.exists():
        cluster.api.write_kubeconfig(config)
    options = ["--kubeconfig", str(config), "--cache-dir", str(folder / "cache")]
    process = await asyncio.create_subprocess_exec(
        binary, *options, *words.split(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, f"kubectl {words}\n{out.decode()}"
    return out.decode()


async def test_a_rollout_from_creation_to_deletion(binary: str, tmp_path: Path) -> None:
    async with controlled_cluster() as cluster:

        async def run(words: str) -> str:
            return await kubectl(cluster, binary, tmp_path, words)

        async def rolled_out() -> None:
            out = await run("rollout status deployment/web --timeout=60s")
            assert 'deployment "web" successfully rolled out' in out

        await run("create deployment web --image=v1 --replicas=3 --port=8080")
        await rolled_out()
        await run("set image deployment/web *=v2")
        await rolled_out()
        history = await run("rollout history deployment/web")
        assert [line.split()[0] for line in history.splitlines()[2:] if line.strip()] == ["1", "2"]
        await run("rollout undo deployment/web")
        await rolled_out()
        images = await run("get pods -o jsonpath={.items[*].spec.containers[0].image}")
        assert set(images.split()) == {"v1"}
        await run("rollout pause deployment/web")
        await run("set image deployment/web *=v3")
        await run("scale deployment/web --replicas=5")
        await run("rollout resume deployment/web")
        await rolled_out()
        ready = await run("get deployment web -o jsonpath={.status.readyReplicas}/{.status.updatedReplicas}")
        assert ready == "5/5"
        described = await run("describe deployment web")
        assert "NewReplicaSetAvailable" in described
        assert "ScalingReplicaSet" in described
        await run("delete deployment web --cascade=foreground --timeout=60s")
        assert await run("get pods,rs -o name") == ""


async def test_a_namespace_is_furnished_and_emptied(binary: str, tmp_path: Path) -> None:
    async with controlled_cluster() as cluster:

        async def run(words: str) -> str:
            return await kubectl(cluster, binary, tmp_path, words)

        await run("create namespace shop")
        async with asyncio.timeout(60):
            while "root-ca" not in await run(
                "get configmap kube-root-ca.crt -n shop -o name --ignore-not-found"
            ):
                await asyncio.sleep(0.05)
        await run("create deployment web -n shop --image=v1 --replicas=2")
        await run("rollout status deployment/web -n shop --timeout=60s")
        await run("expose deployment web -n shop --port=80 --target-port=8080")
        await run("delete namespace shop --timeout=60s")
        assert "shop" not in await run("get namespaces -o name")
