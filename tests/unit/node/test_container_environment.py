from __future__ import annotations

from pathlib import Path

import pytest

from nodeport.api.meta import JsonObject
from nodeport.node import volumes
from nodeport.node.environment import (
    ConfigError,
    PodFacts,
    arguments,
    environment,
    expand,
    field_value,
    setting_keys,
)
from nodeport.node.images.base import Image, ImageConfig
from nodeport.node.oci.spec import Mount

IMAGE = Image(
    "image", "id", ImageConfig(("/entry", "point"), ("default",), ("PATH=/bin", "A=of the image")), ()
)
ECHO = Image("echo", "id", ImageConfig(("/echo",)), (), describes_pod=True)


def facts(settings: JsonObject | None = None, **spec: object) -> PodFacts:
    pod = {
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", **spec},
    }
    return PodFacts(pod, "10.244.1.2", "172.30.0.11", "p", settings or {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("$A", "$A"),
        ("x$(A)y$$", "x1y$"),
        ("$$$(A)", "$1"),
    ],
)
def test_references_expand_as_kubernetes_expands_them(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"), ("metadata.namespace", "d"), ("spec.nodeName", "node-1"), ("status.podIP", "10.244.1.2"),
        ("status.hostIP", "172.30.0.11"), ("metadata.labels['app']", "web"), ("metadata.annotations['none']", ""),
    ],
)  # fmt: skip
def test_the_downward_api_tells(path: str, value: str) -> None:
    assert field_value(path, facts()) == value


def test_an_unknown_field_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unsupported fieldPath: spec\.secrets"):
        field_value("spec.secrets", facts())


def test_later_variables_see_earlier_ones_and_settings_fill_in() -> None:
    container = {
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
        "env": [
            {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(P_key)"},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "O", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}}},
        ],
    }  # fmt: skip
    assert sorted(set(setting_keys(container))) == [
        ("configmaps", "m"),
        ("secrets", "none"),
        ("secrets", "s"),
    ]
    settings = {
        ("configmaps", "m"): {"key": "v"},
        ("secrets", "s"): {"k": "hidden"},
        ("secrets", "none"): None,
    }
    found = environment(container, IMAGE, facts(settings))
    assert (found["P_key"], found["B"], found["S"]) == ("v", "1v", "hidden")
    assert "O" not in found


@pytest.mark.parametrize(
    ("settings", "message"),
    [({}, 'secret "s" not found'), ({("secrets", "s"): {}}, "couldn't find key k in secret s")],
)
def test_a_missing_setting_is_named(settings: JsonObject, message: str) -> None:
    container = {"env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
    with pytest.raises(ConfigError, match=message):
        environment(container, IMAGE, facts(settings))


def test_the_built_in_program_listens_on_the_containers_ports() -> None:
    ports = [{"containerPort": 80}, {"containerPort": 81}, {"containerPort": 80, "protocol": "UDP"}]
    assert environment({"ports": ports}, ECHO, facts())["PORT"] == "80,81"
    assert environment({}, ECHO, facts())["PORT"] == "8080"
    assert (
        environment({"env": [{"name": "PORT", "value": "7"}], "ports": ports}, ECHO, facts())["PORT"] == "7"
    )
    assert "PORT" not in environment({"ports": ports}, IMAGE, facts())


def test_command_replaces_the_entry_point_and_args_follow_it() -> None:
    assert arguments({}, IMAGE, {}) == ("/entry", "point", "default")
    assert arguments({"args": ["$(A)"]}, IMAGE, {"A": "1"}) == ("/entry", "point", "1")
    assert arguments({"command": ["sh"], "args": ["-c"]}, IMAGE, {}) == ("sh", "-c")


def test_without_any_program_there_is_nothing_to_run() -> None:
    with pytest.raises(ConfigError, match="no command specified"):
        arguments({}, Image("folder", "id", ImageConfig(), ()), {})


def test_the_images_variables_come_first() -> None:
    found = environment({"env": [{"name": "B", "value": "$(A)"}]}, IMAGE, facts())
    assert (found["PATH"], found["B"], found["HOSTNAME"]) == ("/bin", "of the image", "p")


@pytest.mark.parametrize("path", ["../out", "a/../../out"])
def test_a_volume_cannot_be_left(tmp_path: Path, path: str) -> None:
    mount = {"name": "v", "mountPath": "/v", "subPath": path}
    with pytest.raises(ConfigError, match="leaves its volume"):
        volumes.mounts({"volumeMounts": [mount]}, facts(volumes=[{"name": "v", "emptyDir": {}}]), tmp_path)
    config = {"name": "c", "configMap": {"name": "m", "items": [{"key": "k", "path": path}]}}
    with pytest.raises(ConfigError, match="leaves its volume"):
        volumes.mounts(
            {"volumeMounts": [{"name": "c", "mountPath": "/c"}]},
            facts({("configmaps", "m"): {"k": "v"}}, volumes=[config]), tmp_path,
        )  # fmt: skip


def test_volumes_are_filled_and_bound_read_only_but_for_empty_ones(tmp_path: Path) -> None:
    specs = [{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "m"}}]
    wanted = [{"name": "e", "mountPath": "/e"}, {"name": "c", "mountPath": "/c"}]
    found = volumes.mounts(
        {"volumeMounts": wanted}, facts({("configmaps", "m"): {"k": "v"}}, volumes=specs), tmp_path
    )
    assert found == (
        Mount("/e", str(tmp_path / "e"), ("rbind", "rw", "rprivate")),
        Mount("/c", str(tmp_path / "c"), ("rbind", "rro", "rprivate")),
    )
    assert (tmp_path / "c" / "k").read_text() == "v"
