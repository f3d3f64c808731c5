"""``nodeport status``: what runs of a local cluster, and whether it is well."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import click

from nodeport.api.meta import JsonObject
from nodeport.cli.cluster_options import about_cluster, must_be_root
from nodeport.cli.errors import Unreachable, UserError
from nodeport.node import hurt, local, processes
from nodeport.node.local import PARTS, ClusterConfig, Paths

WELL, UNWELL = "healthy", "dead"
GOOD_WORDS = frozenset((WELL, "Ready", "yes"))


@dataclass(frozen=True, slots=True)
class Health:
    """``parts``: (name, PID, state, memory); ``nodes``: (name, state, address, pods ready/all, endpoints there)."""

    parts: Sequence[tuple[str, str, str, str]]
    nodes: Sequence[tuple[str, str, str, str, str]] = ()
    counts: Sequence[str] = field(default=())
    trouble: Sequence[str] = field(default=())

    @property
    def is_well(self) -> bool:
        return not self.trouble


@click.command(short_help="Tell the health of a local cluster.")
@about_cluster
def command(paths: Paths) -> int:
    """Tell the health of a local cluster: its processes, nodes, pods and endpoints.

    The exit code is 0 when all is well, 1 when something is dead or not ready, 3 when there is no such cluster.
    """
    must_be_root("status")
    config = local.load(paths)
    if config is None:
        click.echo(f"there is no cluster {paths.name!r}: `nodeport up` makes one", err=True)
        return 3
    health = look(paths, config)
    show(paths, config, health)
    return 0 if health.is_well else 1


def look(paths: Paths, config: ClusterConfig) -> Health:
    parts, trouble = [], []
    for part in PARTS:
        process = processes.living(paths.pid(part))
        if process is None:
            parts.append((part, "-", UNWELL, "-"))
            trouble.append(f"{part} does not run: `nodeport up` starts it again")
            continue
        state = WELL if paths.ready(part).exists() else "starting"
        if state != WELL:
            trouble.append(f"{part} is not ready yet")
        parts.append((part, str(process.pid), state, f"{processes.resident_kib(process.pid) / 1024:.0f} MB"))
    try:
        nodes, counts = _ask_api(paths, config)
    except (Unreachable, UserError) as error:
        return Health(parts, trouble=[*trouble, error.format_message()])
    hurts = hurt.load(hurt.wanted_file(paths))
    trouble += [f"{name} is {state}" for name, state, *_ in nodes if state != "Ready"]
    trouble += [f"{name} is hurt on purpose: {each}" for name, each in hurts.items() if str(each)]
    if len(nodes) < config.nodes:
        trouble.append(f"{len(nodes)} of {config.nodes} nodes are registered")
    return Health(parts, nodes, counts, trouble)


def _ask_api(paths: Paths, config: ClusterConfig) -> tuple[list[tuple[str, str, str, str, str]], list[str]]:
    from nodeport.api.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
    from nodeport.cli.session import Session
    from nodeport.client.config import ClientConfig

    identity = paths.certificate("admin"), paths.key("admin")
    try:
        authority = paths.certificate("ca").read_bytes()
    except OSError as error:
        raise UserError(
            f"{paths.certificate('ca')} is missing: `nodeport up` cannot trust this cluster"
        ) from error
    with Session(ClientConfig(config.url, authority, *identity)) as session:
        session.request("GET", "/readyz", accept="*/*")
        found = {
            row: session.get(row.path()).get("items") or []
            for row in (NODES, PODS, SERVICES, ENDPOINT_SLICES)
        }
    pods, ready_pods, endpoints = Counter[str](), Counter[str](), Counter[str]()
    for pod in found[PODS]:
        where = pod["spec"].get("nodeName") or ""
        pods[where] += 1
        ready_pods[where] += _is_ready(pod)
    for item in found[ENDPOINT_SLICES]:
        for endpoint in item.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                endpoints[endpoint.get("nodeName") or ""] += 1
    nodes = []
    for node in found[NODES]:
        name = node["metadata"]["name"]
        of_pods = f"{ready_pods[name]}/{pods[name]}"
        nodes.append((name, _state(node), _address(node), of_pods, str(endpoints[name])))
    node_ports = sum(service["spec"].get("type") == "NodePort" for service in found[SERVICES])
    counts = [
        f"{sum(ready_pods.values())} of {sum(pods.values())} pods ready",
        f"{len(found[SERVICES])} Services ({node_ports} NodePort)",
        f"{sum(endpoints.values())} endpoints",
    ]
    return nodes, counts


def _is_ready(obj: JsonObject) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _state(node: JsonObject) -> str:
    return "Ready" if _is_ready(node) else "NotReady"


def _address(node: JsonObject) -> str:
    addresses = (node.get("status") or {}).get("addresses") or ()
    return ", ".join(item["address"] for item in addresses if item["type"] == "InternalIP") or "-"


def show(paths: Paths, config: ClusterConfig, health: Health) -> None:
    """Two tables and a sentence; in colour on a terminal."""
    colour = sys.stdout.isatty()
    click.echo(
        f"cluster {paths.name!r}: {config.url}, kubeconfig {config.kubeconfig} (context {paths.name!r})\n"
    )
    rows = [("PART", "PID", "STATE", "MEMORY"), *health.parts]
    for line in _table(rows, colour=colour):
        click.echo(line)
    if health.nodes:
        click.echo()
        heading = ("NODE", "STATE", "ADDRESS", "PODS READY", "ENDPOINTS")
        for line in _table([heading, *health.nodes], colour=colour):
            click.echo(line)
        click.echo(f"\n{', '.join(health.counts)}")
    for sentence in health.trouble:
        click.echo(click.style(sentence, fg="red") if colour else sentence)


def _table(rows: Sequence[Sequence[str]], *, colour: bool) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if colour:
            cells = [
                _styled(cell, heading=number == 0, state=column == _state_column(row))
                for column, cell in enumerate(cells)
            ]
        yield "   ".join(cells).rstrip()


def _state_column(row: Sequence[str]) -> int:
    return 2 if len(row) == 4 else 1


def _styled(cell: str, *, heading: bool, state: bool) -> str:
    if heading:
        return click.style(cell, bold=True)
    return click.style(cell, fg="green" if cell.strip() in GOOD_WORDS else "red") if state else cell
