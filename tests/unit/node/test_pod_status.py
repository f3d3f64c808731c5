from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nodeport.api.meta import JsonObject
from nodeport.node.pod_status import (
    ContainerView,
    PodView,
    Run,
    crash_delay,
    phase,
    restarts,
    restarts_all,
    status,
)
from nodeport.node.runtime import ContainerExit

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def pod(policy: str = "Always", **fields: object) -> JsonObject:
    spec = {"restartPolicy": policy, "containers": []}
    return {"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec, "status": fields}


def view(
    containers: list[ContainerView], policy: str = "Always", *, final: bool = False, **fields: object
) -> PodView:
    init = fields.pop("init", [])
    assert isinstance(init, list)
    return PodView(pod(policy, **fields), ["172.30.0.11"], ["10.244.1.2"], NOW, containers, init, final=final)


def running(**fields: object) -> ContainerView:
    options: JsonObject = {"ready": True, "started": True, **fields}
    return ContainerView({"name": "c", "image": "i"}, Run(0, "id", NOW), **options)


def ended(code: int, attempt: int = 0) -> ContainerView:
    run = Run(attempt, "id", NOW, ContainerExit(code, NOW))
    return ContainerView({"name": "c", "image": "i"}, run)


RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
NOT_RULE = {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [42]}}
NEW = ContainerView({"name": "c", "image": "i"})


@pytest.mark.parametrize(
    ("containers", "policy", "expected"),
    [
        ([NEW], "Always", "Pending"),
        ([running()], "Always", "Running"),
        ([running(), NEW], "Always", "Pending"),
        ([running(), ended(0)], "Never", "Running"),
        ([ended(0)], "Always", "Running"),
        ([ended(1)], "OnFailure", "Running"),
        ([ended(0)], "OnFailure", "Succeeded"),
        ([ended(0), ended(0)], "Never", "Succeeded"),
        ([ended(0), ended(1)], "Never", "Failed"),
    ],
)
def test_the_phase_follows_from_containers_and_restart_policy(
    containers: list[ContainerView], policy: str, expected: str
) -> None:
    assert phase(view(containers, policy)) == expected


def test_a_pod_that_was_told_to_go_is_over_when_its_containers_are() -> None:
    assert phase(view([running()], final=True)) == "Running"
    assert phase(view([ended(0)], final=True)) == "Succeeded"
    assert phase(view([ended(137)], final=True)) == "Failed"


def test_init_containers_keep_a_pod_pending() -> None:
    found = status(view([NEW], init=[running()]), NOW)
    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert condition(found, "Initialized")["reason"] == "ContainersNotInitialized"
    assert phase(view([NEW], "Never", init=[ended(1)])) == "Failed"
    assert phase(view([running()], init=[ended(0)])) == "Running"


def condition(found: JsonObject, kind: str) -> JsonObject:
    return next(item for item in found["conditions"] if item["type"] == kind)


def test_a_transition_time_changes_with_the_status_only() -> None:
    first = status(view([running()]), NOW)
    assert condition(first, "Ready")["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    same = status(view([running()], **first), LATER)
    assert condition(same, "Ready")["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    changed = status(view([running(ready=False)], **first), LATER)
    ready = condition(changed, "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "False", "ContainersNotReady", "containers with unready status: [c]",
    )  # fmt: skip
    assert ready["lastTransitionTime"] == "2026-01-02T03:05:05Z"


def test_a_readiness_gate_holds_ready_back() -> None:
    gated = view([running()])
    gated.pod["spec"]["readinessGates"] = [{"conditionType": "example.com/gate"}]
    found = status(gated, NOW)
    assert condition(found, "ContainersReady")["status"] == "True"
    assert condition(found, "Ready")["reason"] == "ReadinessGatesNotReady"
    gated.pod["status"] = {"conditions": [{"type": "example.com/gate", "status": "True"}]}
    assert condition(status(gated, NOW), "Ready")["status"] == "True"


def test_a_waiting_container_shows_its_last_end() -> None:
    run = Run(2, "id", NOW, ContainerExit(1, LATER))
    waiting = ContainerView({"name": "c", "image": "i"}, run, waiting=("CrashLoopBackOff", "back-off"))
    found = status(view([waiting]), LATER)["containerStatuses"][0]
    assert found["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert found["lastState"]["terminated"]["exitCode"] == 1
    assert found["restartCount"] == 2


def test_restarts_wait_ten_seconds_doubling_to_five_minutes() -> None:
    assert [crash_delay(number).total_seconds() for number in range(1, 9)] == [
        0,
        10,
        20,
        40,
        80,
        160,
        300,
        300,
    ]
    assert crash_delay(10_000) == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 1, False),
    ],
)
def test_the_policy_decides_on_another_run(policy: str, code: int, again: bool) -> None:
    assert restarts({}, policy, code) is again


@pytest.mark.parametrize(
    ("container", "policy", "code", "again"),
    [
        ({"restartPolicy": "Never"}, "Always", 1, False),
        ({"restartPolicy": "Always"}, "Never", 0, True),
        ({"restartPolicy": "OnFailure"}, "Never", 1, True),
        ({"restartPolicy": "OnFailure"}, "Always", 0, False),
        ({"restartPolicy": "Never", "restartPolicyRules": [RULE]}, "Never", 42, True),
        ({"restartPolicy": "Never", "restartPolicyRules": [RULE]}, "Never", 43, False),
        ({"restartPolicy": "Never", "restartPolicyRules": [NOT_RULE]}, "Never", 43, True),
        ({"restartPolicy": "Never", "restartPolicyRules": [NOT_RULE]}, "Never", 42, False),
        ({"restartPolicy": "OnFailure", "restartPolicyRules": [RULE]}, "Never", 43, True),
    ],
)
def test_a_containers_own_rules_and_policy_come_before_the_pods(
    container: JsonObject, policy: str, code: int, again: bool
) -> None:
    assert restarts(container, policy, code) is again


def test_the_first_rule_that_matches_counts() -> None:
    every = {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0]}}
    container: JsonObject = {"restartPolicy": "Never", "restartPolicyRules": [RULE, every]}
    assert [restarts_all(container, code) for code in (42, 43, 0)] == [False, True, False]
    assert [restarts(container, "Never", code) for code in (42, 43, 0)] == [True, True, False]


def test_a_pod_that_begins_anew_runs_however_its_containers_ended() -> None:
    init, main = replace(ended(0), anew=True), replace(ended(0), anew=True)
    assert phase(view([main], "Never", init=[init])) == "Running"
    assert phase(view([main, running()], "Never", init=[ended(0)])) == "Running"
    told = status(replace(view([main], "Never"), starting_over=True), NOW)["conditions"]
    assert {one["type"]: one["status"] for one in told}["AllContainersRestarting"] == "True"


def test_an_init_container_that_succeeded_is_done_unless_it_is_a_sidecar() -> None:
    assert not restarts({}, "Always", 0, initial=True)
    assert restarts({}, "Always", 1, initial=True)
    assert not restarts({}, "Never", 1, initial=True)
    assert restarts({"restartPolicy": "Always"}, "Never", 0, initial=True)


def test_a_pod_that_must_end_is_failed_once_its_containers_have_ended() -> None:
    why = ("Evicted", "it used too much")
    for one, expected in ((running(), "Running"), (ended(137), "Failed")):
        found = status(replace(view([one], final=True), failure=why), NOW)
        assert found["phase"] == expected
        assert found.get("reason") == ("Evicted" if expected == "Failed" else None)


def test_a_container_counts_as_being_created_while_its_post_start_hook_runs() -> None:
    found = status(view([running(hooking=True, ready=False)]), NOW)["containerStatuses"][0]
    assert found["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert (found["started"], found["ready"]) == (False, False)


def test_a_pod_is_ready_when_its_sidecars_are_too() -> None:
    sidecar = replace(running(ready=False), spec={"name": "s", "restartPolicy": "Always"})
    found = {one["type"]: one for one in status(view([running()], init=[sidecar]), NOW)["conditions"]}
    assert found["ContainersReady"]["message"] == "containers with unready status: [s]"
    ready = status(view([running()], init=[replace(sidecar, ready=True)]), NOW)["conditions"]
    assert {one["type"]: one["status"] for one in ready}["Ready"] == "True"


def test_an_init_container_that_succeeded_counts_as_ready() -> None:
    sidecar = replace(ended(0), spec={"name": "s", "restartPolicy": "Always"})
    found = status(view([ended(0)], init=[ended(0), ended(1), sidecar]), NOW)
    assert [one["ready"] for one in found["initContainerStatuses"]] == [True, False, False]
    assert found["containerStatuses"][0]["ready"] is False


def test_a_sidecar_that_ended_after_the_others_leaves_the_pod_as_they_did() -> None:
    sidecar = replace(ended(0), spec={"name": "s", "restartPolicy": "Always"})
    assert phase(view([ended(0)], "Never", init=[sidecar], final=True)) == "Succeeded"


def test_a_pod_that_the_node_refused_has_a_reason_and_no_containers() -> None:
    refused = replace(view([NEW], init=[NEW]), failure=("OutOfcpu", "too much"))
    found = status(refused, NOW)
    assert (found["phase"], found["reason"]) == ("Failed", "OutOfcpu")
    assert found.keys().isdisjoint({"containerStatuses", "initContainerStatuses"})
    assert "containerStatuses" in status(replace(refused, containers=[ended(137)]), NOW)
