"""What a daemon does before it serves."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
