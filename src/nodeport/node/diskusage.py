"""How much of the disk pods take, and how much of it is left."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from nodeport.node.eviction import Level, PodUsage
from nodeport.node.sandbox import Sandbox

BLOCK = 512


def taken(folder: Path) -> int:
    """Bytes of all below a folder, a file with several names once; what vanishes meanwhile is not there."""
    total, seen, left = 0, set[int](), [os.fspath(folder)]
    while left:
        with suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    stat = entry.stat(follow_symlinks=False)
                    if stat.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if stat.st_ino in seen:
                            continue
                        seen.add(stat.st_ino)
                    total += stat.st_blocks * BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
    return total


def of_pod(sandbox: Sandbox) -> PodUsage:
    """What its containers wrote and said, and its volumes on disk."""
    storage = sandbox.storage_directory
    containers = {
        one.name: 0 for folder in (storage / "containers", sandbox.log_directory) for one in _inside(folder)
    }
    for name in containers:
        layers = (run / "upper" for run in _inside(storage / "containers" / name))
        containers[name] = sum(map(taken, layers)) + taken(sandbox.log_directory / name)
    return PodUsage(containers, {one.name: taken(one) for one in _inside(storage / "volumes")})


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def levels(node: Path, images: Path) -> dict[str, Level]:
    """What is left where the node's pods write, and where its images are, by a kubelet's names for it."""
    found = {}
    for name, folder in (("nodefs", node), ("imagefs", images)):
        with suppress(OSError):
            stat = os.statvfs(folder)
            found[f"{name}.available"] = Level(stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize)
            if stat.f_files:
                found[f"{name}.inodesFree"] = Level(stat.f_favail, stat.f_files)
    return found
