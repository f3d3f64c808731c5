"""Writes all files of a volume at once: whoever reads sees the old ones or the new ones, never some of each.

The files are in a folder of their own, ``..data`` is a link to it, and each name at the top is a link through
``..data``; a change makes a new folder and moves ``..data``. The layout is Kubernetes', which programs that watch for
changes know.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from nodeport.node.volumes.payload import Payload

DATA = "..data"
GROUP_READ, FOLDER_GROUP_READ = 0o440, 0o2550


def write(folder: Path, wanted: Payload, group: int | None = None) -> bool:
    """Bring ``folder`` to what is wanted; whether anything changed. ``group``: whose all of it is, and may read."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    current = folder / DATA
    if current.is_symlink() and _is_there(current, wanted, group):
        return False
    before = current.readlink().name if current.is_symlink() else None
    fresh = folder / f"..{secrets.token_hex(8)}"
    fresh.mkdir(mode=0o755)
    try:
        _fill(fresh, wanted, group)
        if group is not None:
            _give(group, [folder, fresh, *(path for path in fresh.rglob("*") if path.is_dir())])
        link = folder / f"{DATA}_tmp"
        link.unlink(missing_ok=True)
        link.symlink_to(fresh.name)
        link.rename(current)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    _link_names(folder, {path.partition("/")[0] for path in wanted})
    if before:
        shutil.rmtree(folder / before, ignore_errors=True)
    return True


def _fill(folder: Path, wanted: Payload, group: int | None) -> None:
    for path, file in wanted.items():
        target = folder / path
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(file.content)
            os.fchown(descriptor, -1 if file.owner is None else file.owner, -1 if group is None else group)
            os.fchmod(descriptor, _mode(file.mode, group))


def _give(group: int, folders: Iterable[Path]) -> None:
    """What is made in them is the group's, too: links as well as folders."""
    for folder in folders:
        os.chown(folder, -1, group)
        folder.chmod(folder.stat().st_mode & 0o7777 | FOLDER_GROUP_READ)


def _mode(mode: int, group: int | None) -> int:
    return mode if group is None else mode | GROUP_READ


def _is_there(current: Path, wanted: Payload, group: int | None) -> bool:
    found = {
        str(path.relative_to(current))
        for path in current.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }
    if found != set(wanted):
        return False
    return all(
        (current / path).read_bytes() == file.content
        and (current / path).stat().st_mode & 0o7777 == _mode(file.mode, group)
        for path, file in wanted.items()
    )


def _link_names(folder: Path, names: set[str]) -> None:
    for path in folder.iterdir():
        if not path.name.startswith("..") and path.name not in names:
            path.unlink()
    for name in names:
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(f"{DATA}/{name}")
