"""``nodeport nodes``: the nodes of a local cluster, in the foreground."""

from __future__ import annotations

import click

from nodeport.cli.cluster_options import about_cluster, must_be_root, must_exist
from nodeport.node.local import Paths


@click.command(short_help="Run the agents and proxies of a local cluster's nodes (started by `up`).")
@about_cluster
def command(paths: Paths) -> None:
    """Run the agents and proxies of all nodes of a local cluster, in the foreground.

    `nodeport up` starts it in the background; pods and rules stay when it ends, and are taken over by the next one.
    """
    from nodeport.cli import daemons

    must_be_root("nodes")
    must_exist(paths)
    daemons.run("nodes", paths)
