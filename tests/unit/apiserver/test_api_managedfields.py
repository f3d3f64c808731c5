"""Managed fields over HTTP: every way of writing records who wrote, and a write that changes nothing records nothing."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from nodeport.api import resources
from nodeport.apiserver.encoding import STORED_HEAD
from nodeport.client.rest import RestClient
from nodeport.kit.clock import SystemClock
from nodeport.testing.apiserver import running_apiserver

SERVICES = "/api/v1/namespaces/default/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
Json = dict[str, Any]


class SteppedClock(SystemClock):
    """Real time and steps of a minute."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead

    def step(self) -> None:
        self.ahead += timedelta(minutes=1)


def service(**spec: Any) -> Json:
    return {
        "metadata": {"name": "s", "labels": {"app": "web"}},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}], **spec},
    }


def deployment() -> Json:
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {
        "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
    }


def entries(obj: Json) -> list[tuple[str, str, str]]:
    return [
        (entry["manager"], entry["operation"], entry.get("subresource", ""))
        for entry in obj["metadata"].get("managedFields", [])
    ]


def fields_of(obj: Json, manager: str) -> Json:
    found: Json = next(each for each in obj["metadata"]["managedFields"] if each["manager"] == manager)[
        "fieldsV1"
    ]
    return found


async def patch(raw: Any, path: str, body: Any, content_type: str = MERGE_PATCH, **headers: str) -> Json:
    answer = await raw("PATCH", path, body, Content_Type=content_type, **headers)
    assert answer.status == 200, answer.body
    found: Json = answer.json
    return found


async def test_a_created_object_is_owned_by_the_user_agent_without_its_version(raw: Any) -> None:
    answer = await raw("POST", SERVICES, service(), User_Agent="kubectl/v1.36 (linux/amd64)")
    made = answer.json["metadata"]["managedFields"]
    assert [(each["manager"], each["operation"], each["apiVersion"]) for each in made] == [
        ("kubectl", "Update", "v1")
    ]
    assert made[0]["fieldsType"] == "FieldsV1"
    assert made[0]["time"] == answer.json["metadata"]["creationTimestamp"]
    assert made[0]["fieldsV1"]["f:spec"]["f:ports"] == {
        ".": {}, 'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}},
    }  # fmt: skip
    assert "f:clusterIP" not in made[0]["fieldsV1"]["f:spec"]
    assert "f:status" not in made[0]["fieldsV1"]


@pytest.mark.parametrize(
    ("agent", "manager"),
    [("curl/8.1", "curl"), ("", "unknown"), ("/x", "unknown"), ("a b c", "a b c"), ("x" * 200, "x" * 128)],
)
async def test_the_manager_is_what_the_user_agent_says(raw: Any, agent: str, manager: str) -> None:
    answer = await raw("POST", SERVICES, service(), User_Agent=agent)
    assert entries(answer.json) == [(manager, "Update", "")]


async def test_the_parameter_names_the_manager(raw: Any) -> None:
    made = await raw.create(f"{SERVICES}?fieldManager=me", service())
    assert entries(made) == [("me", "Update", "")]


async def test_who_updates_takes_what_was_changed(raw: Any) -> None:
    made = await raw.create(f"{SERVICES}?fieldManager=a", service())
    made["metadata"]["labels"]["app"] = "other"
    made["metadata"]["labels"]["tier"] = "front"
    answer = await raw("PUT", f"{SERVICES}/s?fieldManager=b", made)
    assert fields_of(answer.json, "b") == {"f:metadata": {"f:labels": {"f:app": {}, "f:tier": {}}}}
    assert fields_of(answer.json, "a")["f:metadata"] == {"f:labels": {}}


async def test_a_put_without_managed_fields_keeps_them(raw: Any) -> None:
    made = await raw.create(f"{SERVICES}?fieldManager=a", service())
    version = made["metadata"]["resourceVersion"]
    answer = await raw("PUT", f"{SERVICES}/s?fieldManager=b", service())
    assert entries(answer.json) == [("a", "Update", "")]
    assert answer.json["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize("reset", [[], [{}]])
async def test_an_empty_list_forgets_the_managers_until_something_is_applied(
    raw: Any, reset: list[Json]
) -> None:
    made = await raw.create(SERVICES, service())
    made["metadata"]["managedFields"] = reset
    answer = await raw("PUT", f"{SERVICES}/s", made)
    assert "managedFields" not in answer.json["metadata"]
    after = await patch(raw, f"{SERVICES}/s?fieldManager=b", {"metadata": {"labels": {"x": "y"}}})
    assert "managedFields" not in after["metadata"]
    answer = await raw(
        "PATCH", f"{SERVICES}/s?fieldManager=me",
        {"apiVersion": "v1", "kind": "Service", "metadata": {"labels": {"z": "1"}}},
        Content_Type="application/apply-patch+yaml",
    )  # fmt: skip
    assert entries(answer.json) == [("me", "Apply", ""), ("before-first-apply", "Update", "")]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (MERGE_PATCH, {"metadata": {"managedFields": []}}),
        (JSON_PATCH, [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]),
        ("application/strategic-merge-patch+json", {"metadata": {"managedFields": [{}]}}),
    ],
)
async def test_a_patch_may_forget_the_managers(raw: Any, content_type: str, body: Any) -> None:
    await raw.create(SERVICES, service())
    assert "managedFields" not in (await patch(raw, f"{SERVICES}/s", body, content_type))["metadata"]


async def test_a_client_may_rewrite_the_managers(raw: Any) -> None:
    made = await raw.create(f"{SERVICES}?fieldManager=kubectl-client-side-apply", service())
    moved = [{**made["metadata"]["managedFields"][0], "manager": "kubectl", "operation": "Apply"}]
    operations = [
        {"op": "replace", "path": "/metadata/managedFields", "value": moved},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
    ]
    after = await patch(raw, f"{SERVICES}/s", operations, JSON_PATCH)
    assert entries(after) == [("kubectl", "Apply", "")]
    assert after["metadata"]["managedFields"] == moved
    stale = await raw("PATCH", f"{SERVICES}/s", operations, Content_Type=JSON_PATCH)
    assert (stale.status, stale.reason) == (409, "Conflict")


@pytest.mark.parametrize(
    "wrong",
    [
        {"operation": "Delete"}, {"fieldsType": "FieldsV9"}, {"fieldsV1": {"nonsense": {}}}, {"apiVersion": ""},
    ],
)  # fmt: skip
async def test_managers_that_cannot_be_read_are_ignored(raw: Any, wrong: Json) -> None:
    made = await raw.create(f"{SERVICES}?fieldManager=a", service())
    made["metadata"]["managedFields"][0].update(wrong)
    answer = await raw("PUT", f"{SERVICES}/s", made)
    assert answer.status == 200
    assert entries(answer.json) == [("a", "Update", "")]


async def test_managed_fields_of_a_wrong_type_are_400(raw: Any) -> None:
    made = service()
    made["metadata"]["managedFields"] = "mine"
    answer = await raw("POST", SERVICES, made)
    assert (answer.status, answer.reason) == (400, "BadRequest")


async def test_a_write_that_changes_nothing_is_not_written(raw: Any) -> None:
    made = await raw.create(f"{SERVICES}?fieldManager=a", service())
    version = made["metadata"]["resourceVersion"]
    labels = {"metadata": {"labels": {"app": "web"}}}
    for body, content_type in ((labels, MERGE_PATCH), ([], JSON_PATCH)):
        again = await patch(raw, f"{SERVICES}/s?fieldManager=b", body, content_type)
        assert again["metadata"]["resourceVersion"] == version
        assert entries(again) == [("a", "Update", "")]


async def test_status_is_a_manager_of_its_own(raw: Any) -> None:
    await raw.create(f"{SERVICES}?fieldManager=a", service(type="LoadBalancer"))
    status = {
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        "spec": {"sessionAffinity": "ClientIP"},
    }
    after = await patch(raw, f"{SERVICES}/s/status?fieldManager=a", status)
    assert entries(after) == [("a", "Update", ""), ("a", "Update", "status")]
    assert after["metadata"]["managedFields"][1]["fieldsV1"] == {
        "f:status": {"f:loadBalancer": {"f:ingress": {}}}
    }
    assert "f:sessionAffinity" in after["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert after["spec"]["sessionAffinity"] == "None"


async def test_the_time_moves_with_a_change_and_only_with_one(connect: Any) -> None:
    clock = SteppedClock()
    async with running_apiserver(clock=clock) as api, connect(api) as raw:
        made = await raw.create(f"{SERVICES}?fieldManager=a", service())
        clock.step()
        labels = {"metadata": {"labels": {"app": "web"}}}
        same = await patch(raw, f"{SERVICES}/s?fieldManager=a", labels)
        assert same == made
        labels["metadata"]["labels"]["app"] = "x"
        after = await patch(raw, f"{SERVICES}/s?fieldManager=a", labels)
        times = [obj["metadata"]["managedFields"][0]["time"] for obj in (made, after)]
        assert times[0] < times[1]
        clock.step()
        applied = {"apiVersion": "v1", "kind": "Service", "metadata": {"labels": {"app": "x"}}}
        yaml = "application/apply-patch+yaml"
        first = await patch(raw, f"{SERVICES}/s?fieldManager=b", applied, yaml)
        again = await patch(raw, f"{SERVICES}/s?fieldManager=b", applied, yaml)
        assert first == again


async def test_managers_are_not_rewritten_through_status(raw: Any) -> None:
    made = await raw.create(f"{SERVICES}?fieldManager=a", service())
    made["metadata"]["managedFields"] = []
    answer = await raw("PUT", f"{SERVICES}/s/status", made)
    assert entries(answer.json) == [("a", "Update", "")]


async def test_scale_takes_the_replicas(raw: Any) -> None:
    await raw.create(f"{DEPLOYMENTS}?fieldManager=a", deployment())
    scale = await raw.get(f"{DEPLOYMENTS}/d/scale")
    scale["spec"]["replicas"] = 4
    answer = await raw("PUT", f"{DEPLOYMENTS}/d/scale?fieldManager=hpa", scale)
    assert answer.status == 200
    assert "managedFields" not in answer.json["metadata"]
    after = await raw.get(f"{DEPLOYMENTS}/d")
    assert entries(after) == [("a", "Update", ""), ("hpa", "Update", "scale")]
    assert fields_of(after, "hpa") == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in fields_of(after, "a")["f:spec"]
    await patch(raw, f"{DEPLOYMENTS}/d/scale?fieldManager=hpa", {"spec": {"replicas": 5}})
    assert entries(await raw.get(f"{DEPLOYMENTS}/d")) == [("a", "Update", ""), ("hpa", "Update", "scale")]


async def test_a_binding_and_a_deletion_are_nobody_s(raw: Any) -> None:
    await raw.create("/api/v1/nodes", {"metadata": {"name": "n"}})
    pods = "/api/v1/namespaces/default/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = await raw.create(f"{pods}?fieldManager=a", pod)
    await raw.create(f"{pods}/p/binding", {"metadata": {"name": "p"}, "target": {"name": "n"}})
    await raw("DELETE", f"{pods}/p")
    after = await raw.get(f"{pods}/p")
    assert after["spec"]["nodeName"] == "n"
    assert after["metadata"]["managedFields"] == made["metadata"]["managedFields"]


async def test_a_secret_s_text_is_owned_where_it_is_kept(raw: Any) -> None:
    path = "/api/v1/namespaces/default/secrets"
    made = await raw.create(f"{path}?fieldManager=a", {"metadata": {"name": "x"}, "stringData": {"k": "v"}})
    assert fields_of(made, "a") == {"f:data": {".": {}, "f:k": {}}, "f:type": {}}


async def test_generated_names_are_owned_and_every_attempt_has_managers(raw: Any) -> None:
    made = await raw.create(f"{SERVICES}?fieldManager=a", {**service(), "metadata": {"generateName": "s-"}})
    assert fields_of(made, "a")["f:metadata"] == {"f:generateName": {}}


async def test_a_dry_run_shows_the_managers_and_keeps_none(raw: Any) -> None:
    made = await raw.create(f"{SERVICES}?fieldManager=a&dryRun=All", service())
    assert entries(made) == [("a", "Update", "")]
    assert (await raw("GET", f"{SERVICES}/s")).status == 404


async def test_at_most_ten_updaters_are_kept(raw: Any) -> None:
    await raw.create(f"{SERVICES}?fieldManager=m0", service())
    for number in range(1, 12):
        await patch(
            raw, f"{SERVICES}/s?fieldManager=m{number}", {"metadata": {"labels": {f"l{number}": "x"}}}
        )
    found = await raw.get(f"{SERVICES}/s")
    assert len(entries(found)) == 10
    assert "ancient-changes" in [manager for manager, _, _ in entries(found)]


async def test_what_the_server_makes_is_its_own(raw: Any) -> None:
    for path in ("/api/v1/namespaces/default", f"{SERVICES}/kubernetes"):
        assert entries(await raw.get(path)) == [("kube-apiserver", "Update", "")]


async def test_a_namespace_s_own_label_is_its_maker_s(raw: Any) -> None:
    made = await raw.create("/api/v1/namespaces?fieldManager=a", {"metadata": {"name": "n"}})
    assert fields_of(made, "a") == {
        "f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}
    }


async def test_stored_bytes_stay_served_bytes(api: Any, raw: Any) -> None:
    made = await raw.create(SERVICES, service())
    kv = await api.store.get("/registry/services/default/s")
    assert kv.value.startswith(STORED_HEAD)
    assert json.loads(kv.value)["metadata"]["managedFields"] == made["metadata"]["managedFields"]
    listed = await raw.get(SERVICES)
    found = next(item for item in listed["items"] if item["metadata"]["name"] == "s")
    assert found["metadata"]["managedFields"] == made["metadata"]["managedFields"]


async def test_force_is_for_applies_only(raw: Any) -> None:
    await raw.create(SERVICES, service())
    answer = await raw("PATCH", f"{SERVICES}/s?force=true", {}, Content_Type=MERGE_PATCH)
    assert answer.status == 422
    assert answer.message == (
        'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch'
    )


async def test_our_own_client_writes_under_its_own_name(api: Any) -> None:
    async with RestClient(api.admin_config, user_agent="nodeport-controllers") as client:
        metadata = {"name": "s", "namespace": "default"}
        made = await client.create(resources.SERVICES, {**service(), "metadata": metadata})
    assert entries(made) == [("nodeport-controllers", "Update", "")]
