"""``nodeport service``"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import click

from nodeport.api.ip import family
from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINT_SLICES, NODES, SERVICES
from nodeport.cli.errors import UserError
from nodeport.cli.printing import Columns
from nodeport.cli.session import Session, connected

HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class Door:
    """One way in: a node's address and one of the Service's node ports. ``scheme`` is http, https, udp or sctp."""

    node: str
    port: str
    scheme: str
    host: str
    node_port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.node_port}"


@click.command("service")
@click.argument("name")
@click.option("--url", "only_urls", is_flag=True, help="Print nothing but the URLs.")
@connected
def command(session: Session, name: str, only_urls: bool) -> None:
    """Show where a NodePort Service answers: one URL for each node.

    \b
    nodeport service my-nodeport-service --url
    """
    service = session.get(SERVICES.path(session.namespace, name))
    nodes = session.get(NODES.path()).get("items") or []
    local = _nodes_with_endpoints(session, name) if _is_local(service) else None
    doors = doors_of(service, nodes, local)
    if only_urls:
        for door in doors:
            click.echo(door.url)
        return
    rows = [["NODE", "PORT", "URL"], *([door.node, door.port, door.url] for door in doors)]
    for line in Columns().lines(rows):
        click.echo(line)


def _is_local(service: JsonObject) -> bool:
    return bool(service["spec"].get("externalTrafficPolicy") == "Local")


def _nodes_with_endpoints(session: Session, name: str) -> set[str]:
    """The nodes where a ready endpoint of the Service runs: the only ones that answer when the policy is Local."""
    query = {"labelSelector": f"kubernetes.io/service-name={name}"}
    slices = session.get(ENDPOINT_SLICES.path(session.namespace), query).get("items") or []
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
    return {
        endpoint["nodeName"]
        for endpoint in endpoints
        if endpoint.get("nodeName") and (endpoint.get("conditions") or {}).get("ready") is not False
    }


def doors_of(service: JsonObject, nodes: Sequence[JsonObject], local: Collection[str] | None) -> list[Door]:
    """Every way in, by node and port; ``local``: only those nodes answer. Raises ``UserError`` when there is none."""
    name, spec = service["metadata"]["name"], service["spec"]
    ports = [port for port in spec.get("ports") or [] if port.get("nodePort")]
    if not ports:
        raise UserError(
            f"service {name!r} is of type {spec.get('type', 'ClusterIP')} and has no node port; services of type "
            "NodePort and LoadBalancer have"
        )
    ready = [node for node in nodes if _is_ready(node)]
    if not ready:
        raise UserError("no node is ready")
    reachable = [node for node in ready if local is None or node["metadata"]["name"] in local]
    if not reachable:
        raise UserError(f"service {name!r} has externalTrafficPolicy Local and no ready endpoint on any node")
    kind = (spec.get("ipFamilies") or ["IPv4"])[0]
    doors = [
        Door(
            node["metadata"]["name"],
            port.get("name") or str(port["port"]),
            _scheme(port),
            host,
            port["nodePort"],
        )
        for node in reachable
        for host in _internal_ips(node, kind)
        for port in ports
    ]
    if not doors:
        raise UserError(f"service {name!r} has an {kind} address, and no ready node has one")
    return doors


def _is_ready(node: JsonObject) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _internal_ips(node: JsonObject, kind: str) -> list[str]:
    """The first one of the Service's primary family: a node that has two families is still one node."""
    addresses = (node.get("status") or {}).get("addresses") or []
    internal = (each["address"] for each in addresses if each["type"] == "InternalIP")
    return [address for address in internal if family(address) == kind][:1]


def _scheme(port: JsonObject) -> str:
    if port.get("protocol", "TCP") != "TCP":
        return str(port["protocol"]).lower()
    secure = port["port"] == HTTPS_PORT or "https" in (port.get("name"), port.get("appProtocol"))
    return "https" if secure else "http"
