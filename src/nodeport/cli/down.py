"""``nodeport down``: remove a local cluster without a trace."""

from __future__ import annotations

import os
from pathlib import Path

import click

from nodeport.cli.cluster_options import about_cluster, must_be_root
from nodeport.node import local, teardown
from nodeport.node.local import ClusterConfig, Paths
from nodeport.node.localoptions import LocalError


@click.command(short_help="Remove a local cluster and all of its data.")
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path), default=None,
    help="The kubeconfig that has the cluster's context.  [default: the one that `up` wrote]",
)  # fmt: skip
@about_cluster
def command(paths: Paths, kubeconfig: Path | None) -> None:
    """Remove a local cluster and all of its data.

    Ends its processes and pods, and removes its namespaces, links, routes, files and kubeconfig entries; also what is
    left of a cluster whose parts were killed or whose files are damaged.
    """
    must_be_root("down")
    config = _readable_config(paths)
    with local.locked():
        found = teardown.remove(paths)
    _forget_kubeconfig(paths, config, kubeconfig)
    if found:
        click.echo(f"cluster {paths.name!r} is down: removed {', '.join(found)}")
    else:
        click.echo(f"there is no cluster {paths.name!r}")


def _readable_config(paths: Paths) -> ClusterConfig | None:
    try:
        return local.load(paths)
    except LocalError:
        return None


def _forget_kubeconfig(paths: Paths, config: ClusterConfig | None, named: Path | None) -> None:
    """Take our entries out where they were put; without a config, where `up` puts them by default."""
    from nodeport.client import kubeconfig

    files = {Path(config.kubeconfig)} if config else set(kubeconfig.paths_from(os.environ))
    for file in files | ({named} if named else set()):
        try:
            kubeconfig.remove(file, paths.name)
        except (kubeconfig.KubeconfigError, OSError) as error:
            click.echo(f"warning: {file} keeps the entries of {paths.name!r}: {error}", err=True)
