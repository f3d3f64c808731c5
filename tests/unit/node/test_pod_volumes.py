"""The files of volumes that are made of API objects, and how they change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodeport.api.meta import JsonObject
from nodeport.node.environment import ConfigError, PodFacts
from nodeport.node.volumes import atomic, hostpaths
from nodeport.node.volumes.payload import File, Payload, TokenKey, payload, setting_keys, token_keys
from nodeport.node.volumes.podvolumes import inner_path

SETTINGS = {("configmaps", "m"): {"a": "1", "b": "2"}, ("secrets", "s"): {"k": "hidden"}}


def facts(settings: JsonObject | None = None, **spec: object) -> PodFacts:
    metadata = {"name": "p", "namespace": "d", "uid": "u", "labels": {"app": "web", "a": 'say "x"\n'}}
    pod = {"metadata": metadata, "spec": {"containers": [{"name": "main"}], **spec}}
    return PodFacts(pod, ["10.244.1.2"], ["172.30.0.11"], "p", SETTINGS if settings is None else settings)


def files(volume: JsonObject, known: PodFacts | None = None, **tokens: str) -> Payload:
    return payload(
        {"name": "v", **volume},
        known or facts(),
        {TokenKey(audience, 600): text for audience, text in tokens.items()},
    )


def test_all_keys_are_files_or_those_that_items_name() -> None:
    assert files({"configMap": {"name": "m"}}) == {"a": File(b"1"), "b": File(b"2")}
    items = [{"key": "b", "path": "deep/er", "mode": 0o600}]
    assert files({"configMap": {"name": "m", "items": items, "defaultMode": 0o444}}) == {
        "deep/er": File(b"2", 0o600)
    }
    assert files({"secret": {"secretName": "s", "defaultMode": 0o400}}) == {"k": File(b"hidden", 0o400)}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        ({"configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}}, "references non-existent config key: z"),
        ({"configMap": {"name": "m", "items": [{"key": "a", "path": "../a"}]}}, "must be inside the volume"),
        ({"configMap": {"name": "m", "items": [{"key": "a", "path": "/a"}]}}, "must be inside the volume"),
        ({"projected": {"sources": [{"clusterTrustBundle": {}}]}}, "clusterTrustBundle are not supported"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_is_named(volume: JsonObject, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        files(volume)


def test_what_is_optional_may_be_missing() -> None:
    assert files({"configMap": {"name": "none", "optional": True}}) == {}
    items = [{"key": "z", "path": "z"}, {"key": "a", "path": "a"}]
    assert files({"configMap": {"name": "m", "items": items, "optional": True}}) == {"a": File(b"1")}


def test_the_downward_api_shows_whole_maps_and_amounts() -> None:
    container = {"name": "main", "resources": {"limits": {"cpu": "250m"}}}
    amount = {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "cpu", "resourceFieldRef": amount},
    ]
    found = files({"downwardAPI": {"items": items}}, facts(containers=[container]))
    assert found["labels"].content == b'a="say \\"x\\"\\n"\napp="web"'
    assert found["cpu"].content == b"250"


def test_a_projection_has_the_files_of_all_its_sources() -> None:
    sources = [
        {"configMap": {"name": "m"}},
        {"secret": {"name": "s"}},
        {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}},
    ]
    volume = {"projected": {"sources": sources, "defaultMode": 0o440}}
    found = files(volume, None, vault="t0k3n")
    assert {path: file.mode for path, file in found.items()} == dict.fromkeys(("a", "b", "k", "token"), 0o440)
    assert found["token"].content == b"t0k3n"
    pod = facts(volumes=[{"name": "v", **volume}]).pod
    assert set(setting_keys(pod)) == {("configmaps", "m"), ("secrets", "s")}
    assert list(token_keys(pod)) == [TokenKey("vault", 600)]


def test_a_token_is_private_where_it_is_known_whose_it_is() -> None:
    volume = {"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 600}}]}}
    key = {TokenKey("", 600): "x"}

    def token(**spec: object) -> File:
        return payload({"name": "v", **volume}, facts(**spec), key)["t"]

    assert token() == File(b"x", 0o644)
    assert token(securityContext={"fsGroup": 5}) == File(b"x", 0o600)
    assert token(securityContext={"runAsUser": 7}) == File(b"x", 0o600, 7)
    two = [{"name": "one", "securityContext": {"runAsUser": 7}}, {"name": "two"}]
    assert token(containers=two) == File(b"x", 0o644)


@pytest.mark.parametrize(
    ("mount", "inside"),
    [
        ({}, ""), ({"subPath": "a/b"}, "a/b"), ({"subPathExpr": "x/$(NAME)"}, "x/p"), ({"subPathExpr": "$$(EMPTY)"}, "$(EMPTY)"),
    ],
)  # fmt: skip
def test_a_mount_may_want_a_part_of_its_volume(mount: JsonObject, inside: str) -> None:
    assert inner_path(mount, {"NAME": "p", "EMPTY": ""}) == inside


@pytest.mark.parametrize(
    ("mount", "told"),
    [
        ({"subPathExpr": "$(ROOT)"}, "error SubPath `/tmp` must not be an absolute path"),
        ({"subPathExpr": "a/$(UP)/b"}, "unable to provision SubPath `a/../b`: must not contain '..'"),
        ({"subPathExpr": "$(EMPTY)/$(NOSUCH)/$(UP)"}, "missing value for EMPTY, NOSUCH"),
    ],
)
def test_a_part_that_lies_elsewhere_is_refused(mount: JsonObject, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        inner_path(mount, {"ROOT": "/tmp", "UP": "..", "EMPTY": ""})
    assert str(caught.value) == told


def content(folder: Path) -> dict[str, bytes]:
    """As a program sees it that does not look at the hidden names."""
    found = {}
    for top in folder.iterdir():
        if not top.name.startswith(".."):
            inner = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]
            found |= {str(path.relative_to(folder)): path.read_bytes() for path in inner}
    return found


def test_a_volume_changes_all_at_once_and_only_when_it_has_to(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    assert atomic.write(folder, {"a": File(b"1"), "deep/b": File(b"2", 0o600)})
    assert content(folder) == {"a": b"1", "deep/b": b"2"}
    assert (folder / "deep/b").stat().st_mode & 0o777 == 0o600
    before = (folder / atomic.DATA).readlink()
    assert not atomic.write(folder, {"a": File(b"1"), "deep/b": File(b"2", 0o600)})
    assert (folder / atomic.DATA).readlink() == before
    assert atomic.write(folder, {"a": File(b"3"), "c": File(b"4")})
    assert content(folder) == {"a": b"3", "c": b"4"}
    assert not (folder / before).exists()
    assert (folder / "a").readlink() == Path("..data/a")


def test_an_open_folder_keeps_its_old_files_through_a_change(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    atomic.write(folder, {"a": File(b"old"), "b": File(b"old")})
    data = os.open(folder / atomic.DATA, os.O_RDONLY | os.O_DIRECTORY)
    descriptor = os.open("a", os.O_RDONLY, dir_fd=data)
    atomic.write(folder, {"a": File(b"new"), "b": File(b"new")})
    assert os.read(descriptor, 10) == b"old"
    assert content(folder) == {"a": b"new", "b": b"new"}
    os.close(descriptor)
    os.close(data)


def test_a_failed_write_leaves_the_volume_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    atomic.write(folder, {"a": File(b"1")})
    with pytest.raises(OSError):  # noqa: PT011 - a name that no file system takes
        atomic.write(folder, {"a": File(b"2"), "x" * 300: File(b"")})
    assert content(folder) == {"a": b"1"}
    assert len([path for path in folder.iterdir() if path.name.startswith("..")]) == 2


@pytest.mark.parametrize("kind", ["DirectoryOrCreate", ""])
def test_a_host_folder_is_made_where_that_is_asked(tmp_path: Path, kind: str) -> None:
    assert hostpaths.ensure(tmp_path / "a" / "b", kind).is_dir()


def test_a_host_file_is_made_where_that_is_asked(tmp_path: Path) -> None:
    assert hostpaths.ensure(tmp_path / "file", "FileOrCreate").is_file()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Directory", "is not a directory"), ("File", "is not a file"), ("Socket", "is not a socket"),
        ("CharDevice", "is not a character device"), ("BlockDevice", "is not a block device"), ("Odd", "is no type"),
    ],
)  # fmt: skip
def test_a_host_path_of_another_type_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hostpaths.ensure(tmp_path / "missing", kind)
    assert not (tmp_path / "missing").exists()
