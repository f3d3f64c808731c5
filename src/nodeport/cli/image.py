"""``nodeport image``: the images that a cluster's containers run, besides those that are the machine's own."""

from __future__ import annotations

import platform
import shlex
from io import BufferedReader
from pathlib import Path

import click

from nodeport.cli.cluster_options import about_cluster, must_be_root
from nodeport.cli.errors import UserError
from nodeport.cli.printing import Columns
from nodeport.node.images import archives, manifests
from nodeport.node.images.archives import BadArchive
from nodeport.node.images.base import ImageConfig, ImageError
from nodeport.node.images.references import NotAReference, Reference, parse
from nodeport.node.images.store import ContentStore, content_store
from nodeport.node.local import Paths

SHOWN_DIGITS = 13


@click.group(short_help="Load, build, list and remove images.")
def command() -> None:
    """Load, build, list and remove the images that a local cluster's containers run.

    They are kept once for all nodes of the cluster, and go with it.
    """


@command.command("load")
@click.argument("file", type=click.File("rb"))
@click.option("--as", "new_name", default="", help="Give the archive's only image this name.")
@about_cluster
def load(paths: Paths, file: BufferedReader, new_name: str) -> None:
    """Take the images of an archive: an OCI image layout as a tar, or what `docker save` writes; - for standard input.

    \b
    docker save web:1 | nodeport image load -
    nodeport image load web.tar.gz --as example.org/web:1
    """
    store = _store(paths)
    try:
        loaded = archives.load(store, file, _architecture(), _new_name(new_name) if new_name else None)
    except (BadArchive, ImageError) as error:
        raise UserError(f"{file.name}: {error}") from error
    for each in loaded:
        click.echo(f"loaded {each}")


@command.command("build-rootfs")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("reference")
@click.option(
    "--entrypoint", default="", help="The program and its first arguments, as a shell would part them."
)
@click.option("--cmd", "arguments", default="", help="Arguments that a container may replace by its own.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable; may be repeated.")
@click.option("--workdir", default="", help="The folder that programs start in.  [default: /]")
@click.option("--user", default="", help="USER[:GROUP], names or numbers.  [default: root]")
@click.option("--stop-signal", default="", help="What asks the program to end.  [default: SIGTERM]")
@about_cluster
def build(
    paths: Paths, folder: Path, reference: str, entrypoint: str, arguments: str, env: tuple[str, ...],
    workdir: str, user: str, stop_signal: str,
) -> None:  # fmt: skip
    """Make an image of a folder, which is its root file system, under the name REFERENCE.

    \b
    nodeport image build-rootfs ./root web:1 --entrypoint "/bin/httpd -f" --env PORT=8080
    """
    store = _store(paths)
    if folder.resolve() == Path("/"):
        raise UserError("the machine's own root would take its secrets along; name a folder")
    for each in env:
        if not each.partition("=")[0] or "=" not in each:
            raise UserError(f"--env {each!r}: must be NAME=VALUE")
    if workdir and not workdir.startswith("/"):
        raise UserError(f"--workdir {workdir!r}: must begin with /")
    config = ImageConfig(
        entrypoint=_words("--entrypoint", entrypoint), command=_words("--cmd", arguments), env=env,
        working_dir=workdir, user=user, stop_signal=stop_signal,
    )  # fmt: skip
    try:
        built = archives.build(store, folder, _new_name(reference), config, _architecture())
    except (BadArchive, ImageError) as error:
        raise UserError(f"{folder}: {error}") from error
    click.echo(f"built {built}")


@command.command("ls")
@about_cluster
def ls(paths: Paths) -> None:
    """List the images that were loaded, built or pulled."""
    rows = [("NAME", "IMAGE ID", "LAYERS", "SIZE")]
    for each in _store(paths).images():
        digits = each.config_digest.removeprefix("sha256:")[:SHOWN_DIGITS]
        rows.append((str(each.reference), digits, str(len(each.diff_ids)), f"{each.size / 1e6:.3g}MB"))
    for line in Columns().lines(rows):
        click.echo(line)


@command.command("rm")
@click.argument("references", metavar="NAME...", nargs=-1, required=True)
@about_cluster
def rm(paths: Paths, references: tuple[str, ...]) -> None:
    """Forget names, and what no other name has of their images; what containers stand on goes after them."""
    store = _store(paths)
    for each in references:
        reference = _reference(each)
        try:
            left = store.remove(reference)
        except KeyError:
            raise UserError(f"there is no image {reference}: `nodeport image ls` lists them") from None
        words = f"; {left} of its layers stay while containers stand on them" if left else ""
        click.echo(f"removed {reference}{words}")


def _store(paths: Paths) -> ContentStore:
    must_be_root("image")
    if not paths.data.is_dir():
        raise UserError(f"there is no cluster {paths.name!r}: `nodeport up` starts one")
    return content_store(paths.images)


def _reference(text: str) -> Reference:
    try:
        return parse(text)
    except NotAReference as error:
        raise UserError(str(error)) from error


def _new_name(text: str) -> Reference:
    found = _reference(text)
    if found.digest:
        raise UserError(f"{text}: a digest follows from the content and cannot be given; name a tag")
    return found


def _words(option: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(f"{option} {text!r}: {error}") from error


def _architecture() -> str:
    return manifests.architecture_of(platform.machine())
