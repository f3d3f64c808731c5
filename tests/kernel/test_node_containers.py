"""Containers as real processes, without an API: starting, ending, finding again."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
from datetime import timedelta
from pathlib import Path

import pytest

from kernel.boxes import box, ended, log_of, new_runtime, start
from kernel.clusters import wait_for
from nodeport.kit.clock import SystemClock
from nodeport.node import processes, sandbox
from nodeport.node.oci.runc import Runc
from nodeport.node.oci.spec import Mount, User
from nodeport.node.runtime import OciRuntime
from nodeport.node.sandbox import Sandbox

__all__ = ["box"]
SECOND = timedelta(seconds=1)


async def test_output_goes_to_a_log_in_the_cri_format(box: Sandbox) -> None:
    container = await start(box, "sh", "-c", "echo out; echo err >&2; printf no-newline")
    assert await ended(container) == 0
    lines = [line.split(" ", 3) for line in container.log.read_text().splitlines()]
    assert sorted((stream, tag, text) for _, stream, tag, text in lines) == [
        ("stderr", "F", "err"), ("stdout", "F", "out"), ("stdout", "P", "no-newline"),
    ]  # fmt: skip
    assert all(moment.endswith("Z") and len(moment) == 30 for moment, *_ in lines)
    assert container.log.stat().st_mode & 0o777 == 0o600


async def test_exit_codes_and_signals_are_told(box: Sandbox) -> None:
    assert await ended(await start(box, "sh", "-c", "exit 7")) == 7
    assert await ended(await start(box, "sh", "-c", "kill -TERM 1; sleep 0.1; exit 5", attempt=1)) == 5
    container = await start(box, "sleep", "100", attempt=2)
    os.kill(container.pid, 9)
    assert await ended(container) == 137


async def test_a_program_that_is_not_there_is_an_exit_with_the_reason(box: Sandbox) -> None:
    container = await start(box, "/nowhere")
    assert container.pid == 0
    assert container.exit is not None
    assert (container.exit.code, container.exit.reason) == (128, "StartError")
    assert 'exec: "/nowhere": stat /nowhere: no such file or directory' in container.exit.message


async def test_the_first_process_sees_only_itself_and_its_pod(box: Sandbox) -> None:
    script = 'echo $$ $(hostname) $(cat /etc/hostname) $MARK; ls /proc | grep -c "^[0-9]"; ls /sys/class/net | grep -v sit0; ls /proc/self/fd'
    container = await start(box, "sh", "-c", script)
    assert await ended(container) == 0
    lines = log_of(container)
    assert lines[0] == "1 pod pod here"
    assert int(lines[1]) <= 4
    assert lines[2:4] == ["eth0", "lo"]
    assert lines[4:] == ["0", "1", "2", "3"], "no descriptor is inherited; 3 is ls's own"


async def test_another_user_runs_without_privileges(box: Sandbox) -> None:
    container = await start(
        box, "sh", "-c", "id -u; id -g; grep -E 'CapEff|NoNewPrivs' /proc/self/status", user=User(1000, 1001)
    )
    assert await ended(container) == 0
    words = " ".join(log_of(container)).split()
    assert words == ["1000", "1001", "CapEff:", "0000000000000000", "NoNewPrivs:", "0"]


async def test_mount_points_follow_links_inside_the_container_only(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").write_text("content\n")
    target = f"/var/run/{secrets.token_hex(8)}/x"
    mounts = tuple(
        Mount(place, str(tmp_path / "volume"), ("rbind", "rro")) for place in (target, "/../../escaped")
    )
    container = await start(
        box, "sh", "-c", f"cat {target}/file /escaped/file; touch {target}/y || echo refused", mounts=mounts
    )
    assert await ended(container) == 0
    assert [line for line in log_of(container) if "touch" not in line] == ["content", "content", "refused"]
    assert not Path(target).exists()
    assert not Path("/escaped").exists()


async def test_a_stubborn_container_is_killed_with_all_its_processes_after_the_grace(box: Sandbox) -> None:
    container = await start(box, "sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000 & wait; wait")
    began = asyncio.get_running_loop().time()
    await new_runtime().stop(container, timedelta(seconds=0.3))
    assert asyncio.get_running_loop().time() - began > 0.25
    assert container.exit is not None
    assert container.exit.code == 137


async def test_commands_run_inside_with_the_containers_environment(box: Sandbox) -> None:
    container = await start(box, "sleep", "1000")
    runtime = OciRuntime(SystemClock(), Runc.found())
    assert await runtime.execute(
        box, container, ["sh", "-c", "echo $MARK; hostname; exit 3"], 5 * SECOND
    ) == (3, "here\npod\n")
    with pytest.raises(TimeoutError):
        await runtime.execute(box, container, ["sleep", "5"], timedelta(seconds=0.2))
    with pytest.raises(OSError, match="executable file not found"):
        await runtime.execute(box, container, ["nothing-of-this-name"], 5 * SECOND)


async def test_a_later_runtime_finds_what_runs_and_what_has_ended(box: Sandbox) -> None:
    first = await start(box, "sh", "-c", "exit 4")
    await ended(first)
    script = "trap 'exit 6' TERM; echo set; while :; do sleep 0.05; done"
    second = await start(box, "sh", "-c", script, attempt=1)
    wait_for(lambda: log_of(second), "the trap to be set")
    told = asyncio.Event()
    runtime = OciRuntime(SystemClock(), Runc.found())
    found = await runtime.adopt(box, told.set)
    assert [(run.attempt, run.exit and run.exit.code) for run in found] == [(0, 4), (1, None)]
    assert (found[1].pid, found[1].container_id, found[1].started_at) == (
        second.pid,
        second.container_id,
        second.started_at,
    )
    await runtime.stop(found[1], 60 * SECOND)
    assert found[1].exit is not None
    assert found[1].exit.code == 6
    assert told.is_set()


async def test_a_container_dies_with_its_launcher(box: Sandbox) -> None:
    container = await start(box, "sleep", "1000")
    pid = container.pid
    for process in processes.of_cluster(box.node.cluster):
        process.send(processes.signal.SIGKILL)
    assert await ended(container) == 137
    wait_for(lambda: not processes.start_time(pid), "the program to be gone, too")


async def test_the_built_in_program_runs_once_it_serves_and_ends_at_sigterm(box: Sandbox) -> None:
    container = await start(box)
    reader, writer = await asyncio.open_connection(str(box.address), 8080)
    writer.write(b"GET /hostname HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    assert answer.count("HTTP/1.1 200 OK") == 2
    assert "\r\n\r\npod" in answer
    assert answer.endswith("ok")
    runtime = OciRuntime(SystemClock(), Runc.found())
    await asyncio.wait_for(runtime.stop(container, 60 * SECOND), 30)
    assert container.exit is not None
    assert container.exit.code == 0


def test_half_made_sandboxes_are_removed_when_they_are_found(box: Sandbox) -> None:
    assert [found.pod for found in sandbox.found(box.node)] == [box.pod]
    (box.directory / "sandbox.json").unlink()
    assert sandbox.found(box.node) == []
    assert not box.directory.exists()
    assert not box.netns.exists()


async def test_only_the_last_two_runs_and_their_logs_are_kept(box: Sandbox) -> None:
    for attempt in range(4):
        await ended(await start(box, "echo", str(attempt), attempt=attempt))
    assert sorted(path.name for path in (box.directory / "containers" / "main").iterdir()) == ["2", "3"]
    assert sorted(path.name for path in (box.log_directory / "main").iterdir()) == ["2.log", "3.log"]


def test_logs_of_pods_that_went_unseen_are_removed(box: Sandbox) -> None:
    gone = sandbox.log_directory(box.node, "default", "gone", "uid-of-gone")
    gone.mkdir(parents=True)
    sandbox.remove_strange_logs(box.node, {box.pod.uid})
    assert not gone.exists()
    assert box.log_directory.exists()


async def test_a_zygote_that_is_killed_costs_no_container_and_is_replaced(box: Sandbox) -> None:
    runtime = OciRuntime(SystemClock(), Runc.found())
    first = await start(box, "sleep", "1000", runtime=runtime)
    for process in processes.of_cluster(box.node.cluster):
        if b"zygote.py" in Path(f"/proc/{process.pid}/cmdline").read_bytes() and not is_launcher(process.pid):
            process.send(processes.signal.SIGKILL)
    second = await start(box, "sleep", "1000", attempt=1, runtime=runtime)
    assert first.exit is None
    assert second.exit is None
    assert first.pid != second.pid


async def test_launchers_outlive_whoever_had_them_started(box: Sandbox) -> None:
    runtime = OciRuntime(SystemClock(), Runc.found())
    container = await start(box, "sleep", "1000", runtime=runtime)
    container.ended.set()  # nobody follows it any more
    del runtime
    gc.collect()
    left = processes.of_cluster(box.node.cluster)
    assert [is_launcher(process.pid) for process in left if is_launcher(process.pid)] == [True]
    assert Path(f"/proc/{container.pid}").exists()


def is_launcher(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text() == "launcher\n"
