"""A peer that cannot be measured is told apart from one that is slow, and takes nothing else with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "daemon.py"


@pytest.mark.parametrize(
    ("binary", "told"),
    [
        ("/nonexistent", "kube-proxy, 10 Services: no result. cannot be started: No such file or directory"),
        ("/bin/false", "kube-proxy, 10 Services: no result. ended with status 1 and said: nothing"),
    ],
)
def test_a_peer_that_does_not_run_is_told_and_our_own_row_stays(binary: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, BENCH, "10"],
        env={**os.environ, "KUBE_PROXY": binary}, capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert told in lines
    (ours,) = (line for line in lines if line.split()[:1] == ["nodeport"])
    assert [float(number) for number in ours.split()[-2:]] > [0.0, 0.0]
