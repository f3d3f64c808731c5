"""What a program of this machine needs to see of it: a root file system of links and mount points, and what is bound
over it. The programs and libraries of the machine are seen read-only; of its settings only those that hold no secret.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from nodeport.node.images.base import Bind

SYSTEM_DIRECTORIES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
HARMLESS_SETTINGS = (
    "alternatives", "group", "ld.so.cache", "localtime", "mime.types", "nsswitch.conf", "os-release", "passwd",
    "pki/tls/certs", "protocols", "services", "ssl/certs", "ssl/openssl.cnf", "timezone",
)  # fmt: skip
"""Under /etc; everything else there (shadow, keys, credentials) stays invisible."""
EMPTY_DIRECTORIES = (
    "/dev", "/home", "/mnt", "/opt", "/proc", "/root", "/run", "/srv", "/sys", "/var/cache", "/var/lib", "/var/log",
)  # fmt: skip
OPEN_DIRECTORIES = ("/tmp", "/var/tmp")
EMPTY_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
_LAYOUT = 1
"""Counts the changes of what `build` makes."""


def system_binds() -> Iterator[Bind]:
    for directory in SYSTEM_DIRECTORIES:
        if Path(directory).is_dir() and not Path(directory).is_symlink():
            yield (directory, directory)
    for name in HARMLESS_SETTINGS:
        if Path("/etc", name).exists():
            yield (f"/etc/{name}", f"/etc/{name}")


def is_visible(path: Path) -> bool:
    """Whether a program sees the path anyway."""
    return any(path.is_relative_to(directory) for directory in SYSTEM_DIRECTORIES)


def ensure(folder: Path, binds: Sequence[Bind], directories: Sequence[str] = ()) -> Path:
    """The layer below ``binds``, made in ``folder`` if it is not there: a folder that is whole once it has its name."""
    links = [(path, os.readlink(path)) for path in SYSTEM_DIRECTORIES if Path(path).is_symlink()]  # noqa: PTH115
    text = repr((_LAYOUT, links, sorted(binds), sorted(directories)))
    layer = folder / hashlib.blake2s(text.encode(), digest_size=8).hexdigest()
    if layer.is_dir():
        return layer
    scratch = layer.with_name(f".{layer.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    _build(scratch, links, binds, directories)
    try:
        scratch.rename(layer)
    except OSError:  # somebody else was quicker
        shutil.rmtree(scratch)
    return layer


def _build(
    root: Path, links: Sequence[tuple[str, str]], binds: Sequence[Bind], directories: Sequence[str]
) -> None:
    root.mkdir(mode=0o755, parents=True)
    for path in (*EMPTY_DIRECTORIES, *directories):
        _inside(root, path).mkdir(mode=0o755, parents=True, exist_ok=True)
    for path in OPEN_DIRECTORIES:
        _inside(root, path).mkdir(parents=True, exist_ok=True)
        _inside(root, path).chmod(0o1777)
    _inside(root, "/root").chmod(0o700)
    _inside(root, "/var/run").symlink_to("../run")
    for path, text in links:
        _inside(root, path).symlink_to(text)
    for path in EMPTY_FILES:
        _touch(_inside(root, path))
    for path, source in binds:
        target = _inside(root, path)
        if Path(source).is_dir():
            target.mkdir(mode=0o755, parents=True, exist_ok=True)
        else:
            _touch(target)


def _touch(path: Path) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.touch(mode=0o644)


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
