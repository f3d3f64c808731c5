"""What priority classes and limit ranges make of pods."""

from __future__ import annotations

from typing import Any

import pytest

Json = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
LIMITS = "/api/v1/namespaces/default/limitranges"


def pod(name: str = "p", resources: Json | None = None, **spec: Any) -> Json:
    container = {"name": "c", "image": "i", **({"resources": resources} if resources else {})}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


async def test_a_priority_class_gives_its_number(raw: Any) -> None:
    plain = await raw.create(PODS, pod("plain"))
    assert (plain["spec"]["priority"], plain["spec"]["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    await raw.create(CLASSES, {"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"})
    made = await raw.create(PODS, pod("made", priorityClassName="high"))
    assert (made["spec"]["priority"], made["spec"]["preemptionPolicy"]) == (1000, "Never")
    critical = await raw.create(PODS, pod("critical", priorityClassName="system-node-critical"))
    assert critical["spec"]["priority"] == 2000001000


async def test_a_service_account_must_be_there(raw: Any) -> None:
    why = 'error looking up service account default/robot: serviceaccount "robot" not found'
    for field in ("serviceAccountName", "serviceAccount"):
        refused = await raw("POST", PODS, pod(**{field: "robot"}))
        assert (refused.status, refused.message) == (403, f'pods "p" is forbidden: {why}')
    nameless = {**pod(serviceAccountName="robot"), "metadata": {"generateName": "p-"}}
    assert (await raw("POST", PODS, nameless)).message == f'pods "p-" is forbidden: {why}'
    await raw.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}})
    assert (await raw.create(PODS, pod(serviceAccountName="robot")))["spec"]["serviceAccount"] == "robot"


async def test_of_global_defaults_the_smallest_counts(raw: Any) -> None:
    for name, value in (("more", 7), ("less", 5)):
        await raw.create(CLASSES, {"metadata": {"name": name}, "value": value, "globalDefault": True})
    made = await raw.create(PODS, pod())
    assert (made["spec"]["priorityClassName"], made["spec"]["priority"]) == ("less", 5)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"priorityClassName": "none"}, "no PriorityClass with name none was found"),
        ({"priority": 5}, "the integer value of priority (5) must not be provided in pod spec; priority admission "
         "controller computed 0 from the given PriorityClass name"),
    ],
)  # fmt: skip
async def test_priorities_that_no_class_gives_are_refused(raw: Any, spec: Json, why: str) -> None:
    refused = await raw("POST", PODS, pod(**spec))
    assert (refused.status, refused.message) == (403, f'pods "p" is forbidden: {why}')


async def limit(raw: Any, kind: str = "Container", **limits: Json) -> None:
    await raw.create(LIMITS, {"metadata": {"name": "l"}, "spec": {"limits": [{"type": kind, **limits}]}})


async def test_limit_ranges_fill_in_what_is_not_said(raw: Any) -> None:
    await limit(raw, default={"cpu": "500m", "memory": "1Gi"}, defaultRequest={"cpu": "100m"})
    made = await raw.create(PODS, pod(resources={"limits": {"cpu": "1"}}))
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"},
    }  # fmt: skip
    told = made["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    assert told == "LimitRanger plugin set: memory request for container c; memory limit for container c"


@pytest.mark.parametrize(
    ("kind", "limits", "resources", "why"),
    [
        ("Container", {"max": {"cpu": "1"}}, {"limits": {"cpu": "2"}},
         "[maximum cpu usage per Container is 1, but limit is 2, maximum cpu usage per Container is 1, but request is 2]"),
        ("Container", {"min": {"memory": "1Gi"}}, {"requests": {"memory": "512Mi"}},
         "minimum memory usage per Container is 1Gi, but request is 512Mi"),
        ("Container", {"maxLimitRequestRatio": {"cpu": "2"}}, {"requests": {"cpu": "1"}, "limits": {"cpu": "4"}},
         "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000"),
        ("Pod", {"max": {"cpu": "1"}}, {"requests": {"cpu": "1"}},
         "maximum cpu usage per Pod is 1.  No limit is specified"),
    ],
)  # fmt: skip
async def test_limit_ranges_refuse(raw: Any, kind: str, limits: Json, resources: Json, why: str) -> None:
    await limit(raw, kind, **limits)
    refused = await raw("POST", PODS, pod(resources=resources))
    assert (refused.status, refused.message) == (403, f'pods "p" is forbidden: {why}')


async def test_a_runtime_class_must_be_there_and_says_what_it_costs_and_where_it_is(raw: Any) -> None:
    refused = await raw("POST", PODS, pod(runtimeClassName="sandboxed"))
    assert (refused.status, refused.message) == (
        403, 'pods "p" is forbidden: pod rejected: RuntimeClass "sandboxed" not found',
    )  # fmt: skip
    toleration = {"key": "sandbox", "operator": "Exists"}
    await raw.create("/apis/node.k8s.io/v1/runtimeclasses", {
        "metadata": {"name": "sandboxed"}, "handler": "h", "overhead": {"podFixed": {"cpu": "100m"}},
        "scheduling": {"nodeSelector": {"kind": "vm"}, "tolerations": [toleration]},
    })  # fmt: skip
    spec = (await raw.create(PODS, pod(runtimeClassName="sandboxed")))["spec"]
    assert (spec["overhead"], spec["nodeSelector"]) == ({"cpu": "100m"}, {"kind": "vm"})
    assert toleration in spec["tolerations"]
    for wrong, why in (
        ({"overhead": {"cpu": "1"}}, "Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
        ({"overhead": {"cpu": "1"}, "runtimeClassName": None},
         "Pod Overhead set without corresponding RuntimeClass defined Overhead"),
    ):  # fmt: skip
        refused = await raw("POST", PODS, pod("q", **{"runtimeClassName": "sandboxed", **wrong}))
        assert (refused.status, refused.message) == (403, f'pods "q" is forbidden: pod rejected: {why}')
    refused = await raw("POST", PODS, pod("q", runtimeClassName="sandboxed", nodeSelector={"kind": "metal"}))
    assert (
        "conflict: runtimeClass.scheduling.nodeSelector[kind] = vm; pod.spec.nodeSelector[kind] = metal"
        in refused.message
    )
