"""/ephemeralcontainers and /resize: what each may change, and what it refuses in which words."""

from __future__ import annotations

from typing import Any

import pytest

Json = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
DEBUG = f"{PODS}/p/ephemeralcontainers"
RESIZE = f"{PODS}/p/resize"
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
MERGE = {"Content-Type": "application/merge-patch+json"}
ONLY = "spec: Forbidden: only cpu and memory resources are mutable"
CPU = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1"}}


async def make(raw: Any, **spec: Any) -> Json:
    container = {"name": "c", "image": "i", "resources": spec.pop("resources", {})}
    metadata = {"name": "p", "labels": {"app": "p"}, **spec.pop("metadata", {})}
    found: Json = await raw.create(PODS, {"metadata": metadata, "spec": {"containers": [container], **spec}})
    return found


def debugger(**fields: Any) -> Json:
    return {"spec": {"ephemeralContainers": [{"name": "debugger", "image": "tools", **fields}]}}


async def test_an_ephemeral_container_is_added_with_defaults_and_makes_a_generation(raw: Any) -> None:
    made = await make(raw)
    patch = {**debugger(targetContainerName="c", stdin=True), "metadata": {"labels": {"app": "other"}}}
    answer = await raw("PATCH", DEBUG, patch, **STRATEGIC)
    assert answer.status == 200
    added = answer.json["spec"]["ephemeralContainers"]
    assert [each["name"] for each in added] == ["debugger"]
    assert (added[0]["terminationMessagePath"], added[0]["imagePullPolicy"]) == (
        "/dev/termination-log",
        "Always",
    )
    assert answer.json["metadata"]["generation"] == made["metadata"]["generation"] + 1
    assert answer.json["metadata"]["labels"] == {"app": "p"}
    assert await raw.get(DEBUG) == await raw.get(f"{PODS}/p") == answer.json


async def test_put_replaces_nothing_but_the_list_of_ephemeral_containers(raw: Any) -> None:
    made = await make(raw)
    wanted = {
        **made,
        "spec": {**made["spec"], **debugger()["spec"], "containers": [{"name": "x", "image": "y"}]},
    }
    answer = await raw("PUT", DEBUG, wanted)
    assert answer.status == 200
    assert answer.json["spec"]["containers"] == made["spec"]["containers"]
    managers = answer.json["metadata"]["managedFields"]
    assert [each.get("subresource") for each in managers] == [None, "ephemeralcontainers"]
    assert list(managers[1]["fieldsV1"]["f:spec"]) == ["f:ephemeralContainers"]


async def test_ephemeral_containers_stay_as_they_were_added(raw: Any) -> None:
    await make(raw)
    await raw("PATCH", DEBUG, debugger(), **STRATEGIC)
    head = 'Pod "p" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers "debugger"'
    changed = await raw("PATCH", DEBUG, debugger(image="others"), **STRATEGIC)
    assert changed.status == 422
    assert changed.message.startswith(f"{head} may not be changed\n  core.EphemeralContainer{{\n- \tImage:")
    removed = await raw("PATCH", DEBUG, {"spec": {"ephemeralContainers": None}}, **MERGE)
    assert (removed.status, removed.message) == (422, f"{head} may not be removed\n")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"targetContainerName": "d"}, '[0].targetContainerName: Not found: "d"'),
        ({"name": "c"}, '[0].name: Duplicate value: "c"'),
        ({"ports": [{"containerPort": 1}]}, "[0].ports: Forbidden: cannot be set for an Ephemeral Container"),
        ({"resources": {"limits": {"cpu": "1"}}}, "[0].resources: Forbidden: cannot be set for an Ephemeral Container"),
    ],
)  # fmt: skip
async def test_what_an_ephemeral_container_cannot_be(raw: Any, fields: Json, why: str) -> None:
    await make(raw)
    answer = await raw("PATCH", DEBUG, debugger(**fields), **STRATEGIC)
    assert answer.status == 422
    assert answer.message == f'Pod "p" is invalid: spec.ephemeralContainers{why}'


async def test_static_pods_are_left_alone(raw: Any) -> None:
    await make(raw, metadata={"annotations": {"kubernetes.io/config.mirror": "x"}})
    refused = await raw("PATCH", DEBUG, debugger(), **STRATEGIC)
    assert refused.status == 422
    assert refused.message.endswith("static pods do not support ephemeral containers")
    refused = await raw("PATCH", RESIZE, sized(), **STRATEGIC)
    assert refused.message.endswith("static pods cannot be resized")


async def test_the_pod_itself_takes_no_ephemeral_containers(raw: Any) -> None:
    await make(raw)
    refused = await raw("PATCH", f"{PODS}/p", debugger(), **STRATEGIC)
    assert refused.status == 422
    assert "pod updates may not change fields other than" in refused.message


def sized(resources: Json | None = None, **fields: Any) -> Json:
    return {"spec": {"containers": [{"name": "c", "resources": resources or {}, **fields}]}}


async def test_a_resize_changes_amounts_and_nothing_else(raw: Any) -> None:
    made = await make(raw, resources=CPU)
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    answer = await raw("PATCH", RESIZE, sized({"requests": {"cpu": "200m"}}, image="other"), **STRATEGIC)
    assert answer.status == 200
    found = answer.json["spec"]["containers"][0]
    assert (found["image"], found["resources"]) == (
        "i",
        {**CPU, "requests": {"cpu": "200m", "memory": "64Mi"}},
    )
    assert answer.json["metadata"]["generation"] == made["metadata"]["generation"] + 1
    whole = {
        **answer.json,
        "spec": {**answer.json["spec"], "nodeName": "n", "containers": [{**found, "resizePolicy": policy}]},
    }
    replaced = await raw("PUT", RESIZE, whole)
    assert (replaced.status, replaced.message) == (422, f'Pod "p" is invalid: {ONLY}')


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        (sized({"requests": {"cpu": None}, "limits": {"cpu": None}}), [
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
        ]),
        (sized({"limits": {"cpu": "100m", "memory": "64Mi"}}),
         ['spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing']),
        (sized({"limits": {"ephemeral-storage": "1Gi"}}), [ONLY]),
        (sized({"requests": {"cpu": "2"}}),
         ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']),
        ({"spec": {"containers": [{"name": "d", "image": "i"}]}},
         ["spec.containers: Forbidden: containers may not be added or removed on resize"]),
    ],
    ids=["removed", "quality", "storage", "too much", "another container"],
)  # fmt: skip
async def test_what_a_resize_may_not_do(raw: Any, patch: Json, why: list[str]) -> None:
    await make(raw, resources=CPU)
    answer = await raw("PATCH", RESIZE, patch, **STRATEGIC)
    assert answer.status == 422
    told = why[0] if len(why) == 1 else f"[{', '.join(why)}]"
    assert answer.message == f'Pod "p" is invalid: {told}'


async def test_containers_may_not_be_renamed_by_a_resize(raw: Any) -> None:
    made = await make(raw, resources=CPU)
    made["spec"]["containers"][0]["name"] = "d"
    answer = await raw("PUT", RESIZE, made)
    assert answer.status == 422
    assert answer.message == (
        'Pod "p" is invalid: spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize'
    )


async def test_init_containers_keep_their_amounts_unless_they_go_on_running(raw: Any) -> None:
    initial = [
        {"name": "once", "image": "i", "resources": CPU},
        {"name": "side", "image": "i", "resources": CPU, "restartPolicy": "Always"},
    ]
    await make(raw, resources=CPU, initContainers=initial)
    more = {"requests": {"cpu": "300m"}}
    fine = {"spec": {"initContainers": [{"name": "side", "resources": more}]}}
    assert (await raw("PATCH", RESIZE, fine, **STRATEGIC)).status == 200
    wrong = {"spec": {"initContainers": [{"name": "once", "resources": more}]}}
    answer = await raw("PATCH", RESIZE, wrong, **STRATEGIC)
    assert answer.message == (
        'Pod "p" is invalid: spec: Forbidden: resources for non-sidecar init containers are immutable'
    )


async def test_a_node_that_does_not_tell_what_containers_have_cannot_resize(raw: Any) -> None:
    made = await make(raw, resources=CPU)
    running = {"name": "c", "ready": True, "restartCount": 0, "image": "i", "imageID": "",
               "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}  # fmt: skip
    status = {**made["status"], "containerStatuses": [running]}
    assert (await raw("PUT", f"{PODS}/p/status", {**made, "status": status})).status == 200
    answer = await raw("PATCH", RESIZE, sized({"requests": {"cpu": "200m"}}), **STRATEGIC)
    assert (
        answer.message
        == 'Pod "p" is invalid: spec: Forbidden: Pod running on node without support for resize'
    )


async def test_limit_ranges_bound_a_resize(raw: Any) -> None:
    await make(raw, resources=CPU)
    item = {"type": "Container", "max": {"cpu": "1500m"}}
    await raw.create(
        "/api/v1/namespaces/default/limitranges",
        {"metadata": {"name": "l"}, "spec": {"limits": [item]}},
    )
    answer = await raw("PATCH", RESIZE, sized({"limits": {"cpu": "2"}}), **STRATEGIC)
    assert (answer.status, answer.message) == (
        403,
        'pods "p" is forbidden: maximum cpu usage per Container is 1500m, but limit is 2',
    )
    assert (await raw("PATCH", RESIZE, sized({"limits": {"cpu": "1500m"}}), **STRATEGIC)).status == 200


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ({"podIP": "10.0.0.1"}, ("10.0.0.1", [{"ip": "10.0.0.1"}])),
        ({"podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}]}, ("10.0.0.2", [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}])),
        ({"podIP": "10.0.0.3", "podIPs": [{"ip": "10.0.0.2"}]}, ("10.0.0.3", [{"ip": "10.0.0.3"}])),
    ],
    ids=["one", "list", "unlike"],
)  # fmt: skip
async def test_a_pods_address_is_the_first_of_its_addresses(raw: Any, status: Json, found: Any) -> None:
    await make(raw)
    answer = await raw("PATCH", f"{PODS}/p/status", {"status": status}, **MERGE)
    assert (answer.json["status"]["podIP"], answer.json["status"]["podIPs"]) == found


async def test_what_is_no_address_is_none_of_a_pod(raw: Any) -> None:
    await make(raw)
    answer = await raw("PATCH", f"{PODS}/p/status", {"status": {"podIP": "bad"}}, **MERGE)
    assert answer.message == (
        'Pod "p" is invalid: status.podIPs[0]: Invalid value: "bad": must be a valid IP address, '
        "(e.g. 10.9.8.7 or 2001:db8::ffff)"
    )


async def test_numbers_as_amounts_are_told_and_kept_as_text(raw: Any) -> None:
    made = await make(raw, resources={"requests": {"cpu": 1e2}})
    assert made["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "100"}}
    text = b'{"metadata":{"name":"q"},"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":-1e2}}}]}}'
    assert 'requests[cpu]: Invalid value: "-100": must be' in (await raw("POST", PODS, text)).message


async def test_clients_are_told_where_the_server_is(raw: Any) -> None:
    found = (await raw.get("/api"))["serverAddressByClientCIDRs"]
    assert found == [{"clientCIDR": "0.0.0.0/0", "serverAddress": raw.url.rpartition("/")[2]}]
