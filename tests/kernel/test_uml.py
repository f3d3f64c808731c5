"""The runner for commands that need another kernel: output, exit status, what is writable, and a kernel that is not one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kernel.modes import lacks_ipvs
from tooling import tool_module

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
