"""ReplicationControllers, StatefulSets, DaemonSets and Jobs over HTTP: what the server alone decides."""

from __future__ import annotations

from typing import Any

import pytest

Json = dict[str, Any]
RCS = "/api/v1/namespaces/default/replicationcontrollers"
STATEFUL = "/apis/apps/v1/namespaces/default/statefulsets"
DAEMONS = "/apis/apps/v1/namespaces/default/daemonsets"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
MERGE = "application/merge-patch+json"

TEMPLATE: Json = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
ONCE: Json = {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}


def workload(path: str, **spec: Any) -> Json:
    base: Json = {"template": TEMPLATE, "selector": {"matchLabels": {"app": "web"}}}
    if path == RCS:
        base["selector"] = {"app": "web"}
    if path == JOBS:
        base = {"template": ONCE}
    return {"metadata": {"name": "a"}, "spec": {**base, **spec}, "status": {"replicas": 99}}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (RCS, {"replicas": 0}),
        (STATEFUL, {"replicas": 0, "availableReplicas": 0}),
        (DAEMONS, {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}),
        (JOBS, {}),
    ],
)  # fmt: skip
async def test_a_new_workload_starts_at_generation_one_with_an_empty_status(
    raw: Any, path: str, status: Json
) -> None:
    made = await raw.create(path, workload(path))
    assert (made["metadata"]["generation"], made["status"]) == (1, status)
    labelled = await raw("PATCH", f"{path}/a", {"metadata": {"labels": {"x": "y"}}}, Content_Type=MERGE)
    assert labelled.json["metadata"]["generation"] == 1
    changed = await raw("PATCH", f"{path}/a", {"spec": {"minReadySeconds": 3}}, Content_Type=MERGE)
    assert changed.json["metadata"]["generation"] == (1 if path == JOBS else 2)
    told = await raw("PATCH", f"{path}/a/status", {"status": {"observedGeneration": 1}}, Content_Type=MERGE)
    assert told.status == 200
    assert told.json["metadata"]["generation"] == changed.json["metadata"]["generation"]


@pytest.mark.parametrize("path", [RCS, STATEFUL])
async def test_replicas_can_be_read_and_changed_as_a_scale(raw: Any, path: str) -> None:
    await raw.create(path, workload(path, replicas=2))
    scale = (await raw("GET", f"{path}/a/scale")).json
    assert (scale["kind"], scale["spec"], scale["status"]) == (
        "Scale",
        {"replicas": 2},
        {"replicas": 0, "selector": "app=web"},
    )
    answer = await raw("PUT", f"{path}/a/scale", {**scale, "spec": {"replicas": 5}})
    assert answer.json["spec"] == {"replicas": 5}
    found = (await raw("GET", f"{path}/a")).json
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (5, 2)
    assert (await raw("PUT", f"{path}/a/scale", {**scale, "spec": {"replicas": 1}})).status == 409


async def test_a_wrong_scale_is_told_so_as_a_scale(raw: Any) -> None:
    await raw.create(RCS, workload(RCS))
    answer = await raw("PATCH", f"{RCS}/a/scale", {"spec": {"replicas": -1}}, Content_Type=MERGE)
    assert answer.message == (
        'Scale.autoscaling "a" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    )


async def test_a_daemon_set_has_no_scale(raw: Any) -> None:
    await raw.create(DAEMONS, workload(DAEMONS))
    assert (await raw("GET", f"{DAEMONS}/a/scale")).status == 404


async def test_a_daemon_set_counts_the_changes_of_its_template(raw: Any) -> None:
    await raw.create(DAEMONS, workload(DAEMONS))
    note = "deprecated.daemonset.template.generation"
    for patch, count in (
        ({"spec": {"minReadySeconds": 1}}, "1"),
        ({"spec": {"template": {"metadata": {"annotations": {"x": "y"}}}}}, "2"),
        ({"metadata": {"annotations": {note: "7"}}}, "2"),
    ):
        found = (await raw("PATCH", f"{DAEMONS}/a", patch, Content_Type=MERGE)).json
        assert found["metadata"]["annotations"][note] == count


async def test_a_job_selects_its_pods_by_its_own_uid(raw: Any) -> None:
    made = await raw.create(JOBS, workload(JOBS))
    uid = made["metadata"]["uid"]
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert made["spec"]["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": "a",
        "controller-uid": uid, "job-name": "a",
    }  # fmt: skip
    assert made["metadata"]["labels"] == made["spec"]["template"]["metadata"]["labels"]
    own = await raw.create(
        JOBS, {"metadata": {"name": "own", "labels": {"x": "y"}}, "spec": {"template": ONCE}}
    )
    assert own["metadata"]["labels"] == {"x": "y"}
    generated = await raw.create(JOBS, {"metadata": {"generateName": "j-"}, "spec": {"template": ONCE}})
    labels = generated["spec"]["template"]["metadata"]["labels"]
    assert labels["job-name"] == generated["metadata"]["name"]


@pytest.mark.parametrize("path", [RCS, JOBS])
async def test_pods_of_the_oldest_kinds_are_orphaned_unless_asked_otherwise(raw: Any, path: str) -> None:
    await raw.create(path, workload(path))
    answer = await raw("DELETE", f"{path}/a")
    assert answer.json["metadata"]["finalizers"] == ["orphan"]
    warned = answer.headers.get("Warning", "")
    assert warned.startswith('299 - "child pods are preserved by default') is (path == JOBS)
    again = await raw("DELETE", f"{path}/a?propagationPolicy=Background")
    assert again.status == 200
    assert "Warning" not in again.headers
    assert (await raw("GET", f"{path}/a")).status == 404


async def test_a_deletion_in_the_foreground_is_not_turned_by_a_kinds_default(raw: Any) -> None:
    await raw.create(RCS, workload(RCS))
    await raw("DELETE", f"{RCS}/a?propagationPolicy=Foreground")
    again = await raw("DELETE", f"{RCS}/a")
    assert again.json["metadata"]["finalizers"] == ["foregroundDeletion"]


@pytest.mark.parametrize("path", [STATEFUL, DAEMONS])
async def test_newer_kinds_go_at_once(raw: Any, path: str) -> None:
    await raw.create(path, workload(path))
    assert (await raw("DELETE", f"{path}/a")).json["status"] == "Success"


async def test_orphan_dependents_is_still_understood(raw: Any) -> None:
    await raw.create(RCS, workload(RCS))
    assert (await raw("DELETE", f"{RCS}/a?orphanDependents=false")).json["status"] == "Success"
    await raw.create(STATEFUL, workload(STATEFUL))
    kept = await raw("DELETE", f"{STATEFUL}/a?orphanDependents=true")
    assert kept.json["metadata"]["finalizers"] == ["orphan"]
    both = await raw("DELETE", f"{STATEFUL}/a?orphanDependents=true&propagationPolicy=Background")
    assert both.status == 422


async def test_jobs_and_replication_controllers_are_found_by_their_status(raw: Any) -> None:
    await raw.create(JOBS, workload(JOBS))
    await raw.create(RCS, workload(RCS))
    for path, selector in ((JOBS, "status.successful=0"), (RCS, "status.replicas=0")):
        assert len((await raw("GET", f"{path}?fieldSelector={selector}")).json["items"]) == 1
        other = selector.replace("=0", "=1")
        assert (await raw("GET", f"{path}?fieldSelector={other}")).json["items"] == []
