from __future__ import annotations

from dataclasses import replace

import pytest

from nodeport.api.meta import JsonObject
from nodeport.node.environment import (
    ConfigError,
    PodFacts,
    arguments,
    declared_environment,
    expand,
    field_value,
    setting_keys,
    whole_environment,
)
from nodeport.node.images.base import Image, ImageConfig

IMAGE = Image(
    "image", "id", ImageConfig(("/entry", "point"), ("default",), ("PATH=/bin", "A=of the image")), ()
)
ECHO = Image("echo", "id", ImageConfig(("/echo",)), (), describes_pod=True)


def environment(container: JsonObject, image: Image, known: PodFacts) -> dict[str, str]:
    return whole_environment(container, image, known, declared_environment(container, known))


def facts(settings: JsonObject | None = None, **spec: object) -> PodFacts:
    pod = {
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", **spec},
    }
    return PodFacts(pod, ["10.244.1.2"], ["172.30.0.11"], "p", settings or {})


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
    [({}, 'secret "s" not found'), ({("secrets", "s"): {}}, "couldn't find key k in Secret d/s")],
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


def test_the_images_variables_are_there_but_cannot_be_referred_to() -> None:
    found = environment({"env": [{"name": "B", "value": "$(A)"}]}, IMAGE, facts())
    assert (found["PATH"], found["A"], found["B"], found["HOSTNAME"]) == ("/bin", "of the image", "$(A)", "p")
    assert environment({"env": [{"name": "A", "value": "own"}]}, IMAGE, facts())["A"] == "own"


def test_a_container_is_told_of_its_amounts_and_of_anothers() -> None:
    other = {"name": "other", "resources": {"limits": {"memory": "1Gi"}}}
    reference = {"resource": "limits.cpu"}
    container = {"name": "main", "env": [
        {"name": "CPU", "valueFrom": {"resourceFieldRef": reference}},
        {"name": "MI", "valueFrom": {"resourceFieldRef": {
            "containerName": "other", "resource": "limits.memory", "divisor": "1Mi"}}},
    ]}  # fmt: skip
    known = replace(facts(containers=[container, other]), capacity={"cpu": "2"})
    found = environment(container, IMAGE, known)
    assert (found["CPU"], found["MI"]) == ("2", "1024")
    reference["resource"] = "limits.nothing.of.this"
    assert environment(container, IMAGE, known)["CPU"] == "0"
    reference["resource"] = "speed"
    with pytest.raises(ConfigError, match="unsupported container resource : speed"):
        environment(container, IMAGE, known)
