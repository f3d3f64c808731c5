"""create, update, patch and their options, over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

Json = dict[str, Any]
SERVICES = "/api/v1/namespaces/default/services"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


def config_map(name: str = "c", **more: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}


def service(name: str = "s", **spec: Any) -> Json:
    wanted = {"ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": wanted}


def deployment(name: str = "d") -> Json:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


async def test_a_new_object_gets_uid_creation_time_and_revision(raw: Any) -> None:
    made = await raw.create(CONFIG_MAPS, config_map(data={"a": "b"}))
    assert len(made["metadata"]["uid"]) == 36
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert made["metadata"]["resourceVersion"].isdecimal()
    assert "generation" not in made["metadata"]
    assert await raw.get(f"{CONFIG_MAPS}/c") == made


async def test_an_object_without_kind_is_taken_for_what_the_url_says(raw: Any) -> None:
    made = await raw.create(CONFIG_MAPS, {"metadata": {"name": "c"}})
    assert (made["apiVersion"], made["kind"]) == ("v1", "ConfigMap")


async def test_creating_twice_is_already_exists(raw: Any) -> None:
    await raw.create(CONFIG_MAPS, config_map())
    answer = await raw("POST", CONFIG_MAPS, config_map())
    assert (answer.status, answer.reason) == (409, "AlreadyExists")
    assert answer.message == 'configmaps "c" already exists'
    assert answer.json["details"] == {"name": "c", "kind": "configmaps"}


async def test_generated_names_begin_with_the_base(raw: Any) -> None:
    obj = {"metadata": {"generateName": "web-"}}
    names = {(await raw.create(CONFIG_MAPS, obj))["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


async def test_a_namespace_that_does_not_exist_is_not_found(raw: Any) -> None:
    answer = await raw("POST", "/api/v1/namespaces/nowhere/configmaps", config_map())
    assert (answer.status, answer.message) == (404, 'namespaces "nowhere" not found')


async def test_the_body_must_agree_with_the_url(raw: Any) -> None:
    elsewhere = config_map()
    elsewhere["metadata"]["namespace"] = "other"
    answer = await raw("POST", CONFIG_MAPS, elsewhere)
    assert answer.status == 400
    assert (
        answer.message
        == "the namespace of the provided object does not match the namespace sent on the request"
    )
    await raw.create(CONFIG_MAPS, config_map())
    answer = await raw("PUT", f"{CONFIG_MAPS}/c", config_map("b"))
    assert answer.message == "the name of the object (b) does not match the name on the URL (c)"
    answer = await raw("POST", CONFIG_MAPS, {**config_map("x"), "kind": "Secret"})
    assert (answer.status, answer.reason) == (400, "BadRequest")
    answer = await raw("POST", CONFIG_MAPS, {**config_map("x"), "apiVersion": "apps/v1"})
    assert answer.message == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version'
        ' "apps/v1" in scheme "pkg/api/legacyscheme/scheme.go:30"'
    )
    answer = await raw(
        "POST", "/api/v1/namespaces/default/events", {"apiVersion": "events.k8s.io/v1", "kind": "Event"}
    )
    assert answer.message == (
        "the API version in the data (events.k8s.io/v1) does not match the expected API version (v1)"
    )
    nameless = {"metadata": {}}
    for method, form in (("PUT", "application/json"), ("PATCH", "application/merge-patch+json")):
        answer = await raw(
            method,
            f"{CONFIG_MAPS}/c",
            {"metadata": None} if method == "PATCH" else nameless,
            Content_Type=form,
        )
        assert (answer.status, answer.message) == (
            400, "the name of the object (c based on URL) was undeterminable: name must be provided",
        )  # fmt: skip


async def test_a_patch_may_not_make_another_kind_of_it(raw: Any) -> None:
    await raw.create(CONFIG_MAPS, config_map())
    merge = {"Content_Type": "application/merge-patch+json"}
    for change, why in (
        ({"kind": "Pod"}, "converting (v1.Pod) to (core.ConfigMap): unknown conversion"),
        (
            {"apiVersion": "v9"},
            'no kind "ConfigMap" is registered for version "v9" in scheme "pkg/api/legacyscheme/scheme.go:30"',
        ),
    ):
        answer = await raw("PATCH", f"{CONFIG_MAPS}/c", change, **merge)
        assert answer.status == 422
        assert answer.message.endswith(why)
    strategic = await raw(
        "PATCH", f"{CONFIG_MAPS}/c", {"kind": "Pod"}, Content_Type="application/strategic-merge-patch+json"
    )
    assert (strategic.status, strategic.json["kind"]) == (200, "ConfigMap")


async def test_revisions_that_writes_name_are_read_as_numbers(raw: Any) -> None:
    made = await raw.create(CONFIG_MAPS, config_map())
    version = made["metadata"]["resourceVersion"]
    for text, status, why in (
        ("0", 200, ""), (f"00{version}", 200, ""), ("1", 409, "the object has been modified"),
        ("abc", 500, 'strconv.ParseUint: parsing "abc": invalid syntax'),
        ("9" * 30, 500, f'strconv.ParseUint: parsing "{"9" * 30}": value out of range'),
    ):  # fmt: skip
        wanted = config_map()
        wanted["metadata"]["resourceVersion"] = text
        answer = await raw("PUT", f"{CONFIG_MAPS}/c", wanted)
        assert (answer.status, why in answer.body.decode().replace("\\", "")) == (status, True)
    fresh = {"metadata": {"name": "d", "resourceVersion": "5"}, "data": {"a b": "1"}}
    assert (await raw("POST", CONFIG_MAPS, fresh)).status == 422
    fresh["data"] = {}
    answer = await raw("POST", CONFIG_MAPS, fresh)
    assert (answer.status, answer.message) == (
        500,
        "resourceVersion should not be set on objects to be created",
    )


async def test_a_deletion_cannot_be_written_and_a_generated_name_is_kept_by_nobody(raw: Any) -> None:
    made = await raw.create(CONFIG_MAPS, {"metadata": {"generateName": "c-"}})
    path = f"{CONFIG_MAPS}/{made['metadata']['name']}"
    ending = {**made, "metadata": {**made["metadata"], "deletionTimestamp": "2001-01-01T00:00:00Z"}}
    answer = await raw("PUT", path, ending)
    assert answer.status == 422
    assert (
        'metadata.deletionTimestamp: Invalid value: "2001-01-01T00:00:00Z": field is immutable'
        in answer.message
    )
    bare = await raw("PUT", path, {"metadata": {"name": made["metadata"]["name"]}})
    assert "generateName" not in bare.json["metadata"]


@pytest.mark.parametrize(
    ("path", "kind", "why"),
    [
        (SERVICES, "Pod", "Pod in version \"v1\" cannot be handled as a Service: converting (v1.Pod) to (core.Service): "
         "unknown conversion"),
        (SERVICES, "Foo", "Foo in version \"v1\" cannot be handled as a Service: no kind \"Foo\" is registered for version "
         "\"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""),
        ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", "Pod", "Pod in version \"v1\" cannot be handled as "
         "a EndpointSlice: converting (v1.Pod) to (discovery.EndpointSlice): unknown conversion"),
    ],
)  # fmt: skip
async def test_another_kind_is_refused_with_the_conversion_that_fails(
    raw: Any, path: str, kind: str, why: str
) -> None:
    answer = await raw("POST", path, {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}})
    assert (answer.status, answer.message) == (400, why)


async def test_a_deletion_that_a_new_object_claims_is_nobodys_field(raw: Any) -> None:
    body = config_map("x")
    body["metadata"].update(deletionTimestamp="2020-01-01T00:00:00Z", deletionGracePeriodSeconds=5)
    made = await raw.create(CONFIG_MAPS, body)
    assert "deletion" not in str(made)


async def test_unknown_fields_are_refused_warned_of_or_ignored(raw: Any) -> None:
    body = b'{"metadata":{"name":"s"},"spec":{"foo":1,"ports":[{"port":80,"port":81}]}}'
    strict = await raw("POST", f"{SERVICES}?fieldValidation=Strict", body)
    assert strict.status == 400
    assert strict.message == (
        'Service in version "v1" cannot be handled as a Service: strict decoding error: '
        'unknown field "spec.foo", duplicate field "spec.ports[0].port"'
    )
    warned = await raw("POST", SERVICES, body)
    assert warned.status == 201
    assert '299 - "unknown field \\"spec.foo\\""' in warned.warnings
    assert '299 - "duplicate field \\"spec.ports[0].port\\""' in warned.warnings
    assert "foo" not in warned.json["spec"]
    assert warned.json["spec"]["ports"][0]["port"] == 81
    ignored = await raw("PUT", f"{SERVICES}/s?fieldValidation=Ignore", body)
    assert (ignored.status, ignored.warnings) == (200, [])
    answer = await raw("POST", f"{SERVICES}?fieldValidation=Loud", body)
    assert answer.status == 422
    assert answer.json["details"]["kind"] == "CreateOptions"


async def test_malformed_bodies_get_400_and_the_reason(raw: Any) -> None:
    for body in (b"{", b"[]", b"nonsense", b"\xff\xfe", b'{"metadata":'):
        answer = await raw("POST", SERVICES, body)
        assert (answer.status, answer.reason) == (400, "BadRequest"), answer.body
        assert "must be of type Service" in answer.message
    answer = await raw("POST", SERVICES, {"metadata": {"name": "s"}, "spec": {"ports": "x"}})
    assert answer.status == 400
    assert "json: cannot unmarshal string into Go struct field" in answer.message


async def test_unknown_content_types_are_415(raw: Any) -> None:
    answer = await raw("POST", SERVICES, b"x", Content_Type="text/plain")
    assert (answer.status, answer.reason) == (415, "UnsupportedMediaType")
    await raw.create(SERVICES, service())
    answer = await raw("PATCH", f"{SERVICES}/s", {}, Content_Type="application/apply-patch+cbor")
    assert answer.status == 415
    assert "application/merge-patch+json" in answer.message


async def test_yaml_bodies_are_read(raw: Any) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: 'yes'}\n"
    answer = await raw("POST", CONFIG_MAPS, body, Content_Type="application/yaml")
    assert (answer.status, answer.json["data"]) == (201, {"a": "yes"})
    shown = await raw("GET", f"{CONFIG_MAPS}/c", Accept="application/yaml")
    assert shown.headers["Content-Type"] == "application/yaml"
    assert b"kind: ConfigMap\n" in shown.body


async def test_bodies_beyond_three_mebibytes_are_413(raw: Any) -> None:
    body = json.dumps(config_map(data={"a": "x" * (3 * 1024 * 1024)})).encode()
    answer = await raw("POST", CONFIG_MAPS, body)
    assert (answer.status, answer.reason) == (413, "RequestEntityTooLarge")


async def test_dry_runs_change_nothing(raw: Any, api: Any) -> None:
    before = api.store.revision
    answer = await raw("POST", f"{SERVICES}?dryRun=All", service(type="NodePort"))
    assert answer.status == 201
    assert "resourceVersion" not in answer.json["metadata"]
    assert answer.json["spec"]["clusterIP"] == "10.96.0.0"
    assert answer.json["spec"]["ports"][0]["nodePort"] == 32769
    assert api.store.revision == before
    assert (await raw("GET", f"{SERVICES}/s")).status == 404
    for words in ("", "All&dryRun=Some", "&dryRun=All"):
        shown = ",".join(f'"{word}"' for word in words.split("&dryRun="))
        bad = await raw("POST", f"{SERVICES}?dryRun={words}", service())
        assert (bad.status, f"dryRun: Unsupported value: [{shown}]: " in bad.message) == (422, True)
    bad = await raw("POST", f"{SERVICES}?dryRun=Some", service())
    assert bad.status == 422
    assert 'dryRun: Unsupported value: ["Some"]: supported values: "All"' in bad.message


async def test_an_update_with_an_old_revision_conflicts(raw: Any) -> None:
    made = await raw.create(CONFIG_MAPS, config_map(data={"a": "1"}))
    await raw("PUT", f"{CONFIG_MAPS}/c", {**made, "data": {"a": "2"}})
    answer = await raw("PUT", f"{CONFIG_MAPS}/c", {**made, "data": {"a": "3"}})
    assert (answer.status, answer.reason) == (409, "Conflict")
    assert answer.message == (
        'Operation cannot be fulfilled on configmaps "c": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def test_an_update_that_changes_nothing_keeps_the_revision(raw: Any, api: Any) -> None:
    made = await raw.create(CONFIG_MAPS, config_map(data={"a": "1"}))
    before = api.store.revision
    same = await raw("PUT", f"{CONFIG_MAPS}/c", config_map(data={"a": "1"}))
    assert same.json["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    patched = await raw("PATCH", f"{CONFIG_MAPS}/c", {"data": {"a": "1"}}, Content_Type=MERGE)
    assert patched.json == made
    assert api.store.revision == before


async def test_put_creates_where_the_kind_allows_it(raw: Any) -> None:
    assert (await raw("PUT", f"{SERVICES}/s", service())).status == 201
    answer = await raw("PUT", f"{CONFIG_MAPS}/c", config_map())
    assert (answer.status, answer.message) == (404, 'configmaps "c" not found')


@pytest.mark.parametrize(
    ("collection", "content"),
    [
        ("/api/v1/namespaces/default/limitranges", {"spec": {"limits": []}}),
        ("/apis/coordination.k8s.io/v1/namespaces/default/leases", {"spec": {"holderIdentity": "me"}}),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", {"rules": []}),
        ("/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", {"rules": []}),
    ],
)
async def test_put_creates_roles_leases_and_limits_too(raw: Any, collection: str, content: Json) -> None:
    assert (await raw("PUT", f"{collection}/new", {"metadata": {"name": "new"}, **content})).status == 201
    assert (await raw("GET", f"{collection}/new")).status == 200


async def test_a_scale_is_shown_in_a_table_and_means_one_workload(raw: Any) -> None:
    await raw.create(DEPLOYMENTS, deployment())
    path = f"{DEPLOYMENTS}/{deployment()['metadata']['name']}/scale"
    table = (await raw("GET", path, Accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert [column["name"] for column in table["columnDefinitions"]] == [
        "Name",
        "Desired",
        "Available",
        "Age",
    ]
    scale = await raw.get(path)
    assert table["rows"][0]["cells"][:3] == [scale["metadata"]["name"], scale["spec"]["replicas"], 0]
    scale["metadata"]["uid"] = "another"
    answer = await raw("PUT", path, scale)
    assert (answer.status, "UID in precondition: another" in answer.message) == (409, True)


async def test_a_binding_without_a_pod_in_its_path_names_the_pod(raw: Any) -> None:
    pods, bindings = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/bindings"
    await raw.create(pods, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    wrong = await raw("POST", bindings, {"metadata": {"name": "p"}, "target": {"kind": "Pod"}})
    assert (wrong.status, wrong.message) == (
        500, '[target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>", target.name: Required value]',
    )  # fmt: skip
    bound = await raw("POST", bindings, {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}})
    assert (bound.status, bound.json["status"]) == (201, "Success")
    assert (await raw.get(f"{pods}/p"))["spec"]["nodeName"] == "n"
    other = await raw("POST", f"{pods}/p/binding", {"metadata": {"name": "q"}, "target": {"name": "n"}})
    assert (other.status, other.message) == (400, "name in URL does not match name in Binding object")


async def test_leases_need_a_revision_to_be_updated(raw: Any) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
    await raw.create(path, lease)
    answer = await raw("PUT", f"{path}/l", lease)
    assert answer.status == 422
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in answer.message


async def test_a_foreign_uid_conflicts(raw: Any) -> None:
    made = await raw.create(CONFIG_MAPS, config_map())
    foreign = config_map()
    foreign["metadata"]["uid"] = "somebody"
    answer = await raw("PUT", f"{CONFIG_MAPS}/c", foreign)
    assert answer.status == 409
    assert answer.message == (
        'Operation cannot be fulfilled on configmaps "c": StorageError: invalid object, Code: 4, Key: /registry/configmaps/'
        "default/c, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: somebody, UID in object"
        f" meta: {made['metadata']['uid']}"
    )
    foreign["metadata"]["name"] = "d"
    assert (await raw("PUT", f"{CONFIG_MAPS}/d", foreign)).status == 409
    patched = await raw(
        "PATCH", f"{CONFIG_MAPS}/c", {"metadata": {"uid": "x"}}, Content_Type="application/merge-patch+json"
    )
    assert (patched.status, patched.message) == (
        422, 'ConfigMap "c" is invalid: metadata.uid: Invalid value: "x": field is immutable',
    )  # fmt: skip


async def test_status_and_spec_are_written_separately(raw: Any) -> None:
    made = await raw.create(DEPLOYMENTS, {**deployment(), "status": {"replicas": 9}})
    assert made["status"] == {}
    assert made["metadata"]["generation"] == 1
    changed = {**made, "status": {"replicas": 1}, "spec": {**made["spec"], "replicas": 5}}
    by_status = await raw("PUT", f"{DEPLOYMENTS}/d/status", changed)
    assert by_status.json["status"]["replicas"] == 1
    assert by_status.json["spec"]["replicas"] == 1
    assert by_status.json["metadata"]["generation"] == 1
    changed["metadata"] = {"name": "d"}
    changed["status"] = {"replicas": 7}
    by_spec = await raw("PUT", f"{DEPLOYMENTS}/d", changed)
    assert by_spec.json["status"]["replicas"] == 1
    assert by_spec.json["spec"]["replicas"] == 5
    assert by_spec.json["metadata"]["generation"] == 2


async def test_three_kinds_of_patches(raw: Any) -> None:
    await raw.create(DEPLOYMENTS, deployment())
    path = f"{DEPLOYMENTS}/d"
    merged = await raw("PATCH", path, {"metadata": {"labels": {"x": "y"}}}, Content_Type=MERGE)
    assert merged.json["metadata"]["labels"] == {"x": "y"}
    containers = [{"name": "c", "image": "j"}, {"name": "e", "image": "k"}]
    strategic = await raw(
        "PATCH", path, {"spec": {"template": {"spec": {"containers": containers}}}}, Content_Type=STRATEGIC
    )
    found = strategic.json["spec"]["template"]["spec"]["containers"]
    assert {each["name"]: each["image"] for each in found} == {"c": "j", "e": "k"}
    replaced = await raw(
        "PATCH", path, [{"op": "replace", "path": "/spec/replicas", "value": 4}], Content_Type=JSON_PATCH
    )
    assert replaced.json["spec"]["replicas"] == 4
    failed = await raw(
        "PATCH", path, [{"op": "test", "path": "/spec/replicas", "value": 5}], Content_Type=JSON_PATCH
    )
    assert failed.status == 422
    strict = await raw("PATCH", f"{path}?fieldValidation=Strict", {"spec": {"foo": 1}}, Content_Type=MERGE)
    assert strict.status == 422
    assert 'strict decoding error: unknown field "spec.foo"' in strict.message
    for body in (b"{", b"[]", b"7"):
        bad = await raw("PATCH", path, body, Content_Type=MERGE)
        assert bad.status == 400, bad.body
    bad = await raw("PATCH", path, b"{}", Content_Type=JSON_PATCH)
    assert bad.status == 400
    gone = await raw("PATCH", f"{DEPLOYMENTS}/nope", {}, Content_Type=MERGE)
    assert gone.status == 404


async def test_concurrent_patches_all_get_in(raw: Any) -> None:
    await raw.create(CONFIG_MAPS, config_map())
    answers = await asyncio.gather(
        *(raw("PATCH", f"{CONFIG_MAPS}/c", {"data": {f"k{i}": "v"}}, Content_Type=MERGE) for i in range(20))
    )
    assert {answer.status for answer in answers} == {200}
    assert len((await raw.get(f"{CONFIG_MAPS}/c"))["data"]) == 20


async def test_a_patch_with_a_revision_is_an_optimistic_lock(raw: Any) -> None:
    made = await raw.create(CONFIG_MAPS, config_map())
    await raw("PATCH", f"{CONFIG_MAPS}/c", {"data": {"a": "b"}}, Content_Type=MERGE)
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"c": "d"}}
    answer = await raw("PATCH", f"{CONFIG_MAPS}/c", stale, Content_Type=MERGE)
    assert (answer.status, answer.reason) == (409, "Conflict")


async def test_scale_is_a_window_on_replicas(raw: Any) -> None:
    await raw.create(DEPLOYMENTS, deployment())
    scale = await raw.get(f"{DEPLOYMENTS}/d/scale")
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 0, "selector": "a=b"})
    scale["spec"]["replicas"] = 3
    answer = await raw("PUT", f"{DEPLOYMENTS}/d/scale", scale)
    assert (answer.status, answer.json["spec"]["replicas"]) == (200, 3)
    stale = await raw("PUT", f"{DEPLOYMENTS}/d/scale", scale)
    assert stale.status == 409
    patched = await raw("PATCH", f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 2}}, Content_Type=MERGE)
    assert patched.json["spec"]["replicas"] == 2
    found = await raw.get(f"{DEPLOYMENTS}/d")
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (2, 3)
    negative = await raw("PATCH", f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": -1}}, Content_Type=MERGE)
    assert negative.status == 422


async def test_a_pod_is_bound_once(raw: Any) -> None:
    pods = "/api/v1/namespaces/default/pods"
    await raw.create(pods, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    binding = {
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"},
    }  # fmt: skip
    answer = await raw("POST", f"{pods}/p/binding", binding)
    assert (answer.status, answer.json["status"]) == (201, "Success")
    pod = await raw.get(f"{pods}/p")
    assert pod["spec"]["nodeName"] == "node-1"
    assert [(each["type"], each["status"]) for each in pod["status"]["conditions"]] == [
        ("PodScheduled", "True")
    ]
    again = await raw("POST", f"{pods}/p/binding", binding)
    assert again.status == 409
    assert again.message == (
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "node-1"'
    )


async def test_a_binding_means_one_pod_and_waits_for_its_gates(raw: Any) -> None:
    pods = "/api/v1/namespaces/default/pods"
    spec = {"containers": [{"name": "c", "image": "i"}]}
    await raw.create(pods, {"metadata": {"name": "p"}, "spec": {**spec, "schedulingGates": [{"name": "g"}]}})
    await raw.create(pods, {"metadata": {"name": "q", "annotations": {"a": "1"}}, "spec": spec})
    target = {"kind": "Node", "name": "node-1"}
    gated = await raw("POST", f"{pods}/p/binding", {"metadata": {"name": "p"}, "target": target})
    assert (gated.status, gated.reason) == (409, "Conflict")
    assert gated.message == (
        'Operation cannot be fulfilled on pods/binding "p": pod p has non-empty .spec.schedulingGates'
    )
    for meant in ({"uid": "another"}, {"resourceVersion": "1"}):
        other = await raw("POST", f"{pods}/q/binding", {"metadata": {"name": "q", **meant}, "target": target})
        assert (other.status, "Key: /registry/pods/default/q, " in other.message) == (409, True)
    told = {"name": "q", "annotations": {"b": "2"}}
    assert (await raw("POST", f"{pods}/q/binding", {"metadata": told, "target": target})).status == 201
    assert (await raw.get(f"{pods}/q"))["metadata"]["annotations"] == {"a": "1", "b": "2"}


async def test_string_data_of_a_secret_ends_up_in_data(raw: Any) -> None:
    made = await raw.create(
        "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}}
    )
    assert made["type"] == "Opaque"
    assert made["data"] == {"a": base64.b64encode(b"b").decode()}
    assert "stringData" not in made


async def test_validation_errors_carry_causes(raw: Any) -> None:
    answer = await raw("POST", SERVICES, service(type="Foo", ports=[{"port": 0}]))
    assert (answer.status, answer.reason) == (422, "Invalid")
    fields = {cause["field"]: cause["reason"] for cause in answer.json["details"]["causes"]}
    assert fields["spec.type"] == "FieldValueNotSupported"
    assert fields["spec.ports[0].port"] == "FieldValueInvalid"


async def test_deprecated_fields_earn_warnings(raw: Any) -> None:
    answer = await raw("POST", SERVICES, service(externalIPs=["192.0.2.1"]))
    assert answer.status == 201
    assert answer.warnings == [
        '299 - "spec.externalIPs is deprecated and may no longer be implemented in some clusters"'
    ]
