"""Defaults and validation of ReplicationControllers, StatefulSets, DaemonSets and Jobs."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api import resources as kinds
from nodeport.api.defaulting import apply_defaults
from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.resources import Resource
from nodeport.api.schema import check
from nodeport.api.validation import validate_create, validate_status_update, validate_update
from nodeport.api.workloads import pod_selector

TEMPLATE: JsonObject = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
SELECTOR: JsonObject = {"matchLabels": {"app": "web"}}
ONCE: JsonObject = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}
GENERATED = {
    "controller-uid": "u", "job-name": "a", "batch.kubernetes.io/controller-uid": "u",
    "batch.kubernetes.io/job-name": "a",
}  # fmt: skip


def made(resource: Resource, spec: JsonObject, **more: Any) -> JsonObject:
    meta = {"name": "a", "namespace": "default", "uid": "u"}
    obj: JsonObject = deep_copy({"metadata": meta, "spec": spec, **more})
    apply_defaults(resource, obj)
    assert check(resource.schema, obj) == check(resource.schema, {}), "defaults fit the schema"
    again = deep_copy(obj)
    apply_defaults(resource, again)
    assert again == obj, "defaulting is idempotent"
    return obj


def errors(resource: Resource, **spec: Any) -> list[str]:
    base: JsonObject = {"selector": SELECTOR, "template": TEMPLATE}
    if resource is kinds.REPLICATION_CONTROLLERS:
        base["selector"] = {"app": "web"}
    return [str(error) for error in validate_create(resource, made(resource, {**base, **spec}))]


def job(**spec: Any) -> JsonObject:
    template = {**ONCE, "metadata": {"labels": {**GENERATED, "app": "web"}}}
    selector = {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
    return made(kinds.JOBS, {"template": template, "selector": selector, **spec})


def job_errors(**spec: Any) -> list[str]:
    return [str(error) for error in validate_create(kinds.JOBS, job(**spec))]


def update_errors(resource: Resource, new: JsonObject, old: JsonObject) -> list[str]:
    return [str(error) for error in validate_update(resource, new, old)]


def test_a_replication_controller_takes_selector_and_labels_from_its_template() -> None:
    obj = made(kinds.REPLICATION_CONTROLLERS, {"template": TEMPLATE})
    assert (obj["spec"]["selector"], obj["spec"]["replicas"]) == ({"app": "web"}, 1)
    assert obj["metadata"]["labels"] == {"app": "web"}
    assert obj["spec"]["template"]["spec"]["restartPolicy"] == "Always"
    assert pod_selector(obj).matches({"app": "web", "x": "y"})
    assert not pod_selector(obj).matches({"app": "db"})
    kept = made(kinds.REPLICATION_CONTROLLERS, {"template": TEMPLATE, "selector": {"x": "y"}, "replicas": 0})
    assert (kept["spec"]["selector"], kept["spec"]["replicas"]) == ({"x": "y"}, 0)


def test_a_stateful_set_gets_kubernetes_defaults() -> None:
    spec = made(kinds.STATEFUL_SETS, {"selector": SELECTOR, "template": TEMPLATE})["spec"]
    del spec["template"], spec["selector"]
    assert spec == {
        "replicas": 1, "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    }  # fmt: skip
    manual = {"selector": SELECTOR, "template": TEMPLATE, "updateStrategy": {"type": "OnDelete"}}
    assert made(kinds.STATEFUL_SETS, manual)["spec"]["updateStrategy"] == {"type": "OnDelete"}


def test_a_daemon_set_gets_kubernetes_defaults() -> None:
    spec = made(kinds.DAEMON_SETS, {"selector": SELECTOR, "template": TEMPLATE})["spec"]
    rolling = {"maxUnavailable": 1, "maxSurge": 0}
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
    assert spec["revisionHistoryLimit"] == 10
    assert "replicas" not in spec


def test_a_job_gets_kubernetes_defaults() -> None:
    spec = made(kinds.JOBS, {"template": ONCE})["spec"]
    del spec["template"]
    assert spec == {
        "completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False,
        "manualSelector": False, "podReplacementPolicy": "TerminatingOrFailed",
    }  # fmt: skip
    queue = made(kinds.JOBS, {"template": ONCE, "parallelism": 3})["spec"]
    assert ("completions" in queue, queue["parallelism"]) == (False, 3)


@pytest.mark.parametrize(
    ("resource", "spec", "error"),
    [
        (kinds.REPLICATION_CONTROLLERS, {"selector": {"app": "db"}},
         'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'),
        (kinds.REPLICATION_CONTROLLERS, {"replicas": -1},
         "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (kinds.REPLICATION_CONTROLLERS, {"template": ONCE},
         'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'),
        (kinds.STATEFUL_SETS, {"podManagementPolicy": "Both"},
         "spec.podManagementPolicy: Invalid value: \"Both\": must be 'OrderedReady' or 'Parallel'"),
        (kinds.STATEFUL_SETS, {"updateStrategy": {"rollingUpdate": {"partition": -1}}},
         "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0"),
        (kinds.STATEFUL_SETS, {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}},
         "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0"),
        (kinds.STATEFUL_SETS, {"ordinals": {"start": -1}},
         "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"),
        (kinds.STATEFUL_SETS, {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]},
         "spec.volumeClaimTemplates: Forbidden: nothing binds persistent volume claims here: use volumes in the template"),
        (kinds.STATEFUL_SETS, {"selector": {}},
         "spec.selector: Invalid value: {}: empty selector is invalid for statefulset"),
        (kinds.DAEMON_SETS, {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}},
         "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"),
        (kinds.DAEMON_SETS, {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}},
         "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"),
        (kinds.DAEMON_SETS, {"updateStrategy": {"type": "Recreate"}},
         'spec.updateStrategy.type: Unsupported value: "Recreate": supported values: "OnDelete", "RollingUpdate"'),
    ],
)  # fmt: skip
def test_a_workload_with_one_fault_is_refused_with_its_words(
    resource: Resource, spec: JsonObject, error: str
) -> None:
    assert errors(resource) == []
    assert errors(resource, **spec) == [error]


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"completionMode": "Indexed", "completions": None, "parallelism": 2},
         "spec.completions: Required value: when completion mode is Indexed"),
        ({"template": {**TEMPLATE, "metadata": {"labels": GENERATED}}},
         'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'),
        ({"template": {**ONCE, "metadata": {"labels": {**GENERATED, "job-name": "b"}}}},
         "spec.template.metadata.labels[job-name]: Invalid value: \"b\": must be 'a'"),
        ({"backoffLimit": -1}, "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"),
        ({"managedBy": "example.com/x"},
         "spec.managedBy: Forbidden: is not carried out by this cluster's Job controller"),
    ],
)  # fmt: skip
def test_a_job_with_one_fault_is_refused_with_its_words(spec: JsonObject, error: str) -> None:
    assert job_errors() == []
    assert job_errors(**spec) == [error]


def test_most_of_a_stateful_sets_spec_never_changes() -> None:
    old = made(kinds.STATEFUL_SETS, {"selector": SELECTOR, "template": TEMPLATE, "serviceName": "web"})
    free = deep_copy(old)
    free["spec"].update(replicas=5, minReadySeconds=3, ordinals={"start": 2})
    assert update_errors(kinds.STATEFUL_SETS, free, old) == []
    fixed = deep_copy(old)
    fixed["spec"]["serviceName"] = "db"
    [error] = update_errors(kinds.STATEFUL_SETS, fixed, old)
    assert error == (
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
        "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are "
        "forbidden"
    )


def test_a_daemon_sets_selector_never_changes() -> None:
    old = made(kinds.DAEMON_SETS, {"selector": SELECTOR, "template": TEMPLATE})
    new = deep_copy(old)
    new["spec"]["selector"] = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    [error] = update_errors(kinds.DAEMON_SETS, new, old)
    assert error.startswith("spec.selector: Invalid value: ")
    assert error.endswith(": field is immutable")


def test_a_jobs_template_is_fixed_but_for_its_scheduling_before_the_start() -> None:
    old = job(suspend=True)
    moved, other = deep_copy(old), deep_copy(old)
    moved["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "j"
    assert update_errors(kinds.JOBS, moved, old) == []
    assert [e.partition(":")[0] for e in update_errors(kinds.JOBS, other, old)] == ["spec.template"]
    started = {**old, "status": {"startTime": "2026-01-01T00:00:00Z"}}
    assert [e.partition(":")[0] for e in update_errors(kinds.JOBS, moved, started)] == ["spec.template"]


def test_an_indexed_job_may_grow_with_its_parallelism_only() -> None:
    old = job(completionMode="Indexed", completions=2, parallelism=2)
    grown = job(completionMode="Indexed", completions=3, parallelism=3)
    assert update_errors(kinds.JOBS, grown, old) == []
    odd = job(completionMode="Indexed", completions=3, parallelism=2)
    assert update_errors(kinds.JOBS, odd, old) == ["spec.completions: Invalid value: 3: field is immutable"]


def test_the_end_of_a_job_is_never_taken_back() -> None:
    ended = {"conditions": [{"type": "Complete", "status": "True"}]}
    old, new = {**job(), "status": ended}, {**job(), "status": {}}
    found = [str(error) for error in validate_status_update(kinds.JOBS, new, old)]
    assert found == [
        "status.conditions: Invalid value: null: cannot disable the terminal Complete=True condition"
    ]


def test_status_counts_fit_together() -> None:
    base = made(kinds.STATEFUL_SETS, {"selector": SELECTOR, "template": TEMPLATE})
    status = {"replicas": 1, "readyReplicas": 2, "availableReplicas": 0}
    new = {**base, "status": status}
    found = [str(error) for error in validate_status_update(kinds.STATEFUL_SETS, new, base)]
    assert found == ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]
