"""Named kernel namespaces: made, kept and removed as bind mounts, the way ``ip netns`` does it.

All calls are synchronous and come back to the caller's own namespaces before they return, so that no other task of
the loop can run in the wrong one. Call them in the main thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NETNS_ROOT = Path("/run/netns")
"""Where ``ip netns`` looks."""

CLONE_NEWNET, CLONE_NEWUTS, CLONE_NEWIPC = 0x40000000, 0x04000000, 0x08000000
KINDS = {"net": CLONE_NEWNET, "uts": CLONE_NEWUTS, "ipc": CLONE_NEWIPC}
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_SHARED = 2, 4, 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2


@dataclass(frozen=True, slots=True)
class NamespaceFile:
    """A namespace of one kind (``net``, ``uts``, ``ipc``) kept alive by a bind mount on ``path``."""

    kind: str
    path: Path


def exists(path: Path) -> bool:
    """Whether ``path`` holds a live namespace, not just the empty file that a reboot or a crash leaves."""
    try:
        return path.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except OSError:
        return False


def prepare_netns_root() -> None:
    """Make /run/netns a shared mount, so that a namespace's removal reaches every mount namespace (as ``ip`` does)."""
    NETNS_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        _mount("", str(NETNS_ROOT), _MS_SHARED | _MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _mount(str(NETNS_ROOT), str(NETNS_ROOT), _MS_BIND | _MS_REC)
        _mount("", str(NETNS_ROOT), _MS_SHARED | _MS_REC)


def create(files: Sequence[NamespaceFile], set_up: Callable[[], None]) -> None:
    """Make new namespaces, call ``set_up`` inside them, and keep them at their paths.

    Raises OSError (no CAP_SYS_ADMIN, no space); what was made until then is removed.
    """
    with _coming_back([file.kind for file in files]):
        flags = 0
        for file in files:
            flags |= KINDS[file.kind]
        _check(_libc().unshare(flags), "unshare")
        try:
            set_up()
            for file in files:
                _keep(file)
        except BaseException:
            for file in files:
                remove(file.path)
            raise


def _keep(file: NamespaceFile) -> None:
    remove(file.path)
    os.close(os.open(file.path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600))
    _mount(f"/proc/thread-self/ns/{file.kind}", str(file.path), _MS_BIND)


def remove(path: Path) -> bool:
    """Forget the namespace; the kernel ends it with its last process and socket. False: there was nothing."""
    unmount(path)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


@contextmanager
def entered(files: Sequence[NamespaceFile]) -> Iterator[None]:
    """Work inside existing namespaces; what is started or opened meanwhile belongs to them."""
    with _coming_back([file.kind for file in files]):
        for file in files:
            descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _check(_libc().setns(descriptor, KINDS[file.kind]), str(file.path))
            finally:
                os.close(descriptor)
        yield


@contextmanager
def _coming_back(kinds: Sequence[str]) -> Iterator[None]:
    own = [(kind, os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)) for kind in kinds]
    try:
        yield
    finally:
        for kind, descriptor in own:
            if _libc().setns(descriptor, KINDS[kind]) != 0:
                raise SystemExit(f"cannot return to our own {kind} namespace")
            os.close(descriptor)


def mount(source: str, target: Path, kind: str, options: str) -> None:
    """A new file system, without devices and setuid programs. Raises OSError."""
    arguments = (
        os.fsencode(source),
        os.fsencode(target),
        kind.encode(),
        _MS_NOSUID | _MS_NODEV,
        options.encode(),
    )
    _check(_libc().mount(*arguments), str(target))


def bind(source: Path, target: Path) -> None:
    """The same folder or file, and what is mounted below it, at another place. Raises OSError."""
    _mount(str(source), str(target), _MS_BIND | _MS_REC)


def unmount(path: Path) -> None:
    """Everything that is mounted on ``path``; nothing when nothing is."""
    libc = _libc()
    while libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        pass


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, flags: int) -> None:
    _check(_libc().mount(os.fsencode(source), os.fsencode(target), b"none", flags, None), target)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
