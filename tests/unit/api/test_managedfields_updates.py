"""What writes that are no applies make of the managers: comparison, taking over, capping, reading and writing entries."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.defaulting import apply_defaults
from nodeport.api.managedfields.entries import (
    ANCIENT,
    Manager,
    Owned,
    Owners,
    Unreadable,
    applier,
    capped,
    decode,
    encode,
    equal_but_for_time,
    is_reset,
    updater,
)
from nodeport.api.managedfields.scale import from_scale, to_scale
from nodeport.api.managedfields.sets import Tree, path_text, paths
from nodeport.api.managedfields.types import type_of
from nodeport.api.managedfields.updates import Scope, created, updated
from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.resources import CONFIG_MAPS, DEPLOYMENTS, ENDPOINT_SLICES, PODS, SERVICES, Resource

NOON, LATER = "2026-01-01T12:00:00Z", "2026-01-01T12:00:01Z"
PORT = 'k:{"port":80,"protocol":"TCP"}'
SERVICE = Scope.of(type_of(SERVICES.schema), "v1", "", ["status"])
STATUS = Scope.of(type_of(SERVICES.schema), "v1", "status", ["spec"])
KUBECTL, OTHER = updater("kubectl", "v1"), updater("other", "v1")


def shown(tree: Tree | None) -> list[str]:
    return [path_text(path) for path in paths(tree or {})]


def service(**spec: Any) -> JsonObject:
    made: JsonObject = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "1", "labels": {"app": "web"}},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}], **spec},
    }
    apply_defaults(SERVICES, made)
    return made


def scope_of(resource: Resource) -> Scope:
    return Scope.of(type_of(resource.schema), resource.api_version, "", ["status"])


def test_a_new_node_port_service_is_owned_by_its_maker() -> None:
    owners = created(SERVICE, service(), KUBECTL, NOON)
    assert encode(owners) == [
        {
            "manager": "kubectl", "operation": "Update", "apiVersion": "v1", "time": NOON, "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:externalTrafficPolicy": {},
                    "f:internalTrafficPolicy": {},
                    "f:ports": {".": {}, PORT: {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
                    "f:selector": {},
                    "f:sessionAffinity": {},
                    "f:type": {},
                },
            },
        }
    ]  # fmt: skip


def test_structs_that_go_always_prints_are_nobody_s_and_pointers_are_somebody_s() -> None:
    deployment: JsonObject = {
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
            },
        },
    }
    apply_defaults(DEPLOYMENTS, deployment)
    owners = created(scope_of(DEPLOYMENTS), deployment, updater("kubectl", "apps/v1"), NOON)
    fields = next(iter(owners.values())).fields["f:spec"]
    assert fields["f:selector"] == {}
    assert "." not in fields["f:strategy"]
    assert "." in fields["f:strategy"]["f:rollingUpdate"]
    assert "." not in fields["f:template"]["f:spec"]["f:containers"]
    container = fields["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    assert container["f:resources"] == {}
    assert container["f:ports"] == {
        ".": {},
        'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:protocol": {}},
    }


def test_lists_of_an_endpoint_slice_are_one_field_each() -> None:
    slice_: JsonObject = {
        "metadata": {"name": "web-1", "ownerReferences": [{"uid": "u", "kind": "Service", "name": "web"}]},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"port": 80}],
    }
    scope = scope_of(ENDPOINT_SLICES)
    owners = created(scope, slice_, updater("c", scope.api_version), NOON)
    assert shown(next(iter(owners.values())).fields) == [
        ".addressType", ".endpoints", ".ports", ".metadata.ownerReferences",
        '.metadata.ownerReferences[uid="u"]',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "removed", "modified", "added"),
    [
        ({}, {}, [], [], []),
        ({"type": "NodePort"}, {"type": "ClusterIP"}, [], [".spec.type"], []),
        ({"type": "NodePort"}, {}, [".spec.type"], [], []),
        ({}, {"selector": {"a": "b"}}, [], [], [".spec.selector"]),
        ({"selector": {"a": "b"}}, {"selector": {"a": "c"}}, [], [".spec.selector"], []),
        ({"clusterIPs": ["1"]}, {"clusterIPs": ["2", "1"]}, [], [".spec.clusterIPs"], []),
        (
            {"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "TCP"}]},
            [], [], ['.spec.ports[port=80,protocol="TCP"].protocol'],
        ),
        (
            {"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "UDP"}]},
            ['.spec.ports[port=80,protocol="TCP"]', '.spec.ports[port=80,protocol="TCP"].port',
             '.spec.ports[port=80,protocol="TCP"].targetPort'],
            [],
            ['.spec.ports[port=80,protocol="UDP"]', '.spec.ports[port=80,protocol="UDP"].port',
             '.spec.ports[port=80,protocol="UDP"].protocol', '.spec.ports[port=80,protocol="UDP"].targetPort'],
        ),
        (
            {}, {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}, [], [],
            [".spec.sessionAffinityConfig", ".spec.sessionAffinityConfig.clientIP",
             ".spec.sessionAffinityConfig.clientIP.timeoutSeconds"],
        ),
        # items of one name, before or after, are one field
        (
            {"ports": [{"port": 80}, {"port": 80, "name": "b"}]}, {"ports": [{"port": 80, "name": "b"}]},
            ['.spec.ports[port=80,protocol="TCP"]'], [],
            ['.spec.ports[port=80,protocol="TCP"]', '.spec.ports[port=80,protocol="TCP"].name',
             '.spec.ports[port=80,protocol="TCP"].port', '.spec.ports[port=80,protocol="TCP"].targetPort'],
        ),
        (
            {"ports": [{"port": 80, "targetPort": 1}, {"port": 80, "targetPort": 2}]},
            {"ports": [{"port": 80, "targetPort": 1}, {"port": 80, "targetPort": 3}]},
            [], ['.spec.ports[port=80,protocol="TCP"]'], [],
        ),
    ],
)  # fmt: skip
def test_two_services_are_compared_field_by_field(
    old: JsonObject, new: JsonObject, removed: list[str], modified: list[str], added: list[str]
) -> None:
    found = SERVICE.type.compare({"spec": old}, {"spec": new})
    assert tuple(map(shown, found)) == (removed, modified, added)


@pytest.mark.parametrize(
    ("old", "new", "removed", "modified", "added"),
    [
        ({"a": "1", "b": "2"}, {"a": "1", "c": "3"}, [".data.b"], [], [".data.c"]),
        ({"a": "1"}, {"a": "2"}, [], [".data.a"], []),
        (None, {"a": "1"}, [], [], [".data", ".data.a"]),
        ({"a": "1"}, None, [".data", ".data.a"], [], []),
        (None, {}, [], [], [".data"]),
    ],
)
def test_entries_of_a_map_are_fields(
    old: Any, new: Any, removed: list[str], modified: list[str], added: list[str]
) -> None:
    before, after = ({"data": data} if data is not None else {} for data in (old, new))
    found = type_of(CONFIG_MAPS.schema).compare(before, after)
    assert tuple(map(shown, found)) == (removed, modified, added)


def test_finalizers_are_a_set() -> None:
    kind = type_of(SERVICES.schema)
    found = kind.compare({"metadata": {"finalizers": ["a", "b"]}}, {"metadata": {"finalizers": ["b", "c"]}})
    assert tuple(map(shown, found)) == (['.metadata.finalizers[="a"]'], [], ['.metadata.finalizers[="c"]'])


def test_whoever_changes_a_field_takes_it_and_who_removes_one_leaves_it_to_nobody() -> None:
    old = service()
    owners = created(SERVICE, old, KUBECTL, NOON)
    new = service(type="ClusterIP", externalName="x")
    del new["spec"]["selector"]
    owners = updated(SERVICE, old, new, owners, OTHER, LATER)
    assert set(shown(owners[OTHER].fields)) == {".spec.type", ".spec.externalName"}
    assert owners[OTHER].time == LATER
    left = shown(owners[KUBECTL].fields)
    assert owners[KUBECTL].time == NOON
    assert ".spec.selector" not in left
    assert ".spec.type" not in left
    assert ".spec.ports" in left


def test_a_manager_that_lost_everything_is_forgotten() -> None:
    old = service()
    owners = created(SERVICE, old, KUBECTL, NOON) | {OTHER: Owned({"f:spec": {"f:type": {}}}, "v1", NOON)}
    new = service()
    new["spec"]["type"] = "ClusterIP"
    assert OTHER not in updated(SERVICE, old, new, owners, KUBECTL, LATER)


def test_the_same_manager_s_updates_are_one_entry() -> None:
    old, new = service(), service(type="ClusterIP")
    owners = updated(SERVICE, old, new, created(SERVICE, old, KUBECTL, NOON), KUBECTL, LATER)
    assert list(owners) == [KUBECTL]
    assert owners[KUBECTL].time == LATER
    assert ".spec.selector" in shown(owners[KUBECTL].fields)


def test_a_write_that_changes_nothing_changes_no_owner() -> None:
    owners = created(SERVICE, service(), KUBECTL, NOON)
    assert updated(SERVICE, service(), service(), owners, OTHER, LATER) is owners


def test_status_is_not_owned_through_the_object_nor_spec_through_status() -> None:
    old = service()
    new = deep_copy(old)
    new["status"] = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}
    new["spec"]["type"] = "LoadBalancer"
    owners = created(SERVICE, old, KUBECTL, NOON)
    through_object = updated(SERVICE, old, new, owners, OTHER, LATER)
    assert shown(through_object[OTHER].fields) == [".spec.type"]
    lb = updater("lb", "v1", "status")
    through_status = updated(STATUS, old, new, owners, lb, LATER)
    assert shown(through_status[lb].fields) == [".status.loadBalancer.ingress"]
    assert encode(through_status)[-1]["subresource"] == "status"


def test_what_the_server_alone_decides_is_never_owned() -> None:
    old = service()
    new = deep_copy(old)
    new["metadata"] |= {
        "uid": "2",
        "generation": 2,
        "creationTimestamp": NOON,
        "resourceVersion": "7",
        "selfLink": "x",
    }
    owners = created(SERVICE, old, KUBECTL, NOON)
    assert updated(SERVICE, old, new, owners, OTHER, LATER) is owners


def test_an_object_nobody_keeps_managers_of_stays_so() -> None:
    assert updated(SERVICE, service(), service(type="ClusterIP"), {}, OTHER, LATER) == {}


def test_entries_of_a_version_that_is_not_served_are_dropped() -> None:
    owners: Owners = {updater("old", "v1beta1"): Owned({"f:spec": {"f:type": {}}}, "v1beta1", NOON)}
    owners |= created(SERVICE, service(), KUBECTL, NOON)
    assert list(updated(SERVICE, service(), service(), owners, OTHER, LATER)) == [KUBECTL]


def test_the_oldest_updaters_become_one_from_the_eleventh_on() -> None:
    owners: Owners = {
        updater(f"m{number:02}", "v1"): Owned({f"f:{number}": {}}, "v1", f"2026-01-01T00:00:{number:02}Z")
        for number in range(11)
    }
    made = capped(owners)
    assert len(made) == 10
    ancient = made[updater(ANCIENT, "v1")]
    assert shown(ancient.fields) == [".0", ".1"]
    assert ancient.time == "2026-01-01T00:00:01Z"
    again = capped(made | {updater("m11", "v1"): Owned({"f:11": {}}, "v1", "2026-01-01T00:00:11Z")})
    assert len(again) == 10
    assert shown(again[updater(ANCIENT, "v1")].fields) == [".0", ".1", ".2"]
    assert len(owners) == 11


def test_appliers_do_not_count_towards_the_cap() -> None:
    owners: Owners = {applier(f"a{number}"): Owned({"f:x": {}}, "v1", NOON) for number in range(20)}
    assert capped(owners) is owners


def test_entries_are_sorted_by_operation_time_name_and_subresource() -> None:
    fields: Tree = {"f:x": {}}
    owners: Owners = {
        updater("b", "v1"): Owned(fields, "v1", NOON),
        updater("a", "v1", "status"): Owned(fields, "v1", NOON),
        updater("a", "v1"): Owned(fields, "v1", NOON),
        updater("z", "v1"): Owned(fields, "v1", "2025-01-01T00:00:00Z"),
        updater("timeless", "v1"): Owned(fields, "v1"),
        applier("late"): Owned(fields, "v1", LATER),
        applier("empty"): Owned({}, "v1", NOON),
    }
    found = [(each["operation"], each["manager"], each.get("subresource")) for each in encode(owners)]
    assert found == [
        ("Apply", "late", None), ("Update", "timeless", None), ("Update", "z", None), ("Update", "a", None),
        ("Update", "a", "status"), ("Update", "b", None),
    ]  # fmt: skip
    assert decode(encode(owners)) == {manager: owned for manager, owned in owners.items() if owned.fields}


def entry(**changes: Any) -> JsonObject:
    made = {
        "manager": "m",
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:a": {}},
    }
    return {key: value for key, value in (made | changes).items() if value is not None}


def test_a_client_s_entries_are_read_and_brought_into_our_spelling() -> None:
    sent = [
        entry(fieldsV1={"f:a": {".": {}}}),
        entry(operation="Apply", manager=None, fieldsV1=None, time="2026-01-01T13:00:00+01:00"),
    ]
    assert decode(sent, trusted=False) == {
        Manager("m", "Update", "v1", ""): Owned({"f:a": {}}, "v1"),
        Manager("", "Apply", "", ""): Owned({}, "v1", NOON),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"operation": None}, {"operation": "Delete"}, {"apiVersion": None}, {"fieldsType": None},
        {"fieldsType": "FieldsV2"}, {"fieldsV1": {"bad": {}}}, {"fieldsV1": []},
    ],
)  # fmt: skip
def test_a_client_s_wrong_entries_are_unreadable(changes: JsonObject) -> None:
    with pytest.raises(Unreadable):
        decode([entry(**changes)], trusted=False)


@pytest.mark.parametrize(
    ("sent", "reset"),
    [([], True), ([{}], True), ([None], True), (None, False), ([entry()], False), ([{}, {}], False)],
)
def test_an_empty_list_or_entry_asks_to_forget_all(sent: Any, reset: bool) -> None:
    assert is_reset(sent) is reset


def test_times_alone_are_no_difference() -> None:
    assert equal_but_for_time(
        [entry(time=NOON), entry(manager="n")], [entry(manager="n", time=LATER), entry()]
    )
    assert not equal_but_for_time([entry()], [entry(manager="n")])
    assert not equal_but_for_time([entry()], [entry(fieldsV1={"f:b": {}})])
    assert equal_but_for_time(None, [])


def test_deployments_replicas_are_owned_through_their_scale() -> None:
    maker = updater("kubectl", "apps/v1")
    owners: Owners = {
        maker: Owned({"f:spec": {"f:replicas": {}, "f:paused": {}}}, "apps/v1", NOON),
        applier("gitops"): Owned({"f:spec": {"f:replicas": {}}}, "apps/v1", NOON),
        applier("labels"): Owned({"f:metadata": {}}, "apps/v1", NOON),
    }
    scaled = to_scale(owners)
    assert {manager.name: owned.api_version for manager, owned in scaled.items()} == {
        "kubectl": "autoscaling/v1", "gitops": "autoscaling/v1",
    }  # fmt: skip
    assert from_scale(owners, scaled, "apps/v1") == owners
    hpa = updater("hpa", "autoscaling/v1", "scale")
    taken = from_scale(
        owners, {hpa: Owned({"f:spec": {"f:replicas": {}}}, "autoscaling/v1", LATER)}, "apps/v1"
    )
    assert taken == {
        maker: Owned({"f:spec": {"f:paused": {}}}, "apps/v1", NOON),
        applier("labels"): Owned({"f:metadata": {}}, "apps/v1", NOON),
        updater("hpa", "apps/v1", "scale"): Owned({"f:spec": {"f:replicas": {}}}, "apps/v1", LATER),
    }


def test_conditions_of_a_pod_are_owned_one_by_one() -> None:
    pod: JsonObject = {
        "metadata": {"name": "p"},
        "spec": {},
        "status": {"conditions": [{"type": "A", "status": "True"}]},
    }
    new = deep_copy(pod)
    new["status"]["conditions"].append({"type": "B", "status": "False"})
    scope = Scope.of(type_of(PODS.schema), "v1", "status", ["spec"])
    kubelet = updater("kubelet", "v1", "status")
    owners = updated(scope, pod, new, created(scope_of(PODS), pod, KUBECTL, NOON) or {KUBECTL: Owned({"f:x": {}}, "v1")},
                     kubelet, LATER)  # fmt: skip
    assert shown(owners[kubelet].fields)[0] == '.status.conditions[type="B"]'
    assert ".status.conditions" not in shown(owners[kubelet].fields)
