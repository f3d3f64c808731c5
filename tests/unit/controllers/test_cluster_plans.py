"""Garbage, silent nodes, Endpoints and trigger times: the smaller plans."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import CONFIG_MAPS, DEPLOYMENTS, PODS, SECRETS
from nodeport.controllers.endpoints.reconcile import MAX_ADDRESSES, OVER_CAPACITY, plan_endpoints
from nodeport.controllers.endpointslice.trigger_time import TriggerTimes
from nodeport.controllers.garbagecollector.reconcile import (
    Fate,
    OwnerState,
    judge,
    policy_of,
    unblocking,
)
from nodeport.controllers.namespace.reconcile import Remaining, deletion_conditions, remaining_of
from nodeport.controllers.nodelifecycle.reconcile import (
    NOT_READY,
    UNREACHABLE,
    evict_at,
    unknown_conditions,
    wanted_taints,
)
from nodeport.kit.clock import rfc3339

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PRESENT, ABSENT, WAITING = OwnerState.PRESENT, OwnerState.ABSENT, OwnerState.WAITING


@pytest.mark.parametrize(
    ("owners", "fate"),
    [
        ([], Fate.KEEP),
        ([PRESENT], Fate.KEEP),
        ([ABSENT], Fate.DELETE),
        ([ABSENT, ABSENT], Fate.DELETE),
        ([ABSENT, PRESENT], Fate.DROP_REFERENCES),
        ([WAITING, PRESENT], Fate.DROP_REFERENCES),
        ([WAITING], Fate.DELETE_FOREGROUND),
        ([WAITING, ABSENT], Fate.DELETE_FOREGROUND),
        ([OwnerState.UNRESOLVABLE, ABSENT], Fate.KEEP),
    ],
)
def test_the_fate_of_an_object_by_the_state_of_its_owners(owners: list[OwnerState], fate: Fate) -> None:
    references = [({"uid": str(n), "blockOwnerDeletion": True}, state) for n, state in enumerate(owners)]
    assert judge({"metadata": {}}, references, has_dependents=True).fate is fate
    alone = judge({"metadata": {}}, references, has_dependents=False).fate
    assert alone is (Fate.DELETE if fate is Fate.DELETE_FOREGROUND else fate)
    dying: JsonObject = {"metadata": {"deletionTimestamp": "x"}}
    assert judge(dying, references, has_dependents=True).fate is Fate.KEEP


def test_an_object_goes_the_way_its_own_finalizers_say() -> None:
    policies = {
        name: policy_of({"metadata": {"finalizers": [name]}})
        for name in ("orphan", "foregroundDeletion", "x/y")
    }
    assert policies == {"orphan": "Orphan", "foregroundDeletion": "Foreground", "x/y": "Background"}


def test_a_circle_is_cut_by_waiting_for_nobody() -> None:
    references = [{"uid": "a", "blockOwnerDeletion": True}, {"uid": "b"}]
    meta: JsonObject = {"uid": "o", "resourceVersion": "7", "ownerReferences": references}
    patch = unblocking({"metadata": meta})
    assert patch is not None
    assert patch["metadata"]["resourceVersion"] == "7"
    assert [ref["blockOwnerDeletion"] for ref in patch["metadata"]["ownerReferences"]] == [False, False]
    assert unblocking({"metadata": {**meta, "ownerReferences": [{"uid": "b"}]}}) is None


# --- namespaces


def test_a_dying_namespace_tells_what_is_left_and_what_holds_it() -> None:
    held = {"metadata": {"finalizers": ["example.com/a", "example.com/b"]}}
    left = [
        remaining_of(CONFIG_MAPS, [held, held]),
        remaining_of(DEPLOYMENTS, [{"metadata": {}}]),
        Remaining(PODS),
        Remaining(SECRETS, failure="no"),
    ]
    told = deletion_conditions([], left, NOW)
    assert {c["type"]: (c["status"], c["reason"], c["message"]) for c in told} == {
        "NamespaceDeletionDiscoveryFailure": (
            "False", "ResourcesDiscovered", "All resources successfully discovered"),
        "NamespaceDeletionGroupVersionParsingFailure": (
            "False", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
        "NamespaceDeletionContentFailure": (
            "True", "ContentDeletionFailed", "Failed to delete all resource types, 1 remaining: no"),
        "NamespaceContentRemaining": (
            "True", "SomeResourcesRemain",
            "Some resources are remaining: configmaps. has 2 resource instances, "
            "deployments.apps has 1 resource instances"),
        "NamespaceFinalizersRemaining": (
            "True", "SomeFinalizersRemain",
            "Some content in the namespace has finalizers remaining: example.com/a in 2 resource instances, "
            "example.com/b in 2 resource instances"),
    }  # fmt: skip
    later = NOW + timedelta(seconds=5)
    assert deletion_conditions(told, left, later) == told
    fewer = deletion_conditions(told, [remaining_of(CONFIG_MAPS, [held])], later)
    changed = {c["type"]: (c["status"], c["lastTransitionTime"]) for c in fewer}
    assert changed["NamespaceContentRemaining"] == ("True", rfc3339(NOW))
    assert changed["NamespaceDeletionContentFailure"] == ("False", rfc3339(later))


def node(ready: str | None = "True", taints: list[JsonObject] | None = None, **spec: Any) -> JsonObject:
    listed = [{"type": "Ready", "status": ready, "lastHeartbeatTime": "h"}] if ready else []
    status = {"conditions": [*listed, {"type": "DiskPressure", "status": "False"}]}
    return {
        "metadata": {"name": "n", "creationTimestamp": "c"},
        "spec": {"taints": taints or [], **spec},
        "status": status,
    }


def test_a_silent_node_becomes_unknown_once() -> None:
    changed = unknown_conditions(node(), NOW)
    assert [(c["type"], c["status"], c["reason"]) for c in changed] == [
        ("Ready", "Unknown", "NodeStatusUnknown"),
        ("DiskPressure", "Unknown", "NodeStatusUnknown"),
    ]
    assert changed[0]["lastHeartbeatTime"] == "h"
    silent = {**node(), "status": {"conditions": changed}}
    assert unknown_conditions(silent, NOW) == []
    assert unknown_conditions(node(None), NOW)[0]["reason"] == "NodeStatusNeverUpdated"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (node("True"), []),
        (node("Unknown"), [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        (node("False"), [(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        (node("True", [{"key": UNREACHABLE, "effect": "NoExecute"}, {"key": "gpu", "effect": "NoSchedule"}]), [("gpu", "NoSchedule")]),
        (node("True", unschedulable=True), [("node.kubernetes.io/unschedulable", "NoSchedule")]),
    ],
)  # fmt: skip
def test_taints_follow_the_condition_and_leave_others_alone(found: JsonObject, expected: list[Any]) -> None:
    assert [(taint["key"], taint["effect"]) for taint in wanted_taints(found, NOW)] == expected


def test_a_node_under_pressure_gets_no_new_pods_until_it_is_over() -> None:
    short = node("True")
    short["status"]["conditions"][-1]["status"] = "True"
    taints = wanted_taints(short, NOW)
    assert [(taint["key"], taint["effect"]) for taint in taints] == [
        ("node.kubernetes.io/disk-pressure", "NoSchedule")
    ]
    assert wanted_taints(node("True", taints), NOW) == []


def test_a_taint_keeps_the_time_it_was_added() -> None:
    taints = wanted_taints(node("Unknown"), NOW)
    again = wanted_taints(node("Unknown", taints), NOW + timedelta(hours=1))
    assert again == taints


TAINT = {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": rfc3339(NOW)}


@pytest.mark.parametrize(
    ("tolerations", "taint", "after"),
    [
        ([], TAINT, 300),
        ([], {**TAINT, "key": "maintenance"}, 0),
        ([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 7}], TAINT, 7),
        ([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": -1}], TAINT, 0),
        (
            [{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 2**62}],
            TAINT,
            100 * 365 * 24 * 3600,
        ),
        ([{"operator": "Exists"}], TAINT, None),
        ([], {**TAINT, "effect": "NoSchedule"}, None),
    ],
)
def test_when_a_taint_drives_a_pod_away(
    tolerations: list[JsonObject], taint: JsonObject, after: int | None
) -> None:
    found = evict_at({"spec": {"tolerations": tolerations}}, [taint])
    assert found == (None if after is None else NOW + timedelta(seconds=after))


# --- Endpoints

SERVICE = {
    "metadata": {"name": "web", "namespace": "ns", "labels": {"team": "x"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"clusterIP": "10.96.0.9", "selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": 8080}]},
}  # fmt: skip


def pod(number: int, *, ready: bool = True, deleting: bool = False, since: str = "t") -> JsonObject:
    metadata: JsonObject = {
        "name": f"p{number}",
        "namespace": "ns",
        "uid": f"u{number:05}",
        "labels": {"a": "b"},
    }
    if deleting:
        metadata["deletionTimestamp"] = "x"
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
    ip = f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n"},
        "status": {"podIP": ip, "conditions": [condition]},
    }


def test_endpoints_sort_ready_from_not_ready_and_leave_dying_pods_out() -> None:
    written = plan_endpoints(SERVICE, [pod(2), pod(1), pod(3, ready=False), pod(4, deleting=True)], None)
    assert written is not None
    [subset] = written["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.0.2", "10.0.0.3"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.0.0.4"]
    assert subset["ports"] == [{"protocol": "TCP", "port": 8080}]
    assert written["metadata"]["labels"] == {
        "team": "x",
        "endpoints.kubernetes.io/managed-by": "endpoint-controller",
    }
    assert plan_endpoints(SERVICE, [pod(1), pod(3, ready=False), pod(2)], written) is None


def test_a_service_without_pods_has_endpoints_without_subsets() -> None:
    written = plan_endpoints(SERVICE, [], None)
    assert written is not None
    assert written["subsets"] == []
    assert plan_endpoints(SERVICE, [], {**written, "subsets": None}) is None


def test_endpoints_stop_at_a_thousand_and_prefer_ready_ones() -> None:
    pods = [pod(n, ready=n >= 100) for n in range(1100)]
    written = plan_endpoints(SERVICE, pods, None)
    assert written is not None
    [subset] = written["subsets"]
    assert (len(subset["addresses"]), "notReadyAddresses" in subset) == (MAX_ADDRESSES, False)
    assert written["metadata"]["annotations"] == {OVER_CAPACITY: "truncated"}
    fewer = plan_endpoints(SERVICE, pods[:10], written)
    assert fewer is not None
    assert "annotations" not in fewer["metadata"]


def test_the_trigger_time_is_the_oldest_news() -> None:
    times, key = TriggerTimes(), NamespacedName("ns", "web")
    assert times.oldest_new(key, SERVICE, [pod(1, since="2026-01-03T00:00:00Z")]) == "2026-01-01T00:00:00Z"
    assert times.oldest_new(key, SERVICE, [pod(1, since="2026-01-03T00:00:00Z")]) == ""
    changed = [pod(1, since="2026-01-05T00:00:00Z"), pod(2, since="2026-01-04T00:00:00Z")]
    assert times.oldest_new(key, SERVICE, changed) == "2026-01-04T00:00:00Z"
