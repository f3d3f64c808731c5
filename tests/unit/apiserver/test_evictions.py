"""pods/NAME/eviction: a deletion that a disruption budget may forbid."""

from __future__ import annotations

import pytest

from unit.apiserver.conftest import Json, Raw

PODS = "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
MERGE = "application/merge-patch+json"


async def make_pod(raw: Raw, *, phase: str = "Running", ready: bool = True, name: str = "web") -> Json:
    labels, spec = (
        {"app": "web"},
        {"containers": [{"name": "main", "image": "nodeport/echo"}], "nodeName": "node-1"},
    )
    made = await raw.create(PODS, {"metadata": {"name": name, "labels": labels}, "spec": spec})
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"status": {"phase": phase, "conditions": conditions}}
    assert (await raw("PATCH", f"{PODS}/{name}/status", status, Content_Type=MERGE)).status == 200
    return made


async def make_budget(raw: Raw, name: str = "web", **status: int) -> None:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    await raw.create(BUDGETS, {"metadata": {"name": name}, "spec": spec})
    body = {"status": {"observedGeneration": 1, **status}}
    assert (await raw("PATCH", f"{BUDGETS}/{name}/status", body, Content_Type=MERGE)).status == 200


def eviction(name: str = "web", **options: object) -> Json:
    found: Json = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": "default"},
    }
    return {**found, "deleteOptions": options} if options else found


async def test_a_pod_without_a_budget_goes_and_says_why(raw: Raw) -> None:
    await make_pod(raw)
    answer = await raw("POST", f"{PODS}/web/eviction", eviction())
    assert (answer.status, answer.json["status"], answer.json["code"]) == (201, "Success", 201)
    pod = await raw.get(f"{PODS}/web")
    assert pod["metadata"]["deletionTimestamp"]
    condition = next(each for each in pod["status"]["conditions"] if each["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"], condition["message"]) == (
        "True", "EvictionByEvictionAPI", "Eviction API: evicting",
    )  # fmt: skip


async def test_the_options_of_the_deletion_count(raw: Raw) -> None:
    await make_pod(raw)
    wrong = await raw("POST", f"{PODS}/web/eviction", eviction(preconditions={"uid": "other"}))
    assert wrong.status == 409
    assert "DisruptionTarget" not in str((await raw.get(f"{PODS}/web"))["status"])
    stale = await raw("POST", f"{PODS}/web/eviction", eviction(preconditions={"resourceVersion": "1"}))
    assert stale.status == 409
    assert (await raw("POST", f"{PODS}/web/eviction", eviction(dryRun=["All"]))).status == 201
    assert (await raw("POST", f"{PODS}/web/eviction?dryRun=All", eviction())).status == 201
    assert "deletionTimestamp" not in (await raw.get(f"{PODS}/web"))["metadata"]
    assert (await raw("POST", f"{PODS}/web/eviction", eviction(gracePeriodSeconds=0))).status == 201
    assert (await raw("GET", f"{PODS}/web")).status == 404


async def test_a_budget_is_spent_unless_it_is_a_trial(raw: Raw) -> None:
    await make_pod(raw)
    await make_budget(raw, disruptionsAllowed=1, currentHealthy=2, desiredHealthy=1)
    assert (await raw("POST", f"{PODS}/web/eviction", eviction(dryRun=["All"]))).status == 201
    assert (await raw.get(f"{BUDGETS}/web"))["status"]["disruptionsAllowed"] == 1
    version = (await raw.get(f"{PODS}/web"))["metadata"]["resourceVersion"]
    asked = eviction(preconditions={"resourceVersion": version})
    assert (await raw("POST", f"{PODS}/web/eviction", asked)).status == 201
    status = (await raw.get(f"{BUDGETS}/web"))["status"]
    assert status["disruptionsAllowed"] == 0
    assert list(status["disruptedPods"]) == ["web"]


async def test_a_budget_that_is_spent_keeps_the_pod(raw: Raw) -> None:
    await make_pod(raw)
    await make_budget(raw, disruptionsAllowed=0, currentHealthy=1, desiredHealthy=1)
    answer = await raw("POST", f"{PODS}/web/eviction", eviction())
    assert (answer.status, answer.reason, answer.message) == (
        429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.",
    )  # fmt: skip
    assert answer.json["details"]["causes"] == [
        {
            "reason": "DisruptionBudget",
            "message": "The disruption budget web needs 1 healthy pods and has 1 currently",
        }
    ]
    assert "deletionTimestamp" not in (await raw.get(f"{PODS}/web"))["metadata"]


async def test_a_budget_that_nobody_has_looked_at_asks_for_patience(raw: Raw) -> None:
    await make_pod(raw)
    await make_budget(raw, observedGeneration=0)
    answer = await raw("POST", f"{PODS}/web/eviction", eviction())
    assert (answer.status, answer.headers["Retry-After"]) == (429, "10")
    assert answer.json["details"]["causes"][0]["message"] == (
        "The disruption budget web is still being processed by the server."
    )


@pytest.mark.parametrize(("phase", "ready"), [("Pending", False), ("Succeeded", False), ("Running", False)])
async def test_pods_that_nobody_would_miss_go_whatever_the_budget(raw: Raw, phase: str, ready: bool) -> None:
    await make_pod(raw, phase=phase, ready=ready)
    await make_budget(raw, disruptionsAllowed=0, currentHealthy=1, desiredHealthy=1)
    assert (await raw("POST", f"{PODS}/web/eviction", eviction())).status == 201


async def test_what_makes_no_sense_is_refused(raw: Raw) -> None:
    await make_pod(raw)
    await make_budget(raw, disruptionsAllowed=1)
    await make_budget(raw, "second", disruptionsAllowed=1)
    other = await raw("POST", f"{PODS}/web/eviction", eviction("other"))
    assert (other.status, other.message) == (400, "name in URL does not match name in Eviction object")
    two = await raw("POST", f"{PODS}/web/eviction", eviction())
    assert (two.status, two.message) == (
        500,
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
    )
    assert (await raw("POST", f"{PODS}/gone/eviction", eviction("gone"))).status == 404
    assert (await raw("GET", f"{PODS}/web/eviction")).status == 405


async def test_the_version_that_kubectl_sent_until_1_21_is_taken(raw: Raw) -> None:
    answer = await raw(
        "POST", f"{PODS}/web/eviction?dryRun=All", {**eviction(), "apiVersion": "policy/v1beta1"}
    )
    assert answer.status == 404, "judged by the pod, not by the version"
    answer = await raw("POST", f"{PODS}/web/eviction", {**eviction(), "apiVersion": "policy/v2"})
    assert answer.status == 400
