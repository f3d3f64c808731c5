"""Documents of images: indexes, manifests, configurations; what they must say, and nothing else of them. Pure.

Sources: https://github.com/opencontainers/image-spec (image-index.md, manifest.md, config.md, descriptor.md) and
Docker's image manifest version 2, schema 2, which has the same members.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from nodeport.node.images.base import ImageConfig

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED = (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
MOST_BYTES = 4 * 1024 * 1024
"""Of a document; the distribution specification lets registries refuse longer manifests."""
MOST_LAYERS = 127
_ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "riscv64": "riscv64", "ppc64le": "ppc64le",
    "s390x": "s390x",
}  # fmt: skip

Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]


class BadManifest(ValueError):
    """A document that describes no image that could be had; one sentence."""


class Platform(Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class Descriptor(Struct, frozen=True):
    """``size``: bytes. ``annotations``: of an archive's index, where names are."""

    digest: Digest
    size: Annotated[int, Meta(ge=0)]
    media_type: str = field(name="mediaType", default="")
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class Manifest(Struct, frozen=True):
    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], Meta(max_length=MOST_LAYERS)]


class Index(Struct, frozen=True):
    manifests: tuple[Descriptor, ...]


class _Kind(Struct):
    schema: int = field(name="schemaVersion", default=2)
    manifests: msgspec.Raw = msgspec.Raw()


class _Wishes(Struct, rename="pascal"):
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    working_dir: str | None = None
    user: str | None = None
    stop_signal: str | None = None


class _RootFs(Struct):
    diff_ids: tuple[Digest, ...]


class Configuration(Struct, frozen=True):
    """``diff_ids``: the digests of the layers' bare tars, the lowest first."""

    rootfs: _RootFs
    architecture: str = ""
    os: str = ""
    config: _Wishes | None = None

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return self.rootfs.diff_ids

    def wishes(self) -> ImageConfig:
        found = self.config or _Wishes()
        return ImageConfig(
            entrypoint=found.entrypoint or (), command=found.cmd or (), env=found.env or (),
            working_dir=found.working_dir or "", user=found.user or "", stop_signal=found.stop_signal or "",
        )  # fmt: skip


class _SavedImage(Struct, rename="pascal"):
    config: str
    layers: Annotated[tuple[str, ...], Meta(max_length=MOST_LAYERS)]
    repo_tags: tuple[str, ...] | None = None


Document = TypeVar("Document")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse(content: bytes) -> Manifest | Index:
    """Raises BadManifest."""
    kind = _decoded(content, _Kind, "manifest")
    if kind.schema != 2:
        raise BadManifest(f"its manifest has schemaVersion {kind.schema}: only 2 is read")
    if not bytes(kind.manifests):
        return _decoded(content, Manifest, "manifest")
    return _decoded(content, Index, "index")


def parse_manifest(content: bytes) -> Manifest:
    """Raises BadManifest, for an index too."""
    found = parse(content)
    if isinstance(found, Index):
        raise BadManifest("an index stands where a manifest must be")
    return found


def parse_config(content: bytes, manifest: Manifest) -> Configuration:
    """Raises BadManifest, also when it is none of the manifest's."""
    found = _decoded(content, Configuration, "configuration")
    if len(found.diff_ids) != len(manifest.layers):
        raise BadManifest(
            f"its configuration names {len(found.diff_ids)} layers, its manifest {len(manifest.layers)}"
        )
    return found


def parse_saved(content: bytes) -> list[_SavedImage]:
    """``manifest.json`` of what `docker save` writes. Raises BadManifest."""
    return _decoded(content, list[_SavedImage], "manifest.json")


def for_machine(index: Index, architecture: str) -> list[Descriptor]:
    """What there is for Linux on this architecture (Go's name), or for any. Raises BadManifest when there is none."""
    wanted = (None, Platform(architecture, "linux"))
    if found := [each for each in index.manifests if each.platform in wanted]:
        return found
    there = sorted({f"{p.os}/{p.architecture}" for each in index.manifests if (p := each.platform)})
    raise BadManifest(
        f"no match for platform in manifest: linux/{architecture} is not among {', '.join(there) or 'nothing'}"
    )


def architecture_of(machine: str) -> str:
    """Go's name of what `uname -m` says."""
    return _ARCHITECTURES.get(machine, machine)


def check_platform(configuration: Configuration, architecture: str) -> None:
    """Raises BadManifest when the image is for other machines; what says nothing is for all."""
    if configuration.os not in ("", "linux") or configuration.architecture not in ("", architecture):
        raise BadManifest(
            f"it is for {configuration.os}/{configuration.architecture}, this machine is linux/{architecture}"
        )


def written_config(wishes: ImageConfig, diff_ids: Sequence[str], architecture: str) -> bytes:
    members = {
        "Entrypoint": list(wishes.entrypoint), "Cmd": list(wishes.command), "Env": list(wishes.env),
        "WorkingDir": wishes.working_dir, "User": wishes.user, "StopSignal": wishes.stop_signal,
    }  # fmt: skip
    return json.dumps({
        "architecture": architecture, "os": "linux",
        "config": {name: value for name, value in members.items() if value},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }).encode()  # fmt: skip


def written_manifest(config: bytes, layers: Sequence[Descriptor]) -> bytes:
    own = {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)}
    return json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": own,
        "layers": [{"mediaType": each.media_type, "digest": each.digest, "size": each.size} for each in layers],
    }).encode()  # fmt: skip


def _decoded(content: bytes, kind: type[Document], what: str) -> Document:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadManifest(f"its {what} cannot be read: {error}") from error
