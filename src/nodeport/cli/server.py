"""``nodeport server``: API server and controllers of a local cluster, in the foreground."""

from __future__ import annotations

import click

from nodeport.cli.cluster_options import (
    about_cluster,
    must_be_root,
    must_exist,
    request_limits,
    service_ranges,
)
from nodeport.node.local import Paths
from nodeport.node.localoptions import parse_node_grace, parse_port_range, parse_service_cidrs


@click.command(short_help="Run the API server and the controllers of a cluster (started by `up`).")
@service_ranges
@click.option(
    "--node-monitor-grace-period",
    "node_grace",
    default=None,
    help="How long a node may be silent until its pods are taken as failed.  [default: as the cluster was made]",
)
@click.option(
    "--default-not-ready-toleration-seconds",
    "not_ready",
    type=click.IntRange(min=0),
    default=None,
    help="How long pods that say nothing stay on a node that is not ready.  [default: 300]",
)
@click.option(
    "--default-unreachable-toleration-seconds",
    "unreachable",
    type=click.IntRange(min=0),
    default=None,
    help="How long pods that say nothing stay on a node that is not heard of.  [default: 300]",
)
@request_limits
@about_cluster
def command(
    paths: Paths,
    limits: dict[str, int],
    service_cluster_ip_range: str | None,
    service_node_port_range: str | None,
    node_grace: str | None,
    not_ready: int | None,
    unreachable: int | None,
) -> None:
    """Run the API server and the controllers of a cluster, in the foreground.

    `nodeport up` starts it in the background; run it by hand to see its log or under a service manager. The ranges
    are those that the cluster was made with; given here, they hold for this run: node ports may be any, and a range
    of the other family may join that of the ClusterIPs.
    """
    from nodeport.cli import daemons

    ranges = daemons.Ranges(
        parse_service_cidrs(service_cluster_ip_range) if service_cluster_ip_range else None,
        parse_port_range(service_node_port_range) if service_node_port_range else None,
    )
    grace = None if node_grace is None else parse_node_grace(node_grace)
    must_be_root("server")
    must_exist(paths)
    daemons.run("server", paths, ranges, limits, daemons.NodeFailure(grace, not_ready, unreachable))
