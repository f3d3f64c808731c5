"""Images that were loaded, built or pulled: names, the documents behind them, and their layers.

::

    FOLDER/images.json          name -> digests of what was named and of its manifest; replaced at once
    FOLDER/blobs/sha256/HEX     manifests and configurations, by their content
    FOLDER/layers, scratch      see `layers`

An image is there once its name is in ``images.json``, which is written last: whatever ends a pull before that leaves
nothing but whole layers, which the next pull finds and the next change of any name clears away. Several processes may
use one folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nodeport.node.images.base import Image, ImageConfig, ImageError
from nodeport.node.images.layers import Intake, Layers
from nodeport.node.images.manifests import BadManifest, digest_of, parse_config, parse_manifest
from nodeport.node.images.references import Reference, parse

_log = logging.getLogger(__name__)


class Record(msgspec.Struct, frozen=True):
    """``digest``: what the name stood for where it came from, which may be an index; ``manifest``: this machine's."""

    digest: str
    manifest: str


@dataclass(frozen=True, slots=True)
class StoredImage:
    """``size``: bytes of its layers as they came. ``diff_ids``: the lowest first."""

    reference: Reference
    record: Record
    config_digest: str
    config: ImageConfig
    diff_ids: tuple[str, ...]
    size: int


class ContentStore:
    """All calls block, for moments, but what fills an intake."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names, self._blobs = folder / "images.json", folder / "blobs" / "sha256"
        self._layers = Layers(folder)
        self._seen: tuple[int, int, int] | None = None
        self._images: dict[str, StoredImage] = {}

    def images(self) -> Sequence[StoredImage]:
        """All that are whole, by name."""
        self._refresh()
        return [self._images[name] for name in sorted(self._images)]

    def held(self) -> Sequence[Image]:
        return [self.image(each) for each in self.images()]

    def find(self, wanted: Reference) -> StoredImage | None:
        """By name and tag; by digest when there is one, whatever the tag."""
        self._refresh()
        if not wanted.digest:
            found = self._images.get(str(wanted))
            return found if found and self._is_whole(found) else None
        for each in self._images.values():
            digests = (each.record.digest, each.record.manifest)
            if each.reference.name == wanted.name and wanted.digest in digests and self._is_whole(each):
                return each
        return None

    def image(self, stored: StoredImage) -> Image:
        topmost_first = dict.fromkeys(reversed(stored.diff_ids))  # what comes again above hides itself below
        return Image(
            name=str(stored.reference), image_id=f"{stored.reference.name}@{stored.record.digest}",
            config=stored.config, size=stored.size,
            layers=tuple(self._layers.path(each) for each in topmost_first),
        )  # fmt: skip

    def missing(self, diff_ids: Iterable[str]) -> set[str]:
        return {each for each in diff_ids if not self._layers.has(each)}

    @contextlib.contextmanager
    def intake(self, diff_ids: Iterable[str] = ()) -> Iterator[Intake]:
        with self._layers.intake(diff_ids) as intake:
            yield intake

    def commit(
        self,
        intake: Intake,
        references: Iterable[Reference],
        manifest: bytes,
        config: bytes,
        digest: str = "",
    ) -> None:
        """Name what the intake brought. ``digest``: of an index that the manifest was chosen from. Raises BadManifest
        when it does not fit together, OSError when the disk is full: no name has changed then."""
        record = Record(digest or digest_of(manifest), digest_of(manifest))
        found = parse_manifest(manifest)
        if found.config.digest != digest_of(config):
            raise BadManifest("its configuration is not the one that its manifest names")
        if self.missing(parse_config(config, found).diff_ids):
            raise BadManifest("layers of it are missing")
        with self._layers.locked():
            for folder in (self._blobs.parent, self._blobs):
                folder.mkdir(mode=0o700, exist_ok=True)
            for content in (config, manifest):
                self._write(intake.place, self._blob(digest_of(content)), content)
            names = {**self._read_names(), **{str(each): record for each in references}}
            self._write_names(intake.place, names)
            self._collect(names)

    def remove(self, reference: Reference) -> int:
        """Forget a name, and what no other name has; returns how many layers stay until their containers end.

        Raises KeyError when there is no such name.
        """
        with self._layers.intake() as intake, self._layers.locked():
            names = self._read_names()
            del names[str(reference)]
            self._write_names(intake.place, names)
            return self._collect(names)

    def _collect(self, names: dict[str, Record]) -> int:
        known = [self._load(name, record) for name, record in names.items()]
        there = [each for each in known if each is not None]
        blobs = {digest for each in there for digest in (each.record.manifest, each.config_digest)}
        for path in self._blobs.iterdir() if self._blobs.is_dir() else ():
            if f"sha256:{path.name}" not in blobs:
                path.unlink()
        return self._layers.collect(diff_id for each in there for diff_id in each.diff_ids)

    # --- files

    def _refresh(self) -> None:
        """Another process may have changed the names."""
        try:
            found = self._names.stat()
        except FileNotFoundError:
            self._seen, self._images = None, {}
            return
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp == self._seen:
            return
        try:
            names = self._read_names()
        except ImageError as error:  # the node goes on with what else it has
            _log.warning("%s", error)
            names = {}
        loaded = {name: self._load(name, record) for name, record in names.items()}
        self._images = {name: each for name, each in loaded.items() if each is not None}
        self._seen = stamp

    def _load(self, name: str, record: Record) -> StoredImage | None:
        """None for what is damaged: it counts as not there, and may be had again."""
        try:
            manifest = parse_manifest(self._blob(record.manifest).read_bytes())
            config = parse_config(self._blob(manifest.config.digest).read_bytes(), manifest)
            return StoredImage(
                parse(name), record, manifest.config.digest, config.wishes(), config.diff_ids,
                sum(each.size for each in manifest.layers),
            )  # fmt: skip
        except (OSError, ValueError) as error:
            _log.warning("image %s is damaged: %s", name, error)
            return None

    def _is_whole(self, stored: StoredImage) -> bool:
        return not self.missing(stored.diff_ids)

    def _blob(self, digest: str) -> Path:
        return self._blobs / digest.removeprefix("sha256:")

    def _read_names(self) -> dict[str, Record]:
        try:
            return msgspec.json.decode(self._names.read_bytes(), type=dict[str, Record])
        except FileNotFoundError:
            return {}
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ImageError(f"{self._names} is broken: {error}") from error

    def _write_names(self, scratch: Path, names: dict[str, Record]) -> None:
        self._write(scratch, self._names, msgspec.json.format(msgspec.json.encode(names), indent=2))

    def _write(self, scratch: Path, target: Path, content: bytes) -> None:
        """Whole, on disk and readable by root only, or not at all."""
        file = os.open(scratch / target.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(file)
        (scratch / target.name).replace(target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def content_store(folder: Path) -> ContentStore:
    """The store of a cluster whose images are in ``folder``."""
    return ContentStore(folder / "content")
