"""Images in the store: names, layers that several share, what is removed with the last name, and what a kill leaves."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from nodeport.node.images import archives, layers, unpack
from nodeport.node.images.archives import BadArchive
from nodeport.node.images.base import Image, ImageConfig, ImageError, ImageNeverPull, PullPolicy, PullRequest
from nodeport.node.images.nodeimages import node_images
from nodeport.node.images.references import Reference, parse
from nodeport.node.images.store import ContentStore, content_store
from nodeport.node.oci.machine import accounts_of
from unit.node.layerbytes import config, described, digest, entry, layer, manifest, oci_archive, oci_image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and whiteouts are root's to make")

BASE, TOP = layer(("etc/os", b"base"), ("bin/sh", b"#!")), layer(("app", b"one"))


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return content_store(tmp_path)


def load(store: ContentStore, archive: bytes, name: str = "") -> list[str]:
    source = io.BufferedReader(io.BytesIO(archive))  # type: ignore[arg-type]
    return [str(each) for each in archives.load(store, source, "amd64", parse(name) if name else None)]


def files(folder: Path) -> list[str]:
    """All of the store but its lock, as paths."""
    found = [path for path in folder.rglob("*") if path.name != "lock"]
    return sorted(str(path.relative_to(folder)) for path in found if not path.is_dir())


def loaded(store: ContentStore, name: str) -> Image:
    found = store.find(parse(name))
    assert found is not None, name
    return store.image(found)


def test_an_archive_becomes_an_image_with_its_wishes_and_layers_topmost_first(store: ContentStore) -> None:
    wishes: dict[str, Any] = {
        "Entrypoint": ["/app"], "Cmd": ["-v"], "Env": ["A=b"], "WorkingDir": "/srv", "User": "33", "StopSignal": "SIGINT",
    }  # fmt: skip
    assert load(store, oci_image([BASE, TOP], "example.org/web:1", **wishes)) == ["example.org/web:1"]
    image = loaded(store, "example.org/web:1")
    assert image.config == ImageConfig(("/app",), ("-v",), ("A=b",), "/srv", "33", "SIGINT")
    assert [sorted(path.name for path in folder.iterdir()) for folder in image.layers] == [
        ["app"],
        ["bin", "etc"],
    ]
    assert image.image_id.startswith("example.org/web@sha256:")
    assert loaded(store, image.image_id).layers == image.layers
    assert image.size == len(BASE) + len(TOP)


def test_what_docker_saves_is_read_packed_or_not(store: ContentStore) -> None:
    content = config([BASE, TOP, BASE], Cmd=["/app"])
    described = [
        {
            "Config": "c.json",
            "RepoTags": ["web:1", "web:2"],
            "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"],
        }
    ]
    again = entry("c/layer.tar", tarfile.SYMTYPE, linkname="../a/layer.tar")
    saved = layer(
        ("manifest.json", json.dumps(described).encode()),
        ("c.json", content),
        ("a/layer.tar", BASE),
        ("b/layer.tar", TOP),
        again,
    )
    assert load(store, gzip.compress(saved)) == ["docker.io/library/web:1", "docker.io/library/web:2"]
    image = loaded(store, "web:2")
    assert [sorted(path.name for path in folder.iterdir()) for folder in image.layers] == [
        ["bin", "etc"],
        ["app"],
    ]


def test_layers_are_packed_in_archives_and_checked_by_their_bare_digest(store: ContentStore) -> None:
    content = config([BASE])
    packed = gzip.compress(BASE)
    document = manifest(content, [packed])
    load(store, oci_archive([described(document)], [document, content, packed]), "web:1")
    assert (loaded(store, "web:1").layers[0] / "etc/os").read_bytes() == b"base"


def test_two_images_that_share_a_layer_have_it_once(store: ContentStore, tmp_path: Path) -> None:
    load(store, oci_image([BASE, TOP]), "one:1")
    before = loaded(store, "one:1").layers[-1].stat()
    load(store, oci_image([BASE, layer(("app", b"two"))]), "two:1")
    one, two = loaded(store, "one:1"), loaded(store, "two:1")
    assert one.layers[-1] == two.layers[-1]
    assert (two.layers[-1].stat().st_ino, two.layers[-1].stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )
    assert len(list((tmp_path / "content/layers").iterdir())) == 3


def test_an_index_is_read_for_this_machine(store: ContentStore) -> None:
    mine, other = config([BASE]), config([TOP])
    documents = [manifest(mine, [BASE]), manifest(other, [TOP])]
    platforms = [{"architecture": "amd64", "os": "linux"}, {"architecture": "s390x", "os": "linux"}]
    entries = [
        described(each, platform=platform) for each, platform in zip(documents, platforms, strict=True)
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": entries[::-1]}).encode()
    load(store, oci_archive([described(index)], [index, *documents, mine, other, BASE, TOP]), "web:1")
    assert (loaded(store, "web:1").layers[0] / "etc/os").is_file()
    with pytest.raises(BadArchive, match="linux/amd64 is not among linux/s390x"):
        load(store, oci_archive(entries[1:], [documents[1], other, TOP]), "web:2")


def test_the_last_name_takes_its_layers_along_and_those_of_others_stay(
    store: ContentStore, tmp_path: Path
) -> None:
    load(store, oci_image([BASE, TOP]), "one:1")
    load(store, oci_image([BASE]), "two:1")
    assert store.remove(parse("one:1")) == 0
    assert store.find(parse("one:1")) is None
    assert [path.name for path in (tmp_path / "content/layers").iterdir()] == [
        layers.layer_name(digest(BASE))
    ]
    with pytest.raises(KeyError):
        store.remove(parse("one:1"))
    store.remove(parse("two:1"))
    assert files(tmp_path / "content") == ["images.json"]


def test_a_name_that_is_given_again_lets_go_of_what_it_had(store: ContentStore, tmp_path: Path) -> None:
    load(store, oci_image([TOP]), "web:1")
    load(store, oci_image([BASE]), "web:1")
    assert [path.name for path in (tmp_path / "content/layers").iterdir()] == [
        layers.layer_name(digest(BASE))
    ]


def test_names_that_another_process_changed_are_seen(store: ContentStore, tmp_path: Path) -> None:
    other = content_store(tmp_path)
    load(other, oci_image([BASE]), "web:1")
    assert store.find(parse("web:1")) is not None
    other.remove(parse("web:1"))
    assert store.find(parse("web:1")) is None


def test_only_root_can_read_what_is_kept(store: ContentStore, tmp_path: Path) -> None:
    load(store, oci_image([BASE]), "web:1")
    content = tmp_path / "content"
    for folder in (
        content,
        content / "layers",
        content / "blobs",
        content / "blobs/sha256",
        content / "scratch",
    ):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    for file in (content / "images.json", *(content / "blobs/sha256").iterdir()):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def bad_archives() -> dict[str, tuple[bytes, str]]:
    content = config([BASE])
    document = manifest(content, [BASE])
    swapped = manifest(content, [TOP])
    wrong = oci_archive([described(document)], [document, content, BASE]).replace(b"base", b"bass")
    evil = layer(("../outside", b""))
    return {
        "no archive": (b"hello" * 1000, "file could not be opened|truncated|invalid"),
        "an empty file": (b"", "empty file"),
        "another tar": (BASE, "neither index.json"),
        "a cut archive": (oci_image([BASE])[:3000], "has no file|unexpected end|no whole tar"),
        "a blob that is missing": (oci_archive([described(document)], [document, content]), "has no file 'blobs/sha256/"),
        "a layer in place of another": (oci_archive([described(swapped)], [swapped, content, TOP]), "its content has the digest"),
        "a layer that was changed": (wrong, "its content has the digest"),
        "a layer that leads out": (oci_image([evil]), "'../outside' leads out of the layer"),
        "a manifest without a configuration": (oci_archive([described(b"{}")], [b"{}"]), "its manifest cannot be read"),
        "a digest that is a path": (
            oci_archive([{"digest": "sha256:../../x", "size": 1}], []), "its index cannot be read",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", bad_archives())
def test_a_bad_archive_is_refused_in_a_sentence_and_leaves_nothing(
    store: ContentStore, tmp_path: Path, case: str
) -> None:
    archive, words = bad_archives()[case]
    with pytest.raises(BadArchive, match=words):
        load(store, archive, "web:1")
    assert store.images() == []
    assert files(tmp_path / "content") == []
    assert not (tmp_path / "outside").exists()


def test_an_image_needs_a_name(store: ContentStore) -> None:
    with pytest.raises(BadArchive, match="give it one with --as"):
        load(store, oci_image([BASE], "latest"))


def test_a_full_disk_leaves_nothing(
    store: ContentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    load(store, oci_image([BASE]), "web:1")
    before = files(tmp_path / "content")
    monkeypatch.setattr(unpack, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        load(store, oci_image([BASE, TOP]), "web:1")
    assert files(tmp_path / "content") == before
    assert len(loaded(store, "web:1").layers) == 1


KILLED = """
import os, pathlib, signal, sys
from nodeport.node.images import archives, layers, store
from nodeport.node.images.store import content_store
from nodeport.node.images.references import parse

def die(*_): os.kill(os.getpid(), signal.SIGKILL)

match sys.argv[3]:
    case "unpacked": layers._flush = die
    case "between layers": layers.Intake.add, add = lambda *a: (add(*a), die()), layers.Intake.add
    case "before its names": store.ContentStore._write_names = die
with open(sys.argv[2], "rb") as file:
    archives.load(content_store(pathlib.Path(sys.argv[1])), file, "amd64", parse("web:1"))
"""


@pytest.mark.parametrize("moment", ["unpacked", "between layers", "before its names"])
def test_a_kill_leaves_the_image_as_it_was_and_the_next_load_clears_up(
    store: ContentStore, tmp_path: Path, moment: str
) -> None:
    load(store, oci_image([BASE]), "web:1")
    archive = tmp_path / "new.tar"
    archive.write_bytes(oci_image([TOP, layer(("b", b"2"))]))
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(archive), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (loaded(store, "web:1").layers[0] / "etc/os").is_file()
    store.remove(parse("web:1"))
    assert files(tmp_path / "content") == ["images.json"]
    assert list((tmp_path / "content/scratch").iterdir()) == []


def test_layers_of_an_intake_are_not_collected_meanwhile(store: ContentStore) -> None:
    load(store, oci_image([BASE]), "one:1")
    load(store, oci_image([TOP]), "two:1")
    with store.intake([digest(BASE)]):
        store.remove(parse("one:1"))
        assert store.missing([digest(BASE)]) == set()
    store.remove(parse("two:1"))
    assert store.missing([digest(BASE)]) == {digest(BASE)}


def test_an_image_that_lost_a_layer_is_not_there(store: ContentStore) -> None:
    load(store, oci_image([BASE]), "web:1")
    loaded(store, "web:1").layers[0].rename(store._folder / "elsewhere")
    assert store.find(parse("web:1")) is None


async def test_a_node_takes_its_own_images_first_and_says_how_to_get_others(tmp_path: Path) -> None:
    images = node_images(tmp_path)
    load(content_store(tmp_path), oci_image([BASE]), "web:1")
    assert (await images.resolve(PullRequest("web:1"))).name == "docker.io/library/web:1"
    assert "docker.io/library/web:1" in [each.name for each in images.held()]
    mapped = node_images(tmp_path, [f"web={tmp_path}"])
    assert (await mapped.resolve(PullRequest("web:1"))).layers == (tmp_path,)
    with pytest.raises(ImageNeverPull, match="is not present with pull policy of Never"):
        await images.resolve(PullRequest("other:1", PullPolicy.NEVER))
    with pytest.raises(ImageError, match='image "other:1" is not on this machine'):
        await images.resolve(PullRequest("other:1"))


def built(store: ContentStore, folder: Path, name: str) -> Reference:
    return archives.build(store, folder, parse(name), ImageConfig(entrypoint=("/run",)), "amd64")


def test_a_folder_becomes_an_image_and_the_same_folder_the_same_layer(
    store: ContentStore, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/a").write_text("text")
    (root / "etc/a").chmod(0o640)
    os.link(root / "etc/a", root / "b")
    (root / "dir").symlink_to("etc")
    os.chown(root / "etc/a", 7, 8)
    built(store, root, "one:1")
    built(store, root, "two:1")
    one, two = loaded(store, "one:1"), loaded(store, "two:1")
    assert (one.layers, one.config) == (two.layers, ImageConfig(entrypoint=("/run",)))
    (made,) = one.layers
    found = (made / "etc/a").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_nlink) == (7, 8, 0o640, 2)
    assert (made / "dir").readlink() == Path("etc")


def test_a_folder_with_a_device_or_the_name_of_a_whiteout_is_no_image(
    store: ContentStore, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    with pytest.raises(BadArchive, match="null is a device node"):
        built(store, root, "one:1")
    (root / "null").unlink()
    (root / ".wh.x").touch()
    with pytest.raises(BadArchive, match=r"begins with .wh."):
        built(store, root, "one:1")
    assert store.images() == []


@pytest.mark.parametrize(
    ("above", "seen"),
    [([], "base"), ([("etc/x", b"")], "base"), ([("etc/.wh.passwd", b"")], ""), ([(".wh.etc", b"")], ""),
     ([("etc/.wh..wh..opq", b"")], ""), ([("etc/passwd", b"top")], "top"),
     ([entry("etc", tarfile.SYMTYPE, linkname="/etc")], "")],
)  # fmt: skip
def test_users_are_those_of_the_topmost_layer_that_has_them(
    store: ContentStore, above: list[Any], seen: str
) -> None:
    load(store, oci_image([layer(("etc/passwd", b"base")), layer(*above)]), "web:1")
    assert accounts_of(loaded(store, "web:1")).passwd == seen


def test_a_broken_list_of_names_is_told_and_no_image_is_there(store: ContentStore, tmp_path: Path) -> None:
    load(store, oci_image([BASE]), "web:1")
    (tmp_path / "content/images.json").write_text("{")
    assert store.images() == []
    with pytest.raises(ImageError, match="images.json is broken"):
        store.remove(parse("web:1"))
