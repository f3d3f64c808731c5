"""How the daemons of a local cluster are started; light, since `up` pays for every import."""

from __future__ import annotations

import sys

from nodeport.node.local import Paths


def command_line(part: str, paths: Paths) -> list[str]:
    """The program of ``server`` or ``nodes``, without the command line's own imports."""
    return [
        sys.executable, "-m", "nodeport.cli.daemons", part, paths.name, str(paths.data_root), str(paths.run_root)
    ]  # fmt: skip
