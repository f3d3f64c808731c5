"""ReplicaSet plans: how many pods, which ones go first, and what the status says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.api.resources import REPLICA_SETS
from nodeport.api.selectors import label_selector_of
from nodeport.controllers.ownership import claim
from nodeport.controllers.podcontrol import pod_from_template
from nodeport.controllers.replicaset.reconcile import (
    DELETION_COST,
    MAX_BURST,
    batches,
    plan_replicas,
    replica_status,
)
from nodeport.kit.clock import rfc3339

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def replica_set(replicas: int = 3, **spec: Any) -> JsonObject:
    template = {"metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}}, "spec": {"containers": []}}
    metadata = {"name": "web-1", "namespace": "ns", "uid": "rs", "generation": 4}
    selector = {"matchLabels": {"app": "web"}}
    return {
        "metadata": metadata,
        "spec": {"replicas": replicas, "selector": selector, "template": template, **spec},
    }


def pod(
    name: str, *, node: str = "n1", phase: str = "Running", ready: bool = True, age: float = 3600, **meta: Any
) -> JsonObject:
    since = rfc3339(NOW - timedelta(seconds=age))
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
    metadata = {"name": name, "uid": name, "creationTimestamp": since, "labels": {"app": "web"}, **meta}
    return {
        "metadata": metadata,
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": [condition]},
    }


def restarted(found: JsonObject, count: int) -> JsonObject:
    return {**found, "status": {**found["status"], "containerStatuses": [{"restartCount": count}]}}


@pytest.mark.parametrize(
    ("have", "want", "create", "delete"), [(0, 3, 3, 0), (3, 3, 0, 0), (5, 3, 0, 2), (2, 0, 0, 2)]
)
def test_the_difference_is_made_up(have: int, want: int, create: int, delete: int) -> None:
    plan = plan_replicas(replica_set(want), [pod(str(n)) for n in range(have)], NOW)
    assert (plan.create, len(plan.delete)) == (create, delete)


def test_finished_and_dying_pods_count_for_nothing() -> None:
    pods = [pod("a"), pod("b", phase="Failed"), pod("c", deletionTimestamp=rfc3339(NOW))]
    assert plan_replicas(replica_set(3), pods, NOW).create == 2


def test_a_replica_set_on_its_way_out_makes_nothing() -> None:
    dying = replica_set()
    dying["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    assert plan_replicas(dying, [], NOW).create == 0


def test_one_pass_is_bounded() -> None:
    assert plan_replicas(replica_set(5000), [], NOW).create == MAX_BURST
    assert list(batches(10)) == [1, 2, 4, 3]


@pytest.mark.parametrize(
    ("goes", "stays"),
    [
        (pod("g", node=""), pod("s", phase="Pending", ready=False)),
        (pod("g", phase="Pending", ready=False), pod("s", ready=False)),
        (pod("g", ready=False), pod("s", age=1)),
        (pod("g", annotations={DELETION_COST: "-1"}), pod("s", age=1)),
        (pod("g", age=50), pod("s", age=5000)),
        (restarted(pod("g"), 3), pod("s")),
    ],
)
def test_the_least_worthy_pod_goes_first(goes: JsonObject, stays: JsonObject) -> None:
    for pods in ([goes, stays], [stays, goes]):
        [gone] = plan_replicas(replica_set(1), pods, NOW).delete
        assert gone["metadata"]["name"] == "g"


def test_crowded_nodes_are_thinned_out() -> None:
    pods = [pod("a"), pod("b"), pod("c", node="n2")]
    [gone] = plan_replicas(replica_set(2), pods, NOW).delete
    assert gone["spec"]["nodeName"] == "n1"


def test_a_new_pod_is_the_template_with_an_owner() -> None:
    made = pod_from_template(REPLICA_SETS, replica_set())
    assert made["metadata"]["generateName"] == "web-1-"
    assert made["metadata"]["labels"] == {"app": "web"}
    assert made["metadata"]["annotations"] == {"a": "b"}
    assert made["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"


def test_a_ready_pod_is_available_after_its_minimum_time() -> None:
    pods = [pod("old", age=60), pod("young", age=20), pod("not", ready=False)]
    status, again = replica_status(replica_set(minReadySeconds=30), pods, NOW, "")
    assert status == {
        "replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 2, "availableReplicas": 1, "observedGeneration": 4
    }  # fmt: skip
    assert again == timedelta(seconds=10)


def test_a_failure_is_a_condition_until_it_is_over() -> None:
    failing, _ = replica_status(replica_set(), [], NOW, "quota")
    [condition] = failing["conditions"]
    assert (condition["type"], condition["reason"], condition["message"]) == (
        "ReplicaFailure",
        "FailedCreate",
        "quota",
    )
    healed, _ = replica_status({**replica_set(), "status": failing}, [], NOW, "")
    assert "conditions" not in healed


def test_claiming_adopts_matching_orphans_and_releases_strangers() -> None:
    reference = {"uid": "rs", "controller": True, "kind": "ReplicaSet", "name": "web-1"}
    mine = pod("mine", ownerReferences=[reference])
    stray = pod("stray", ownerReferences=[reference], labels={"app": "db"})
    orphan, other = pod("orphan"), pod("other", ownerReferences=[{**reference, "uid": "x"}])
    dying = pod("dying", deletionTimestamp=rfc3339(NOW))
    owner = replica_set()
    claimed = claim(owner, label_selector_of(owner["spec"]["selector"]), [mine, stray, orphan, other, dying])
    assert [found["metadata"]["name"] for found in claimed.owned] == ["mine", "orphan"]
    assert [found["metadata"]["name"] for found in claimed.adopt] == ["orphan"]
    assert [found["metadata"]["name"] for found in claimed.release] == ["stray"]
