from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.node.eviction import (
    BadThreshold,
    Level,
    PodUsage,
    excess,
    is_limited,
    met,
    node_message,
    parse_thresholds,
    victim,
)
from nodeport.node.pod_record import Pressure

MIB = 1 << 20


def pod(
    *limits: str, volumes: dict[str, Any] | None = None, requests: str = "", priority: int = 0
) -> JsonObject:
    containers = [
        {"name": f"c{number}", "resources": {
            "limits": {"ephemeral-storage": limit} if limit else {},
            "requests": {"ephemeral-storage": requests} if requests else {},
        }}
        for number, limit in enumerate(limits or ("",))
    ]  # fmt: skip
    listed = [{"name": name, "emptyDir": spec} for name, spec in (volumes or {}).items()]
    return {"spec": {"containers": containers, "volumes": listed, "priority": priority}}


@pytest.mark.parametrize(
    ("one", "usage", "message"),
    [
        (pod("1Mi"), PodUsage({"c0": MIB}), None),
        (pod(), PodUsage({"c0": 1 << 40}), None),
        (pod("1Mi", ""), PodUsage({"c0": MIB - 1, "c1": 2}),
         "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "),
        (pod("1Mi", "9Mi"), PodUsage({"c0": MIB + 1}),
         'Container c0 exceeded its local ephemeral storage limit "1Mi". '),
        (pod("1Mi", "1Mi"), PodUsage({"c0": MIB, "c1": MIB - 5}, {"v": 6}),
         "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "),
        (pod(volumes={"cache": {"sizeLimit": "1Mi"}}), PodUsage({}, {"cache": MIB + 1}),
         'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '),
        (pod(volumes={"cache": {"sizeLimit": "1Mi", "medium": "Memory"}}), PodUsage({}, {"cache": 5 * MIB}), None),
        (pod(volumes={"cache": {"sizeLimit": "0"}}), PodUsage({}, {"cache": 5 * MIB}), None),
    ],
)  # fmt: skip
def test_a_pod_beyond_its_own_limits_is_told_which(
    one: JsonObject, usage: PodUsage, message: str | None
) -> None:
    assert excess(one, usage) == message


def test_an_init_containers_limit_counts_when_it_is_the_largest() -> None:
    one = pod("1Mi")
    one["spec"]["initContainers"] = [{"name": "i", "resources": {"limits": {"ephemeral-storage": "4Mi"}}}]
    assert excess(one, PodUsage({"c0": MIB, "i": 3 * MIB})) is None
    assert excess(one, PodUsage({"c0": MIB, "i": 3 * MIB + 1})) is not None


def test_only_pods_with_limits_are_looked_into() -> None:
    assert not is_limited(pod(volumes={"v": {}}))
    assert is_limited(pod("1Mi"))
    assert is_limited(pod(volumes={"v": {"sizeLimit": "1Mi"}}))


def test_thresholds_are_amounts_or_shares() -> None:
    found = parse_thresholds("nodefs.available<10%, imagefs.inodesFree<500,nodefs.inodesFree<1Ki")
    assert [(one.signal, one.text) for one in found] == [
        ("nodefs.available", "10%"), ("imagefs.inodesFree", "500"), ("nodefs.inodesFree", "1Ki"),
    ]  # fmt: skip
    levels = {"nodefs.available": Level(11, 100), "nodefs.inodesFree": Level(1024, 5000)}
    assert met(found, levels) is None
    assert met(found, levels | {"nodefs.available": Level(9, 100)}) is found[0]
    assert met(found, levels | {"nodefs.inodesFree": Level(1023, 5000)}) is found[2]
    assert parse_thresholds("") == ()


@pytest.mark.parametrize(
    "text", ["memory.available<100Mi", "nodefs.available", "nodefs.available<ten", "nodefs.available<101%"]
)
def test_a_threshold_that_cannot_be_is_named(text: str) -> None:
    with pytest.raises(BadThreshold, match=text.partition("<")[0]):
        parse_thresholds(text)


def test_who_uses_most_beyond_its_request_goes_first_and_critical_pods_stay() -> None:
    pods = {
        "small": (pod(), PodUsage({"c0": 5})), "large": (pod(), PodUsage({"c0": 50})),
        "asked": (pod(requests="1Ki"), PodUsage({"c0": 1000})),
        "critical": (pod(priority=2_000_001_000), PodUsage({"c0": 5000})),
        "important": (pod(priority=10), PodUsage({"c0": 500})),
    }  # fmt: skip
    order = []
    while uid := victim(pods):
        order.append(uid)
        del pods[uid]
    assert order == ["large", "small", "important", "asked"]


def test_a_pod_that_goes_for_the_node_is_told_so() -> None:
    (threshold,) = parse_thresholds("nodefs.available<10%")
    said = node_message(
        threshold, Level(50 * MIB, 1000 * MIB), pod(requests="1Mi"), PodUsage({"c0": 3 * MIB})
    )
    assert said == (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 102400Ki, available: 51200Ki. "
        "Container c0 was using 3072Ki, request is 1Mi, has larger consumption of ephemeral-storage. "
    )


def test_pressure_lasts_until_there_was_room_for_a_while() -> None:
    pressure = Pressure(timedelta(seconds=300))
    told = []
    for now, short in (
        (0, False),
        (10, True),
        (20, False),
        (309, False),
        (310, False),
        (320, True),
        (330, False),
    ):
        pressure.note(short, now)
        told.append(pressure.holds)
    assert told == [False, True, True, True, False, True, True]
