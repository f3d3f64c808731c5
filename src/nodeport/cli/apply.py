"""``nodeport apply``"""

from __future__ import annotations

import json
import sys

import click

from nodeport.api.meta import JsonObject
from nodeport.api.status import ApiError, NotFound
from nodeport.cli.errors import ServerRefused
from nodeport.cli.manifests import Manifest, read_manifests
from nodeport.cli.selection import spelled
from nodeport.cli.session import FIELD_MANAGER, STRATEGIC_MERGE_PATCH, Session, connected

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
DRY_RUN = {"none": "", "client": " (dry run)", "server": " (server dry run)"}


@click.command("apply")
@click.option("-f", "--filename", "filenames", multiple=True, required=True, metavar="FILE|DIR|-",
              help="Files, folders, or - for standard input; may be repeated.")  # fmt: skip
@click.option(
    "--dry-run", type=click.Choice(tuple(DRY_RUN)), default="none", help="Only say what would happen."
)
@connected
def command(session: Session, filenames: tuple[str, ...], dry_run: str) -> None:
    """Create or change objects so that they are as manifests say.

    \b
    nodeport apply -f examples/nodeport.yaml
    """
    given = bool(click.get_current_context().params.get("namespace"))
    failed = False
    for manifest in read_manifests(filenames, session, namespace_given=given):
        try:
            outcome = apply(session, manifest, dry_run)
            click.echo(f"{spelled(manifest.resource, manifest.name)} {outcome}{DRY_RUN[dry_run]}")
        except ServerRefused as refusal:
            refusal.show()
            failed = True
    if failed:
        sys.exit(1)


def apply(session: Session, manifest: Manifest, dry_run: str) -> str:
    """Returns ``created``, ``configured`` or ``unchanged``; raises ``ServerRefused``."""
    try:
        current = session.get(manifest.path)
    except NotFound:
        return _create(session, manifest, dry_run)
    except ApiError as error:
        raise ServerRefused(error, while_doing="error when retrieving current configuration of") from error
    patch = _patch(manifest, current)
    if not patch:
        return "unchanged"
    if dry_run != "client":
        try:
            session.request(
                "PATCH", manifest.path, query=_query(dry_run), body=patch, content_type=STRATEGIC_MERGE_PATCH
            )
        except ApiError as error:
            doing = f"error when applying patch to {spelled(manifest.resource, manifest.name)}"
            raise ServerRefused(error, while_doing=doing) from error
    return "configured"


def _create(session: Session, manifest: Manifest, dry_run: str) -> str:
    if dry_run != "client":
        body = _annotated(manifest.obj, last_applied(manifest.obj))
        try:
            session.request("POST", manifest.collection, query=_query(dry_run), body=body)
        except ApiError as error:
            raise ServerRefused(error, while_doing=f'error when creating "{manifest.source}"') from error
    return "created"


def _query(dry_run: str) -> dict[str, object]:
    dry = "All" if dry_run == "server" else ""
    return {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "dryRun": dry}


def _patch(manifest: Manifest, current: JsonObject) -> JsonObject:
    from nodeport.cli.threeway import three_way_patch

    applied = (current["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    if applied is None:
        click.echo(
            f"Warning: {spelled(manifest.resource, manifest.name)} was not made by apply; it is taken over, and fields "
            "that no manifest named so far stay as they are.", err=True,
        )  # fmt: skip
    modified = _annotated(manifest.obj, last_applied(manifest.obj))
    return three_way_patch(manifest.resource.schema, _decoded(applied), modified, current)


def _decoded(applied: str | None) -> JsonObject:
    try:
        original = json.loads(applied or "{}")
    except ValueError:
        return {}
    return original if isinstance(original, dict) else {}


def last_applied(obj: JsonObject) -> str:
    """The annotation's value: the manifest without that annotation, as compact JSON in key order, and a newline."""
    return json.dumps(_without(obj), separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"


def _without(obj: JsonObject) -> JsonObject:
    annotations = {k: v for k, v in (obj["metadata"].get("annotations") or {}).items() if k != LAST_APPLIED}
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def _annotated(obj: JsonObject, value: str) -> JsonObject:
    annotations = {**(obj["metadata"].get("annotations") or {}), LAST_APPLIED: value}
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}
