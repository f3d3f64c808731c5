"""Takes a local cluster away, whatever is left of it: also after a kill -9 of any part and with files missing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
from pathlib import Path

from nodeport.node import network, processes
from nodeport.node.local import PARTS, Paths
from nodeport.node.oci import cgroups

END_PATIENCE = 3.0
_MNT_DETACH = 2


def remove(paths: Paths) -> list[str]:
    """Ends and removes all of it; returns what was there, in words."""
    found = []
    parts = [part for name in PARTS if (part := processes.living(paths.pid(name)))]
    others = [process for process in processes.of_cluster(paths.name) if process not in parts]
    daemons = [*parts, *(process for process in others if not _is_launcher(process.pid))]
    processes.end(daemons, END_PATIENCE)
    cgroups.thaw_below(paths.name)
    # killed, not asked, since nobody is left to wait for grace periods; containers are found by their cgroups
    containers = [process for process in processes.of_cluster(paths.name) if process not in daemons]
    for process in containers:
        process.send(signal.SIGKILL)
    processes.wait_for_end(containers, END_PATIENCE)
    cgroups.kill_below(paths.name)
    cgroups.remove_below(paths.name)
    if daemons or containers:
        found.append(f"{len(daemons)} processes, {len(containers)} containers")
    if removed := network.remove_cluster(paths.name):
        found.append(f"{len(removed)} namespaces and links")
    _unmount_below(paths.run)
    for directory, root in ((paths.run, paths.run_root), (paths.data, paths.data_root)):
        if directory.exists():
            found.append(str(directory))
            shutil.rmtree(directory)
        with contextlib.suppress(OSError):
            root.rmdir()  # the last cluster takes the empty root along
    return found


def _is_launcher(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "launcher\n"
    except OSError:
        return False


def _unmount_below(directory: Path) -> None:
    """The namespaces of pods are mounts below the run directory."""
    prefix = f"{directory}/"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [point for line in lines if (point := line.split(" ")[4]).startswith(prefix)]
    libc = ctypes.CDLL(None, use_errno=True)
    for point in reversed(points):
        libc.umount2(os.fsencode(point), _MNT_DETACH)
