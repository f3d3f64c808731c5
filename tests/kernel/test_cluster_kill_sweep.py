"""``kill -9`` to every process of a cluster, at rest and at odd moments of its work: nothing that was promised is lost.

What is acknowledged is there afterwards, pods go on as they were but for containers that were killed themselves, node
ports answer again, and nothing of the cluster is left when it is taken down (the fixture looks).
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, call, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import CONFIG_MAPS, PODS
from nodeport.api.status import AlreadyExists
from nodeport.cli.errors import Unreachable
from nodeport.node import processes
from nodeport.node.oci import cgroups

TIDY = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]
SEED = 36
ROUNDS = 4


@pytest.fixture
def cluster(new_cluster: Callable[[], LocalCluster]) -> LocalCluster:
    made = new_cluster()
    made.up("--nodes", "2")
    return made


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes.start_time(pid), f"process {pid} to die")


def command_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return ""


def kind_of(pid: int) -> str:
    """What a process that is no daemon is for; its command when nobody knows."""
    command, name = command_of(pid), ""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    if name == "launcher" or "launcher.py" in command:
        return "launcher"
    return "pause" if "infinity" in command else "zygote" if "zygote.py" in command else command


def kinds_of(cluster: LocalCluster) -> dict[str, list[int]]:
    """The cluster's processes by what they are for."""
    daemons = {cluster.pid(part): part for part in ("server", "nodes")}
    found: dict[str, list[int]] = {}
    for process in processes.of_cluster(cluster.paths.name):
        kind = daemons.get(process.pid) or kind_of(process.pid)
        found.setdefault(kind, []).append(process.pid)
    for file in cluster.paths.run.glob("nodes/*/pods/*/containers/*/*/running"):
        if not file.with_name("exit").exists():
            found.setdefault("program", []).append(int(file.read_text().split()[0]))
    return found


def runs(cluster: LocalCluster) -> dict[str, tuple[str, int]]:
    """Which run of each container there is, and how often it was started again."""
    return {
        f"{pod['metadata']['name']}/{one['name']}": (one.get("containerID", ""), one["restartCount"])
        for pod in cluster.items(PODS)
        for one in pod["status"].get("containerStatuses") or ()
    }


def pair(cluster: LocalCluster) -> None:
    """A pod whose containers share their processes, so that there is one that only holds the namespace."""
    containers = [{"name": name, "image": "nodeport/echo", "command": TIDY} for name in ("one", "two")]
    cluster.create(PODS, {
        "metadata": {"name": "pair"}, "spec": {"containers": containers, "shareProcessNamespace": True},
    })  # fmt: skip


def answers(cluster: LocalCluster, port: int) -> None:
    """Every node's port has an answer from every pod."""
    pods = {pod["metadata"]["name"] for pod in cluster.ready_pods() if pod["metadata"].get("labels")}
    for address in cluster.node_addresses().values():
        wait_for(
            lambda at=address: {call(at, port)["pod"] for _ in range(12)} >= pods,
            f"all pods behind {address}",
        )


class Background(ABC):
    """``once`` is done without end while ``going``; what it raises ends the test."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    @abstractmethod
    def once(self) -> None: ...

    def _run(self) -> None:
        while not self._stop.is_set():
            self.once()

    @contextmanager
    def going(self) -> Iterator[None]:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(self._run)
            try:
                yield
            finally:
                self._stop.set()
                done.result()


class Writer(Background):
    """``kept``: what the API has acknowledged."""

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__()
        self._cluster, self._numbers = cluster, itertools.count()
        self.kept: list[str] = []

    def once(self) -> None:
        number = next(self._numbers)
        name = f"kept-{number}"
        try:
            self._cluster.create(CONFIG_MAPS, {"metadata": {"name": name}, "data": {"at": str(number)}})
            self.kept.append(name)
        except (Unreachable, OSError, AlreadyExists):
            time.sleep(0.05)


class Traffic(Background):
    """Asks a node port; ``heard``: when there was an answer last."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__()
        self._where = address, port
        self.heard, self.count = 0.0, 0

    def once(self) -> None:
        with suppress(OSError):
            call(*self._where, patience=3)
            self.heard, self.count = time.monotonic(), self.count + 1

    def wait_until_heard_again(self) -> None:
        now = time.monotonic()
        wait_for(lambda: self.heard > now, "an answer of the node port")


def settled(cluster: LocalCluster) -> JsonObject:
    """All pods ready."""
    return {pod["metadata"]["uid"]: pod for pod in cluster.wait_for_pods(3)}


def test_every_process_may_be_killed_and_nothing_is_lost(cluster: LocalCluster) -> None:
    port = cluster.deploy(2)
    pair(cluster)
    settled(cluster)
    found = kinds_of(cluster)
    assert set(found) - {"zygote"} == {"server", "nodes", "launcher", "pause", "program"}, (
        "a process that nobody thought of"
    )
    writer, before = Writer(cluster), runs(cluster)
    with writer.going():
        for part in ("server", "nodes"):
            cluster.kill(part)
            cluster.up()
        for pid in kinds_of(cluster).get("zygote", ()):  # where launchers are forked off one process
            kill(pid)
        assert runs(cluster) == before, "containers go on as they were"
        for kind, victim, restarted in (
            ("launcher", "web", 1), ("program", "web", 1), ("pause", "pair", 2)
        ):  # fmt: skip
            before = runs(cluster)
            kill(pid_of(cluster, kind, victim))
            wait_for(
                lambda now=before, count=restarted: newer(cluster, now) >= count,
                f"new runs after the {kind}'s end",
            )
            settled(cluster)
            assert newer(cluster, before) == restarted, f"{kind}: only what was killed is started again"
            answers(cluster, port)
    assert_kept(cluster, writer)


def pid_of(cluster: LocalCluster, kind: str, pod: str) -> int:
    """A process of that kind that belongs to a pod whose name begins so, and was not started again yet."""
    for one in cluster.items(PODS):
        statuses = one["status"]["containerStatuses"]
        if not one["metadata"]["name"].startswith(pod) or any(each["restartCount"] for each in statuses):
            continue
        (box,) = cluster.paths.run.glob(f"nodes/*/pods/{one['metadata']['uid']}")
        if kind == "pause":
            return int((box / "pids.pid").read_text().split()[0])
        run = next(iter(box.glob("containers/*/0")))
        return int((run / ("launcher" if kind == "launcher" else "running")).read_text().split()[0])
    raise AssertionError(f"no pod {pod} that was never started again")


def newer(cluster: LocalCluster, before: dict[str, tuple[str, int]]) -> int:
    """How many containers have another run than before, which runs."""
    return sum(before[name] != run for name, run in runs(cluster).items())


def assert_kept(cluster: LocalCluster, writer: Writer) -> None:
    there = {each["metadata"]["name"] for each in cluster.items(CONFIG_MAPS)}
    assert len(writer.kept) > 10
    assert [name for name in writer.kept if name not in there] == []


def test_daemons_may_be_killed_at_any_moment_of_their_work(cluster: LocalCluster) -> None:
    """Under writes, traffic and pods that come and go; the moments are drawn, always the same."""
    port = cluster.deploy(2)
    draw, writer = random.Random(SEED), Writer(cluster)
    before = {pod["metadata"]["uid"] for pod in cluster.ready_pods()}
    traffic = Traffic(next(iter(cluster.node_addresses().values())), port)
    with writer.going(), traffic.going():
        for number in range(ROUNDS):
            part = draw.choice(("server", "nodes"))
            with suppress(Unreachable, OSError):
                cluster.pod(f"passing-{number}", command=TIDY)
                if number:
                    cluster.delete(PODS, f"passing-{number - 1}")
            time.sleep(draw.uniform(0, 0.4))  # the moment is what is tried here
            cluster.kill(part)
            cluster.up()
            traffic.wait_until_heard_again()
    wait_for(lambda: all_as_wanted(cluster), "the last pod to run and the others to be gone")
    left = {pod["metadata"]["uid"]: pod for pod in cluster.ready_pods()}
    assert before <= left.keys()
    assert {count for _, count in runs(cluster).values()} == {0}
    assert traffic.count >= ROUNDS
    assert_kept(cluster, writer)
    answers(cluster, port)


def test_a_runtime_that_is_killed_while_it_makes_a_container_leaves_nothing(cluster: LocalCluster) -> None:
    """Once the runtime's own process, once the one that is to become the program."""
    for name, words in (("first", "run --detach"), ("second", "init")):
        pod, victim = caught(cluster, name, words)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        cluster.wait_for_pod(pod, is_ready, "ready all the same")
    known = {
        int(path.read_text().split()[0])
        for path in cluster.paths.run.glob("nodes/*/pods/*/containers/*/*/running")
    }
    wait_for(
        lambda: set(cgroups.processes_below(cluster.paths.name)) <= known | children_of(known),
        "strays to be gone",
    )


def caught(cluster: LocalCluster, name: str, words: str) -> tuple[str, int]:
    """A pod that is being made, and a process of the runtime that does; a pod more for each one that was too quick."""
    several = [{"name": f"c{number}", "image": "nodeport/echo", "command": TIDY} for number in range(6)]
    for number in range(20):
        pod = f"{name}-{number}"
        cluster.create(PODS, {"metadata": {"name": pod}, "spec": {"containers": several}})
        while not is_ready(cluster.get(PODS, pod)):
            for _ in range(100):
                if victim := runtime_process(cluster, words):
                    return pod, victim
    raise AssertionError(f"no runc {words} was seen while 20 pods were made")


def is_ready(pod: JsonObject) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def runtime_process(cluster: LocalCluster, words: str) -> int:
    """A process of the OCI runtime at work for the cluster; 0 while there is none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            command = command_of(int(entry.name))
            of_us = str(cluster.paths.run) in command or parent_is_runtime(cluster, int(entry.name))
            if "runc" in command.split(" ")[0] and words in command and of_us:
                return int(entry.name)
    return 0


def parent_is_runtime(cluster: LocalCluster, pid: int) -> bool:
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return False
    return str(cluster.paths.run) in command_of(parent)


def children_of(pids: set[int]) -> set[int]:
    found = set()
    for pid in pids:
        with suppress(OSError):
            found |= set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return found


def all_as_wanted(cluster: LocalCluster) -> bool:
    pods = cluster.items(PODS)
    passing = {pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"].startswith("passing")}
    return len(cluster.ready_pods()) == len(pods) == 2 + len(passing) and len(passing) <= 2
