"""``nodeport expose``"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from nodeport.api.meta import JsonObject
from nodeport.api.resources import (
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    SERVICES,
    Resource,
)
from nodeport.api.workloads import label_selector_form
from nodeport.cli.errors import UserError
from nodeport.cli.printing import rendered
from nodeport.cli.selection import spelled, type_and_name
from nodeport.cli.session import FIELD_MANAGER, Session, connected, object_path

EXPOSABLE = (DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, PODS, SERVICES)
TYPES = ("ClusterIP", "NodePort", "LoadBalancer")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says of the Service to be."""

    name: str
    type: str
    port: int
    target_port: str
    node_port: int
    protocol: str
    selector: str
    labels: str
    external_ip: tuple[str, ...]
    session_affinity: str
    cluster_ip: str


@click.command("expose")
@click.argument("what", nargs=-1, required=True, metavar="TYPE NAME | TYPE/NAME")
@click.option("--name", default="", help="The Service's name; that of the exposed object by default.")
@click.option("--type", type=click.Choice(TYPES), default="ClusterIP", help="What kind of Service.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port it serves; the container's by default.")
@click.option("--target-port", default="", help="The pods' port, a number or a name; --port by default.")
@click.option("--node-port", type=int, default=0, help="The port on every node; a free one by default.")
@click.option("--protocol", default="", help="TCP, UDP or SCTP; that of the container's port by default.")
@click.option(
    "--selector", default="", help="Labels of the pods that serve; the exposed object's by default."
)
@click.option("-l", "--labels", default="", help="Labels of the Service; the exposed object's by default.")
@click.option("--external-ip", multiple=True, help="One more address that the Service answers at.")
@click.option(
    "--session-affinity", type=click.Choice(("", "None", "ClientIP")), default="", help="None or ClientIP."
)
@click.option("--cluster-ip", default="", help="The Service's own address; None for a headless one.")
@click.option(
    "--dry-run", type=click.Choice(("none", "client", "server")), default="none", help="Create nothing."
)
@click.option("-o", "--output", type=click.Choice(("", "yaml", "json")), default="", help="Show the Service.")
@connected
def command(session: Session, what: tuple[str, ...], dry_run: str, output: str, **wished: Any) -> None:
    """Make a Service for the pods of a deployment, replica set, replication controller or pod, or of
    another Service.

    \b
    nodeport expose deployment my-deployment --type=NodePort --port=80 --target-port=8080
    """
    resource, name = type_and_name(what, "nodeport expose deployment NAME --port=PORT")
    if resource not in EXPOSABLE:
        allowed = ", ".join(row.plural for row in EXPOSABLE)
        raise UserError(f"{resource.plural} cannot be exposed; {allowed} can")
    exposed = session.get(object_path(resource, session, name))
    wish = Wish(**{**wished, "port": wished["port"] or 0, "name": wished["name"] or name})
    service = service_for(resource, exposed, wish, session.namespace)
    if dry_run != "client":
        query = {"fieldManager": FIELD_MANAGER, "dryRun": "All" if dry_run == "server" else ""}
        service = session.request("POST", SERVICES.path(session.namespace), query=query, body=service).body
    if output:
        click.echo(rendered(service, output), nl=output == "json")
        return
    suffix = {"none": "", "client": " (dry run)", "server": " (server dry run)"}[dry_run]
    click.echo(f"{spelled(SERVICES, wish.name)} exposed{suffix}")


def service_for(resource: Resource, exposed: JsonObject, wish: Wish, namespace: str) -> JsonObject:
    """The Service that exposes an object. Raises ``UserError`` when selector or port cannot be known."""
    labels = parse_labels(wish.labels, "--labels") if wish.labels else exposed["metadata"].get("labels") or {}
    selector = parse_labels(wish.selector, "--selector") if wish.selector else selector_of(resource, exposed)
    if wish.node_port and wish.type == "ClusterIP":
        raise UserError("--node-port needs --type=NodePort or --type=LoadBalancer")
    spec: JsonObject = {"type": wish.type, "selector": selector, "ports": _ports(resource, exposed, wish)}
    optional = {
        "externalIPs": list(wish.external_ip),
        "sessionAffinity": wish.session_affinity,
        "clusterIP": wish.cluster_ip,
    }
    spec.update({field: value for field, value in optional.items() if value})
    metadata: JsonObject = {"name": wish.name, "namespace": namespace}
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def parse_labels(text: str, option: str) -> dict[str, str]:
    """``app=web,tier=front``"""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if any(not key.strip() or not equals or key.endswith("!") for key, equals, _ in pairs):
        raise UserError(f"{option} {text!r}: key=value pairs are wanted, separated by commas")
    return {key.strip(): value.strip() for key, _, value in pairs}


def selector_of(resource: Resource, exposed: JsonObject) -> dict[str, str]:
    """The labels by which the exposed object's pods are found (kubectl's rules)."""
    spec = exposed.get("spec") or {}
    if resource is PODS:
        found = exposed["metadata"].get("labels")
        if not found:
            raise UserError("the pod has no labels and cannot be exposed")
    elif resource is SERVICES:
        found = spec.get("selector")
        if not found:
            raise UserError("the service has no pod selector set")
    else:
        selector = label_selector_form(spec.get("selector") or {})
        if selector.get("matchExpressions"):
            raise UserError("couldn't convert expressions to a map of labels; give --selector")
        found = selector.get("matchLabels")
        if not found:
            raise UserError("the object selects no pods by labels; give --selector")
    return dict(found)


def _ports(resource: Resource, exposed: JsonObject, wish: Wish) -> list[JsonObject]:
    protocol = wish.protocol.upper()
    if wish.port:
        known = dict(declared_ports(resource, exposed))
        found = [(wish.port, protocol or known.get(_number(wish.target_port) or wish.port, "TCP"))]
    else:
        found = [(port, protocol or own) for port, own in declared_ports(resource, exposed)]
    if not found:
        raise UserError("couldn't find port via --port flag or introspection")
    if wish.node_port and len(found) > 1:
        raise UserError("--node-port goes with one port only; give --port")
    ports: list[JsonObject] = []
    for index, (number, own) in enumerate(found):
        target = _number(wish.target_port) or wish.target_port or number
        port: JsonObject = {"port": number, "protocol": own, "targetPort": target}
        if len(found) > 1:
            port = {"name": f"port-{index + 1}", **port}
        if wish.node_port:
            port["nodePort"] = wish.node_port
        ports.append(port)
    return ports


def declared_ports(resource: Resource, exposed: JsonObject) -> list[tuple[int, str]]:
    """(number, protocol) of every port that the object names, each once."""
    spec = exposed.get("spec") or {}
    if resource is SERVICES:
        named = [(port["port"], port.get("protocol", "TCP")) for port in spec.get("ports") or []]
    else:
        pod = spec if resource is PODS else (spec.get("template") or {}).get("spec") or {}
        containers = pod.get("containers") or []
        ports = [port for container in containers for port in container.get("ports") or []]
        named = [(port["containerPort"], port.get("protocol", "TCP")) for port in ports]
    return list(dict.fromkeys(named))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None
