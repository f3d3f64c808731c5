"""Server-side apply over HTTP: creating, merging, giving up, conflicts, refusals, on objects and subresources."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from unit.apiserver.security import RBAC, asking, binding, role, rule

SERVICES = "/api/v1/namespaces/default/services"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = "application/apply-patch+yaml"
Json = dict[str, Any]


def service(name: str = "web", **spec: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def node_port(**spec: Any) -> Json:
    return service(type="NodePort", selector={"app": "web"}, ports=[{"port": 80, "nodePort": 30007}], **spec)


def config_map(**data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


def deployment(**spec: Any) -> Json:
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": labels}, "template": pod, **spec},
    }  # fmt: skip


async def apply(raw: Any, path: str, body: Any, manager: str = "me", **more: str) -> Any:
    query = "&".join([f"fieldManager={manager}", *(f"{name}={value}" for name, value in more.items())])
    return await raw("PATCH", f"{path}?{query}", body, Content_Type=APPLY)


def managers(obj: Json) -> list[tuple[str, str, str]]:
    return [
        (each["manager"], each["operation"], each.get("subresource", ""))
        for each in obj["metadata"].get("managedFields", [])
    ]


async def test_applying_what_is_not_there_creates_it(raw: Any) -> None:
    answer = await apply(raw, f"{SERVICES}/web", node_port())
    assert answer.status == 201
    made = answer.json
    assert made["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30007}]
    assert made["spec"]["clusterIP"]
    entry = made["metadata"]["managedFields"][0]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("me", "Apply", "v1")
    assert entry["fieldsV1"] == {
        "f:spec": {
            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:nodePort": {}, "f:port": {}}},
            "f:selector": {}, "f:type": {},
        }
    }  # fmt: skip


async def test_applying_again_is_200_and_no_write(raw: Any) -> None:
    first = (await apply(raw, f"{SERVICES}/web", node_port())).json
    again = await apply(raw, f"{SERVICES}/web", node_port())
    assert (again.status, again.json) == (200, first)


async def test_yaml_is_applied(raw: Any) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, labels: {a: b}}\ndata:\n  k: 'yes'\n"
    answer = await apply(raw, f"{CONFIG_MAPS}/c", text)
    assert (answer.status, answer.json["data"]) == (201, {"k": "yes"})


async def test_what_is_no_longer_applied_goes_unless_another_manager_owns_it(raw: Any) -> None:
    await apply(raw, f"{CONFIG_MAPS}/c", config_map(a="1", b="2", c="3"))
    await apply(raw, f"{CONFIG_MAPS}/c", config_map(b="2"), "other")
    await raw("PATCH", f"{CONFIG_MAPS}/c", {"data": {"d": "4"}}, Content_Type="application/merge-patch+json")
    answer = await apply(raw, f"{CONFIG_MAPS}/c", config_map(a="1"))
    assert answer.json["data"] == {"a": "1", "b": "2", "d": "4"}


async def test_a_port_that_is_no_longer_applied_goes_and_its_node_port_is_free(raw: Any) -> None:
    both = service(
        type="NodePort", ports=[{"port": 80, "name": "a", "nodePort": 30007}, {"port": 81, "name": "b"}]
    )
    await apply(raw, f"{SERVICES}/web", both)
    left = service(type="NodePort", ports=[{"port": 81, "name": "b"}])
    answer = await apply(raw, f"{SERVICES}/web", left)
    assert [port["port"] for port in answer.json["spec"]["ports"]] == [81]
    assert (
        await apply(raw, f"{SERVICES}/other", {**node_port(), "metadata": {"name": "other"}})
    ).status == 201


async def test_an_allocated_node_port_survives_an_apply_that_does_not_name_it(raw: Any) -> None:
    wanted = service(type="NodePort", ports=[{"port": 80}])
    first = (await apply(raw, f"{SERVICES}/web", wanted)).json["spec"]
    wanted["metadata"]["labels"] = {"a": "b"}
    second = (await apply(raw, f"{SERVICES}/web", wanted)).json["spec"]
    assert second == first


async def test_udp_and_tcp_on_one_number_are_two_ports(raw: Any) -> None:
    ports = [
        {"name": "t", "port": 53, "nodePort": 30053},
        {"name": "u", "port": 53, "protocol": "UDP", "nodePort": 30053},
    ]
    await apply(raw, f"{SERVICES}/web", service(type="NodePort", ports=ports))
    answer = await apply(raw, f"{SERVICES}/web", service(type="NodePort", ports=ports[1:]))
    assert [port["protocol"] for port in answer.json["spec"]["ports"]] == ["UDP"]


async def test_one_conflict_is_409_with_its_field(raw: Any) -> None:
    await apply(raw, f"{SERVICES}/web", node_port(), "first")
    wanted = node_port()
    wanted["spec"]["ports"][0]["nodePort"] = 30008
    answer = await apply(raw, f"{SERVICES}/web", wanted, "second")
    path = '.spec.ports[port=80,protocol="TCP"].nodePort'
    assert answer.json == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Conflict", "code": 409,
        "message": f'Apply failed with 1 conflict: conflict with "first": {path}',
        "details": {
            "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "first"', "field": path}]
        },
    }  # fmt: skip


async def test_several_conflicts_are_listed_by_manager(raw: Any) -> None:
    await raw("POST", f"{SERVICES}?fieldManager=kubectl", node_port())
    wanted = node_port()
    wanted["spec"]["ports"][0]["nodePort"] = 30008
    wanted["spec"] |= {"type": "LoadBalancer", "selector": {"x": "y"}}
    answer = await apply(raw, f"{SERVICES}/web", wanted)
    assert answer.message == (
        'Apply failed with 3 conflicts: conflicts with "kubectl" using v1:\n'
        '- .spec.selector\n- .spec.type\n- .spec.ports[port=80,protocol="TCP"].nodePort'
    )
    forced = await apply(raw, f"{SERVICES}/web", wanted, force="true")
    assert forced.json["spec"]["type"] == "LoadBalancer"
    assert managers(forced.json) == [("me", "Apply", ""), ("kubectl", "Update", "")]


async def test_force_false_is_no_force(raw: Any) -> None:
    await raw("POST", SERVICES, node_port())
    wanted = node_port() | {"spec": {"type": "LoadBalancer"}}
    assert (await apply(raw, f"{SERVICES}/web", wanted, force="false")).status == 409


async def test_a_manager_is_required(raw: Any) -> None:
    answer = await raw("PATCH", f"{SERVICES}/web", node_port(), Content_Type=APPLY)
    assert answer.status == 422
    assert answer.message == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
    )


@pytest.mark.parametrize("manager", ["x" * 129, "a%00b"])
async def test_a_manager_has_a_printable_name_of_128_bytes_at_most(raw: Any, manager: str) -> None:
    answer = await apply(raw, f"{SERVICES}/web", node_port(), manager)
    assert (answer.status, answer.json["details"]["kind"]) == (422, "PatchOptions")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"a: [", 400, "error decoding YAML: error converting YAML to JSON: yaml: "),
        (b"- a", 400, "cannot unmarshal array into Go value of type map[string]interface {}"),
        (b"", 400, "invalid object type: /, Kind="),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}, 400, "invalid object type: /v1, Kind=Pod"),
        ({"apiVersion": "v2", "kind": "Service"}, 400, "invalid object type: /v2, Kind=Service"),
        ({"apiVersion": "apps/v1", "kind": "Service"}, 400, "invalid object type: apps/v1, Kind=Service"),
        (service() | {"metadata": {"name": "web", "managedFields": []}}, 400, "metadata.managedFields must be nil"),
        (service(foo=1), 400,
         "failed to create typed patch object (/web; /v1, Kind=Service): .spec.foo: field not declared in schema"),
        (service(ports=[{"port": 80}, {"port": 80}]), 400,
         '.spec.ports: duplicate entries for key [port=80,protocol="TCP"]'),
        (service(healthCheckNodePort="x"), 400, "expected numeric (int or float), got string"),
        (service() | {"metadata": 1}, 400, ".metadata: expected map, got &{1}"),
        (service() | {"metadata": {"name": "other"}}, 400,
         "the name of the object (other) does not match the name on the URL (web)"),
        (service() | {"metadata": {}}, 400, "name must be provided"),
        (service() | {"metadata": {"name": "web", "namespace": "kube-system"}}, 400,
         "the namespace of the provided object does not match the namespace sent on the request"),
        (service(healthCheckNodePort=2**40), 400, "failed to convert new typed object"),
        (service(type="Nonsense", ports=[{"port": 80}]), 422, "spec.type: Unsupported value"),
        (service() | {"metadata": {"name": "web", "uid": "6b0d"}}, 409,
         'Operation cannot be fulfilled on services "web": uid mismatch: the provided object specified uid 6b0d, and no '
         "existing object was found"),
    ],
)  # fmt: skip
async def test_what_cannot_be_applied_is_told_why(raw: Any, body: Any, status: int, text: str) -> None:
    answer = await apply(raw, f"{SERVICES}/web", body)
    assert answer.status == status
    assert text in answer.message
    assert (await raw("GET", f"{SERVICES}/web")).status == 404


async def test_another_version_is_a_conflict_and_another_uid_invalid(raw: Any) -> None:
    await apply(raw, f"{SERVICES}/web", node_port())
    for wrong, status, reason in (
        ({"uid": "6b0d"}, 422, "Invalid"),
        ({"resourceVersion": "1"}, 409, "Conflict"),
    ):
        wanted = node_port()
        wanted["metadata"] |= wrong
        answer = await apply(raw, f"{SERVICES}/web", wanted)
        assert (answer.status, answer.reason) == (status, reason)


async def test_a_key_given_twice_is_a_warning_or_when_strict_an_error(raw: Any) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: '1'\n  a: '2'\n"
    strict = await apply(raw, f"{CONFIG_MAPS}/c", text, fieldValidation="Strict")
    assert strict.status == 400
    assert strict.message == (
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n"
        '  line 6: key "a" already set in map'
    )
    warned = await apply(raw, f"{CONFIG_MAPS}/c", text)
    assert warned.status == 201
    assert warned.warnings == ['299 - "line 6: key \\"a\\" already set in map"']
    silent = await apply(raw, f"{CONFIG_MAPS}/c", text, fieldValidation="Ignore")
    assert (silent.status, silent.warnings) == (200, [])


async def test_a_dry_run_shows_and_writes_nothing(raw: Any) -> None:
    answer = await apply(raw, f"{SERVICES}/web", node_port(), dryRun="All")
    assert (answer.status, managers(answer.json)) == (201, [("me", "Apply", "")])
    assert (await raw("GET", f"{SERVICES}/web")).status == 404
    await apply(raw, f"{SERVICES}/web", node_port())
    wanted = node_port(sessionAffinity="ClientIP")
    shown = await apply(raw, f"{SERVICES}/web", wanted, dryRun="All")
    assert shown.json["spec"]["sessionAffinity"] == "ClientIP"
    assert (await raw.get(f"{SERVICES}/web"))["spec"]["sessionAffinity"] == "None"


async def test_status_is_applied_by_its_own_way(raw: Any) -> None:
    await apply(raw, f"{SERVICES}/web", service(type="LoadBalancer", ports=[{"port": 80}]))
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    wanted = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, **status}
    ignored = await apply(raw, f"{SERVICES}/web", wanted, "lb")
    assert ignored.json["status"] == {"loadBalancer": {}}
    assert "lb" not in [manager for manager, _, _ in managers(ignored.json)]
    answer = await apply(raw, f"{SERVICES}/web/status", wanted, "lb")
    assert answer.status == 200
    assert answer.json["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.1", "ipMode": "VIP"}]
    assert ("lb", "Apply", "status") in managers(answer.json)
    taken = await apply(
        raw, f"{SERVICES}/web/status", wanted | {"status": {"loadBalancer": {"ingress": []}}}, "x"
    )
    assert taken.message == 'Apply failed with 1 conflict: conflict with "lb" with subresource "status": ' \
        ".status.loadBalancer.ingress"  # fmt: skip


async def test_status_of_a_cluster_scoped_kind_is_applied(raw: Any) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    assert (await apply(raw, "/api/v1/nodes/n", node)).status == 201
    condition = {"type": "Ready", "status": "True", "reason": "r", "message": "m"}
    answer = await apply(
        raw, "/api/v1/nodes/n/status", node | {"status": {"conditions": [condition]}}, force="true"
    )
    assert answer.status == 200
    assert answer.json["status"]["conditions"][0]["type"] == "Ready"
    assert answer.json["metadata"]["managedFields"][-1]["fieldsV1"]["f:status"] == {
        "f:conditions": {
            'k:{"type":"Ready"}': {".": {}, "f:message": {}, "f:reason": {}, "f:status": {}, "f:type": {}}
        }
    }


async def test_a_subresource_of_nothing_is_not_created(raw: Any) -> None:
    answer = await apply(raw, f"{SERVICES}/web/status", service())
    assert (answer.status, answer.reason) == (404, "NotFound")


async def test_a_namespace_that_is_not_there_is_404(raw: Any) -> None:
    answer = await apply(raw, "/api/v1/namespaces/nowhere/services/web", node_port())
    assert (answer.status, answer.message) == (404, 'namespaces "nowhere" not found')


async def test_scale_is_applied(raw: Any) -> None:
    await apply(raw, f"{DEPLOYMENTS}/d", deployment(replicas=2), "gitops")
    scale = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "d"},
        "spec": {"replicas": 5},
    }
    answer = await apply(raw, f"{DEPLOYMENTS}/d/scale", scale, "hpa")
    assert answer.message == 'Apply failed with 1 conflict: conflict with "gitops": .spec.replicas'
    answer = await apply(raw, f"{DEPLOYMENTS}/d/scale", scale, "hpa", force="true")
    assert (answer.status, answer.json["spec"]) == (200, {"replicas": 5})
    found = await raw.get(f"{DEPLOYMENTS}/d")
    assert found["spec"]["replicas"] == 5
    assert managers(found) == [("gitops", "Apply", ""), ("hpa", "Apply", "scale")]
    hpa = found["metadata"]["managedFields"][1]
    assert (hpa["apiVersion"], hpa["fieldsV1"]) == ("apps/v1", {"f:spec": {"f:replicas": {}}})
    given_up = await apply(raw, f"{DEPLOYMENTS}/d", deployment(), "gitops")
    assert given_up.json["spec"]["replicas"] == 5
    wrong = await apply(raw, f"{DEPLOYMENTS}/d/scale", deployment(), "hpa")
    assert (wrong.status, wrong.message) == (400, "invalid object type: apps/v1, Kind=Deployment")
    missing = await apply(
        raw, f"{DEPLOYMENTS}/nothing/scale", {**scale, "metadata": {"name": "nothing"}}, "hpa"
    )
    assert missing.status == 404


async def test_who_updates_a_field_makes_it_a_conflict_for_who_applied_it(raw: Any) -> None:
    await apply(raw, f"{SERVICES}/web", node_port())
    change = {"spec": {"sessionAffinity": "ClientIP", "selector": {"app": "other"}}}
    await raw(
        "PATCH", f"{SERVICES}/web", change, User_Agent="edit", Content_Type="application/merge-patch+json"
    )
    answer = await apply(raw, f"{SERVICES}/web", node_port())
    assert answer.message == 'Apply failed with 1 conflict: conflict with "edit" using v1: .spec.selector'


async def test_many_managers_apply_to_one_object_at_once(raw: Any) -> None:
    answers = await asyncio.gather(
        *(
            apply(raw, f"{CONFIG_MAPS}/c", config_map(**{f"k{number}": "x"}), f"m{number}")
            for number in range(12)
        )
    )
    assert sorted(answer.status for answer in answers) == [200] * 11 + [201]
    found = await raw.get(f"{CONFIG_MAPS}/c")
    assert len(found["data"]) == 12
    assert len(managers(found)) == 12


async def test_a_watch_tells_of_an_apply_once(raw: Any) -> None:
    await apply(raw, f"{CONFIG_MAPS}/c", config_map(a="1"))
    version = (await raw.get(CONFIG_MAPS))["metadata"]["resourceVersion"]
    await apply(raw, f"{CONFIG_MAPS}/c", config_map(a="1"))
    await apply(raw, f"{CONFIG_MAPS}/c", config_map(a="2"))
    answer = await raw("GET", f"{CONFIG_MAPS}?watch=true&resourceVersion={version}&timeoutSeconds=1")
    events = [json.loads(line) for line in answer.body.splitlines()]
    assert [(event["type"], event["object"]["data"]) for event in events] == [("MODIFIED", {"a": "2"})]


async def test_a_deleted_object_that_waits_for_a_finalizer_is_not_made_anew(raw: Any) -> None:
    wanted = config_map(a="1")
    wanted["metadata"]["finalizers"] = ["example.com/wait"]
    await apply(raw, f"{CONFIG_MAPS}/c", wanted)
    await raw("DELETE", f"{CONFIG_MAPS}/c")
    answer = await apply(raw, f"{CONFIG_MAPS}/c", config_map(a="1"))
    assert answer.status == 200
    assert (await raw("GET", f"{CONFIG_MAPS}/c")).status == 404


async def test_who_may_only_patch_cannot_create_by_applying() -> None:
    async with asking() as ask:
        await ask.must("admin", "POST", f"{RBAC}/clusterroles", role("p", rule("patch", "configmaps")))
        await ask.must(
            "admin", "POST", f"{RBAC}/clusterrolebindings", binding("p", "ClusterRole", "p", "User:ann")
        )
        path = f"{CONFIG_MAPS}/c?fieldManager=me"
        status, body = await ask("ann", "PATCH", path, config_map(a="1"), Content_Type=APPLY)
        assert (status, body["reason"]) == (403, "Forbidden")
        assert 'cannot create resource "configmaps"' in body["message"]
        assert (await ask("admin", "PATCH", path, config_map(a="1"), Content_Type=APPLY))[0] == 201
        status, body = await ask("ann", "PATCH", path, config_map(a="1", b="2"), Content_Type=APPLY)
        assert (status, body["data"]) == (200, {"a": "1", "b": "2"})


async def test_nobody_grants_himself_by_applying_what_he_has_not() -> None:
    async with asking() as ask:
        rules = rule("patch create get", "clusterroles", groups="rbac.authorization.k8s.io")
        await ask.must("admin", "POST", f"{RBAC}/clusterroles", role("r", rules))
        await ask.must(
            "admin", "POST", f"{RBAC}/clusterrolebindings", binding("r", "ClusterRole", "r", "User:ann")
        )
        wanted = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            **role("mine", rule("*", "*", groups="*")),
        }  # fmt: skip
        path = f"{RBAC}/clusterroles/mine?fieldManager=me"
        status, body = await ask("ann", "PATCH", path, wanted, Content_Type=APPLY)
        assert status == 403
        assert "attempting to grant RBAC permissions not currently held" in body["message"]


async def test_applies_and_updates_at_once_lose_nothing(raw: Any) -> None:
    await apply(raw, f"{CONFIG_MAPS}/c", config_map(base="x"))

    async def update(number: int) -> Any:
        body = {"data": {f"u{number}": "x"}}
        path = f"{CONFIG_MAPS}/c?fieldManager=u{number}"
        return await raw("PATCH", path, body, Content_Type="application/merge-patch+json")

    applies = [apply(raw, f"{CONFIG_MAPS}/c", config_map(**{f"a{n}": "x"}), f"a{n}") for n in range(6)]
    answers = await asyncio.gather(*applies, *(update(number) for number in range(6)))
    assert {answer.status for answer in answers} == {200}
    found = await raw.get(f"{CONFIG_MAPS}/c")
    assert len(found["data"]) == 13
    owned = {name for each in found["metadata"]["managedFields"] for name in each["fieldsV1"]["f:data"]} - {
        "."
    }
    assert owned == {f"f:{name}" for name in found["data"]}


async def test_a_client_that_leaves_in_the_middle_leaves_no_half_apply(raw: Any) -> None:
    await apply(raw, f"{CONFIG_MAPS}/c", config_map(a="1"))
    tasks = [asyncio.create_task(apply(raw, f"{CONFIG_MAPS}/c", config_map(a=str(n)))) for n in range(2, 12)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    found = await raw.get(f"{CONFIG_MAPS}/c")
    assert managers(found) == [("me", "Apply", "")]
    assert found["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {"f:a": {}}}
    assert (await apply(raw, f"{CONFIG_MAPS}/c", config_map(a="last"))).json["data"] == {"a": "last"}
