"""``nodeport up``: start a local cluster, or mend the one that is there."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from nodeport.cli import parts
from nodeport.cli.cluster_options import (
    about_cluster,
    checked_image,
    disk_options,
    image_options,
    must_be_root,
    must_have_runtime,
    service_ranges,
)
from nodeport.cli.errors import UserError
from nodeport.node import local, localoptions, network, processes
from nodeport.node.local import DEFAULT_NODES, PARTS, ClusterConfig, Paths
from nodeport.node.localoptions import LocalError

PATIENCE = 60.0
LOG_TAIL = 12


@click.command(short_help="Start a local cluster, or mend the one that is there.")
@click.option("--nodes", type=int, default=None, help=f"How many nodes.  [default: {DEFAULT_NODES}]")
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path), default=None,
    help="The kubeconfig that gets the cluster's context.  [default: $KUBECONFIG or ~/.kube/config]",
)  # fmt: skip
@click.option(
    "--api-port",
    type=int,
    default=None,
    help="The API server's port on 127.0.0.1.  [default: 6443 or any free]",
)
@click.option(
    "--ip-family", type=click.Choice(list(localoptions.IP_FAMILIES)), default=None,
    help="Addresses of nodes, pods and Services.  [default: dual, IPv4 first; ipv4 on a machine without IPv6]",
)  # fmt: skip
@service_ranges
@click.option(
    "--nodeport-addresses", default=None,
    help="On which of a node's addresses node ports answer: 'primary' or CIDRs.  [default: primary]",
)  # fmt: skip
@click.option(
    "--localhost-nodeports/--no-localhost-nodeports", default=None,
    help="Whether node ports answer a node's own processes on 127.0.0.1 and ::1.  [default: no]",
)  # fmt: skip
@click.option(
    "--max-endpoints-per-slice", type=int, default=None,
    help="How many endpoints an EndpointSlice holds at most, 1 to 1000.  [default: 100]",
)  # fmt: skip
@click.option(
    "--node-monitor-grace-period", "node_grace", default=None,
    help="How long a node may be silent until it is not ready, 1s to 1h.  [default: 50s]",
)  # fmt: skip
@click.option(
    "--audit-log-path", default=None, help="Write down here who did what; '' for nowhere.  [default: '']"
)
@click.option(
    "--audit-log-maxsize", type=click.IntRange(min=1), default=None,
    help="Megabytes of the audit log, then it is set aside.  [default: 100]",
)  # fmt: skip
@click.option(
    "--audit-log-maxbackup", type=click.IntRange(min=0), default=None,
    help="How many audit logs set aside are kept; 0 for all.  [default: 0]",
)  # fmt: skip
@image_options
@disk_options("")
@about_cluster
def command(
    paths: Paths,
    nodes: int | None,
    kubeconfig: Path | None,
    api_port: int | None,
    ip_family: str | None,
    service_cluster_ip_range: str | None,
    service_node_port_range: str | None,
    nodeport_addresses: str | None,
    localhost_nodeports: bool | None,
    max_endpoints_per_slice: int | None,
    node_grace: str | None,
    audit_log_path: str | None,
    audit_log_maxsize: int | None,
    audit_log_maxbackup: int | None,
    images: tuple[str, ...],
    default_registry: str | None,
    insecure_registries: tuple[str, ...],
    log_size: str | None,
    log_files: int | None,
    eviction_hard: str | None,
) -> None:
    """Start a local cluster, or mend the one that is there.

    Each node is a network namespace of this machine. The cluster runs in the background; its context in the
    kubeconfig is named like the cluster and becomes the current one. On a running cluster, dead parts are started
    again and --nodes may grow.
    """
    must_be_root("up")
    must_have_runtime()
    began = time.monotonic()
    audit = AuditWishes(audit_log_path, audit_log_maxsize, audit_log_maxbackup)
    wishes = Wishes(
        nodes, kubeconfig, api_port, service_cluster_ip_range, service_node_port_range, nodeport_addresses,
        max_endpoints_per_slice, audit, images, default_registry, insecure_registries, node_grace, log_size, log_files,
        eviction_hard, ip_family, localhost_nodeports,
    )  # fmt: skip
    with local.locked():
        result = bring_up(paths, wishes)
    tell(paths, result, time.monotonic() - began)


class AuditWishes:
    """The audit log that the user asked for; None where nothing was said."""

    def __init__(
        self, path: str | None = None, megabytes: int | None = None, backups: int | None = None
    ) -> None:
        self.path = str(Path(path).absolute()) if path else path
        if self.path and not Path(self.path).parent.is_dir():
            raise LocalError(f"--audit-log-path {path}: there is no folder {Path(self.path).parent}")
        if self.path and Path(self.path).exists() and not Path(self.path).is_file():
            raise LocalError(f"--audit-log-path {path}: must be a file, or not exist")
        self.megabytes, self.backups = megabytes, backups

    def applied(self, config: ClusterConfig) -> ClusterConfig:
        return replace(
            config,
            audit_log=config.audit_log if self.path is None else self.path,
            audit_megabytes=self.megabytes or config.audit_megabytes,
            audit_backups=config.audit_backups if self.backups is None else self.backups,
        )


class Wishes:
    """What the user asked for; None where nothing was said."""

    def __init__(
        self, nodes: int | None, kubeconfig: Path | None, api_port: int | None, service_cidr: str | None,
        node_ports: str | None, nodeport_addresses: str | None, endpoints_per_slice: int | None = None,
        audit: AuditWishes | None = None, images: tuple[str, ...] = (), default_registry: str | None = None,
        insecure_registries: tuple[str, ...] = (), node_grace: str | None = None, log_size: str | None = None,
        log_files: int | None = None, eviction_hard: str | None = None, ip_family: str | None = None,
        localhost_nodeports: bool | None = None,
    ) -> None:  # fmt: skip
        self.localhost_nodeports = localhost_nodeports
        self.audit = audit or AuditWishes()
        self.node_grace = None if node_grace is None else localoptions.parse_node_grace(node_grace)
        self.log_size, self.log_files, self.eviction_hard = log_size, log_files, eviction_hard
        self.images = tuple(checked_image(text) for text in images)
        self.default_registry, self.insecure_registries = default_registry, insecure_registries
        if nodes is not None:
            localoptions.check_nodes(nodes)
        if api_port is not None and not 1 <= api_port <= 65535:
            raise LocalError(f"--api-port {api_port}: must be from 1 to 65535")
        self.nodes, self.kubeconfig, self.api_port = nodes, kubeconfig, api_port
        self.ip_family = ip_family
        cidrs = localoptions.parse_service_cidrs(service_cidr) if service_cidr else ()
        self.service_cidr = localoptions.shown_cidrs(cidrs) or None
        if node_ports:
            localoptions.parse_port_range(node_ports)
        self.node_ports = node_ports
        per_slice = endpoints_per_slice
        self.endpoints_per_slice = (
            None if per_slice is None else localoptions.check_endpoints_per_slice(per_slice)
        )
        addresses = nodeport_addresses
        self.nodeport_addresses = (
            None if addresses is None else localoptions.parse_nodeport_addresses(addresses)
        )


def with_images(config: ClusterConfig, wishes: Wishes) -> ClusterConfig:
    """Where a cluster's images come from: a name that is given again stands for what it is given now."""
    named = {text.partition("=")[0]: text for text in (*config.images, *wishes.images)}
    return replace(
        config, images=tuple(named.values()),
        default_registry=config.default_registry if wishes.default_registry is None else wishes.default_registry,
        insecure_registries=tuple(dict.fromkeys((*config.insecure_registries, *wishes.insecure_registries))),
    )  # fmt: skip


class Result:
    """``started``: the parts that were started now. ``grown_from``: the number of nodes before, if it grew."""

    def __init__(self, config: ClusterConfig, started: list[str], grown_from: int) -> None:
        self.config, self.started, self.grown_from = config, started, grown_from


def bring_up(paths: Paths, wishes: Wishes) -> Result:
    before = local.load(paths)
    config = wishes.audit.applied(wanted_config(paths, before, wishes))
    if wishes.node_grace is not None:
        config = replace(config, node_grace=wishes.node_grace)
    config = with_images(config, wishes)
    config = replace(
        config, log_size=wishes.log_size or config.log_size, log_files=wishes.log_files or config.log_files,
        eviction_hard=config.eviction_hard if wishes.eviction_hard is None else wishes.eviction_hard,
        localhost_nodeports=(
            config.localhost_nodeports if wishes.localhost_nodeports is None else wishes.localhost_nodeports
        ),
    )  # fmt: skip
    alive = {part: process for part in PARTS if (process := processes.living(paths.pid(part)))}
    outdated = [alive.pop(part) for part in outdated_parts(before, config) if part in alive]
    processes.end(outdated, patience=5.0)
    if "server" not in alive:
        check_port(config)
    if before is None and (strangers := processes.of_cluster(paths.name)):
        raise LocalError(f"processes of a cluster {paths.name!r} run without their files "
                         f"(PID {strangers[0].pid}, …): `nodeport down` ends them")  # fmt: skip
    check_kubeconfig(Path(config.kubeconfig))
    paths.make()
    local.save(paths, config)
    missing = [part for part in PARTS if part not in alive]
    if missing:
        paths.prepared.unlink(missing_ok=True)
    started = [start(paths, part) for part in missing]
    prepare(paths, config)
    wait_until_ready(paths, dict(zip(missing, started, strict=True)))
    merge_kubeconfig(paths, config)
    started_now = missing if before is not None else list(PARTS)
    grown_from = before.nodes if before is not None and config.nodes > before.nodes else 0
    return Result(config, started_now, grown_from)


def outdated_parts(before: ClusterConfig | None, config: ClusterConfig) -> list[str]:
    """The parts that must start anew to see what changed; pods and rules stay and are taken over."""
    if before is None or config == replace(before, kubeconfig=config.kubeconfig):
        return []
    with_nodes = replace(
        before, kubeconfig=config.kubeconfig, nodes=config.nodes, images=config.images,
        default_registry=config.default_registry, insecure_registries=config.insecure_registries,
        log_size=config.log_size, log_files=config.log_files, eviction_hard=config.eviction_hard,
        localhost_nodeports=config.localhost_nodeports,
    )  # fmt: skip
    if config == with_nodes:
        return ["nodes"]
    as_now = replace(
        before, kubeconfig=config.kubeconfig, max_endpoints_per_slice=config.max_endpoints_per_slice,
        audit_log=config.audit_log, audit_megabytes=config.audit_megabytes, audit_backups=config.audit_backups,
    )  # fmt: skip
    if config == as_now:
        return ["server"]
    return list(PARTS)


def wanted_config(paths: Paths, before: ClusterConfig | None, wishes: Wishes) -> ClusterConfig:
    """The configuration from what was and what is wished. Raises LocalError for what cannot be changed."""
    kubeconfig = str(wishes.kubeconfig.absolute()) if wishes.kubeconfig else None
    if before is None:
        config = new_config(paths, wishes, kubeconfig or default_kubeconfig())
    else:
        config = replace(
            local.with_free_fabric(paths, before),
            nodes=wishes.nodes or before.nodes,
            kubeconfig=kubeconfig or before.kubeconfig,
            api_port=wishes.api_port or before.api_port,
            node_ports=wishes.node_ports or before.node_ports,
            max_endpoints_per_slice=wishes.endpoints_per_slice or before.max_endpoints_per_slice,
        )
        if wishes.nodeport_addresses is not None:
            config = replace(config, nodeport_addresses=wishes.nodeport_addresses)
        if wishes.ip_family:
            localoptions.check_same_ip_family(paths.name, wishes.ip_family, before.versions)
        if config.nodes < before.nodes:
            raise LocalError(
                f"--nodes {config.nodes}: cluster {paths.name!r} has {before.nodes} nodes and can only grow"
            )
        if wishes.service_cidr:
            config = replace(config, service_cidr=wishes.service_cidr)
            localoptions.check_same_service_cidrs(
                paths.name, config.service_networks, before.service_networks
            )
    return config


def new_config(paths: Paths, wishes: Wishes, kubeconfig: str) -> ClusterConfig:
    config = ClusterConfig(
        fabric="", pods="", nodes=wishes.nodes or DEFAULT_NODES,
        api_port=wishes.api_port or local.choose_port(), kubeconfig=kubeconfig,
    )  # fmt: skip
    asked = localoptions.parse_service_cidrs(wishes.service_cidr) if wishes.service_cidr else ()
    versions = localoptions.choose_versions(wishes.ip_family, asked, has_ipv6=network.has_ipv6())
    if not asked and not wishes.ip_family and 6 not in versions:
        click.echo(
            f"nodes, pods and Services get IPv4 addresses only: this machine has no IPv6: {localoptions.NO_IPV6}",
            err=True,
        )
    ranges = wishes.service_cidr or ",".join(
        localoptions.DEFAULT_SERVICE_CIDRS[version] for version in versions
    )
    config = replace(config, service_cidr=ranges)
    if wishes.node_ports:
        config = replace(config, node_ports=wishes.node_ports)
    if wishes.endpoints_per_slice:
        config = replace(config, max_endpoints_per_slice=wishes.endpoints_per_slice)
    if wishes.nodeport_addresses is not None:
        config = replace(config, nodeport_addresses=wishes.nodeport_addresses)
    fabrics, pods = local.choose_networks(paths, config.service_networks, versions)
    return replace(config, fabric=localoptions.shown_cidrs(fabrics), pods=localoptions.shown_cidrs(pods))


def default_kubeconfig() -> str:
    from nodeport.client.kubeconfig import paths_from

    return str(paths_from(os.environ)[0].absolute())


def check_port(config: ClusterConfig) -> None:
    if not local.port_is_free(config.api_port):
        raise LocalError(
            f"port {config.api_port} of 127.0.0.1, where the API server is to listen, is taken by another program: "
            f"end it, or choose another with --api-port"
        )


def check_kubeconfig(path: Path) -> None:
    """Before anything is started: the file can be read as one, and its folder be written to."""
    from nodeport.client import kubeconfig

    try:
        kubeconfig.check(path)
    except (OSError, kubeconfig.KubeconfigError) as error:
        raise LocalError(f"--kubeconfig {path}: {error}; name a file that can be written") from error


def start(paths: Paths, part: str) -> processes.ProcessId:
    paths.ready(part).unlink(missing_ok=True)
    return processes.start(
        parts.command_line(part, paths), cluster=paths.name, log=paths.log(part), pid_file=paths.pid(part)
    )


def prepare(paths: Paths, config: ClusterConfig) -> None:
    """Network and certificates, while the daemons are still importing."""
    plan = config.plan(paths.name)
    network.ensure_cluster(plan)
    from nodeport.apiserver.pki import ClusterPki

    pki = ClusterPki.ensure(paths.pki, addresses=plan.hosts, service_address=config.service_networks[0][1])
    pki.nodes({node.name: node.addresses for node in plan.nodes})
    pki.keep_nodes(node.name for node in plan.nodes)
    local.ensure_token(paths)
    local.write_private(paths.prepared, "")


def wait_until_ready(paths: Paths, started: dict[str, processes.ProcessId]) -> None:
    """Until the parts that were started say that they serve. Raises UserError with the end of a dead one's log."""
    deadline = time.monotonic() + PATIENCE
    waiting = dict(started)
    while waiting:
        waiting = {part: process for part, process in waiting.items() if not paths.ready(part).exists()}
        for part, process in waiting.items():
            if processes.has_ended(process):
                raise UserError(
                    f"{part} has ended while it started; {paths.log(part)} ends with:\n{log_tail(paths, part)}"
                )
        if waiting and time.monotonic() > deadline:
            part = next(iter(waiting))
            raise UserError(
                f"{part} is not ready after {PATIENCE:g} s; {paths.log(part)} ends with:\n{log_tail(paths, part)}"
            )
        time.sleep(processes.POLL)


def log_tail(paths: Paths, part: str) -> str:
    lines = paths.log(part).read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL:])


def merge_kubeconfig(paths: Paths, config: ClusterConfig) -> None:
    from nodeport.client import kubeconfig

    path = Path(config.kubeconfig)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    kubeconfig.merge(
        path, name=paths.name, server=config.url, ca=paths.certificate("ca").read_bytes(),
        cert=paths.certificate("admin").read_bytes(), key=paths.key("admin").read_bytes(),
    )  # fmt: skip


def tell(paths: Paths, result: Result, seconds: float) -> None:
    config = result.config
    if not result.started:
        click.echo(f"cluster {paths.name!r} is already running: {count(config.nodes)}, {config.url}")
    elif result.grown_from:
        click.echo(
            f"cluster {paths.name!r} has grown from {result.grown_from} to {count(config.nodes)} in {seconds:.2f} s"
        )
    else:
        what = (
            "is up"
            if len(result.started) == len(PARTS)
            else f"is mended ({', '.join(result.started)} started)"
        )
        click.echo(
            f"cluster {paths.name!r} {what}: {count(config.nodes)} ready in {seconds:.2f} s, {config.url}"
        )
    plan = config.plan(paths.name)
    ends = dict.fromkeys((plan.nodes[0], plan.nodes[-1]))
    shown = [f"{node.name} {', '.join(map(str, node.addresses))}" for node in ends]
    click.echo(f"  nodes       {' … '.join(shown)}")
    click.echo(f"  kubeconfig  {config.kubeconfig} (context {paths.name!r} is current)")
    if sys.stdout.isatty():
        click.echo(
            f"  next        nodeport status{name_option(paths)} · kubectl get nodes · nodeport down{name_option(paths)}"
        )


def name_option(paths: Paths) -> str:
    return "" if paths.name == local.DEFAULT_NAME else f" --name {paths.name}"


def count(nodes: int) -> str:
    return f"{nodes} node{'' if nodes == 1 else 's'}"
