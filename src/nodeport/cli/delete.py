"""``nodeport delete``"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import click

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.api.status import ApiError, NotFound
from nodeport.cli.errors import ServerRefused, UserError
from nodeport.cli.manifests import read_manifests
from nodeport.cli.selection import Selection, select, singular
from nodeport.cli.session import Session, connected

POLL = 0.05
"""Seconds between looks at an object that is going."""


@dataclass(frozen=True, slots=True)
class Target:
    resource: Resource
    namespace: str
    name: str

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace, self.name)


@click.command("delete")
@click.argument("what", nargs=-1, metavar="[TYPE NAME... | TYPE/NAME...]")
@click.option(
    "-f", "--filename", "filenames", multiple=True, metavar="FILE|DIR|-", help="Objects of manifests."
)
@click.option("-l", "--selector", default="", help="Objects with these labels.")
@click.option("--all", "everything", is_flag=True, help="All objects of the type in the namespace.")
@click.option(
    "--grace-period", type=int, default=-1, help="Seconds that pods have to end, instead of their own."
)
@click.option("--cascade", type=click.Choice(("background", "foreground", "orphan")), default="background",
              help="What happens to objects that this one owns.")  # fmt: skip
@click.option("--ignore-not-found", is_flag=True, help="Say nothing of objects that do not exist.")
@click.option("--wait/--no-wait", default=True, help="Wait until the objects are gone.")
@connected
def command(
    session: Session, what: tuple[str, ...], filenames: tuple[str, ...], selector: str, everything: bool,
    grace_period: int, cascade: str, ignore_not_found: bool, wait: bool,
) -> None:  # fmt: skip
    """Delete objects by type and name, by label, or as manifests name them.

    \b
    nodeport delete service my-nodeport-service
    nodeport delete -f examples/nodeport.yaml
    """
    targets = _targets(session, what, filenames, selector, everything)
    body: JsonObject = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": cascade.capitalize(),
    }
    if grace_period >= 0:
        body["gracePeriodSeconds"] = grace_period
    going: list[tuple[Target, str]] = []
    failed = False
    for target in targets:
        try:
            going.append((target, _delete(session, target, body)))
        except ApiError as error:
            if not (ignore_not_found and isinstance(error, NotFound)):
                ServerRefused(error).show()
                failed = True
    if wait:
        for target, uid in going:
            _wait_until_gone(session, target, uid)
    if failed:
        sys.exit(1)


def _targets(
    session: Session, what: tuple[str, ...], filenames: tuple[str, ...], selector: str, everything: bool
) -> list[Target]:
    if filenames:
        if what or selector or everything:
            raise UserError("when manifests are given, types, names and selectors cannot be given as well")
        given = bool(click.get_current_context().params.get("namespace"))
        manifests = read_manifests(filenames, session, namespace_given=given)
        return [Target(manifest.resource, manifest.namespace, manifest.name) for manifest in manifests]
    targets: list[Target] = []
    for selection in select(what):
        targets += _selected(session, selection, selector, everything)
    if not targets and (selector or everything):
        click.echo("No resources found", err=True)
    return targets


def _selected(session: Session, selection: Selection, selector: str, everything: bool) -> list[Target]:
    resource = selection.resource
    namespace = session.namespace if resource.namespaced else ""
    if selection.names:
        if selector or everything:
            raise UserError("name cannot be provided when a selector or --all is specified")
        return [Target(resource, namespace, name) for name in selection.names]
    if not selector and not everything:
        raise UserError("resource(s) were provided, but no name was specified")
    items = session.get(resource.path(namespace), {"labelSelector": selector}).get("items") or []
    return [Target(resource, namespace, item["metadata"]["name"]) for item in items]


def _delete(session: Session, target: Target, body: JsonObject) -> str:
    """Returns the uid of what is going."""
    answer = session.request("DELETE", target.path, body=body).body
    where = f" from {target.namespace} namespace" if target.namespace else ""
    click.echo(f'{singular(target.resource)} "{target.name}" deleted{where}')
    uid = (answer.get("metadata") or {}).get("uid") or (answer.get("details") or {}).get("uid") or ""
    return str(uid)


def _wait_until_gone(session: Session, target: Target, uid: str) -> None:
    """Until there is no such object, or another one of that name."""
    while True:
        try:
            found = session.get(target.path)
        except NotFound:
            return
        if uid and found["metadata"].get("uid") != uid:
            return
        time.sleep(POLL)
