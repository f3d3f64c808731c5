"""What a daemon does before it serves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from nodeport.apiserver.limits import Limits
from nodeport.cli.cluster_options import LIMIT_OPTIONS

PROGRAM = """
import resource, sys
from nodeport.cli.daemons import allow_many_files
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
allow_many_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard", "wanted"), [(256, 2048, "2048 2048"), (1024, 1024, "1024 1024")])
def test_a_server_may_open_as_many_files_as_it_is_able_to_allow_itself(
    soft: int, hard: int, wanted: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == wanted


def test_the_options_for_limits_say_what_the_limits_are() -> None:
    said = {field: default for _, field, default, _ in LIMIT_OPTIONS}
    defaults = {each.name: each.default for each in fields(Limits) if each.name != "patience"}
    assert said == defaults
