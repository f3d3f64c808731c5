"""kubectl exec and cp on a whole cluster: streams, terminals, exit codes, and what happens when a client goes."""

from __future__ import annotations

import hashlib
import os
import random
import re
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, is_running, wait_for
from kernel.kubectls import StreamingKubectl, kubectl_program
from nodeport.api.resources import PODS
from nodeport.node import processes

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}


@pytest.fixture(scope="module")
def cluster(module_cluster: LocalCluster) -> LocalCluster:
    module_cluster.up("--nodes", "1")
    return module_cluster


@pytest.fixture(scope="module")
def pod(cluster: LocalCluster) -> str:
    cluster.pod("web", env=[{"name": "COLOUR", "value": "green"}])
    cluster.wait_for_pod("web", is_running, "runs")
    return "web"


@pytest.fixture(params=["oldest", "newest", "oldest-spdy", "newest-spdy"])
def kubectl(request: pytest.FixtureRequest, cluster: LocalCluster) -> StreamingKubectl:
    which, _, protocol = request.param.partition("-")
    return StreamingKubectl(kubectl_program(which), cluster.kubeconfig, SPDY if protocol else {})


def test_a_commands_streams_and_exit_code_come_back(kubectl: StreamingKubectl, pod: str) -> None:
    done = kubectl.run("exec", pod, "--", "sh", "-c", "echo out $COLOUR; echo err >&2; exit 7")
    assert (done.code, done.out) == (7, b"out green\n")
    assert done.err.splitlines() == ["err", "command terminated with exit code 7"]
    assert kubectl.out("exec", pod, "--", "hostname") == "web\n"
    words = ["a%20b", "%", "c+d", "%2525", "e&f=g;h", "é", "", "?#"]
    assert kubectl.out("exec", pod, "--", "printf", r"%s\n", *words) == "".join(f"{word}\n" for word in words)
    assert kubectl.run("exec", pod, "--", "sh", "-c", "kill -9 $$").code == 137


def test_input_goes_in_and_ends(kubectl: StreamingKubectl, pod: str) -> None:
    data = random.Random(1).randbytes(3_000_000)
    assert (
        kubectl.out("exec", "-i", pod, "--", "sha256sum", stdin=data).split()[0]
        == hashlib.sha256(data).hexdigest()
    )
    assert kubectl.run("exec", pod, "--", "head", "-c", "5000000", "/dev/zero").out == bytes(5_000_000)
    assert kubectl.run("exec", "-i", pod, "--", "true", stdin=data).code == 0


def test_what_cannot_be_run_is_said_in_kubernetes_words(kubectl: StreamingKubectl, pod: str) -> None:
    done = kubectl.run("exec", pod, "--", "nosuch")
    assert (done.code, done.out) == (1, b"")
    assert done.err.splitlines() == [
        "error: Internal error occurred: error executing command in container: exec failed: unable to start container "
        'process: exec: "nosuch": executable file not found in $PATH'
    ]
    with kubectl.terminal("exec", "-it", pod, "--", "nosuch") as terminal:
        terminal.wait_for('exec: "nosuch": executable file not found in $PATH')
    assert (
        "container nope is not valid for pod web" in kubectl.run("exec", pod, "-c", "nope", "--", "true").err
    )
    assert 'pods "gone" not found' in kubectl.run("exec", "gone", "--", "true").err


def test_a_terminal_has_a_size_that_follows_the_clients(kubectl: StreamingKubectl, pod: str) -> None:
    with kubectl.terminal("exec", "-it", pod, "--", "sh", "-i") as terminal:
        terminal.type("trap 'stty size' WINCH; stty size; tput -T $TERM cols >/dev/null; echo rea''dy\r")
        terminal.wait_for("ready")
        terminal.type("tty\r")
        terminal.wait_for("/dev/pts/")
        terminal.type("stty size\r")
        terminal.wait_for("40 100")
        terminal.resize(120, 50)
        wait_for(lambda: "50 120" in terminal.answer("stty size"), "the new size")
        terminal.type("exit 3\r")
        assert terminal.code() == 3


def test_a_clients_death_ends_all_that_it_started(
    cluster: LocalCluster, kubectl: StreamingKubectl, pod: str
) -> None:
    with kubectl.started("exec", pod, "--", "sh", "-c", "sleep 4321 & echo up; exec sleep 4322") as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"up\n"
        wait_for(lambda: sorted(sleepers()) == ["4321", "4322"], "both run")
    wait_for(lambda: not sleepers(), "no process of the session is left")
    assert is_running(cluster.get(PODS, pod))


def test_what_a_command_leaves_behind_lives_on(kubectl: StreamingKubectl, pod: str) -> None:
    assert (
        kubectl.out("exec", pod, "--", "sh", "-c", "sleep 4323 >/dev/null 2>&1 & echo started") == "started\n"
    )
    wait_for(lambda: sleepers() == ["4323"], "it runs on")
    kubectl.out("exec", pod, "--", "sh", "-c", "pkill -x sleep")
    wait_for(lambda: not sleepers(), "it is gone")


def test_a_session_ends_with_the_agent_that_serves_it(new_cluster: Callable[[], LocalCluster]) -> None:
    cluster = new_cluster()
    cluster.up("--nodes", "1")
    cluster.pod("web")
    cluster.wait_for_pod("web", is_running, "runs")
    kubectl = StreamingKubectl(kubectl_program("newest"), cluster.kubeconfig)
    with kubectl.started("exec", "web", "--", "sh", "-c", "echo up; exec sleep 4324") as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"up\n"
        cluster.kill("nodes")
        wait_for(lambda: not sleepers(), "the command ended with the agent")
        assert process.wait(60) != 0


def test_a_server_that_stops_ends_its_sessions_within_its_time(
    new_cluster: Callable[[], LocalCluster],
) -> None:
    cluster = new_cluster()
    cluster.up("--nodes", "1")
    cluster.pod("web")
    cluster.wait_for_pod("web", is_running, "runs")
    kubectl = StreamingKubectl(kubectl_program("newest"), cluster.kubeconfig)
    with kubectl.started("exec", "web", "--", "sh", "-c", "echo up; exec sleep 4325") as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"up\n"
        os.kill(cluster.pid("server"), signal.SIGTERM)
        wait_for(lambda: processes.living(cluster.paths.pid("server")) is None, "the server has stopped")
        wait_for(lambda: not sleepers(), "the command ended with its client")


def test_files_are_copied_both_ways(kubectl: StreamingKubectl, pod: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    data = random.Random(2).randbytes(500_000)
    (tmp_path / "there" / "file").write_bytes(data)
    kubectl.out("cp", str(tmp_path / "there"), f"{pod}:/tmp/there")
    kubectl.out("cp", f"{pod}:/tmp/there/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data


def test_logs_are_limited_as_asked(cluster: LocalCluster) -> None:
    cluster.pod("talker", command=["sh", "-c", "for i in 1 2 3; do echo line $i; done; sleep 1000"])
    cluster.wait_for_pod("talker", is_running, "runs")
    for which in ("oldest", "newest"):
        kubectl = StreamingKubectl(kubectl_program(which), cluster.kubeconfig)
        wait_for(lambda kubectl=kubectl: "line 3" in kubectl.out("logs", "talker"), "it has talked")
        assert kubectl.out("logs", "talker", "--tail=1") == "line 3\n"
        assert kubectl.out("logs", "talker", "--limit-bytes=1") == "l"
        stamped = kubectl.out("logs", "talker", "--timestamps", "--tail=1")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z line 3\n", stamped)
        assert kubectl.out("logs", "talker", "--since=24h").count("\n") == 3
        assert kubectl.out("logs", "talker", "--since-time=2099-01-01T00:00:00Z") == ""
        assert kubectl.run("logs", "talker", "-p").err == (
            'Error from server (BadRequest): previous terminated container "main" in pod "talker" not found\n'
        )


def test_attached_clients_see_output_and_feed_input(kubectl: StreamingKubectl, cluster: LocalCluster) -> None:
    words = ("-i", "--rm", "--restart=Never", "--image=nodeport/echo", "--command", "--")
    done = kubectl.run("run", "reader", *words, "sh", "-c", "cat; exit 3", stdin=b"hello\n" * 50_000)
    assert done.code == 3
    assert done.out.count(b"hello\n") == 50_000
    wait_for(lambda: "NotFound" in kubectl.run("get", "pod", "reader").err, "the pod is gone")


def test_a_run_with_a_terminal_is_a_shell(kubectl: StreamingKubectl, cluster: LocalCluster) -> None:
    words = ("-it", "--rm", "--restart=Never", "--image=nodeport/echo", "--command", "--", "sh")
    with kubectl.terminal("run", "shell", *words) as terminal:
        terminal.wait_for("press")
        asking = "echo si''ze $(stty size) $TERM"
        wait_for(lambda: "size 40 100 xterm" in terminal.answer(asking), "the terminal's own size and kind")
        wait_for(lambda: "/dev/pts/0" in terminal.answer("tty"), "the terminal's name inside")
        terminal.type("exit 4\r")
        assert terminal.code() == 4
    wait_for(lambda: "NotFound" in kubectl.run("get", "pod", "shell").err, "the pod is gone")


def test_several_clients_share_a_container_that_outlives_them(
    kubectl: StreamingKubectl, cluster: LocalCluster
) -> None:
    cluster.pod("shared", stdin=True, command=["sh", "-c", "while read word; do echo heard $word; done"])
    cluster.wait_for_pod("shared", is_running, "runs")
    try:
        with (
            kubectl.started("attach", "shared") as watching,
            kubectl.started("attach", "-i", "shared") as typing,
        ):
            assert typing.stdin is not None
            assert watching.stdout is not None
            said = b""

            def is_heard() -> bool:
                nonlocal said
                typing.stdin.write(b"one\n")  # type: ignore[union-attr]
                if select.select([watching.stdout], [], [], 0.2)[0]:
                    said += watching.stdout.read(4096)  # type: ignore[union-attr]
                return b"heard one\n" in said

            wait_for(is_heard, "the other client sees what is said")
        assert is_running(cluster.get(PODS, "shared"))
        assert "heard one" in kubectl.out("logs", "shared")
    finally:
        cluster.delete(PODS, "shared", gracePeriodSeconds=0)
        wait_for(lambda: "NotFound" in kubectl.run("get", "pod", "shared").err, "the pod is gone")


def sleepers() -> list[str]:
    """The arguments of all `sleep 432x` on this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"sleep" and words[1].startswith(b"432"):
                found.append(words[1].decode())
    return found
