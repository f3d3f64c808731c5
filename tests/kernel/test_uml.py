"""The runner for commands that need another kernel: output, exit status, what is writable, and a kernel that is not one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.clusters import wait_for
from kernel.modes import lacks_ipvs
from tooling import ROOT, tool_module

uml = tool_module("uml")
KERNEL = uml.user_mode_kernel() if lacks_ipvs() else None

needs_a_kernel = pytest.mark.skipif(
    KERNEL is None, reason="this kernel has IPVS itself, or there is no other one: see tools/uml.py"
)


@needs_a_kernel
def test_a_command_runs_in_the_other_kernel_and_its_status_comes_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREETING", 'it\'s "here" $HOME')
    script = f'echo "$GREETING"; uname -r >{tmp_path}/release; touch /not-writable; exit 7'
    assert uml.run(["sh", "-c", script], [tmp_path]) == 7
    printed = capfd.readouterr().out
    assert 'it\'s "here" $HOME' in printed
    assert "not-writable" in printed
    assert "Read-only file system" in printed
    assert (tmp_path / "release").read_text().strip() != os.uname().release


@needs_a_kernel
def test_the_namespace_of_the_other_kernel_is_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    assert uml.run([sys.executable, "-c", "print(sorted(__import__('os').listdir('/run/netns')))"], []) == 0
    assert "[]" in capfd.readouterr().out


def test_a_variable_that_names_no_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODEPORT_UML", "/nowhere/linux")
    with pytest.raises(SystemExit, match="NODEPORT_UML=/nowhere/linux: not a program"):
        uml.user_mode_kernel()


def test_without_any_kernel_it_says_so_and_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NODEPORT_UML", raising=False)
    monkeypatch.setattr(uml, "BESIDE", tmp_path)
    monkeypatch.setattr(uml, "BUILT", tmp_path / "linux")
    monkeypatch.setattr(uml, "host_has_ipvs", lambda: False)
    assert uml.run(["true"], []) == uml.NO_KERNEL
    assert "make uml-kernel" in capsys.readouterr().err


def test_a_kernel_that_dies_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = tmp_path / "linux"
    dead.write_text("#!/bin/sh\necho panic\n")
    dead.chmod(0o755)
    assert uml.run_in(dead, ["true"], []) == 1
    assert "ended without a result" in capsys.readouterr().err


def test_a_runner_that_is_told_to_end_takes_its_kernel_along(tmp_path: Path) -> None:
    endless = tmp_path / "linux"
    endless.write_text(
        f"#!/bin/sh\necho $$ >{tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 600\n"
    )
    endless.chmod(0o755)
    script = "import sys, uml; uml.host_has_ipvs = lambda: False; sys.argv = ['uml', 'run', 'true']; sys.exit(uml.main())"
    runner = subprocess.Popen(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "NODEPORT_UML": str(endless),
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": str(ROOT / "tools"),
        },
    )
    wait_for((tmp_path / "pid").exists, "the kernel")
    runner.terminate()
    assert runner.wait(timeout=60) == 128 + signal.SIGTERM
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
    assert not list(tmp_path.glob("nodeport-uml-*"))
