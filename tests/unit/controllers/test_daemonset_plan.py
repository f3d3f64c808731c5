"""DaemonSet plans: which nodes, which pods, and how an update comes to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.api.nodeaffinity import node_of, selects_node
from nodeport.controllers.daemonset.reconcile import (
    belongs,
    daemon_status,
    manage,
    new_pod,
    places,
    replaceable,
)
from nodeport.controllers.daemonset.rollout import roll
from nodeport.kit.clock import rfc3339

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def daemon_set(
    template: JsonObject | None = None, *, unavailable: Any = 1, surge: Any = 0, **spec: Any
) -> JsonObject:
    rolling = {"maxUnavailable": unavailable, "maxSurge": surge}
    return {
        "metadata": {"name": "d", "namespace": "ns", "uid": "d", "generation": 2},
        "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [], **(template or {})}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}, **spec,
        },
    }  # fmt: skip


def node(name: str = "n1", *taints: JsonObject, **labels: str) -> JsonObject:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}}


def taint(key: str, effect: str) -> JsonObject:
    return {"key": key, "effect": effect}


def pod(
    name: str, where: str = "n1", *, hash_: str = "h1", ready: bool = True, age: float = 60, **meta: Any
) -> JsonObject:
    since = rfc3339(NOW - timedelta(seconds=age))
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
    labels = {"app": "d", "controller-revision-hash": hash_}
    return {
        "metadata": {"name": name, "uid": name, "labels": labels, "creationTimestamp": since, **meta},
        "spec": {"nodeName": where},
        "status": {"phase": "Running", "conditions": [condition]},
    }


GOING = {"deletionTimestamp": rfc3339(NOW)}


@pytest.mark.parametrize(
    ("template", "found", "wanted"),
    [
        ({}, node(), (True, True)),
        ({"nodeSelector": {"disk": "ssd"}}, node(), (False, False)),
        ({"nodeSelector": {"disk": "ssd"}}, node(disk="ssd"), (True, True)),
        ({"nodeName": "n2"}, node(), (False, False)),
        ({}, node("n1", taint("x", "NoSchedule")), (False, True)),
        ({}, node("n1", taint("x", "NoExecute")), (False, False)),
        ({}, node("n1", taint("x", "PreferNoSchedule")), (True, True)),
        ({"tolerations": [{"operator": "Exists"}]}, node("n1", taint("x", "NoExecute")), (True, True)),
        ({}, node("n1", taint("node.kubernetes.io/unschedulable", "NoSchedule")), (True, True)),
        ({}, node("n1", taint("node.kubernetes.io/not-ready", "NoExecute")), (True, True)),
        ({}, node("n1", taint("node.kubernetes.io/network-unavailable", "NoSchedule")), (False, True)),
        ({"hostNetwork": True}, node("n1", taint("node.kubernetes.io/network-unavailable", "NoSchedule")), (True, True)),
    ],
)  # fmt: skip
def test_where_a_daemon_belongs(template: JsonObject, found: JsonObject, wanted: tuple[bool, bool]) -> None:
    assert belongs(daemon_set(template), found) == wanted


def planned(
    owner: JsonObject, nodes: list[JsonObject], pods: list[JsonObject]
) -> tuple[list[str], list[str]]:
    where, ended = places(owner, nodes, pods)
    plan = manage(owner, where, "h1", NOW)
    return plan.create, [found["metadata"]["name"] for found in [*plan.delete, *ended]]


def test_every_node_that_fits_gets_one_pod() -> None:
    owner = daemon_set({"nodeSelector": {"disk": "ssd"}})
    nodes = [node("n2", disk="ssd"), node("n1", disk="ssd"), node("n3")]
    assert planned(owner, nodes, []) == (["n1", "n2"], [])
    assert planned(owner, nodes, [pod("a", "n1"), pod("b", "n3")]) == (["n2"], ["b"])


def test_a_second_pod_on_a_node_goes_the_oldest_stays() -> None:
    pods = [pod("young", age=5), pod("old", age=50)]
    assert planned(daemon_set(), [node()], pods) == ([], ["young"])


def test_a_pod_that_ends_is_awaited() -> None:
    assert planned(daemon_set(), [node()], [pod("a", **GOING)]) == ([], [])


def test_a_tainted_node_keeps_its_pod_unless_the_taint_drives_pods_away() -> None:
    mild, harsh = node("n1", taint("x", "NoSchedule")), node("n1", taint("x", "NoExecute"))
    assert planned(daemon_set(), [mild], [pod("a")]) == ([], [])
    assert planned(daemon_set(), [mild], []) == ([], [])
    assert planned(daemon_set(), [harsh], [pod("a")]) == ([], ["a"])


def test_pods_bound_for_a_node_that_is_gone_are_taken_back() -> None:
    made = new_pod(daemon_set(), "gone", "h1")
    made["metadata"]["name"] = "lost"
    assert planned(daemon_set(), [], [made, pod("there", "gone")]) == ([], ["lost"])


def test_a_finished_pod_is_removed_to_be_made_anew_but_not_in_a_hurry() -> None:
    failed = {**pod("a"), "status": {"phase": "Failed"}}
    assert planned(daemon_set(), [node()], [failed]) == (["n1"], ["a"])
    hasty = pod("b", age=0)
    assert replaceable([failed, hasty], NOW) == ([failed], timedelta(seconds=1))


def test_a_new_pod_requires_its_node_and_tolerates_what_daemons_do() -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}}  # fmt: skip
    owner = daemon_set({"affinity": affinity, "tolerations": [{"key": "mine"}]})
    owner["metadata"]["annotations"] = {"deprecated.daemonset.template.generation": "3"}
    made = new_pod(owner, "n7", "h1")
    assert node_of(made) == "n7"
    assert selects_node(made["spec"], node("n7"))
    assert not selects_node(made["spec"], node("n8", disk="ssd"))
    assert made["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [each["key"].rpartition("/")[2] for each in made["spec"]["tolerations"]] == [
        "mine", "not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable",
    ]  # fmt: skip
    labels = {"app": "d", "controller-revision-hash": "h1", "pod-template-generation": "3"}
    assert made["metadata"]["labels"] == labels
    assert owner["spec"]["template"]["spec"]["tolerations"] == [{"key": "mine"}], (
        "the template stays as it is"
    )


def rolled(owner: JsonObject, *pods: JsonObject, count: int = 3) -> tuple[list[str], list[str]]:
    where, _ = places(owner, [node(f"n{n}") for n in range(1, count + 1)], pods)
    plan = roll(owner, where, "h2", NOW)
    return plan.create, [found["metadata"]["name"] for found in plan.delete]


OLD = [pod(f"p{n}", f"n{n}") for n in (1, 2, 3)]
NEW = [pod(f"q{n}", f"n{n}", hash_="h2") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("unavailable", "pods", "delete"),
    [
        (1, OLD, ["p1"]),
        (2, OLD, ["p1", "p2"]),
        ("50%", OLD, ["p1", "p2"]),
        (1, [NEW[0], *OLD[1:]], ["p2"]),
        (1, [pod("q1", "n1", hash_="h2", ready=False), *OLD[1:]], []),
        (1, [*OLD[1:]], []),
        (1, [pod("p1", "n1", ready=False), *OLD[1:]], ["p1"]),
        (1, NEW, []),
    ],
)
def test_an_update_replaces_as_many_pods_as_may_be_unavailable(
    unavailable: Any, pods: list[JsonObject], delete: list[str]
) -> None:
    assert rolled(daemon_set(unavailable=unavailable), *pods) == ([], delete)


@pytest.mark.parametrize(
    ("pods", "create"),
    [
        (OLD, ["n1"]),
        ([*OLD, pod("q1", "n1", hash_="h2", ready=False)], []),
        ([*OLD, NEW[0]], ["n2"]),
        ([OLD[0], OLD[1], pod("p3", "n3", ready=False)], ["n3", "n1"]),
        (NEW, []),
    ],
)
def test_a_surge_makes_the_new_pod_first(pods: list[JsonObject], create: list[str]) -> None:
    assert rolled(daemon_set(unavailable=0, surge=1), *pods) == (create, [])


def test_a_surging_node_loses_the_old_pod_when_the_new_one_is_available() -> None:
    owner = daemon_set(unavailable=0, surge=1)
    for ready, gone in ((True, ["p1"]), (False, [])):
        pods = [OLD[0], pod("q1", hash_="h2", ready=ready)]
        where, _ = places(owner, [node()], pods)
        assert [p["metadata"]["name"] for p in manage(owner, where, "h2", NOW).delete] == gone


def test_on_delete_leaves_updates_to_the_user() -> None:
    assert rolled(daemon_set(updateStrategy={"type": "OnDelete"}), *OLD) == ([], [])


def test_the_status_counts_nodes_not_pods() -> None:
    owner = daemon_set(minReadySeconds=30)
    nodes = [node("n1"), node("n2"), node("n3"), node("n4", taint("x", "NoSchedule"))]
    pods = [pod("a", "n1"), pod("b", "n2", age=20, hash_="h0"), pod("c", "n4")]
    where, _ = places(owner, nodes, pods)
    status, again = daemon_status(owner, where, "h1", 0, NOW)
    assert status == {
        "currentNumberScheduled": 2, "numberMisscheduled": 1, "desiredNumberScheduled": 3, "numberReady": 2,
        "observedGeneration": 2, "updatedNumberScheduled": 1, "numberAvailable": 1, "numberUnavailable": 2,
    }  # fmt: skip
    assert again == timedelta(seconds=10)
