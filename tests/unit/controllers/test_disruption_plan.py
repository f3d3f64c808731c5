"""How many pods a PodDisruptionBudget lets go, as rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodeport.controllers.disruption.reconcile import DELETION_TIMEOUT, plan_status
from nodeport.kit.clock import rfc3339

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Json = dict[str, Any]


def pod(
    name: str, *, ready: bool = True, owned: bool = True, deleted: bool = False, phase: str = "Running"
) -> Json:
    metadata: Json = {"name": name, "namespace": "default"}
    if owned:
        metadata["ownerReferences"] = [{"kind": "ReplicaSet", "name": "web", "uid": "1", "controller": True}]
    if deleted:
        metadata["deletionTimestamp"] = rfc3339(NOW)
    return {
        "metadata": metadata,
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def budget(spec: Json, **status: Any) -> Json:
    return {"metadata": {"name": "web", "generation": 3}, "spec": spec, "status": status}


def counts(plan: Json) -> tuple[int, int, int, int]:
    return tuple(
        plan[key] for key in ("expectedPods", "currentHealthy", "desiredHealthy", "disruptionsAllowed")
    )  # type: ignore[return-value]


THREE = [pod("a"), pod("b"), pod("c", ready=False)]


@pytest.mark.parametrize(
    ("spec", "pods", "replicas", "expected"),
    [
        ({}, THREE, 3, (0, 2, 0, 0)),
        ({"minAvailable": 1}, THREE, 3, (3, 2, 1, 1)),
        ({"minAvailable": 2}, THREE, 3, (3, 2, 2, 0)),
        ({"minAvailable": 5}, THREE, 3, (3, 2, 5, 0)),
        ({"minAvailable": "50%"}, THREE, 5, (5, 2, 3, 0)),
        ({"minAvailable": "34%"}, THREE, 3, (3, 2, 2, 0)),
        ({"maxUnavailable": 1}, THREE, 3, (3, 2, 2, 0)),
        ({"maxUnavailable": 2}, THREE, 3, (3, 2, 1, 1)),
        ({"maxUnavailable": "1%"}, [pod("a"), pod("b"), pod("c")], 3, (3, 3, 2, 1)),
        ({"maxUnavailable": 9}, THREE, 3, (3, 2, 0, 2)),
        ({"minAvailable": 0}, [], 0, (0, 0, 0, 0)),
        (
            {"minAvailable": 1},
            [pod("a"), pod("b", deleted=True), pod("c", phase="Succeeded")],
            3,
            (2, 1, 1, 0),
        ),
    ],
)
def test_a_budget_is_what_is_healthy_beyond_what_must_be(
    spec: Json, pods: list[Json], replicas: int, expected: tuple[int, int, int, int]
) -> None:
    plan = plan_status(budget(spec), pods, lambda pod: ("1", replicas), NOW)
    assert counts(plan.status) == expected
    reason = "SufficientPods" if expected[3] else "InsufficientPods"
    assert [(each["type"], each["reason"]) for each in plan.status["conditions"]] == [
        ("DisruptionAllowed", reason)
    ]
    assert plan.status["observedGeneration"] == 3


def test_an_eviction_that_was_allowed_counts_until_its_pod_is_going_or_its_time_is_over() -> None:
    fresh, old = rfc3339(NOW - timedelta(seconds=30)), rfc3339(NOW - DELETION_TIMEOUT)
    known = {"a": fresh, "b": old, "gone": fresh, "going": fresh}
    pods = [pod("a"), pod("b"), pod("going", deleted=True)]
    plan = plan_status(budget({"minAvailable": 1}, disruptedPods=known), pods, lambda pod: ("1", 3), NOW)
    assert plan.status["disruptedPods"] == {"a": fresh}
    assert plan.status["currentHealthy"] == 1
    assert plan.again == DELETION_TIMEOUT - timedelta(seconds=30)


def test_a_controller_without_a_scale_lets_nothing_go() -> None:
    plan = plan_status(budget({"maxUnavailable": 1}, observedGeneration=2), THREE, lambda pod: None, NOW)
    assert plan.status["disruptionsAllowed"] == 0
    assert plan.status["observedGeneration"] == 2
    assert plan.status["conditions"][0]["reason"] == "SyncFailed"
    assert plan.status["conditions"][0]["message"] == "ReplicaSet web has no scale that could be asked for"


def test_pods_that_nobody_controls_count_by_number_only() -> None:
    bare = [pod("a", owned=False), pod("b", owned=False)]
    assert counts(plan_status(budget({"minAvailable": 1}), bare, lambda pod: None, NOW).status) == (
        2,
        2,
        1,
        1,
    )
    assert counts(plan_status(budget({"maxUnavailable": 1}), bare, lambda pod: None, NOW).status) == (
        0,
        2,
        0,
        0,
    )


def test_a_settled_budget_is_left_alone() -> None:
    first = plan_status(budget({"minAvailable": 1}), THREE, lambda pod: ("1", 3), NOW).status
    again = plan_status(
        budget({"minAvailable": 1}, **first), THREE, lambda pod: ("1", 3), NOW + timedelta(hours=1)
    )
    assert again.status == first


def test_a_budget_that_was_stored_without_a_spec_is_one_that_asks_for_nothing_special() -> None:
    bare = {"metadata": {"name": "bare", "generation": 1}}
    assert plan_status(bare, [], lambda _: None, NOW) == plan_status(
        {**bare, "spec": {}}, [], lambda _: None, NOW
    )
