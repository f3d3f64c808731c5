from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nodeport.node import ephemeral
from nodeport.node.containers import Keeper
from nodeport.node.environment import ConfigError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_without_a_target_it_has_its_own_processes() -> None:
    assert ephemeral.pids_to_share({"name": "debug"}, []) == ""


def test_a_target_that_does_not_run_is_waited_for() -> None:
    with pytest.raises(ConfigError, match="unable to find target container main"):
        ephemeral.pids_to_share({"targetContainerName": "main"}, [Keeper({"name": "main"})])


def test_what_no_container_may_have_is_refused_in_one_that_is_added_too() -> None:
    context = {"seccompProfile": {"type": "Localhost"}}
    with pytest.raises(
        ConfigError, match=r"spec\.ephemeralContainers\[debug\]\.securityContext\.seccompProfile"
    ):
        ephemeral.check({"name": "debug", "securityContext": context})


def test_what_is_lost_has_ended_as_far_as_anybody_knows() -> None:
    running = {
        "name": "debug",
        "containerID": "x://1",
        "state": {"running": {"startedAt": "2025-01-01T00:00:00Z"}},
    }
    ended = ephemeral.lost(running, NOW)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["finishedAt"]) == (
        137,
        "ContainerStatusUnknown",
        "2026-01-01T00:00:00Z",
    )
    known = {"name": "debug", "state": {"terminated": {"exitCode": 3}}}
    assert ephemeral.lost(known, NOW) == known
