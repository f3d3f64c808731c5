"""Unpacks one layer, a tar that may be anybody's, into a folder of its own in the form that overlayfs wants.

Nothing is written outside of the folder: every name is walked from it, part by part, and no link is followed on the
way. Refused, with the entry's name: ``..``, names behind links, device nodes, hard links to what is not in the layer.
Whiteouts (https://github.com/opencontainers/image-spec/blob/main/layer.md) become character devices 0/0 and the xattr
``trusted.overlay.opaque``.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
import stat
import tarfile
import zlib
from io import BufferedRandom, BufferedReader
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from nodeport.node.images.zstd import ZstdError, ZstdReader

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"
CHUNK = 1 << 20
MOST_HEADER = 1 << 20
"""Bytes of an extended header: tarfile holds it in memory."""
_XATTRS = "SCHILY.xattr."
_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LAST_ID, _LAST_SECOND = (1 << 32) - 2, 1 << 34
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


Peekable = BufferedReader | BufferedRandom


class BadLayer(Exception):
    """A layer that is broken, or that asks for what no layer may have; one sentence."""


class Hashed:
    """A stream that is read once, and the digest of what was read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._sum = source, hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._sum.update(data)
        self.size += len(data)
        return data

    def drain(self) -> None:
        while self.read(CHUNK):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._sum.hexdigest()}"


class _Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _HEADERS and found.size > MOST_HEADER:
            raise BadLayer(f"an extended header of {found.size} bytes: at most {MOST_HEADER}")
        return found


def bare(source: Peekable) -> IO[bytes]:
    """The tar inside, whatever it is packed with. Raises BadLayer."""
    magic = source.peek(4)[:4]
    if magic == _ZSTD:
        return _bare_of_zstd(source)
    if magic[:2] == _GZIP:
        return gzip.GzipFile(fileobj=source)  # type: ignore[return-value]  # reads as IO[bytes] does
    return source


def _bare_of_zstd(source: Peekable) -> IO[bytes]:
    try:
        return ZstdReader(source)  # type: ignore[return-value]  # reads as IO[bytes] does
    except ZstdError as error:
        raise BadLayer(str(error)) from error


def unpack(source: Peekable, folder: Path) -> str:
    """Writes the layer into ``folder``, which must be empty; returns the digest of the bare tar, its diff ID.

    Raises BadLayer; OSError when the disk is full, say. The folder is then to be thrown away.
    """
    try:
        content = Hashed(bare(source))
        with (
            tarfile.open(fileobj=content, mode="r|", tarinfo=_Header, encoding="utf-8") as archive,  # type: ignore[call-overload]  # it reads only
            _Folder(folder) as root,
        ):
            while (member := archive.next()) is not None:
                archive.members.clear()  # it would remember all of them
                root.add(archive, member)
            root.finish()
        content.drain()
    except ZstdError as error:
        raise BadLayer(str(error)) from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError) as error:
        raise BadLayer(f"it is no whole tar: {error}") from error
    return content.digest


def checked_parts(name: str) -> tuple[str, ...]:
    """A name of the archive as the parts of a path below the root. Raises BadLayer."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts or "\0" in name:
        raise BadLayer(f"{name!r} leads out of the layer")
    return parts


class _Folder:
    """The folder that a layer is unpacked into. Keeps the last entry's folder open: entries come folder by folder."""

    def __init__(self, path: Path) -> None:
        self._root = os.open(path, _FOLDER)
        self._last: tuple[tuple[str, ...], int] = ((), os.dup(self._root))
        self._times: dict[tuple[str, ...], int] = {}

    def __enter__(self) -> _Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._last[1])
        os.close(self._root)

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = checked_parts(member.name)
        if not parts:
            if member.isdir():
                _dress(self._root, None, member)
            return
        if not (0 <= member.uid <= _LAST_ID and 0 <= member.gid <= _LAST_ID):
            raise BadLayer(
                f"{member.name!r} belongs to {member.uid}:{member.gid}: ids are from 0 to {_LAST_ID}"
            )
        parent, name = self._folder(parts[:-1], member.name), parts[-1]
        if name == OPAQUE:
            os.setxattr(parent, OPAQUE_XATTR, b"y")
        elif name.startswith(WHITEOUT + WHITEOUT):
            return  # a union file system's own notes
        elif name.startswith(WHITEOUT):
            self._whiteout(parent, name.removeprefix(WHITEOUT))
        else:
            self._make(archive, member, parent, name)
            if member.isdir():
                self._times[parts] = _nanoseconds(member)

    def finish(self) -> None:
        """The times of folders, which filling them has changed."""
        for parts, when in self._times.items():
            try:
                folder = self._folder(parts, "/".join(parts))
            except BadLayer:
                continue  # something else came in its place
            os.utime(folder, ns=(when, when))

    def _folder(self, parts: tuple[str, ...], wanted: str) -> int:
        """A descriptor of that folder, made where no entry made it before. Ours: not to be closed."""
        if self._last[0] == parts:
            return self._last[1]
        current = os.dup(self._root)
        for part in parts:
            try:
                below = _enter(current, part)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise BadLayer(f"{wanted!r} lies behind {part!r}, which is no folder") from error
                raise
            finally:
                os.close(current)
            current = below
        os.close(self._last[1])
        self._last = (parts, current)
        return current

    def _whiteout(self, parent: int, name: str) -> None:
        if not name or name in (".", ".."):
            raise BadLayer(f"{WHITEOUT + name!r} names nothing")
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            return  # the layer has a new one of that name

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if not (member.isdir() and _is_folder(parent, name)):
            self._clear(parent, name)
        if member.isdir():
            _enter_made(parent, name, member)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        elif member.islnk():
            self._link(member, parent, name)
        elif member.isreg():
            _write(archive, member, parent, name)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
            os.chmod(name, member.mode & 0o7777, dir_fd=parent)
        else:
            raise BadLayer(f"{member.name!r} is a device node or of unknown kind")

    def _clear(self, parent: int, name: str) -> None:
        """A later entry of a name goes before the one that was there."""
        if _is_folder(parent, name):
            raise BadLayer(f"{name!r} is a folder and something else")
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return

    def _link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        """Both folders are walked without following links, and the link is made to what the name is itself."""
        target = checked_parts(member.linkname) or (".",)
        here = os.dup(parent)
        try:
            there = self._folder(target[:-1], member.linkname)
            os.link(target[-1], name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
        except (FileNotFoundError, PermissionError) as error:
            raise BadLayer(
                f"{member.name!r} is a hard link to {member.linkname!r}, which is no file of the layer"
            ) from error
        finally:
            os.close(here)


def _enter(parent: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(name, 0o755, dir_fd=parent)
        return os.open(name, _FOLDER, dir_fd=parent)


def _enter_made(parent: int, name: str, member: tarfile.TarInfo) -> None:
    folder = _enter(parent, name)
    try:
        _dress(folder, None, member)
    finally:
        os.close(folder)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb", buffering=0) as file:
        source = archive.extractfile(member)
        assert source is not None  # of a regular file there is one
        shutil.copyfileobj(source, file, CHUNK)
        _dress(file.fileno(), _nanoseconds(member), member)


def _dress(descriptor: int, when: int | None, member: tarfile.TarInfo) -> None:
    """Owner first: it takes away the set-user-ID bit and capabilities."""
    os.fchown(descriptor, member.uid, member.gid)
    os.fchmod(descriptor, member.mode & 0o7777)
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_XATTRS)
        if name != key and (name == "security.capability" or name.startswith("user.")):
            os.setxattr(descriptor, name, value.encode("utf-8", "surrogateescape"))
    if when is not None:
        os.utime(descriptor, ns=(when, when))


def _is_folder(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _nanoseconds(member: tarfile.TarInfo) -> int:
    return int(min(max(member.mtime, 0), _LAST_SECOND) * 1_000_000_000)
