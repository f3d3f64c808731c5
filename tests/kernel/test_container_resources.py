"""What a container may use, as the kernel has it: in cgroups of whichever version this machine has."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from kernel.boxes import box, ended, log_of, new_runtime, start
from kernel.clusters import wait_for
from nodeport.api.meta import JsonObject
from nodeport.node.oci import cgroups
from nodeport.node.oci.resources import cgroup_figures
from nodeport.node.oci.spec import Isolation
from nodeport.node.runtime import Container
from nodeport.node.sandbox import Sandbox

__all__ = ["box"]
MEGABYTE = 1 << 20
WEIGHTS = {102: 4, 512: 20}
"""Shares of the first version as weights of the second, in the way of runc."""


def has(controller: str) -> bool:
    if cgroups.is_unified():
        return controller in (cgroups.ROOT / "cgroup.controllers").read_text().split()
    return (cgroups.ROOT / controller / "cgroup.procs").exists()


needs_memory = pytest.mark.skipif(not has("memory"), reason="this kernel does not count memory by cgroups")
needs_cpu = pytest.mark.skipif(not has("cpu"), reason="this kernel does not share CPUs by cgroups")


def isolated(requests: JsonObject, limits: JsonObject) -> Isolation:
    return Isolation(resources=figures(requests, limits))


def figures(requests: JsonObject, limits: JsonObject) -> JsonObject:
    return cgroup_figures({"resources": {"requests": requests, "limits": limits}})


def group(box: Sandbox, container: Container, controller: str) -> Path:
    name = cgroups.of_container(box.node.cluster, container.container_id.rpartition("/")[2]).lstrip("/")
    return cgroups.ROOT / name if cgroups.is_unified() else cgroups.ROOT / controller / name


def share(box: Sandbox, container: Container) -> int:
    """In shares of the first version."""
    folder = group(box, container, "cpu")
    if not cgroups.is_unified():
        return int((folder / "cpu.shares").read_text())
    weight = int((folder / "cpu.weight").read_text())
    return next(shares for shares, found in WEIGHTS.items() if found == weight)


def memory_limit(box: Sandbox, container: Container) -> int:
    name = "memory.max" if cgroups.is_unified() else "memory.limit_in_bytes"
    return int((group(box, container, "memory") / name).read_text())


def has_quota(box: Sandbox, container: Container) -> bool:
    folder = group(box, container, "cpu")
    return (folder / "cpu.max").exists() or (folder / "cpu.cfs_quota_us").exists()


def quota(box: Sandbox, container: Container) -> int:
    folder = group(box, container, "cpu")
    if cgroups.is_unified():
        return int((folder / "cpu.max").read_text().split()[0])
    return int((folder / "cpu.cfs_quota_us").read_text())


@needs_cpu
async def test_shares_of_cpus_are_given_and_changed_while_a_container_runs(box: Sandbox) -> None:
    container = await start(box, "sleep", "1000", isolation=isolated({"cpu": "100m"}, {}))
    assert share(box, container) == 102
    await new_runtime().update(box, container, figures({"cpu": "500m"}, {}))
    assert share(box, container) == 512
    if has_quota(box, container):
        await new_runtime().update(box, container, figures({"cpu": "500m"}, {"cpu": "1500m"}))
        assert quota(box, container) == 150_000


@needs_memory
async def test_memory_is_limited_and_the_limit_changed_while_a_container_runs(box: Sandbox) -> None:
    container = await start(box, "sleep", "1000", isolation=isolated({}, {"memory": "64Mi"}))
    assert memory_limit(box, container) == 64 * MEGABYTE
    assert 0 < new_runtime().memory_usage(box, container) < 64 * MEGABYTE
    await new_runtime().update(box, container, figures({}, {"memory": "96Mi"}))
    assert memory_limit(box, container) == 96 * MEGABYTE


@needs_memory
async def test_who_takes_more_memory_than_it_may_is_killed_and_told_so(box: Sandbox) -> None:
    greedy = "import os; held = b'x' * (200 << 20); print('never')"
    container = await start(box, "python3", "-c", greedy, isolation=isolated({}, {"memory": "32Mi"}))
    assert await ended(container) == 137
    assert container.exit is not None
    assert (container.exit.reason, log_of(container)) == ("OOMKilled", [])


async def test_a_container_is_frozen_and_goes_on(box: Sandbox) -> None:
    script = "trap 'exit 3' TERM; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.05; done"
    container = await start(box, "sh", "-c", script)
    wait_for(lambda: log_of(container), "it to count")
    new_runtime().set_frozen(box, frozen=True)
    still = wait_for(lambda: standing_still(container), "the log to stand still")
    assert container.exit is None
    new_runtime().set_frozen(box, frozen=False)
    wait_for(lambda: len(log_of(container)) > len(still), "it to go on")
    await new_runtime().stop(container, timedelta(seconds=60))
    assert container.exit is not None
    assert container.exit.code == 3
    counted = [str(number + 1) for number in range(len(log_of(container)))]
    assert log_of(container) == counted


def standing_still(container: Container) -> list[str]:
    """What it has said, if nothing is added; what was said last may still be on its way."""
    before = log_of(container)
    time.sleep(0.3)  # what does not happen can only be waited for
    return before if log_of(container) == before else []


def both_of(cluster: str) -> set[int]:
    """The two processes of a cluster, once there are two."""
    found = cgroups.processes_below(cluster)
    return found if len(found) == 2 else set()


async def test_everything_of_a_cluster_is_found_and_ended_by_its_cgroup(box: Sandbox) -> None:
    container = await start(box, "sh", "-c", "sleep 1000 & exec sleep 1000")
    found = wait_for(lambda: both_of(box.node.cluster), "the shell to start its child")
    assert container.pid in found
    assert cgroups.kill_below(box.node.cluster) == 2
    assert await ended(container) == 137
    assert not any(Path(f"/proc/{pid}").exists() for pid in found)
    cgroups.remove_below(box.node.cluster)
    tops = (root / cgroups.of_cluster(box.node.cluster)[1:] for root in cgroups.hierarchies())
    assert not any(top.exists() for top in tops)


async def test_a_container_does_not_see_the_cgroups_of_others(box: Sandbox) -> None:
    container = await start(
        box, "sh", "-c", "cat /proc/self/cgroup; ls -d /sys/fs/cgroup/nodeport.* 2>/dev/null || true"
    )
    assert await ended(container) == 0
    lines = log_of(container)
    assert not any("/sys/fs/cgroup" in line for line in lines)
    if cgroups.is_unified():
        assert lines == ["0::/"]
    assert os.getpid() not in cgroups.processes_below(box.node.cluster)
