"""Unpacking one layer: what is made of it, and what a layer may not do."""

from __future__ import annotations

import ctypes
import gzip
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from nodeport.node.images import zstd
from nodeport.node.images.unpack import BadLayer, unpack
from unit.node.layerbytes import digest, entry, layer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and whiteouts are root's to make")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "layer"
    found.mkdir()
    return found


def unpacked(content: bytes, folder: Path) -> str:
    return unpack(io.BufferedReader(io.BytesIO(content)), folder)  # type: ignore[arg-type]


def test_files_keep_content_owner_mode_and_time(folder: Path) -> None:
    content = layer(
        entry("bin", tarfile.DIRTYPE, mode=0o750, mtime=1000),
        entry("bin/su", mode=0o4755, uid=33, gid=34, mtime=2000),
        ("deep/er/file", b"text"),
        entry("link", tarfile.SYMTYPE, linkname="/etc/outside"),
        entry("again", tarfile.LNKTYPE, linkname="bin/su"),
    )
    assert unpacked(content, folder) == digest(content)
    found = (folder / "bin/su").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_mtime) == (33, 34, 0o4755, 2000)
    assert ((folder / "bin").stat().st_mtime, stat.S_IMODE((folder / "bin").stat().st_mode)) == (1000, 0o750)
    assert (folder / "deep/er/file").read_bytes() == b"text"
    assert (folder / "link").readlink() == Path("/etc/outside")
    assert (folder / "again").samefile(folder / "bin/su")


def test_a_packed_layer_has_the_digest_of_its_bare_tar(folder: Path) -> None:
    content = layer(("a", b"x" * 100_000))
    assert unpacked(gzip.compress(content), folder) == digest(content)


def test_whiteouts_are_what_overlayfs_takes_for_them(folder: Path) -> None:
    unpacked(
        layer(("etc/.wh.gone", b""), ("var/.wh..wh..opq", b""), (".wh..wh.plnk/x", b""), ("var/new", b"")),
        folder,
    )
    gone = (folder / "etc/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(folder / "var", "trusted.overlay.opaque") == b"y"
    assert (folder / "var/new").is_file()
    assert not (folder / "var/.wh..wh..opq").exists()


@pytest.mark.parametrize("names", [("f", ".wh.f"), (".wh.f", "f")])
def test_a_new_file_goes_before_the_whiteout_of_its_name(folder: Path, names: tuple[str, str]) -> None:
    unpacked(layer(*((name, b"new") for name in names)), folder)
    assert (folder / "f").read_bytes() == b"new"


def test_capabilities_are_kept_and_other_extended_attributes_of_the_system_are_not(folder: Path) -> None:
    program = entry("ping", mode=0o755)
    capabilities = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    program.pax_headers = {
        "SCHILY.xattr.security.capability": capabilities.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
    }
    unpacked(layer(program), folder)
    assert os.getxattr(folder / "ping", "security.capability") == capabilities
    assert "trusted.overlay.redirect" not in os.listxattr(folder / "ping")


HOSTILE = {
    "a name that leads up": ([("a/../../outside", b"x")], "leads out of the layer"),
    "a link, and a file behind it": (
        [entry("up", tarfile.SYMTYPE, linkname=".."), ("up/outside", b"x")],
        "'up/outside' lies behind 'up'",
    ),
    "a link, and a folder in its place": (
        [entry("up", tarfile.SYMTYPE, linkname="../.."), ("up/x/outside", b"x")],
        "lies behind 'up'",
    ),
    "a link, and a hard link behind it": (
        [entry("up", tarfile.SYMTYPE, linkname=".."), entry("x", tarfile.LNKTYPE, linkname="up/secret")],
        "'up/secret' lies behind 'up'",
    ),
    "a hard link that leads up": ([entry("x", tarfile.LNKTYPE, linkname="../secret")], "leads out of the layer"),
    "a hard link to an absolute name": ([entry("x", tarfile.LNKTYPE, linkname="/etc/passwd")], "no file of the layer"),
    "a hard link to a folder": (
        [entry("d", tarfile.DIRTYPE), entry("x", tarfile.LNKTYPE, linkname="d")],
        "no file of the layer",
    ),
    "a character device": ([entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3)], "'null' is a device node"),
    "a block device": ([entry("dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=0)], "'dev/sda' is a device node"),
    "a whiteout of the folder above": ([("a/.wh...", b"")], "names nothing"),
    "a file in place of a folder": ([("a/b", b""), ("a", b"")], "'a' is a folder and something else"),
    "an owner that would be left out": ([entry("x", uid=(1 << 32) - 1)], "ids are from 0 to"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_no_layer_may_have_is_refused_and_nothing_is_written_outside(folder: Path, case: str) -> None:
    entries, words = HOSTILE[case]
    secret = folder.parent / "secret"
    secret.write_text("of the machine")
    with pytest.raises(BadLayer, match=words):
        unpacked(layer(*entries), folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["layer", "secret"]
    assert secret.stat().st_nlink == 1


def test_a_link_that_comes_later_is_replaced_and_not_followed(folder: Path) -> None:
    unpacked(layer(entry("f", tarfile.SYMTYPE, linkname="../secret"), ("f", b"own")), folder)
    assert not (folder / "f").is_symlink()
    assert not (folder.parent / "secret").exists()


@pytest.mark.parametrize("cut", [100, 700, 5000])
def test_a_layer_that_is_cut_off_is_refused(folder: Path, cut: int) -> None:
    for content in (layer(("a", os.urandom(9000))), gzip.compress(layer(("a", os.urandom(9000))))):
        for left in folder.iterdir():
            left.unlink()
        with pytest.raises(BadLayer, match="no whole tar"):
            unpacked(content[:cut], folder)


def test_what_is_no_tar_and_what_is_packed_otherwise_is_told(folder: Path) -> None:
    with pytest.raises(BadLayer, match="no whole tar"):
        unpacked(b"hello" * 500, folder)
    with pytest.raises(BadLayer, match="no whole zstd stream"):
        unpacked(b"\x28\xb5\x2f\xfd rest", folder)


def test_a_layer_packed_with_zstd_is_read(folder: Path) -> None:
    content = layer(("a", os.urandom(300_000)), ("b", b"b" * 3_000_000))
    half = len(content) // 2
    frames = zstd_packed(content[:half]) + zstd_packed(content[half:])
    assert unpacked(frames, folder) == digest(content)
    assert (folder / "b").stat().st_size == 3_000_000


@pytest.mark.parametrize("cut", [5, 200_000])
def test_a_zstd_layer_that_is_cut_off_is_refused(folder: Path, cut: int) -> None:
    packed = zstd_packed(layer(("a", os.urandom(300_000))))
    with pytest.raises(BadLayer, match="it is no whole zstd stream: it ends too early"):
        unpacked(packed[:cut], folder)


def test_without_the_library_it_is_said_what_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zstd, "LIBRARY", "libnothing.so.9")
    zstd._library.cache_clear()
    with pytest.raises(BadLayer, match=r"packed with zstd, and this machine has no libnothing\.so\.9"):
        unpacked(zstd_packed(layer(("a", b"x"))), folder)
    zstd._library.cache_clear()


def zstd_packed(content: bytes) -> bytes:
    """One frame, made by the library that `zstd` reads with."""
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_compress.restype = library.ZSTD_compressBound.restype = ctypes.c_size_t
    room = ctypes.create_string_buffer(library.ZSTD_compressBound(ctypes.c_size_t(len(content))))
    size = library.ZSTD_compress(
        room, ctypes.c_size_t(len(room)), content, ctypes.c_size_t(len(content)), ctypes.c_int(3)
    )
    return room.raw[:size]


def test_an_extended_header_may_not_fill_the_memory(folder: Path) -> None:
    huge = entry("x")
    huge.pax_headers = {"comment": "x" * (1 << 21)}
    with pytest.raises(BadLayer, match="an extended header of"):
        unpacked(layer(huge), folder)
