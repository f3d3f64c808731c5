"""The machine's cgroups, both versions: those of our containers are below one folder per cluster in each hierarchy.

The folder is also how everything of a cluster is found and ended when its files are lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "nodeport."
_TRIES, _PAUSE = 400, 0.005


def is_unified(root: Path = ROOT) -> bool:
    """Whether there is one hierarchy for all controllers (cgroup v2)."""
    return (root / "cgroup.controllers").exists()


def hierarchies(root: Path = ROOT) -> list[Path]:
    """The mounted hierarchies: one with v2, one per controller with v1."""
    if is_unified(root):
        return [root]
    return sorted(
        path for path in root.glob("*") if (path / "cgroup.procs").exists() and not path.is_symlink()
    )


def of_cluster(cluster: str) -> str:
    """Below every hierarchy's root."""
    return f"/{PREFIX}{cluster}"


def of_container(cluster: str, container_id: str) -> str:
    return f"{of_cluster(cluster)}/{container_id}"


def processes_below(cluster: str, root: Path = ROOT) -> set[int]:
    """The cluster's processes; groups may go while they are looked through."""
    found: set[int] = set()
    for hierarchy in hierarchies(root):
        for group, _, _ in os.walk(_folder(hierarchy, cluster)):
            with contextlib.suppress(OSError):
                found |= {int(word) for word in Path(group, "cgroup.procs").read_text().split()}
    return found - {0}


def kill_below(cluster: str, root: Path = ROOT) -> int:
    """SIGKILL to every process of the cluster's containers, until none is left; how many there were at first."""
    first = -1
    for _ in range(_TRIES):
        found = processes_below(cluster, root)
        first = len(found) if first < 0 else first
        if not found:
            break
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE)
    return first


def set_frozen(group: str, *, frozen: bool, root: Path = ROOT) -> None:
    """Freeze a container's processes, or let them go on; nothing when it has none."""
    if is_unified(root):
        file, word = root / group.lstrip("/") / "cgroup.freeze", "1" if frozen else "0"
    else:
        file, word = root / "freezer" / group.lstrip("/") / "freezer.state", "FROZEN" if frozen else "THAWED"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        file.write_text(word)


def memory_usage(group: str, root: Path = ROOT) -> int:
    """What a container's processes have, in bytes; 0 when nobody counts."""
    if is_unified(root):
        file = root / group.lstrip("/") / "memory.current"
    else:
        file = root / "memory" / group.lstrip("/") / "memory.usage_in_bytes"
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def thaw_below(cluster: str, root: Path = ROOT) -> None:
    """Frozen processes cannot even be killed with cgroups of the first version."""
    for hierarchy in hierarchies(root):
        _, groups, _ = next(os.walk(_folder(hierarchy, cluster)), ("", [], []))
        for name in groups:
            set_frozen(f"{of_cluster(cluster)}/{name}", frozen=False, root=root)


def remove_below(cluster: str, root: Path = ROOT) -> None:
    """Forget the cluster's cgroups. The kernel needs a moment for those just left."""
    for hierarchy in hierarchies(root):
        for group, _, _ in os.walk(_folder(hierarchy, cluster), topdown=False):
            _remove(Path(group))


def _remove(folder: Path) -> None:
    for _ in range(_TRIES):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(_PAUSE)
        else:
            return


def _folder(hierarchy: Path, cluster: str) -> Path:
    return hierarchy / of_cluster(cluster).lstrip("/")
