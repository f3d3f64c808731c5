"""``nodeport agent``: this machine as one node of a cluster."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path

import click

from nodeport.cli.cluster_options import must_be_root
from nodeport.cli.errors import UserError
from nodeport.node.local import DATA_ROOT, RUN_ROOT


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What this node is called and which addresses it has."""

    kubeconfig: Path
    name: str
    address: IPv4Address
    pod_cidr: IPv4Network
    data: Path
    run: Path


@click.command(short_help="Run this machine as one node of a cluster.")
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path, exists=True), required=True, help="How to reach the API."
)
@click.option("--node-name", default="", help="The node's name.  [default: the host name]")
@click.option("--node-ip", required=True, help="The address by which other nodes and clients reach this one.")
@click.option("--pod-cidr", required=True, help="The addresses of this node's pods, such as 10.244.7.0/24.")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=DATA_ROOT,
    show_default=True,
    help="Where logs are kept.",
)
@click.option(
    "--run-root",
    type=click.Path(path_type=Path),
    default=RUN_ROOT,
    show_default=True,
    help="Where pods are kept.",
)
def command(
    kubeconfig: Path, node_name: str, node_ip: str, pod_cidr: str, data_root: Path, run_root: Path
) -> None:
    """Run this machine as one node of a cluster: its pods, its lease, and its Service rules.

    Ends with SIGTERM; pods and rules stay, and are taken over by the next one.
    """
    must_be_root("agent")
    name = node_name or socket.gethostname().lower()
    try:
        options = AgentOptions(
            kubeconfig, name, IPv4Address(node_ip), IPv4Network(pod_cidr),
            data_root / "agent" / name, run_root / "agent" / name,
        )  # fmt: skip
    except (AddressValueError, ValueError) as error:
        raise UserError(f"--node-ip must be an IPv4 address and --pod-cidr an IPv4 CIDR: {error}") from error
    from nodeport.cli.daemons import until_terminated
    from nodeport.kit.logs import configure

    configure("INFO")
    asyncio.run(until_terminated(lambda: run(options)))


async def run(options: AgentOptions) -> None:
    """Agent and proxy over one set of informers, until cancelled."""
    from nodeport.api.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
    from nodeport.client.informer import Informer
    from nodeport.client.kubeconfig import load
    from nodeport.client.rest import RestClient
    from nodeport.kit.clock import SystemClock
    from nodeport.node import namespaces, network
    from nodeport.node.agent import NodeAgent
    from nodeport.node.images import BuiltinImages
    from nodeport.node.node_status import NodeFacts, this_machine
    from nodeport.node.runtime import ProcessRuntime
    from nodeport.node.sandbox import NodeSurroundings
    from nodeport.proxy.options import ProxyOptions
    from nodeport.proxy.runner import ProxyRunner

    for directory in (options.data, options.run):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    namespaces.prepare_netns_root()
    network.allow_forwarding()
    clock = SystemClock()
    surroundings = NodeSurroundings(
        cluster=network.digest(options.name, 8), name=options.name, netns=None, address=options.address,
        run_directory=options.run, log_directory=options.data / "logs", nameservers=host_nameservers(),
    )  # fmt: skip
    async with RestClient(load(options.kubeconfig), user_agent="nodeport-agent") as client:
        pods = Informer(client, PODS, field_selector=f"spec.nodeName={options.name}", clock=clock)
        nodes, services, slices = (
            Informer(client, row, clock=clock) for row in (NODES, SERVICES, ENDPOINT_SLICES)
        )
        agent = NodeAgent(
            facts=NodeFacts(options.name, options.address, this_machine(), options.pod_cidr, log_port=0),
            surroundings=surroundings, client=client, pods=pods, nodes=nodes,
            runtime=ProcessRuntime(clock), images=BuiltinImages(), clock=clock,
        )  # fmt: skip
        proxy = ProxyRunner(
            node_name=options.name, services=services, slices=slices, nodes=nodes, netns=None,
            options=ProxyOptions(), clock=clock,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for informer in (pods, nodes, services, slices):
                group.create_task(informer.run())
            group.create_task(agent.run())
            group.create_task(proxy.run())


def host_nameservers() -> tuple[str, ...]:
    """The host's name servers: its pods are not behind the nodes' private network."""
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        return ()
    words = (line.split() for line in lines)
    return tuple(parts[1] for parts in words if len(parts) > 1 and parts[0] == "nameserver")
