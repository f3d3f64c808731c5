"""Job plans: how many pods, when it is over, and that every pod is counted once."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.controllers.job.indexes import format_indexes, parse_indexes
from nodeport.controllers.job.reconcile import JobPlan, new_pod, plan_job
from nodeport.controllers.job.tracking import FINALIZER
from nodeport.kit.clock import rfc3339

NOW = datetime(2026, 1, 2, tzinfo=UTC)
INDEX = "batch.kubernetes.io/job-completion-index"


def job(status: JsonObject | None = None, **spec: Any) -> JsonObject:
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"},
    }
    return {
        "metadata": {"name": "j", "namespace": "ns", "uid": "j"},
        "spec": {
            "parallelism": 2, "completions": 3, "backoffLimit": 6, "completionMode": "NonIndexed", "template": template,
            "podReplacementPolicy": "TerminatingOrFailed", **spec,
        },
        "status": status or {},
    }  # fmt: skip


def pod(
    name: str,
    phase: str = "Running",
    *,
    index: int | None = None,
    tracked: bool = True,
    age: float = 3600,
    **meta: Any,
) -> JsonObject:
    made: JsonObject = {
        "name": name,
        "uid": name,
        "creationTimestamp": rfc3339(NOW - timedelta(seconds=age)),
        **meta,
    }
    if tracked:
        made["finalizers"] = [FINALIZER]
    if index is not None:
        made["annotations"] = {INDEX: str(index)}
    return {"metadata": made, "spec": {}, "status": {"phase": phase}}


def planned(found: JsonObject, *pods: JsonObject) -> JobPlan:
    return plan_job(found, pods, NOW)


def types(status: JsonObject) -> dict[str, str]:
    return {
        each["type"]: each["reason"] for each in status.get("conditions") or [] if each["status"] == "True"
    }


DONE = {"succeeded": 1}
GOING = {"deletionTimestamp": rfc3339(NOW), "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("found", "pods", "create", "withdraw"),
    [
        (job(), [], 2, 0),
        (job(), [pod("a")], 1, 0),
        (job({"succeeded": 2}), [], 1, 0),
        (job(), [pod("a", "Succeeded"), pod("b", "Succeeded")], 1, 0),
        (job(parallelism=1), [pod("a"), pod("b")], 0, 1),
        (job(completions=None), [], 2, 0),
        (job(DONE, completions=None), [pod("a")], 0, 0),
        (job(), [pod("a", **GOING), pod("b", **GOING)], 2, 0),
        (job(podReplacementPolicy="Failed"), [pod("a", **GOING)], 1, 0),
        (job(suspend=True), [pod("a"), pod("b")], 0, 2),
    ],
)
def test_as_many_pods_run_as_are_wanted(
    found: JsonObject, pods: list[JsonObject], create: int, withdraw: int
) -> None:
    plan = planned(found, *pods)
    assert (len(plan.create), len(plan.withdraw), len(plan.end)) == (create, withdraw, 0)


def run(found: JsonObject, pods: dict[str, JsonObject], passes: int) -> JsonObject:
    """Carry out ``passes`` plans as the controller would, with nothing new happening to the pods."""
    for _ in range(passes):
        plan = planned(found, *pods.values())
        found = {**found, "status": plan.status}
        for each in plan.release:
            name = each["metadata"]["name"]
            pods[name] = copy.deepcopy(each)
            pods[name]["metadata"].pop("finalizers")
    return found


def test_every_pod_is_counted_once_and_a_job_ends_when_all_are() -> None:
    pods = {name: pod(name, "Succeeded") for name in "abc"}
    first = planned(job(), *pods.values())
    assert first.status["uncountedTerminatedPods"] == {"succeeded": ["a", "b", "c"]}
    assert "succeeded" not in first.status
    assert types(first.status) == {"SuccessCriteriaMet": "CompletionsReached"}
    assert len(first.release) == 3
    ended = run(job(), pods, 4)
    assert ended["status"]["succeeded"] == 3
    assert types(ended["status"]) == {
        "SuccessCriteriaMet": "CompletionsReached",
        "Complete": "CompletionsReached",
    }
    assert ended["status"]["completionTime"] == rfc3339(NOW)


def test_a_pod_that_vanishes_after_it_was_noted_still_counts() -> None:
    noted = job({"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["b"]}, "succeeded": 1})
    status = planned(noted).status
    assert (status["succeeded"], status["failed"], status["uncountedTerminatedPods"]) == (2, 1, {})


@pytest.mark.parametrize(
    ("found", "pods", "reason"),
    [
        (job({"failed": 7}), [], "BackoffLimitExceeded"),
        (job(backoffLimit=0), [pod("a", "Failed")], "BackoffLimitExceeded"),
        (job(backoffLimit=1), [pod("a", "Failed")], None),
        (
            job({"startTime": rfc3339(NOW - timedelta(seconds=9))}, activeDeadlineSeconds=9),
            [],
            "DeadlineExceeded",
        ),
        (job({"startTime": rfc3339(NOW - timedelta(seconds=8))}, activeDeadlineSeconds=9), [], None),
        (job({"startTime": rfc3339(NOW)}, activeDeadlineSeconds=2**62), [], None),
    ],
)
def test_when_a_job_fails(found: JsonObject, pods: list[JsonObject], reason: str | None) -> None:
    plan = planned(found, *pods, pod("still"))
    assert types(plan.status).get("FailureTarget") == reason
    assert [each["metadata"]["name"] for each in plan.end] == (["still"] if reason else [])
    assert "Failed" not in types(plan.status), "not before its last pod is gone"


def test_containers_that_restart_in_place_count_against_the_limit() -> None:
    restarting = pod("a")
    restarting["status"]["containerStatuses"] = [{"restartCount": 2}]
    found = job(backoffLimit=2)
    assert types(planned(found, restarting).status) == {}
    found["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    assert types(planned(found, restarting).status) == {"FailureTarget": "BackoffLimitExceeded"}


def test_after_each_failure_in_a_row_the_wait_doubles() -> None:
    waits = []
    for count in (1, 2, 3):
        pods = [pod(str(n), "Failed", age=5) for n in range(count)]
        plan = planned(job(), *pods)
        assert plan.create == []
        waits.append(plan.again)
    assert waits == [timedelta(seconds=5), timedelta(seconds=15), timedelta(seconds=35)]
    assert planned(job(), pod("a", "Failed", age=11)).create == [None, None]
    saved = planned(job(), pod("a", "Failed", age=9), pod("b", "Succeeded", age=1))
    assert saved.create == [None, None]


def test_a_suspended_job_rests_and_starts_its_clock_again() -> None:
    running = planned(job()).status
    assert running["startTime"] == rfc3339(NOW)
    resting = planned(job(running, suspend=True)).status
    assert types(resting) == {"Suspended": "JobSuspended"}
    assert "startTime" not in resting
    again = planned(job(resting))
    assert types(again.status) == {}
    assert (again.status["startTime"], len(again.create)) == (rfc3339(NOW), 2)


def finished(age: float, **spec: Any) -> JsonObject:
    since = rfc3339(NOW - timedelta(seconds=age))
    return job({"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": since}]}, **spec)


def test_a_finished_job_goes_after_its_time() -> None:
    assert planned(finished(100)).expired is False
    early = planned(finished(20, ttlSecondsAfterFinished=30))
    assert (early.expired, early.again) == (False, timedelta(seconds=10))
    assert planned(finished(30, ttlSecondsAfterFinished=30)).expired
    assert planned(finished(0)).create == []


def test_a_job_on_its_way_out_keeps_no_pod() -> None:
    dying = job()
    dying["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    plan = planned(dying, pod("a"), pod("b", **GOING), pod("c", "Failed"))
    assert [each["metadata"]["name"] for each in plan.release] == ["b", "c"]
    assert plan.create == plan.end == []


def test_pods_that_are_adopted_are_tracked_from_then_on() -> None:
    assert [p["metadata"]["name"] for p in planned(job(), pod("a"), pod("b", tracked=False)).track] == ["b"]


# --- indexed


def indexed(status: JsonObject | None = None, **spec: Any) -> JsonObject:
    return job(status, completionMode="Indexed", **{"completions": 5, "parallelism": 3, **spec})


@pytest.mark.parametrize(
    ("found", "pods", "create"),
    [
        (indexed(), [], [0, 1, 2]),
        (indexed({"completedIndexes": "0-1,3"}), [], [2, 4]),
        (indexed(), [pod("a", index=1)], [0, 2]),
        (indexed(), [pod("a", "Succeeded", index=0)], [1, 2, 3]),
        (indexed(), [pod("a", index=0, **GOING)], [0, 1, 2]),
        (indexed(podReplacementPolicy="Failed"), [pod("a", index=0, **GOING)], [1, 2]),
    ],
)
def test_an_indexed_job_runs_each_index_once(
    found: JsonObject, pods: list[JsonObject], create: list[int]
) -> None:
    assert planned(found, *pods).create == create


def test_pods_of_an_index_that_is_taken_or_done_are_withdrawn() -> None:
    pods = [pod("old", index=0), pod("young", index=0, age=1), pod("done", index=2), pod("beyond", index=9)]
    plan = planned(indexed({"completedIndexes": "2"}), *pods)
    assert sorted(each["metadata"]["name"] for each in plan.withdraw) == ["beyond", "done", "young"]


def test_an_indexed_job_counts_indexes() -> None:
    pods = {str(n): pod(str(n), "Succeeded", index=n % 5) for n in range(6)}
    ended = run(indexed(), pods, 3)
    assert (ended["status"]["succeeded"], ended["status"]["completedIndexes"]) == (5, "0-4")
    assert types(ended["status"])["Complete"] == "CompletionsReached"


@pytest.mark.parametrize(
    ("indexes", "text"), [(set(), ""), ({3}, "3"), ({0, 1}, "0,1"), ({0, 1, 2, 5, 7, 8, 9}, "0-2,5,7-9")]
)
def test_indexes_are_written_in_runs(indexes: set[int], text: str) -> None:
    assert format_indexes(indexes) == text
    assert parse_indexes(text) == indexes


def test_a_new_pod_knows_its_index() -> None:
    made = new_pod(indexed(), 3)
    assert (made["metadata"]["generateName"], made["spec"]["hostname"]) == ("j-3-", "j-3")
    assert made["metadata"]["labels"] == {"a": "b", INDEX: "3"}
    assert made["metadata"]["annotations"] == {INDEX: "3"}
    [variable] = made["spec"]["containers"][0]["env"]
    assert variable["name"] == "JOB_COMPLETION_INDEX"
    plain = new_pod(job(), None)
    assert (plain["metadata"]["generateName"], plain["metadata"]["finalizers"]) == ("j-", [FINALIZER])
