"""Who must go so that a pod of a higher priority fits: one test a rule of pod-priority-preemption."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.controllers.scheduler.nodes import ClusterState
from nodeport.controllers.scheduler.podinfo import PodInfo
from nodeport.controllers.scheduler.preemption import Preemption, preempt
from nodeport.controllers.scheduler.reconcile import choose
from unit.controllers.scheduling import HOST, cluster, container, far, near, node, pod, term

A = {"app": "a"}


def weak(name: str, cpu: str = "1", *, priority: int = 0, started: str = "", **more: Any) -> JsonObject:
    found = pod(name, **{"containers": [container(cpu=cpu)], "priority": priority, **more})
    if started:
        found["status"]["startTime"] = f"2026-01-01T{started}:00Z"
    return found


def strong(cpu: str = "1", **more: Any) -> JsonObject:
    return pod("strong", **{"containers": [container(cpu=cpu)], "priority": 10, **more})


def budget(allowed: int, *, match: dict[str, str] | None = None, **status: Any) -> JsonObject:
    return {
        "metadata": {"name": "b", "namespace": "ns"},
        "spec": {"selector": {"matchLabels": A if match is None else match}},
        "status": {"disruptionsAllowed": allowed, **status},
    }


def tried(wanted: JsonObject, state: ClusterState, *budgets: JsonObject) -> Preemption:
    """And nothing of the picture has changed after."""
    before = {name: (set(each.pods), dict(each.used)) for name, each in state.nodes.items()}
    made = preempt(PodInfo.of(wanted), choose(wanted, state).hopeful, state, budgets)
    assert {name: (set(each.pods), dict(each.used)) for name, each in state.nodes.items()} == before
    return made


def going(made: Preemption) -> list[str]:
    return sorted(key.name for key, _ in made.victims)


def test_as_few_go_as_will_do_and_the_least_important_of_them() -> None:
    there = [weak("q1", priority=2), weak("q2", priority=1)]
    made = tried(strong(), cluster(node("a"), placed={"a": there}))
    assert (made.node, going(made)) == ("a", ["q2"])
    assert going(tried(strong("2"), cluster(node("a"), placed={"a": there}))) == ["q1", "q2"]


def test_of_equals_the_one_that_started_last_goes() -> None:
    there = [weak("new", started="12:00"), weak("old", started="11:00"), weak("unstarted", cpu="0")]
    assert going(tried(strong(), cluster(node("a"), placed={"a": there}))) == ["new"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # the lower of the highest priorities
        ([weak("q", "2", priority=1)], [weak("r", "2", priority=2)]),
        # the smaller sum of priorities, and so the fewer
        ([weak("q", "2", priority=1)], [weak("r1", priority=1), weak("r2", priority=1)]),
        # whose most important victim started last
        ([weak("q", "2", started="12:00")], [weak("r", "2", started="11:00")]),
    ],
)
def test_the_node_where_least_harm_is_done(one: list[JsonObject], other: list[JsonObject]) -> None:
    for home, elsewhere in ("ab", "ba"):
        state = cluster(node("a"), node("b"), placed={home: one, elsewhere: other})
        assert tried(strong("2"), state).node == home


def test_broken_budgets_count_before_priorities() -> None:
    guarded = weak("guarded", "2", labels=A)
    state = cluster(node("a"), node("b"), placed={"a": [guarded], "b": [weak("dear", "2", priority=9)]})
    assert going(tried(strong(), state, budget(0))) == ["dear"]
    assert going(tried(strong(), state, budget(1))) == ["guarded"]
    assert going(tried(strong(), state, budget(0, match={}))) == ["guarded"]
    assert going(tried(strong(), state, budget(0, disruptedPods={"guarded": ""}))) == ["guarded"]


def test_a_budget_is_broken_when_nothing_else_helps_and_only_as_far_as_it_must() -> None:
    there = [weak("q1", labels=A, started="10:00"), weak("q2", labels=A, started="11:00")]
    state = cluster(node("a"), placed={"a": there})
    made = tried(strong("2"), state, budget(1))
    assert (going(made), made.violations) == (["q1", "q2"], 1)
    made = tried(strong("1"), state, budget(1))
    assert len(made.victims) == 1


def test_equal_and_higher_priorities_stay() -> None:
    state = cluster(node("a"), placed={"a": [weak("q", "2", priority=10)]})
    assert tried(strong(), state).message == (
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )


def test_it_is_said_of_every_node_why_driving_pods_away_would_not_help() -> None:
    there = {"a": [weak("q", "2", priority=10)], "b": [weak("r", priority=10), weak("s", "1")]}
    state = cluster(
        node("a"), node("b"), node("c", unschedulable=True), node("d", offers={"cpu": "1"}), placed=there
    )
    made = tried(strong("2"), state)
    assert (made.node, made.victims) == ("", ())
    assert made.message == (
        "preemption: 0/4 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod, "
        "2 Preemption is not helpful for scheduling."
    )


def test_pods_are_driven_away_for_what_they_are_too() -> None:
    """Anti-affinity either way, and host ports."""
    shunned = cluster(node("a"), placed={"a": [weak("q", labels=A), weak("r", "0")]})
    assert going(tried(strong(affinity=far(term(HOST, A))), shunned)) == ["q"]
    guarding = cluster(node("a"), placed={"a": [weak("q", affinity=far(term(HOST, A)))]})
    assert going(tried(strong(labels=A), guarding)) == ["q"]
    port = {"ports": [{"hostPort": 80, "containerPort": 80}]}
    taken = cluster(node("a"), placed={"a": [weak("q", containers=[port]), weak("r", "0")]})
    assert going(tried(strong(containers=[port]), taken)) == ["q"]


def test_no_one_is_driven_away_for_an_affinity_that_nobody_meets() -> None:
    state = cluster(node("a"), placed={"a": [weak("q")]})
    made = tried(strong(affinity=near(term(HOST, A))), state)
    assert made.message == (
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
