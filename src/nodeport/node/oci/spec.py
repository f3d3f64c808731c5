"""From what a container is to be to the runtime's ``config.json``. Pure.

Defaults (devices, masked and read-only paths, mounts) are those of containerd, which most clusters run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.node.images.base import Bind

OCI_VERSION = "1.0.2"
SHARED_MEMORY = 64 << 20
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
PROTECTED = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_CAPABILITY_SETS = ("bounding", "effective", "permitted")
_DENY_DEVICES = {"allow": False, "access": "rwm"}
_ALLOW_DEVICES = {"allow": True, "access": "rwm"}


@dataclass(frozen=True, slots=True)
class User:
    """Numbers only: names are looked up in the image before."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    """What runs, as whom. ``capabilities``: ``CAP_…``; ``oom_score_adj`` None: as the node's own."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: User = field(default_factory=User)
    capabilities: frozenset[str] = frozenset()
    no_new_privileges: bool = False
    tty: bool = False
    oom_score_adj: int | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount over the root: a bind unless ``kind`` says otherwise. ``options`` as the runtime takes them."""

    target: str
    source: str
    options: tuple[str, ...] = ("rbind", "rw", "rprivate")
    kind: str = "bind"


@dataclass(frozen=True, slots=True)
class Isolation:
    """``unmasked``: all of /proc and /sys as they are; ``privileged``: that and every device, writable /sys.

    ``devices``: the machine's, as the runtime takes them, for privileged containers. ``resources``: as cgroup figures.
    """

    read_only_root: bool = False
    privileged: bool = False
    unmasked: bool = False
    devices: tuple[JsonObject, ...] = ()
    resources: JsonObject = field(default_factory=dict)
    seccomp: JsonObject | None = None
    sysctls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """``namespaces``: kind (the runtime's word) to the path that is joined, "" for a new one; not named: the node's.

    ``cgroup`` is below every hierarchy's root; ``rootfs``: where the root file system is mounted; ``one_hierarchy``:
    cgroup v2.
    """

    rootfs: str
    namespaces: Mapping[str, str]
    cgroup: str
    one_hierarchy: bool = False


def config(
    process: Process,
    isolation: Isolation,
    mounts: Iterable[Mount],
    binds: Iterable[Bind],
    place: Surroundings,
) -> JsonObject:
    """The whole ``config.json``. Of two mounts on one path the later one wins; parents come before children."""
    wanted = {mount.target: mount for mount in (*base_mounts(isolation, place), *map(_shown, binds), *mounts)}
    linux: JsonObject = {
        "namespaces": _namespaces(place),
        "cgroupsPath": place.cgroup,
        "resources": _resources(isolation),
        "devices": list(isolation.devices),
        "rootfsPropagation": "rprivate",
    }
    if not (isolation.privileged or isolation.unmasked):
        linux |= {"maskedPaths": list(MASKED), "readonlyPaths": list(PROTECTED)}
    if isolation.seccomp is not None:
        linux["seccomp"] = isolation.seccomp
    if isolation.sysctls:
        linux["sysctl"] = dict(isolation.sysctls)
    return {
        "ociVersion": OCI_VERSION,
        "process": process_config(process),
        "root": {"path": place.rootfs, "readonly": isolation.read_only_root},
        "mounts": [_mount(each) for each in _parents_first(wanted.values())],
        "linux": linux,
    }


def process_config(process: Process) -> JsonObject:
    found: JsonObject = {
        "terminal": process.tty,
        "user": {"uid": process.user.uid, "gid": process.user.gid,
                 "additionalGids": list(process.user.additional_gids)},
        "args": list(process.argv),
        "env": _env([f"{name}={value}" for name, value in process.env.items()], tty=process.tty),
        "cwd": process.cwd or "/",
        "capabilities": {kind: sorted(process.capabilities) for kind in _CAPABILITY_SETS},
        "noNewPrivileges": process.no_new_privileges,
    }  # fmt: skip
    if process.oom_score_adj is not None:
        found["oomScoreAdj"] = process.oom_score_adj
    return found


def for_command(
    process: JsonObject, argv: Sequence[str], *, tty: bool, size: tuple[int, int] | None = None
) -> JsonObject:
    """The process of a command that is run beside the container's own: the same, but for what it runs.

    ``size``: columns and rows that its terminal has from the start.
    """
    command = {**process, "args": list(argv), "env": _env(process["env"], tty=tty), "terminal": tty}
    if tty and size:
        command["consoleSize"] = {"width": size[0], "height": size[1]}
    return command


def _env(variables: Sequence[str], *, tty: bool) -> list[str]:
    """A terminal has a kind."""
    has_kind = any(item.startswith("TERM=") for item in variables)
    return [*variables, "TERM=xterm"] if tty and not has_kind else list(variables)


def base_mounts(isolation: Isolation, place: Surroundings) -> list[Mount]:
    sys_mode = "rw" if isolation.privileged else "ro"
    quiet = ("nosuid", "noexec", "nodev")
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    found = [
        Mount("/proc", "proc", quiet, "proc"),
        Mount("/dev", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k"), "tmpfs"),
        Mount("/dev/pts", "devpts", pts, "devpts"),
        Mount("/dev/shm", "shm", (*quiet, "mode=1777", f"size={SHARED_MEMORY >> 10}k"), "tmpfs"),
    ]
    if "ipc" in place.namespaces:
        found.append(Mount("/dev/mqueue", "mqueue", quiet, "mqueue"))
    if "network" in place.namespaces:
        found.append(Mount("/sys", "sysfs", (*quiet, sys_mode), "sysfs"))
        found.append(Mount("/sys/fs/cgroup", "cgroup", (*quiet, "relatime", sys_mode), "cgroup"))
    else:  # a new sysfs needs a network namespace of its own
        found.append(
            Mount("/sys", "/sys", ("rbind", *quiet, "rw" if isolation.privileged else "rro", "rprivate"))
        )
    return found


def _shown(bind: Bind) -> Mount:
    """A read-only view of the machine: also of what is mounted below it."""
    target, source = bind
    return Mount(target, source, ("rbind", "rro", "nosuid", "nodev", "rprivate"))


def _mount(mount: Mount) -> JsonObject:
    return {
        "destination": mount.target, "type": mount.kind, "source": mount.source, "options": list(mount.options),
    }  # fmt: skip


def _parents_first(mounts: Iterable[Mount]) -> list[Mount]:
    return sorted(mounts, key=lambda mount: mount.target.rstrip("/").count("/"))


def _namespaces(place: Surroundings) -> list[JsonObject]:
    kinds = dict(place.namespaces) | {"mount": ""}
    if place.one_hierarchy:
        kinds["cgroup"] = ""
    return [{"type": kind, "path": path} if path else {"type": kind} for kind, path in kinds.items()]


def _resources(isolation: Isolation) -> dict[str, Any]:
    devices = _ALLOW_DEVICES if isolation.privileged else _DENY_DEVICES
    return {**isolation.resources, "devices": [devices]}
