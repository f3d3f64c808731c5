"""Whether a pod may have other amounts, what has to be done for it, and what its status says meanwhile."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.api.patch import strategic_merge_patch
from nodeport.api.resources import PODS
from nodeport.node import resizing
from nodeport.node.reporter import patch_from
from nodeport.node.resizing import Allocations

CAPACITY = {"cpu": "2", "memory": "1Gi"}
GIB = 1 << 30


def amounts(cpu: str = "0", memory: int = 0) -> dict[str, Fraction]:
    return {"cpu": Fraction(cpu), "memory": Fraction(memory)}


@pytest.mark.parametrize(
    ("wanted", "refusal"),
    [
        (amounts("3/2"), None),
        (amounts("5/2"),
         ("Infeasible", "Node didn't have enough capacity: cpu, requested: 2500, capacity: 2000")),
        (amounts("0", 2 * GIB),
         ("Infeasible", f"Node didn't have enough capacity: memory, requested: {2 * GIB}, capacity: {GIB}")),
        (amounts("9/5"),
         ("Deferred", "Node didn't have enough resource: cpu, requested: 1800, used: 500, capacity: 2000")),
    ],
    ids=["fits", "more CPUs than there are", "more memory than there is", "more than is free"],
)  # fmt: skip
def test_a_node_gives_what_it_has(wanted: dict[str, Fraction], refusal: Any) -> None:
    held = Allocations(CAPACITY)
    held.hold("other", amounts("1/2"))
    held.hold("pod", amounts("1"))
    assert held.refusal("pod", wanted) == refusal


def test_whoever_waits_is_called_when_another_pod_leaves() -> None:
    held, called = Allocations(CAPACITY), list[str]()
    for uid in ("one", "two"):
        held.hold(uid, amounts("1"))
        held.waiting[uid] = lambda uid=uid: called.append(uid)
    held.release("one")
    held.release("one")
    assert called == ["two"]


@pytest.mark.parametrize(
    ("before", "wanted", "changed"),
    [
        ({"requests": {"cpu": "1"}}, {"requests": {"cpu": "1000m"}}, set()),
        ({"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}}, {"cpu"}),
        ({}, {"limits": {"memory": "1Gi"}}, {"memory"}),
        ({"limits": {"ephemeral-storage": "1Gi"}}, {}, set()),
    ],
)
def test_what_is_changed(before: JsonObject, wanted: JsonObject, changed: set[str]) -> None:
    assert resizing.changes(before, wanted) == changed


def test_a_container_says_for_what_it_is_started_anew() -> None:
    container = {"resizePolicy": [
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "RestartContainer"},
    ]}  # fmt: skip
    assert not resizing.restarts(container, frozenset({"cpu"}))
    assert resizing.restarts(container, frozenset({"cpu", "memory"}))
    assert not resizing.restarts({}, frozenset({"memory"}))


def test_a_condition_of_a_resize_goes_when_it_is_over() -> None:
    stored = {"conditions": [
        {"type": "Ready", "status": "True"}, {"type": "PodResizePending", "status": "True"},
        {"type": "example.com/gate", "status": "True"},
    ]}  # fmt: skip
    wanted = {"conditions": [{"type": "Ready", "status": "True"}]}
    sent = {"conditions": [{"type": "PodResizeInProgress", "status": "True"}]}
    patch = patch_from(stored, wanted, sent)
    found = strategic_merge_patch(PODS.schema, {"status": stored}, {"status": patch})["status"]
    assert [each["type"] for each in found["conditions"]] == ["Ready", "example.com/gate"]


def test_the_events_tell_the_containers_that_can_be_resized() -> None:
    spec = {
        "initContainers": [{"name": "once"}, {"name": "side", "restartPolicy": "Always"}],
        "containers": [{"name": "main", "resources": {"limits": {"cpu": "1"}}}],
    }
    assert resizing.told("started", {"metadata": {"generation": 3}, "spec": spec}) == (
        'Pod resize started: {"containers":[{"name":"side","resources":{}},'
        '{"name":"main","resources":{"limits":{"cpu":"1"}}}],"generation":3}'
    )
