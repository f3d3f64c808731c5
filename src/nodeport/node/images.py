"""What an image name stands for: the program to run and the file system it sees.

The seam for images from registries: an ``ImageStore`` that pulls and unpacks answers with the same ``Image``. The
built-in one needs no registry: its programs are those of the host, seen read-only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Mount = tuple[str, str, str]
"""(kind, target, detail) for the launcher: ro, rw and dev bind ``detail``; it is a link's text, the others' options."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ECHO_NAMES = frozenset(("nodeport/echo", "docker.io/nodeport/echo"))
ECHO_TARGET = "/run/nodeport/echo.py"
SYSTEM_DIRECTORIES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
HARMLESS_SETTINGS = (
    "alternatives", "group", "ld.so.cache", "localtime", "mime.types", "nsswitch.conf", "os-release", "passwd",
    "pki/tls/certs", "protocols", "services", "ssl/certs", "ssl/openssl.cnf", "timezone",
)  # fmt: skip
"""Under /etc; everything else there (shadow, keys, credentials) stays invisible."""
EMPTY_DIRECTORIES = ("/home", "/mnt", "/opt", "/root", "/srv", "/var/cache", "/var/lib", "/var/log")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PROTECTED = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
MASKED = ("/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug")


class ImageError(Exception):
    """The image cannot be had; the text is the container's waiting message."""


@dataclass(frozen=True, slots=True)
class Image:
    """``tells_ready`` and ``blocks_term``: what the launcher arranges for the image's own program only."""

    name: str
    image_id: str
    entrypoint: tuple[str, ...]
    path: str
    mounts: tuple[Mount, ...]
    is_echo: bool = False


class ImageStore(Protocol):
    async def pull(self, name: str) -> Image:
        """The image, fetched if it is not here; ImageError when it cannot be had."""
        ...


class BuiltinImages:
    """Knows ``nodeport/echo`` and nothing else."""

    def __init__(self) -> None:
        self._echo = _echo_image()

    async def pull(self, name: str) -> Image:
        repository, _, tag = name.partition("@")[0].partition(":")
        if repository in ECHO_NAMES and tag in ("", "latest"):
            return self._echo
        raise ImageError(
            f'Failed to pull image "{name}": this node runs only the built-in image "nodeport/echo" '
            f'(programs of the host can be run in it by "command")'
        )


def base_python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def _echo_image() -> Image:
    python = base_python()
    source = str(Path(__file__).with_name("echo.py"))
    path = DEFAULT_PATH
    mounts = [*_system_mounts(), *_kernel_mounts(), ("ro", ECHO_TARGET, source)]
    prefix = os.path.realpath(sys.base_prefix)
    if not prefix.startswith("/usr"):
        mounts.append(("ro", prefix, prefix))
        path = f"{path}:{prefix}/bin"
    return Image(
        name="docker.io/nodeport/echo:latest",
        image_id="docker.io/nodeport/echo@built-in",
        entrypoint=(python, "-I", "-S", ECHO_TARGET),
        path=path,
        mounts=tuple(mounts),
        is_echo=True,
    )


def _system_mounts() -> Iterator[Mount]:
    """Programs and libraries of the host, read-only, and of its settings those that hold no secret."""
    for directory in SYSTEM_DIRECTORIES:
        if Path(directory).is_symlink():
            yield ("link", directory, os.readlink(directory))  # noqa: PTH115 - the text itself, as it is
        elif Path(directory).is_dir():
            yield ("ro", directory, directory)
    for name in HARMLESS_SETTINGS:
        if Path("/etc", name).exists():
            yield ("ro", f"/etc/{name}", f"/etc/{name}")


def _kernel_mounts() -> Iterator[Mount]:
    yield ("tmpfs", "/tmp", "mode=1777,size=256m")
    yield ("tmpfs", "/run", "mode=0755,size=64m")
    for path in EMPTY_DIRECTORIES:
        yield ("dir", path, "")
    yield ("link", "/var/run", "../run")
    yield ("link", "/var/tmp", "../tmp")
    yield ("tmpfs", "/dev", "mode=0755,size=64k")
    for name in DEVICES:
        yield ("dev", f"/dev/{name}", f"/dev/{name}")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        yield ("link", f"/dev/{name}", f"/proc/self/fd{target}")
    yield ("tmpfs", "/dev/shm", "mode=1777,size=64m")
    yield ("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5")
    yield ("link", "/dev/ptmx", "pts/ptmx")
    yield ("proc", "/proc", "")
    for path in PROTECTED:
        yield ("protect", path, "")
    for path in MASKED:
        yield ("mask", path, "")
