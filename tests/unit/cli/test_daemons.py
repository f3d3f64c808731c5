"""What a daemon does before it serves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeport.apiserver.limits import Limits
from nodeport.cli import daemons
from nodeport.cli.cluster_options import LIMIT_OPTIONS
from nodeport.cli.main import main as cli
from nodeport.node.local import ClusterConfig, Paths
from nodeport.node.localoptions import LocalError

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


@pytest.mark.parametrize("part", ["server", "nodes"])
def test_a_part_of_a_cluster_that_is_not_there_says_so_at_once(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    roots = [f"--data-root={tmp_path / 'data'}", f"--run-root={tmp_path / 'run'}"]
    done = CliRunner().invoke(cli, [part, "--name", "nosuch", *roots])
    told = f"error: there is no cluster 'nosuch' in {tmp_path / 'data'}: `nodeport up` makes one\n"
    assert (done.exit_code, done.output) == (1, told)
    assert not list(tmp_path.iterdir())


async def test_a_part_says_for_what_it_has_waited_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "PREPARED_PATIENCE", 0.0)
    with pytest.raises(LocalError, match="cluster 'c' has no network after 0 s: `nodeport up` makes it"):
        await daemons.wait_until_prepared(Paths("c", tmp_path, tmp_path))


def test_the_options_for_limits_say_what_the_limits_are() -> None:
    said = {field: default for _, field, default, _ in LIMIT_OPTIONS}
    defaults = {each.name: each.default for each in fields(Limits) if each.name != "patience"}
    assert said == defaults


def test_a_server_cannot_be_quicker_to_give_nodes_up_than_they_are_to_tell_that_they_live() -> None:
    config = ClusterConfig("172.30.0.0/22", "10.244.0.0/16", 3, 6443, "", node_grace=40)
    assert daemons.NodeFailure().applied_to(config) == config
    assert daemons.NodeFailure(grace=11).applied_to(config).node_grace == 11
    with pytest.raises(LocalError, match="10s: must be more than the 10 s"):
        daemons.NodeFailure(grace=10).applied_to(config)


def test_only_what_was_given_differs_from_the_default_of_tolerations() -> None:
    assert daemons.NodeFailure(not_ready=0).tolerated() == {"not_ready": 0}
