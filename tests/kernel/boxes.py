"""The sandbox of one pod on one node, and containers in it, without any API."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeport.kit.clock import SystemClock
from nodeport.node import local, network, processes, sandbox
from nodeport.node.addresses import ClusterPlan, free_fabric, free_pod_network
from nodeport.node.images.base import PullRequest
from nodeport.node.images.nodeimages import node_images
from nodeport.node.oci import cgroups
from nodeport.node.oci.runc import Runc
from nodeport.node.oci.security import DEFAULT_CAPABILITIES
from nodeport.node.oci.spec import Process, User
from nodeport.node.runtime import Container, ContainerOrder, OciRuntime
from nodeport.node.sandbox import NodeSurroundings, PodIdentity, Sandbox


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    """The sandbox of one pod on one node."""
    name = f"t{secrets.token_hex(4)}"
    with local.locked():
        taken = network.taken_networks()
        plan = ClusterPlan(name, (free_fabric(taken),), (free_pod_network(taken),), 1)
        network.ensure_cluster(plan)
    node = plan.node(1)
    surroundings = NodeSurroundings(
        name,
        node.name,
        network.node_netns(name, node.name),
        node.addresses,
        tmp_path / "run",
        tmp_path / "logs",
    )
    identity = PodIdentity(secrets.token_hex(8), "default", "pod", "pod")
    made = Sandbox(surroundings, identity, (node.pod_cidrs[0][2],))
    sandbox.ensure(made, {"hosts": "127.0.0.1 localhost\n", "hostname": "pod\n", "resolv.conf": ""})
    yield made
    for process in processes.of_cluster(name):
        process.send(processes.signal.SIGKILL)
    cgroups.kill_below(name)
    cgroups.remove_below(name)
    sandbox.remove(made)
    assert not made.directory.exists()
    network.remove_cluster(name)


async def start(
    box: Sandbox,
    *argv: str,
    attempt: int = 0,
    user: User | None = None,
    runtime: OciRuntime | None = None,
    **options: object,
) -> Container:
    image = await node_images(box.node.log_directory.parent / "images").resolve(PullRequest("nodeport/echo"))
    env = {"PATH": image.config.env[0].removeprefix("PATH="), "MARK": "here"}
    process = Process(
        argv or image.config.entrypoint, env, user=user or User(), capabilities=DEFAULT_CAPABILITIES
    )
    order = ContainerOrder("main", attempt, image, process, is_own_program=not argv, **options)  # type: ignore[arg-type]
    return await (runtime or new_runtime()).start(box, order, lambda: None)


def new_runtime() -> OciRuntime:
    return OciRuntime(SystemClock(), Runc.found())


def log_of(container: Container) -> list[str]:
    return [line.split(" ", 3)[3] for line in container.log.read_text().splitlines()]


async def ended(container: Container) -> int:
    await asyncio.wait_for(container.ended.wait(), 60)
    assert container.exit is not None
    return container.exit.code
