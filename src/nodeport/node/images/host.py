"""Images out of this machine: a program of it, or a folder as root, under any image name.

``NAME=PATH``. A NAME without a tag stands for every tag and digest of it. A program sees the machine's programs and
libraries (`hostview`), its own settings under ``/etc`` by its file's name, and nothing else; it is the entrypoint. A
folder is the root file system itself, with no program of its own: the container names a command. Whatever a container
writes stays its own; the machine's files are read-only to it.

``nodeport/echo`` is such a program, shipped with us.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nodeport.node.images import hostview
from nodeport.node.images.base import (
    Image,
    ImageConfig,
    ImageError,
)
from nodeport.node.images.references import NotAReference, Reference, parse

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM_FOLDER = "/opt/nodeport/bin"
"""Where a program is seen that lies outside of what is seen anyway."""
ECHO = "nodeport/echo"
ECHO_TARGET = f"{PROGRAM_FOLDER}/echo.py"
STATE_DIRECTORIES = ("/var/cache", "/var/lib", "/var/log")


class BadHostImage(Exception):
    """A mapping that cannot be; one sentence with its text and what is allowed."""


@dataclass(frozen=True, slots=True)
class HostImage:
    """One mapping. ``reference``: its name; ``is_exact``: only this tag or digest."""

    name: str
    reference: Reference
    path: Path
    is_exact: bool = False

    def __str__(self) -> str:
        return f"{self.name}={self.path}"

    def covers(self, wanted: Reference) -> bool:
        return wanted == self.reference if self.is_exact else wanted.name == self.reference.name

    def check(self) -> None:
        """Raises BadHostImage when the path is nothing that could be run."""
        path = self.path
        if not path.is_dir() and not (path.is_file() and os.access(path, os.X_OK)):
            raise BadHostImage(f"--image {self}: {path} must be a program or a folder")
        if path.resolve() == Path("/"):
            raise BadHostImage(
                f"--image {self}: the machine's own root would show its secrets; name a folder"
            )


def parse_mapping(text: str) -> HostImage:
    """``NAME=PATH`` as `nodeport up --image` takes it. Raises BadHostImage."""
    name, equals, place = text.partition("=")
    if not (equals and name and place):
        raise BadHostImage(f"--image {text!r}: must be NAME=PATH")
    try:
        reference = parse(name)
    except NotAReference as error:
        raise BadHostImage(f"--image {text!r}: {error}") from error
    last = name.rpartition("/")[2]
    return HostImage(name, reference, Path(place).absolute(), is_exact=":" in last or "@" in last)


class HostImages:
    """``folder``: where the layers are made that programs stand on."""

    def __init__(self, folder: Path, mappings: Iterable[HostImage] = ()) -> None:
        self._folder = folder
        self._mappings = tuple(mappings)
        self._made: dict[Path, tuple[tuple[int, int, int], Image]] = {}
        self._echo = self._image_of_echo()

    def find(self, wanted: Reference) -> Image | None:
        """None: no mapping has this name. Raises ImageError when what it stands for is gone."""
        for mapping in self._mappings:
            if mapping.covers(wanted):
                return replace(self._image_of(mapping), name=str(wanted))
        return replace(self._echo, name=str(wanted)) if wanted.name == f"docker.io/{ECHO}" else None

    def held(self) -> Sequence[Image]:
        found = [self._echo]
        for mapping in self._mappings:
            try:
                found.append(self._image_of(mapping))
            except ImageError:
                continue
        return found

    def _image_of(self, mapping: HostImage) -> Image:
        path = mapping.path
        try:
            seen = path.stat()
        except OSError as error:
            raise ImageError(
                f'image "{mapping.reference}" stands for {path} of this node: {error.strerror}'
            ) from error
        stamp = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
        known = self._made.get(path)
        if known is None or known[0] != stamp:
            make = _folder_image if path.is_dir() else self._program_image
            known = self._made[path] = (stamp, make(mapping.reference, path))
        return replace(known[1], name=str(mapping.reference))

    def _program_image(self, reference: Reference, path: Path) -> Image:
        program, binds = str(path), list(hostview.system_binds())
        if not hostview.is_visible(path):
            program = f"{PROGRAM_FOLDER}/{path.name}"
            binds.append((program, str(path)))
        if Path("/etc", path.name).is_dir():
            binds.append((f"/etc/{path.name}", f"/etc/{path.name}"))
        own = [f"{folder}/{path.name}" for folder in STATE_DIRECTORIES if Path(folder, path.name).is_dir()]
        return Image(
            name=str(reference), image_id=f"{reference.name}@sha256:{_digest(path)}",
            config=ImageConfig(entrypoint=(program,), env=(f"PATH={DEFAULT_PATH}:{PROGRAM_FOLDER}",)),
            layers=(hostview.ensure(self._folder, binds, own),), binds=tuple(binds), size=path.stat().st_size,
        )  # fmt: skip

    def _image_of_echo(self) -> Image:
        python, source = base_python(), Path(__file__).parent.with_name("echo.py")
        path, binds = DEFAULT_PATH, [*hostview.system_binds(), (ECHO_TARGET, str(source))]
        prefix = os.path.realpath(sys.base_prefix)
        if not hostview.is_visible(Path(prefix)):
            binds.append((prefix, prefix))
            path = f"{path}:{prefix}/bin"
        return Image(
            name=f"docker.io/{ECHO}:latest", image_id=f"docker.io/{ECHO}@sha256:{_digest(source)}",
            config=ImageConfig(entrypoint=(python, "-I", "-S", ECHO_TARGET), env=(f"PATH={path}",)),
            layers=(hostview.ensure(self._folder, binds),), binds=tuple(binds), size=source.stat().st_size,
            describes_pod=True,
        )  # fmt: skip


def base_python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def _folder_image(reference: Reference, path: Path) -> Image:
    seen = path.stat()
    stamp = hashlib.sha256(f"{path}\0{seen.st_ino}\0{seen.st_mtime_ns}".encode()).hexdigest()
    return Image(
        name=str(reference), image_id=f"{reference.name}@sha256:{stamp}",
        config=ImageConfig(env=(f"PATH={DEFAULT_PATH}",)), layers=(path,),
    )  # fmt: skip


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
