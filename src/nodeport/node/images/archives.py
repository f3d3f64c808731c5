"""Images out of files and folders: OCI archives, what `docker save` writes, and folders that are a root already."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from nodeport.node.images import manifests
from nodeport.node.images.base import ImageConfig
from nodeport.node.images.manifests import BadManifest, Descriptor, Index, Manifest, digest_of
from nodeport.node.images.references import NotAReference, Reference, parse
from nodeport.node.images.store import ContentStore
from nodeport.node.images.unpack import CHUNK, BadLayer, Hashed, Peekable, bare
from nodeport.node.images.zstd import ZstdError

CAPABILITIES = "SCHILY.xattr.security.capability"
REF_NAME = "org.opencontainers.image.ref.name"
WHOLE_NAME = "io.containerd.image.name"
"""The annotation by which Docker and containerd keep a name with its registry."""


class BadArchive(Exception):
    """The file holds no image; one sentence."""


@dataclass(frozen=True, slots=True)
class Found:
    """An image of an archive: its names, its documents, and where its layers are, the lowest first."""

    names: tuple[Reference, ...]
    manifest: bytes
    config: bytes
    layers: tuple[str, ...]


def load(
    store: ContentStore, source: Peekable, architecture: str, name: Reference | None = None
) -> list[Reference]:
    """Take all images of an archive, packed or not, into the store; returns their names.

    ``name``: for the archive's only image, instead of those that it has. Raises BadArchive, OSError: nothing has
    changed then, but what was whole before the error.
    """
    with store.intake() as scratch:
        tar = scratch.place / "archive.tar"
        try:
            with tar.open("wb") as file:
                shutil.copyfileobj(bare(source), file, CHUNK)
            with tarfile.open(tar, "r:") as archive:
                return _Archive(archive, architecture).load(store, name)
        except (tarfile.TarError, EOFError, ZstdError, BadManifest, BadLayer, NotAReference) as error:
            raise BadArchive(str(error)) from error


class _Archive:
    def __init__(self, archive: tarfile.TarFile, architecture: str) -> None:
        self._archive, self._architecture = archive, architecture
        self._members = {each.name.removeprefix("./"): each for each in archive}

    def load(self, store: ContentStore, name: Reference | None) -> list[Reference]:
        found = self._from_docker() if "manifest.json" in self._members else self._from_oci()
        if name is not None:
            if len(found) != 1:
                raise BadArchive(f"it holds {len(found)} images: a name can be given to one only")
            found = [Found((name,), found[0].manifest, found[0].config, found[0].layers)]
        for each in found:
            if not each.names:
                raise BadArchive("an image of it has no name: give it one with --as NAME")
        for each in found:
            self._take(store, each)
        return [reference for each in found for reference in each.names]

    def _take(self, store: ContentStore, found: Found) -> None:
        configuration = manifests.parse_config(found.config, manifests.parse_manifest(found.manifest))
        manifests.check_platform(configuration, self._architecture)
        with store.intake(configuration.diff_ids) as intake:
            for diff_id, place in zip(configuration.diff_ids, found.layers, strict=True):
                if store.missing([diff_id]):
                    intake.add(self._open(place), diff_id)
            store.commit(intake, found.names, found.manifest, found.config)

    # --- docker save

    def _from_docker(self) -> list[Found]:
        return [
            self._saved(each.config, each.layers, each.repo_tags or ())
            for each in manifests.parse_saved(self._read("manifest.json"))
        ]

    def _saved(self, config: str, layers: Sequence[str], names: Sequence[str]) -> Found:
        content = self._read(config)
        described = [
            Descriptor(self._digest(place), self._member(place).size, manifests.LAYER) for place in layers
        ]
        manifest = manifests.written_manifest(content, described)
        return Found(tuple(parse(name) for name in names), manifest, content, tuple(layers))

    def _digest(self, place: str) -> str:
        content = Hashed(self._open(place))
        content.drain()
        return content.digest

    # --- OCI layout

    def _from_oci(self) -> list[Found]:
        if "index.json" not in self._members:
            raise BadArchive("it has neither index.json (OCI) nor manifest.json (docker save)")
        index = manifests.parse(self._read("index.json"))
        if not isinstance(index, Index):
            raise BadArchive("its index.json is no index")
        named: dict[str, tuple[bytes, list[Reference]]] = {}
        for each in manifests.for_machine(index, self._architecture):
            content = self._manifest(each)
            named.setdefault(digest_of(content), (content, []))[1].extend(_names(each))
        return [self._described(content, names) for content, names in named.values()]

    def _manifest(self, descriptor: Descriptor) -> bytes:
        content = self._blob(descriptor)
        match manifests.parse(content):
            case Manifest():
                return content
            case Index() as index:
                return self._manifest(manifests.for_machine(index, self._architecture)[0])

    def _described(self, content: bytes, names: list[Reference]) -> Found:
        manifest = manifests.parse_manifest(content)
        places = tuple(_place(each.digest) for each in manifest.layers)
        return Found(tuple(names), content, self._blob(manifest.config), places)

    def _blob(self, descriptor: Descriptor) -> bytes:
        content = self._read(_place(descriptor.digest))
        if digest_of(content) != descriptor.digest:
            raise BadArchive(f"its blob {descriptor.digest} has the digest {digest_of(content)}")
        return content

    # --- members

    def _member(self, name: str) -> tarfile.TarInfo:
        """The file of that name; a layer that comes twice is a link to the first, in older archives of docker save."""
        found = self._members.get(name)
        if found is not None and found.issym():
            found = self._members.get(posixpath.normpath(f"{posixpath.dirname(name)}/{found.linkname}"))
        if found is None or not found.isreg():
            raise BadArchive(f"it has no file {name!r}, which it names")
        return found

    def _open(self, name: str) -> BufferedReader:
        found = self._archive.extractfile(self._member(name))
        assert isinstance(found, BufferedReader)  # it is a regular file
        return found

    def _read(self, name: str) -> bytes:
        if (size := self._member(name).size) > manifests.MOST_BYTES:
            raise BadArchive(f"its {name!r} has {size} bytes: at most {manifests.MOST_BYTES}")
        return self._open(name).read()


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _names(descriptor: Descriptor) -> list[Reference]:
    """A whole name if there is one; what has no repository, a bare tag, is none."""
    notes = descriptor.annotations or {}
    if whole := notes.get(WHOLE_NAME):
        return [parse(whole)]
    name = notes.get(REF_NAME, "")
    return [parse(name)] if "/" in name or ":" in name else []


def build(
    store: ContentStore, folder: Path, name: Reference, config: ImageConfig, architecture: str
) -> Reference:
    """An image of one layer, a copy of the folder. Raises BadArchive for what no layer may have, OSError."""
    with store.intake() as intake:
        try:
            with (intake.place / "layer.tar").open("w+b") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                    _pack(archive, folder)
                size = file.tell()
                file.seek(0)
                diff_id = intake.add(file)
        except (BadLayer, tarfile.TarError) as error:
            raise BadArchive(str(error)) from error
        content = manifests.written_config(config, [diff_id], architecture)
        layer = Descriptor(diff_id, size, manifests.LAYER)
        store.commit(intake, [name], manifests.written_manifest(content, [layer]), content)
    return name


def _pack(archive: tarfile.TarFile, folder: Path) -> None:
    """In one order, with numbers for owners and whole seconds: the same folder is the same layer."""
    archive.addfile(_entry(archive, folder, "."))
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted((*folders, *files)):
            path = Path(place, name)
            entry = _entry(archive, path, str(path.relative_to(folder)))
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)


def _entry(archive: tarfile.TarFile, path: Path, name: str) -> tarfile.TarInfo:
    if path.name.startswith(".wh."):
        raise BadArchive(f"{path}: a name that begins with .wh. means in a layer that something is gone")
    entry = archive.gettarinfo(path, name)
    if entry is None or entry.ischr() or entry.isblk():
        raise BadArchive(f"{path} is a device node or a socket, which no layer may have")
    entry.uname = entry.gname = ""
    entry.mtime = int(entry.mtime)
    with contextlib.suppress(OSError):  # most files have none, and some file systems have none at all
        found = os.getxattr(path, "security.capability", follow_symlinks=False)
        entry.pax_headers = {CAPABILITIES: found.decode("utf-8", "surrogateescape")}
    return entry
