"""StatefulSet plans: which pod is next, in which order, of which revision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.api.resources import STATEFUL_SETS
from nodeport.controllers.history import (
    equal_revision,
    new_revision,
    next_number,
    revision_data,
    surplus,
    with_template,
)
from nodeport.controllers.statefulset.reconcile import (
    Versions,
    new_pod,
    ordinal_of,
    plan_stateful,
    stateful_status,
)
from nodeport.kit.clock import rfc3339

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def stateful_set(replicas: int = 3, *, image: str = "v1", **spec: Any) -> JsonObject:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }
    return {
        "metadata": {"name": "web", "namespace": "ns", "uid": "s", "generation": 4},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template,
            "serviceName": "db", "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}},
            **spec,
        },
    }  # fmt: skip


def revision(owner: JsonObject, name: str, number: int) -> JsonObject:
    return {"metadata": {"name": name}, "data": revision_data(owner), "revision": number}


V1 = revision(stateful_set(), "web-1", 1)
V2 = revision(stateful_set(image="v2"), "web-2", 2)
SAME, ROLLING = Versions(V1, V1), Versions(V1, V2)


def pod(
    ordinal: int,
    *,
    ready: bool = True,
    hash_: str = "web-1",
    phase: str = "Running",
    age: float = 60,
    **meta: Any,
) -> JsonObject:
    name = f"web-{ordinal}"
    since = rfc3339(NOW - timedelta(seconds=age))
    labels = {"app": "web", "controller-revision-hash": hash_, "statefulset.kubernetes.io/pod-name": name}
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
    return {
        "metadata": {"name": name, "uid": name, "labels": labels, **meta},
        "spec": {},
        "status": {"phase": phase, "conditions": [condition]},
    }


def planned(
    owner: JsonObject, pods: list[JsonObject], versions: Versions = SAME
) -> tuple[list[str], list[str]]:
    plan = plan_stateful(owner, pods, versions, NOW)
    return [p["metadata"]["name"] for p in plan.create], [p["metadata"]["name"] for p in plan.delete]


GOING = {"deletionTimestamp": rfc3339(NOW)}


@pytest.mark.parametrize(
    ("pods", "create", "delete"),
    [
        ([], ["web-0"], []),
        ([pod(0, ready=False)], [], []),
        ([pod(0)], ["web-1"], []),
        ([pod(0), pod(2)], ["web-1"], []),
        ([pod(0), pod(1, **GOING), pod(2)], [], []),
        ([pod(0), pod(1), pod(2)], [], []),
        ([pod(n) for n in range(5)], [], ["web-4"]),
        ([*(pod(n) for n in range(4)), pod(4, **GOING)], [], []),
        ([pod(0), pod(1, ready=False), pod(2), pod(3)], [], []),
        ([pod(0), pod(1), pod(2), pod(3, ready=False), pod(4, ready=False)], [], []),
        ([pod(0), pod(1), pod(2), pod(3, ready=False), pod(4)], [], ["web-4"]),
        ([pod(0, phase="Failed", ready=False), pod(1)], [], ["web-0"]),
    ],
)
def test_in_order_one_step_is_taken_once_all_before_is_well(
    pods: list[JsonObject], create: list[str], delete: list[str]
) -> None:
    assert planned(stateful_set(), pods) == (create, delete)


@pytest.mark.parametrize(
    ("pods", "create", "delete"),
    [
        ([], ["web-0", "web-1", "web-2"], []),
        ([pod(1, ready=False)], ["web-0", "web-2"], []),
        ([pod(n) for n in range(5)], [], ["web-4", "web-3"]),
        ([pod(0, phase="Succeeded", ready=False)], ["web-1", "web-2"], ["web-0"]),
    ],
)
def test_in_parallel_nothing_waits(pods: list[JsonObject], create: list[str], delete: list[str]) -> None:
    assert planned(stateful_set(podManagementPolicy="Parallel"), pods) == (create, delete)


def test_numbers_may_start_elsewhere() -> None:
    owner = stateful_set(2, ordinals={"start": 5}, podManagementPolicy="Parallel")
    assert planned(owner, [pod(0), pod(5)]) == (["web-6"], ["web-0"])


def test_a_set_on_its_way_out_does_nothing() -> None:
    owner = stateful_set()
    owner["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    assert planned(owner, []) == ([], [])


@pytest.mark.parametrize(
    ("hashes", "ready", "spec", "delete"),
    [
        ("111", "111", {}, ["web-2"]),
        ("112", "111", {}, ["web-1"]),
        ("112", "110", {}, []),
        ("222", "111", {}, []),
        ("111", "111", {"partition": 2}, ["web-2"]),
        ("112", "111", {"partition": 2}, []),
        ("111", "111", {"maxUnavailable": 2}, ["web-2", "web-1"]),
        ("112", "110", {"maxUnavailable": 2}, ["web-1"]),
        ("111", "111", {"maxUnavailable": "70%"}, ["web-2", "web-1"]),
        ("111", "111", {"maxUnavailable": "10%"}, ["web-2"]),
        ("111", "110", {}, ["web-2"]),
    ],
)
def test_an_update_goes_down_from_the_highest_number(
    hashes: str, ready: str, spec: JsonObject, delete: list[str]
) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1, **spec}}
    owner = stateful_set(image="v2", updateStrategy=strategy, podManagementPolicy="Parallel")
    pods = [
        pod(n, hash_=f"web-{h}", ready=r == "1") for n, (h, r) in enumerate(zip(hashes, ready, strict=True))
    ]
    assert planned(owner, pods, ROLLING) == ([], delete)


def test_on_delete_nothing_is_updated_but_what_the_user_deletes() -> None:
    owner = stateful_set(image="v2", updateStrategy={"type": "OnDelete"})
    assert planned(owner, [pod(0), pod(1), pod(2)], ROLLING) == ([], [])
    [made] = plan_stateful(owner, [pod(1), pod(2)], ROLLING, NOW).create
    assert made["metadata"]["labels"]["controller-revision-hash"] == "web-2"


def test_pods_below_the_partition_are_made_of_the_old_template() -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    owner = stateful_set(image="v2", updateStrategy=strategy)
    images = [new_pod(owner, n, ROLLING)["spec"]["containers"][0]["image"] for n in range(2)]
    assert images == ["v1", "v2"]


def test_a_new_pod_has_a_lasting_name_host_and_labels() -> None:
    made = new_pod(stateful_set(), 2, SAME)
    assert made["metadata"] == {
        "name": "web-2", "namespace": "ns",
        "labels": {
            "app": "web", "statefulset.kubernetes.io/pod-name": "web-2", "apps.kubernetes.io/pod-index": "2",
            "controller-revision-hash": "web-1",
        },
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s", "controller": True,
             "blockOwnerDeletion": True},
        ],
    }  # fmt: skip
    assert (made["spec"]["hostname"], made["spec"]["subdomain"]) == ("web-2", "db")


@pytest.mark.parametrize(
    ("name", "ordinal"),
    [("web-0", 0), ("web-12", 12), ("web-01", None), ("web-", None), ("web-x", None), ("db-1", None)],
)
def test_a_pods_number_is_the_end_of_its_name(name: str, ordinal: int | None) -> None:
    assert ordinal_of(stateful_set(), {"metadata": {"name": name}}) == ordinal


def test_an_adopted_pod_gets_the_labels_of_its_identity() -> None:
    bare = pod(0, labels={"app": "web"})
    assert plan_stateful(stateful_set(1), [bare], SAME, NOW).relabel == [bare]
    assert plan_stateful(stateful_set(1), [pod(0)], SAME, NOW).relabel == []


def test_a_pod_is_available_after_its_minimum_time_and_the_next_waits_for_it() -> None:
    owner = stateful_set(minReadySeconds=30)
    assert planned(owner, [pod(0, age=20)]) == ([], [])
    assert planned(owner, [pod(0, age=31)]) == (["web-1"], [])
    status, again = stateful_status(owner, [pod(0, age=20)], SAME, 0, NOW)
    assert (status["readyReplicas"], status["availableReplicas"], again) == (1, 0, timedelta(seconds=10))


def test_the_status_tells_how_far_an_update_has_come() -> None:
    owner = stateful_set(image="v2")
    under_way, _ = stateful_status(owner, [pod(0), pod(1), pod(2, hash_="web-2")], ROLLING, 0, NOW)
    assert under_way == {
        "observedGeneration": 4, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "currentReplicas": 2,
        "updatedReplicas": 1, "currentRevision": "web-1", "updateRevision": "web-2", "collisionCount": 0,
    }  # fmt: skip
    done, _ = stateful_status(owner, [pod(n, hash_="web-2") for n in range(3)], ROLLING, 0, NOW)
    assert (done["currentRevision"], done["currentReplicas"], done["updatedReplicas"]) == ("web-2", 3, 3)


# --- revisions


def test_a_revision_holds_a_patch_that_brings_its_template_back() -> None:
    owner = stateful_set()
    made = new_revision(
        STATEFUL_SETS, owner, number=3, collisions=0, hash_label="controller.kubernetes.io/hash"
    )
    name = made["metadata"]["name"]
    assert name == f"web-{made['metadata']['labels']['controller.kubernetes.io/hash']}"
    assert (made["revision"], made["metadata"]["labels"]["app"]) == (3, "web")
    assert made["data"]["spec"]["template"]["$patch"] == "replace"
    other = stateful_set(image="v2")
    assert with_template(other, made) == {
        **other,
        "spec": {**other["spec"], "template": owner["spec"]["template"]},
    }
    again = new_revision(
        STATEFUL_SETS, owner, number=3, collisions=1, hash_label="controller.kubernetes.io/hash"
    )
    assert again["metadata"]["name"] != name


def test_an_old_template_is_found_again() -> None:
    assert equal_revision(stateful_set(), [V2, V1]) is V1
    assert equal_revision(stateful_set(image="v3"), [V2, V1]) is None
    assert next_number([V1, V2]) == 3


def test_the_oldest_revisions_that_nobody_uses_go() -> None:
    kept = [revision(stateful_set(), f"web-{n}", n) for n in range(6)]
    gone = surplus(stateful_set(revisionHistoryLimit=2), kept, {"web-0", "web-5"})
    assert [found["metadata"]["name"] for found in gone] == ["web-1", "web-2"]
    assert surplus(stateful_set(), kept, set()) == []
