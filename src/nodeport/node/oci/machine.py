"""What this machine can give its containers: rights, devices, memory. Read once, at the node's start."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodeport.api.meta import JsonObject
from nodeport.node.images.base import Image
from nodeport.node.images.unpack import OPAQUE_XATTR
from nodeport.node.oci.security import Accounts, possible_capabilities

CAP_SYS_RESOURCE = "CAP_SYS_RESOURCE"
LEAST_OOM_SCORE = -1000
_OWN_MOUNTS = frozenset(("pts", "shm", "mqueue", "console", "fd"))
"""Folders and names of /dev that a container has its own of."""


@dataclass(frozen=True, slots=True)
class Machine:
    """``least_oom_score``: only a process with CAP_SYS_RESOURCE may go below its own. ``memory``: bytes."""

    capabilities: frozenset[str]
    least_oom_score: int
    memory: int


def this_machine() -> Machine:
    status = Path("/proc/self/status").read_text().splitlines()
    bounds = next(line.split()[1] for line in status if line.startswith("CapBnd:"))
    capabilities = possible_capabilities(int(bounds, 16))
    own = int(Path("/proc/self/oom_score_adj").read_text())
    return Machine(
        capabilities,
        LEAST_OOM_SCORE if CAP_SYS_RESOURCE in capabilities else own,
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def devices(root: Path = Path("/dev")) -> tuple[JsonObject, ...]:
    """All device nodes, as the runtime takes them: what a privileged container sees."""
    return tuple(_devices(root, root))


def _devices(root: Path, folder: Path) -> Iterator[JsonObject]:
    for path in sorted(folder.iterdir()):
        if folder == root and path.name in _OWN_MOUNTS:
            continue
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            yield from _devices(root, path)
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            yield {
                "path": str(path), "type": "c" if stat.S_ISCHR(found.st_mode) else "b",
                "major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev),
                "fileMode": stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid,
            }  # fmt: skip


def accounts_of(image: Image) -> Accounts:
    return Accounts(_setting(image, "passwd"), _setting(image, "group"))


def _setting(image: Image, name: str) -> str:
    """The text of a file under /etc as the container will see it; links are not followed: they may lead out of it."""
    if seen := dict(image.binds).get(f"/etc/{name}"):
        return _text(Path(seen))
    for layer in image.layers:
        folder = layer / "etc"
        if not os.path.lexists(folder):
            continue
        if folder.is_symlink() or not folder.is_dir():
            return ""
        if os.path.lexists(folder / name):
            return _text(folder / name)
        if _is_opaque(folder):
            return ""
    return ""


def _text(path: Path) -> str:
    if path.is_file() and not (path.is_symlink() or path.parent.is_symlink()):
        return path.read_text(errors="replace")
    return ""


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, OPAQUE_XATTR, follow_symlinks=False) == b"y"
    except OSError:
        return False
