"""A hostPath volume: whether what is there is of the type that was asked for, and making what may be made."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from nodeport.node.environment import ConfigError

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def ensure(path: Path, kind: str) -> Path:
    """Raises ConfigError. A path of no type that is not there becomes a folder, as container engines make it."""
    if kind and kind not in _CHECKS:
        raise ConfigError(f"hostPath type check failed: {kind} is no type of a hostPath volume")
    if not path.exists():
        if kind == "FileOrCreate":
            path.touch(mode=0o644)
        elif kind in ("", "DirectoryOrCreate"):
            path.mkdir(mode=0o755, parents=True)
    if kind:
        is_it, word = _CHECKS[kind]
        if not path.exists() or not is_it(path.stat().st_mode):
            raise ConfigError(f"hostPath type check failed: {path} is not {word}")
    return path
