"""A pod's volumes on this machine: made, kept up to date, seen by containers, and removed.

What is made of API objects, and memory, is below the pod's run directory; what containers write is in its storage.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity
from nodeport.node import namespaces
from nodeport.node.environment import ConfigError, PodFacts, expand, references
from nodeport.node.oci.spec import Mount
from nodeport.node.sandbox import Sandbox
from nodeport.node.volumes import atomic, hostpaths, payload
from nodeport.node.volumes.payload import MADE_OF_OBJECTS, Payload, TokenKey

PROPAGATION = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared", "": "rprivate"}
READ_ONLY_KINDS = frozenset(MADE_OF_OBJECTS)
FOLDER_GROUP_BITS = 0o2770
INHERITED = 0o2777
"""Of a volume's mode, what a folder for a ``subPath`` gets: with setgid, what comes into it is the pod's group's."""
_SYS_OPENAT2, _RESOLVE_BENEATH = 437, 0x08


class PodVolumes:
    """Folders by volume. ``ensure`` before the first container, and again when something may have changed."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._made_of_objects = sandbox.directory / "volumes"
        self._views = sandbox.directory / "subpaths"
        self._storage = sandbox.storage_directory / "volumes"
        self._where: dict[str, Path] = {}
        self._written: dict[str, Payload] = {}
        """What is there since we came: most looks find nothing to do, and need not ask the disk."""

    def ensure(self, facts: PodFacts, tokens: Mapping[TokenKey, str]) -> None:
        """Raises ConfigError, OSError; the text names the volume."""
        for volume in facts.pod["spec"].get("volumes") or ():
            try:
                self._where[volume["name"]] = self._ensure(volume, facts, tokens)
            except (ConfigError, OSError) as error:
                raise ConfigError(
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                ) from error

    def _ensure(self, volume: Mapping[str, Any], facts: PodFacts, tokens: Mapping[TokenKey, str]) -> Path:
        name = str(volume["name"])
        group = (facts.pod["spec"].get("securityContext") or {}).get("fsGroup")
        if (empty := volume.get("emptyDir")) is not None:
            return self._empty(name, empty, group)
        if (host := volume.get("hostPath")) is not None:
            return hostpaths.ensure(Path(host["path"]), host.get("type") or "")
        if any(kind in volume for kind in MADE_OF_OBJECTS):
            folder, wanted = self._made_of_objects / name, payload.payload(volume, facts, tokens)
            if self._written.get(name) != wanted:
                atomic.write(folder, wanted, group)
                self._written[name] = wanted
            return folder
        kind = next((key for key in volume if key != "name"), "nothing")
        raise ConfigError(f"volumes of type {kind} are not supported by this node")

    def _empty(self, name: str, spec: Mapping[str, Any], group: int | None) -> Path:
        in_memory = spec.get("medium") == "Memory"
        if spec.get("medium") not in (None, "", "Memory"):
            raise ConfigError(
                f"medium {spec['medium']!r} is not supported by this node: must be '' or 'Memory'"
            )
        folder = (self._made_of_objects if in_memory else self._storage) / name
        if folder.is_mount() if in_memory else folder.exists():
            return folder
        folder.mkdir(mode=0o777, parents=True, exist_ok=True)
        if in_memory:
            size = f",size={int(parse_quantity(str(spec['sizeLimit'])))}" if spec.get("sizeLimit") else ""
            namespaces.mount("tmpfs", folder, "tmpfs", f"mode=0777{size}")
        os.chown(folder, -1, -1 if group is None else group)
        folder.chmod(0o777 if group is None else 0o777 | FOLDER_GROUP_BITS)
        return folder

    def mounts(
        self, container: Mapping[str, Any], facts: PodFacts, variables: Mapping[str, str]
    ) -> tuple[Mount, ...]:
        """What the container sees. Raises ConfigError, OSError."""
        views = self._views / container["name"]
        _remove_mounts(views)
        return tuple(self._mounts(container, facts, variables, views))

    def _mounts(
        self, container: Mapping[str, Any], facts: PodFacts, variables: Mapping[str, str], views: Path
    ) -> Iterator[Mount]:
        kinds = {volume["name"]: volume for volume in facts.pod["spec"].get("volumes") or ()}
        for number, wanted in enumerate(container.get("volumeMounts") or ()):
            source = self._where.get(wanted["name"])
            if source is None:
                raise ConfigError(f'no volume named "{wanted["name"]}"')
            if inside := inner_path(wanted, variables):
                source = _view(source, inside, views / str(number))
            fixed = wanted.get("readOnly") or READ_ONLY_KINDS & kinds[wanted["name"]].keys()
            recursive = wanted.get("recursiveReadOnly") not in (None, "", "Disabled")
            mode = ("rro" if recursive else "ro") if fixed else "rw"
            spread = PROPAGATION[wanted.get("mountPropagation") or ""]
            yield Mount(wanted["mountPath"], str(source), ("rbind", mode, spread))


def inner_path(wanted: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """Which part of its volume a mount wants, "" for all of it. Raises ConfigError when that lies anywhere else."""
    expression = wanted.get("subPathExpr") or ""
    if missing := sorted({name for name in references(expression) if not variables.get(name)}):
        raise ConfigError(f"missing value for {', '.join(missing)}")
    inside = str(wanted.get("subPath") or expand(expression, variables))
    if inside.startswith("/"):
        raise ConfigError(f"error SubPath `{inside}` must not be an absolute path")
    if ".." in inside.split("/"):
        raise ConfigError(f"unable to provision SubPath `{inside}`: must not contain '..'")
    return inside


def changes(pod: JsonObject) -> bool:
    """Whether the pod has volumes that follow something."""
    volumes = pod["spec"].get("volumes") or ()
    return any(READ_ONLY_KINDS & volume.keys() for volume in volumes)


def _remove_mounts(views: Path) -> None:
    for view in views.glob("*"):
        namespaces.unmount(view)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(views)


def _view(volume: Path, inside: str, view: Path) -> Path:
    """A mount of a part of a volume on ``view``: nothing that a container does to the volume can lead it out of there.

    A part that is missing becomes a folder. Raises ConfigError when the path leads out of the volume.
    """
    root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        part = _open_part(root, inside)
        try:
            if os.path.isdir(f"/proc/self/fd/{part}"):  # noqa: PTH112 - a descriptor
                view.mkdir(mode=0o700, parents=True)
            else:
                view.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                view.touch(mode=0o600)
            namespaces.bind(Path(f"/proc/self/fd/{part}"), view)
        finally:
            os.close(part)
    finally:
        os.close(root)
    return view


def _open_part(root: int, inside: str) -> int:
    """A descriptor of what is there, folders on the way made where they are missing, as open as the volume is."""
    mode = os.fstat(root).st_mode & INHERITED
    parts = [part for part in inside.split("/") if part not in ("", ".")]
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        try:
            found = _open_beneath(root, path)
        except FileNotFoundError:
            parent = _open_beneath(root, "/".join(parts[: depth - 1]) or ".")
            try:
                os.mkdir(parts[depth - 1], 0o750, dir_fd=parent)
                os.chmod(parts[depth - 1], mode, dir_fd=parent)
            finally:
                os.close(parent)
            found = _open_beneath(root, path)
        if depth == len(parts):
            return found
        os.close(found)
    return _open_beneath(root, ".")


class _How(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def _open_beneath(root: int, path: str) -> int:
    how = _How(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_BENEATH)
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(_SYS_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
    if found >= 0:
        return int(found)
    number = ctypes.get_errno()
    if number in (errno.EXDEV, errno.ELOOP):
        raise ConfigError(f"subPath {path!r} leaves its volume")
    raise OSError(number, os.strerror(number), path)
