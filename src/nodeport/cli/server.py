"""``nodeport server``: API server and controllers of a local cluster, in the foreground."""

from __future__ import annotations

import click

from nodeport.cli.cluster_options import about_cluster, must_be_root
from nodeport.node.local import Paths


@click.command(short_help="Run the API server and the controllers of a cluster (started by `up`).")
@about_cluster
def command(paths: Paths) -> None:
    """Run the API server and the controllers of a cluster, in the foreground.

    `nodeport up` starts it in the background; run it by hand to see its log or under a service manager.
    """
    from nodeport.cli import daemons

    must_be_root("server")
    daemons.run("server", paths)
