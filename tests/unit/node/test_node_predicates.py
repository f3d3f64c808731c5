from __future__ import annotations

import pytest

from nodeport.api.meta import JsonObject
from nodeport.node.predicates import Tenants

CAPACITY = {
    "cpu": "2", "memory": "1Gi", "pods": "3", "ephemeral-storage": "10Gi", "hugepages-2Mi": "0",
}  # fmt: skip


def spec(requests: dict[str, str] | None = None, **more: object) -> JsonObject:
    return {"containers": [{"name": "c", "resources": {"requests": requests or {}}}], **more}


def on_port(number: int, **more: object) -> JsonObject:
    return {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": number, **more}]}]}


def node(labels: dict[str, str] | None = None, *taints: JsonObject) -> JsonObject:
    return {"metadata": {"name": "n", "labels": labels or {}}, "spec": {"taints": list(taints)}}


def with_pods(*specs: JsonObject) -> Tenants:
    tenants = Tenants(CAPACITY)
    for uid, each in enumerate(specs):
        tenants.take(str(uid), each)
    return tenants


@pytest.mark.parametrize(
    ("others", "wanted", "reason", "told"),
    [
        ([{"cpu": "1500m"}], {"cpu": "501m"}, "OutOfcpu", "cpu, requested: 501, used: 1500, capacity: 2000"),
        (
            [{"memory": "512Mi"}, {"memory": "512Mi"}], {"memory": "1"},
            "OutOfmemory", "memory, requested: 1, used: 1073741824, capacity: 1073741824",
        ),
        (
            [], {"ephemeral-storage": "11Gi", "memory": "2Gi"},
            "OutOfmemory", "memory, requested: 2147483648, used: 0, capacity: 1073741824",
        ),
        (
            [], {"ephemeral-storage": "11Gi"}, "OutOfephemeral-storage",
            "ephemeral-storage, requested: 11811160064, used: 0, capacity: 10737418240",
        ),
        (
            [], {"hugepages-2Mi": "2Mi"}, "OutOfhugepages-2Mi",
            "hugepages-2Mi, requested: 2097152, used: 0, capacity: 0",
        ),
        ([{}, {}, {}], {"cpu": "5"}, "OutOfpods", "pods, requested: 1, used: 3, capacity: 3"),
    ],
)  # fmt: skip
def test_a_pod_for_which_too_little_is_left_is_rejected(
    others: list[dict[str, str]], wanted: dict[str, str], reason: str, told: str
) -> None:
    tenants = with_pods(*(spec(each) for each in others))
    assert tenants.refusal({"spec": spec(wanted)}, node()) == (
        reason, f"Node didn't have enough resource: {told}"
    )  # fmt: skip


def test_a_pod_that_just_fits_is_taken_and_so_is_what_the_node_does_not_count() -> None:
    tenants = with_pods(spec({"cpu": "1500m"}))
    assert tenants.refusal({"spec": spec({"cpu": "500m", "example.com/card": "4"})}, node()) is None


def test_what_a_pod_had_is_free_again_when_it_has_ended() -> None:
    tenants = with_pods(spec({"cpu": "2"}))
    assert "0" in tenants
    tenants.release("0")
    assert "0" not in tenants
    assert tenants.refusal({"spec": spec({"cpu": "2"})}, node()) is None


def test_a_pod_that_was_resized_counts_as_it_is_now() -> None:
    tenants = with_pods(spec({"cpu": "2"}))
    tenants.take("0", spec({"cpu": "1"}))
    assert tenants.refusal({"spec": spec({"cpu": "1"})}, node()) is None


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ({}, {}, True),
        ({}, {"hostIP": "10.0.0.1"}, True),
        ({"hostIP": "10.0.0.1"}, {"hostIP": "10.0.0.1"}, True),
        ({"hostIP": "10.0.0.1"}, {"hostIP": "10.0.0.2"}, False),
        ({}, {"protocol": "UDP"}, False),
    ],
)
def test_a_pod_whose_host_port_is_taken_is_rejected(one: JsonObject, other: JsonObject, clash: bool) -> None:
    told = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    found = with_pods(on_port(8080, **one)).refusal({"spec": on_port(8080, **other)}, node())
    assert found == (("NodePorts", told) if clash else None)
    assert with_pods(on_port(8080, **one)).refusal({"spec": on_port(8081, **other)}, node()) is None


def test_a_pod_that_wants_other_labels_is_rejected_unless_it_has_been_here_before() -> None:
    told = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    pod = {"spec": spec(nodeSelector={"disk": "fast"})}
    tenants = with_pods()
    assert tenants.refusal(pod, node({"disk": "slow"})) == ("NodeAffinity", told)
    assert tenants.refusal(pod, node({"disk": "fast"})) is None
    assert tenants.refusal(pod, None) is None
    assert tenants.refusal({**pod, "status": {"startTime": "2026-01-01T00:00:00Z"}}, node()) is None


def test_only_a_taint_that_would_end_a_pod_keeps_it_out() -> None:
    told = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
    taint = {"key": "gone", "effect": "NoExecute"}
    tenants = with_pods()
    assert tenants.refusal({"spec": spec()}, node({}, taint)) == ("TaintToleration", told)
    assert tenants.refusal({"spec": spec()}, node({}, {**taint, "effect": "NoSchedule"})) is None
    tolerating = spec(tolerations=[{"key": "gone", "operator": "Exists"}])
    assert tenants.refusal({"spec": tolerating}, node({}, taint)) is None
