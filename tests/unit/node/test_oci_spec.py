"""What the runtime is told of a container."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.node.oci import resources, security, spec
from nodeport.node.oci.security import ALL_CAPABILITIES, DEFAULT_CAPABILITIES, Accounts, SecurityError
from nodeport.node.oci.spec import Isolation, Mount, Process, Surroundings, User

PLACE = Surroundings("/root", {"pid": "", "network": "/run/netns/x", "ipc": "/ipc"}, "/nodeport.c/x")
ACCOUNTS = Accounts("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n", "web:x:34:\nlogs:x:40:root,web\n")
EVERYTHING = frozenset(ALL_CAPABILITIES)


def config(
    process: Process | None = None, isolation: Isolation | None = None, *mounts: Mount
) -> dict[str, Any]:
    binds = (("/usr", "/usr"), ("/etc/passwd", "/etc/passwd"))
    return spec.config(process or Process(("sh",)), isolation or Isolation(), mounts, binds, PLACE)


def pod(shared: JsonObject | None = None) -> JsonObject:
    metadata = {"name": "p", "namespace": "d", "uid": "u"}
    return {"metadata": metadata, "spec": {"containers": [], "securityContext": shared or {}}}


def container(**context: Any) -> JsonObject:
    return {"name": "c", "securityContext": context}


def test_namespaces_are_joined_by_path_or_made_anew() -> None:
    assert config()["linux"]["namespaces"] == [
        {"type": "pid"}, {"type": "network", "path": "/run/netns/x"}, {"type": "ipc", "path": "/ipc"},
        {"type": "mount"},
    ]  # fmt: skip


def test_mounts_come_parents_first_and_the_last_of_two_on_one_path_wins() -> None:
    found = config(None, None, Mount("/etc/passwd", "/other"), Mount("/a/b/c", "/v"), Mount("/a", "/w"))
    places = [mount["destination"] for mount in found["mounts"]]
    assert places.index("/a") < places.index("/a/b/c")
    assert places.index("/dev") < places.index("/dev/pts")
    assert [mount["source"] for mount in found["mounts"] if mount["destination"] == "/etc/passwd"] == [
        "/other"
    ]


def test_what_is_shown_of_the_machine_is_read_only_all_the_way_down() -> None:
    usr = next(mount for mount in config()["mounts"] if mount["destination"] == "/usr")
    assert {"rbind", "rro", "nosuid", "nodev"} <= set(usr["options"])


def test_a_container_sees_neither_the_kernels_secrets_nor_devices() -> None:
    linux = config()["linux"]
    assert "/proc/kcore" in linux["maskedPaths"]
    assert "/proc/sys" in linux["readonlyPaths"]
    assert linux["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    privileged = config(None, Isolation(privileged=True))
    assert "maskedPaths" not in privileged["linux"]
    assert privileged["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "maskedPaths" not in config(None, Isolation(unmasked=True))["linux"]


def test_without_a_network_of_its_own_a_container_sees_the_machines_sys_and_cannot_change_it() -> None:
    place = replace(PLACE, namespaces={"pid": ""})

    def sys_of(isolation: Isolation) -> list[JsonObject]:
        mounts = spec.config(Process(("sh",)), isolation, (), (), place)["mounts"]
        return [mount for mount in mounts if mount["destination"].startswith("/sys")]

    assert [mount["type"] for mount in sys_of(Isolation())] == ["bind"]
    assert "rro" in sys_of(Isolation())[0]["options"]
    assert "rw" in sys_of(Isolation(privileged=True))[0]["options"]


def test_a_command_is_the_containers_process_with_other_words() -> None:
    process = spec.process_config(Process(("web",), {"A": "1"}, user=User(5, 6, (6, 7))))
    command = spec.for_command(process, ["sh", "-i"], tty=True, size=(97, 31))
    assert command["consoleSize"] == {"width": 97, "height": 31}
    assert "consoleSize" not in spec.for_command(process, ["sh"], tty=False, size=(97, 31))
    assert command["user"] == {"uid": 5, "gid": 6, "additionalGids": [6, 7]}
    assert (command["args"], command["terminal"], command["env"]) == (
        ["sh", "-i"],
        True,
        ["A=1", "TERM=xterm"],
    )
    assert process["env"] == ["A=1"]


@pytest.mark.parametrize(
    ("context", "shared", "image", "expected"),
    [
        ({}, {}, "", User(0, 0, (0, 40))),
        ({}, {}, "web", User(33, 34, (34, 40))),
        ({}, {}, "web:logs", User(33, 40, (40,))),
        ({}, {}, "7:8", User(7, 8, (8,))),
        ({}, {"runAsUser": 5, "runAsGroup": 6}, "web", User(5, 6, (6,))),
        ({"runAsUser": 7}, {"runAsUser": 5, "runAsGroup": 6}, "", User(7, 6, (6,))),
        ({"runAsUser": 33}, {}, "", User(33, 34, (34, 40))),
        ({"runAsUser": 33}, {"supplementalGroupsPolicy": "Strict"}, "", User(33, 34, (34,))),
        ({}, {"fsGroup": 99, "supplementalGroups": [98]}, "7", User(7, 0, (0, 98, 99))),
    ],
)
def test_the_container_goes_before_the_pod_and_the_pod_before_the_image(
    context: JsonObject, shared: JsonObject, image: str, expected: User
) -> None:
    assert security.user(container(**context), pod(shared), image, ACCOUNTS) == expected


@pytest.mark.parametrize(
    ("context", "image", "message"),
    [
        ({"runAsNonRoot": True}, "", "container has runAsNonRoot and image will run as root"),
        ({"runAsNonRoot": True, "runAsUser": 0}, "7", "container's runAsUser breaks non-root policy"),
        ({"runAsNonRoot": True}, "web", r"image has non-numeric user \(web\), cannot verify"),
        ({}, "nobody", "unable to find user nobody: no matching entries in passwd file"),
        ({}, "web:none", "unable to find group none: no matching entries in group file"),
    ],
)
def test_a_user_that_may_not_or_cannot_be_is_named(context: JsonObject, image: str, message: str) -> None:
    with pytest.raises(SecurityError, match=message):
        security.user(container(**context), pod(), image, ACCOUNTS)


def test_capabilities_are_added_to_and_dropped_from_the_usual_ones() -> None:
    def capabilities(**context: Any) -> frozenset[str]:
        return security.capabilities(container(**context), EVERYTHING)

    assert capabilities() == DEFAULT_CAPABILITIES
    assert capabilities(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}) == {
        "CAP_NET_BIND_SERVICE"
    }
    assert capabilities(capabilities={"add": ["ALL"], "drop": ["sys_admin"]}) == EVERYTHING - {
        "CAP_SYS_ADMIN"
    }
    assert capabilities(capabilities={"add": ["CAP_SYS_TIME"]}) == DEFAULT_CAPABILITIES | {"CAP_SYS_TIME"}
    assert capabilities(privileged=True) == EVERYTHING
    with pytest.raises(SecurityError, match="unknown capability CAP_FLY"):
        capabilities(capabilities={"add": ["FLY"]})


def test_a_machine_gives_no_capability_that_it_lacks() -> None:
    possible = security.possible_capabilities((1 << 41) - 1 & ~(1 << 24))
    assert EVERYTHING - possible == {"CAP_SYS_RESOURCE"}
    assert "CAP_SYS_RESOURCE" not in security.capabilities(container(privileged=True), possible)


@pytest.mark.parametrize(
    ("amounts", "figures"),
    [
        ({}, {"cpu": {"shares": 2}}),
        ({"requests": {"cpu": "500m"}}, {"cpu": {"shares": 512}}),
        ({"limits": {"cpu": "2"}}, {"cpu": {"shares": 2048, "quota": 200000, "period": 100000}}),
        ({"limits": {"cpu": "1m"}}, {"cpu": {"shares": 2, "quota": 1000, "period": 100000}}),
        ({"limits": {"memory": "64Mi"}}, {"cpu": {"shares": 2}, "memory": {"limit": 64 << 20}}),
    ],
)
def test_amounts_become_cgroup_figures(amounts: JsonObject, figures: JsonObject) -> None:
    assert resources.cgroup_figures({"resources": amounts}) == figures


@pytest.mark.parametrize(
    ("resource", "divisor", "told"),
    [
        ("limits.cpu", "", "1"), ("limits.cpu", "1m", "250"), ("requests.memory", "1Mi", "2"),
        ("requests.memory", "0", "1572864"), ("limits.memory", "1Gi", "8"), ("requests.cpu", "1m", "0"),
    ],
)  # fmt: skip
def test_a_container_is_told_its_amounts_rounded_up_and_the_nodes_where_it_has_none(
    resource: str, divisor: str, told: str
) -> None:
    amounts = {"limits": {"cpu": "250m"}, "requests": {"memory": "1.5Mi"}}
    capacity = {"cpu": "4", "memory": "8Gi"}
    assert resources.told({"resources": amounts}, resource, divisor, capacity) == told


@pytest.mark.parametrize(
    ("amounts", "score"),
    [
        ({}, 1000),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, -500),
        ({"requests": {"memory": "1Gi"}}, 750),
        ({"requests": {"memory": "4Gi"}}, 3),
        ({"requests": {"cpu": "1"}}, 999),
    ],
)
def test_what_asked_for_least_is_killed_first_within_what_the_machine_allows(
    amounts: JsonObject, score: int
) -> None:
    one = {"name": "c", "resources": amounts}
    whole = {"metadata": {}, "spec": {"containers": [one]}}
    assert security.oom_score(one, whole, 4 << 30, -500) == score
