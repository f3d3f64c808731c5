"""``nodeport agent``: this machine as one node of a cluster."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from nodeport.cli.cluster_options import (
    checked_image,
    disk_options,
    image_options,
    must_be_root,
    must_have_runtime,
)
from nodeport.cli.errors import UserError, sentence
from nodeport.cli.podnetwork_options import pod_network_options
from nodeport.node import hostports, network, sources, teardown
from nodeport.node.addresses import IPAddress, IPNetwork
from nodeport.node.containerlog import MOST_BYTES, MOST_FILES
from nodeport.node.eviction import parse_thresholds
from nodeport.node.local import DATA_ROOT, RUN_ROOT, Paths
from nodeport.node.localoptions import parse_log_size
from nodeport.node.node_status import LOG_PORT
from nodeport.node.podnetwork import kernel as podnetwork
from nodeport.node.podnetwork.plan import Mode, Way

if TYPE_CHECKING:
    from nodeport.cli.machinenode import MachineNode

EVICTION_HARD = "nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%"
"""A kubelet's own."""


@click.command(short_help="Run this machine as one node of a cluster.")
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path), help="How to reach the API, as the node itself."
)
@click.option(
    "--bootstrap-kubeconfig", type=click.Path(path_type=Path, exists=True),
    help="How to ask for the node's certificate while there is no --kubeconfig; that file is written then.",
)  # fmt: skip
@click.option("--node-name", default="", help="The node's name.  [default: the host name]")
@click.option(
    "--node-ip",
    default="",
    help="The address by which other nodes and clients reach this one; one of each family parted by a comma.",
)
@click.option(
    "--pod-cidr",
    default="",
    help="The addresses of this node's pods, such as 10.244.7.0/24; one of each family parted by a comma."
    "  [default: those that the cluster gives it]",
)
@click.option(
    "--cluster-dns", metavar="IP", multiple=True,
    help="A name server of the cluster for its pods; may be repeated.  [default: the machine's own]",
)  # fmt: skip
@click.option(
    "--server-port", type=click.IntRange(0, 65535), default=LOG_PORT, show_default=True,
    help="Where the API server asks for logs and runs commands, with a certificate that the node asks for; 0: nowhere.",
)  # fmt: skip
@pod_network_options
@image_options
@disk_options(EVICTION_HARD)
@click.option("--remove", is_flag=True, help="End this node's pods and remove all that it left, instead.")
@click.option(
    "--data-root", type=click.Path(path_type=Path), default=DATA_ROOT, show_default=True, help="For logs."
)
@click.option(
    "--run-root", type=click.Path(path_type=Path), default=RUN_ROOT, show_default=True, help="For pods."
)
def command(
    kubeconfig: Path | None,
    bootstrap_kubeconfig: Path | None,
    node_name: str,
    node_ip: str,
    pod_cidr: str,
    cluster_dns: tuple[str, ...],
    server_port: int,
    way: Way,
    images: tuple[str, ...],
    default_registry: str | None,
    insecure_registries: tuple[str, ...],
    log_size: str | None,
    log_files: int | None,
    eviction_hard: str | None,
    remove: bool,
    data_root: Path,
    run_root: Path,
) -> None:
    """Run this machine as one node of a cluster: its pods, its lease, and its Service rules.

    Ends with SIGTERM; pods, routes and rules stay, and are taken over by the next one; --remove takes them away.
    """
    must_be_root("agent")
    name = node_name or socket.gethostname().lower()
    paths = Paths(f"agent-{network.digest(name, 8)}", data_root.absolute(), run_root.absolute())
    if remove:
        _remove(name, paths)
        return
    if not (kubeconfig and node_ip):
        raise UserError("--kubeconfig and --node-ip are needed to run a node")
    addresses, cidrs = (
        _families("--node-ip", node_ip, ip_address),
        _families("--pod-cidr", pod_cidr, ip_network) if pod_cidr else (),
    )
    _check_families(addresses, cidrs, way)
    must_have_runtime()
    checked = tuple(checked_image(text) for text in images)
    dns = _name_servers(cluster_dns)
    if not kubeconfig.exists() and bootstrap_kubeconfig is None:
        raise UserError(
            f"--kubeconfig {kubeconfig}: there is no such file, and no --bootstrap-kubeconfig to get it by"
        )
    from nodeport.cli.machinenode import MachineNode
    from nodeport.kit.logs import configure
    from nodeport.node.images.registry import Registries

    configure("INFO")
    registries = Registries(default_registry or "", frozenset(insecure_registries))
    limits = parse_log_size(log_size) if log_size else MOST_BYTES, log_files or MOST_FILES
    thresholds = parse_thresholds(EVICTION_HARD if eviction_hard is None else eviction_hard)
    node = MachineNode(
        kubeconfig, name, addresses, cidrs, paths, checked, registries, dns, way, limits, thresholds,
        server_port,
    )  # fmt: skip
    _run(node, bootstrap_kubeconfig)


def _remove(name: str, paths: Paths) -> None:
    found = teardown.remove(paths)
    podnetwork.remove(None)
    sources.remove_machine(None)
    _remove_rules()
    hostports.remove(None)
    click.echo(f"node {name!r} is removed: {', '.join(found) or 'nothing was there'}")


def _name_servers(texts: Iterable[str]) -> tuple[str, ...]:
    """Raises UserError."""
    try:
        return tuple(str(ip_address(text)) for text in texts)
    except ValueError as error:
        raise UserError(f"--cluster-dns: {error}") from error


Numbered = TypeVar("Numbered", IPAddress, IPNetwork)


def _families(option: str, text: str, parse: Callable[[str], Numbered]) -> tuple[Numbered, ...]:
    """One of each family at most, parted by commas. Raises UserError."""
    try:
        found = tuple(parse(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{option} {text!r}: {error}") from error
    if len({each.version for each in found}) != len(found):
        raise UserError(f"{option} {text!r}: must be one of each family at most, parted by commas")
    return found


def _check_families(addresses: Iterable[IPAddress], cidrs: Iterable[IPNetwork], way: Way) -> None:
    """Raises UserError for pods that plain routes cannot lead to."""
    known = {address.version for address in addresses}
    for cidr in cidrs:
        if way.mode is Mode.ROUTES and cidr.version not in known:
            raise UserError(
                f"--pod-cidr {cidr}: --node-ip has no IPv{cidr.version} address to route it by; name one, or use"
                " --pod-network=vxlan"
            )


def _run(node: MachineNode, bootstrap: Path | None) -> None:
    """Until terminated; a machine without a certificate of its own gets one first."""
    from nodeport.cli.daemons import until_terminated
    from nodeport.cli.joining import JoinError, join
    from nodeport.client.kubeconfig import KubeconfigError
    from nodeport.kit.clock import SystemClock
    from nodeport.proxy.claim import AlreadyProxied

    joins = bootstrap is not None and not node.kubeconfig.exists()

    async def run() -> None:
        if bootstrap is not None and joins:
            await join(bootstrap, node.kubeconfig, node.name, SystemClock())
        await node.run()

    try:
        asyncio.run(until_terminated(run))
    except BaseException as error:
        said = sentence(error, (JoinError, KubeconfigError, AlreadyProxied, podnetwork.AddressMissing))
        if said is None:
            raise
        raise UserError(said) from error


def _remove_rules() -> None:
    from nodeport.forwarding.table import Family
    from nodeport.proxy.modes import Mode, open_proxier
    from nodeport.proxy.options import ProxyOptions

    for family in Family:
        with open_proxier(Mode.NFTABLES, family, None, ProxyOptions()) as proxier:
            proxier.remove()
