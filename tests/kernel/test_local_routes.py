"""Reading local routes in namespaces that hardly live yet."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nodeport.netlink.localroute import LocalRoutes


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("up", [False, True], ids=["lo was never up", "lo is up"])
def test_where_there_are_no_local_routes_none_are_listed(netns: Path, version: int, *, up: bool) -> None:
    if up:
        subprocess.run(["ip", "-n", netns.name, "link", "set", "lo", "up"], check=True)
    with LocalRoutes(netns) as routes:
        lo = routes.own_link("lo")
        assert lo is not None
        assert list(routes.local_routes(lo.index, version)) == []
