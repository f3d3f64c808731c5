"""Server-side apply as a rule on JSON: what is named, merged, removed, refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.managedfields.applying import LAST_APPLIED, Applied, Apply, apply
from nodeport.api.managedfields.conflicts import Conflicts, answer
from nodeport.api.managedfields.entries import Owned, Owners, applier, updater
from nodeport.api.managedfields.fitting import faults, text_of
from nodeport.api.managedfields.leaves import leaves
from nodeport.api.managedfields.merging import merge, remove
from nodeport.api.managedfields.sets import Tree, ordered, path_text, paths, tree_of
from nodeport.api.managedfields.types import type_of
from nodeport.api.managedfields.updates import Scope, created, updated
from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.resources import CONFIG_MAPS, DEPLOYMENTS, SERVICES

NOON, LATER = "2026-01-01T12:00:00Z", "2026-01-01T12:00:01Z"
SERVICE = Scope.of(type_of(SERVICES.schema), "v1", "", ["status"])
STATUS = Scope.of(type_of(SERVICES.schema), "v1", "status", ["spec"])
CONFIG_MAP = Scope.of(type_of(CONFIG_MAPS.schema), "v1")
P80, P81 = 'k:{"port":80,"protocol":"TCP"}', 'k:{"port":81,"protocol":"TCP"}'
NEW: JsonObject = {"apiVersion": "v1", "kind": "Service", "metadata": {}}


def shown(tree: Tree | None) -> list[str]:
    return [path_text(path) for path in paths(tree or {})]


def config(*, labels: JsonObject | None = None, **spec: Any) -> JsonObject:
    metadata: JsonObject = {"name": "web"} | ({"labels": labels} if labels is not None else {})
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def applied(
    live: JsonObject,
    owners: Owners,
    wanted: JsonObject,
    manager: str = "a",
    *,
    force: bool = False,
    scope: Scope = SERVICE,
    time: str = NOON,
) -> Applied:
    """Apply, and check that the arguments stay what they were."""
    before = json.dumps([live, wanted])
    done = apply(Apply(scope, wanted, manager, time, force), live, owners)
    assert json.dumps([live, wanted]) == before
    return done


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"type": "NodePort"}, [".spec.type"]),
        ({"selector": {"a": "b"}}, [".spec.selector"]),
        ({"selector": {}}, [".spec.selector"]),
        ({"clusterIPs": ["10.0.0.1"]}, [".spec.clusterIPs"]),
        ({"ports": []}, []),
        ({"ports": None}, [".spec.ports"]),
        ({"type": None}, [".spec.type"]),
        (
            {"ports": [{"port": 80, "name": "http"}]},
            ['.spec.ports[port=80,protocol="TCP"]', '.spec.ports[port=80,protocol="TCP"].name',
             '.spec.ports[port=80,protocol="TCP"].port'],
        ),
        ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
         [".spec.sessionAffinityConfig.clientIP.timeoutSeconds"]),
        ({"sessionAffinityConfig": {}}, [".spec.sessionAffinityConfig"]),
        ({}, [".spec"]),
    ],
)  # fmt: skip
def test_a_configuration_names_fields_not_the_structs_around_them(spec: JsonObject, named: list[str]) -> None:
    assert shown(leaves(SERVICE.type, {"spec": spec})) == named


def test_labels_and_finalizers_are_named_one_by_one() -> None:
    metadata = {
        "labels": {"b": "1", "a": "2"},
        "finalizers": ["y", "x"],
        "ownerReferences": [{"uid": "u", "name": "n"}],
    }
    assert shown(leaves(SERVICE.type, {"metadata": metadata})) == [
        '.metadata.finalizers[="x"]', '.metadata.finalizers[="y"]', ".metadata.labels.a", ".metadata.labels.b",
        '.metadata.ownerReferences[uid="u"]',
    ]  # fmt: skip


def names(merged: JsonObject, field: str = "containers") -> list[str]:
    return [item["name"] for item in merged["spec"][field]]


@pytest.mark.parametrize(
    ("live", "wanted", "merged"),
    [
        ("ab", "ab", "ab"), ("ab", "ba", "ba"), ("abc", "b", "abc"), ("abc", "ca", "bca"), ("a", "bc", "abc"),
        ("abc", "dc", "abdc"), ("abcd", "dxb", "acdxb"), ("", "ba", "ba"), ("ab", "", "ab"), ("axb", "ba", "xba"),
    ],
)  # fmt: skip
def test_the_order_of_what_is_applied_is_kept_among_it(live: str, wanted: str, merged: str) -> None:
    kind = type_of("io.k8s.api.core.v1.Pod")
    one, other = ({"spec": {"containers": [{"name": name} for name in text]}} for text in (live, wanted))
    assert "".join(names(merge(kind, one, other))) == merged


@pytest.mark.parametrize(
    ("live", "wanted", "merged"),
    [
        ({"type": "A"}, {"type": "B"}, {"type": "B"}),
        ({"type": "A"}, {}, {"type": "A"}),
        ({"type": "A"}, {"type": None}, {"type": None}),
        ({"selector": {"a": "1"}}, {"selector": {"b": "2"}}, {"selector": {"b": "2"}}),
        ({"selector": {"a": "1"}}, {"selector": None}, {"selector": None}),
        ({"clusterIPs": ["1", "2"]}, {"clusterIPs": ["3"]}, {"clusterIPs": ["3"]}),
        ({"ports": [{"port": 80, "nodePort": 1}]}, {"ports": [{"port": 80, "name": "n", "protocol": "TCP"}]},
         {"ports": [{"port": 80, "nodePort": 1, "name": "n", "protocol": "TCP"}]}),
        ({"ports": [{"port": 80, "protocol": "UDP"}]}, {"ports": [{"port": 80}]},
         {"ports": [{"port": 80, "protocol": "UDP"}, {"port": 80}]}),
        ({"ports": [{"port": 80}]}, {"ports": None}, {"ports": [{"port": 80}]}),
        ({"ports": None}, {"ports": [{"port": 80}]}, {"ports": [{"port": 80}]}),
        ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}, {"sessionAffinityConfig": {"clientIP": {}}},
         {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}),
        # items of one name that were stored are not merged with what is applied
        ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}, {"ports": [{"port": 80, "targetPort": 1}]},
         {"ports": [{"port": 80, "targetPort": 1}]}),
    ],
)  # fmt: skip
def test_a_configuration_is_merged_by_type(live: JsonObject, wanted: JsonObject, merged: JsonObject) -> None:
    assert merge(SERVICE.type, {"spec": live}, {"spec": wanted}) == {"spec": merged}


@pytest.mark.parametrize(
    ("spec", "gone", "left"),
    [
        ({"type": "A", "externalName": "x"}, [("f:type",)], {"externalName": "x"}),
        ({"type": "A"}, [("f:externalName",)], {"type": "A"}),
        ({"ports": [{"port": 80}, {"port": 81}]}, [("f:ports", P80)], {"ports": [{"port": 81}]}),
        ({"ports": [{"port": 80, "name": "n"}]}, [("f:ports", P80, "f:name")], {"ports": [{"port": 80}]}),
        ({"ports": [{"port": 80}], "type": "A"}, [("f:ports", P80)], {"ports": None, "type": "A"}),
        ({"selector": {"a": "1", "b": "2"}, "type": "A"}, [("f:selector",)], {"type": "A"}),
    ],
)
def test_members_of_a_set_are_taken_out(
    spec: JsonObject, gone: list[tuple[str, ...]], left: JsonObject
) -> None:
    fields = tree_of(*(("f:spec", *path) for path in gone))
    assert remove(SERVICE.type, {"spec": spec}, fields) == {"spec": left}


def test_the_first_apply_makes_the_object_and_owns_what_it_names() -> None:
    wanted = config(labels={"app": "web"}, type="NodePort", ports=[{"port": 80}])
    done = applied(NEW, {}, wanted)
    assert done.object == wanted
    assert done.owners == {
        applier("a"): Owned(
            {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {"f:type": {}, "f:ports": {P80: {".": {}, "f:port": {}}}},
            },
            "v1",
            NOON,
        )
    }


def test_what_is_no_longer_named_is_removed() -> None:
    first = applied(NEW, {}, config(labels={"a": "1", "b": "2"}, type="NodePort", externalName="x"))
    second = applied(first.object, first.owners, config(labels={"a": "1"}, type="NodePort"), time=LATER)
    assert second.object["spec"] == {"type": "NodePort"}
    assert second.object["metadata"]["labels"] == {"a": "1"}
    assert second.owners[applier("a")].time == LATER


def test_a_list_item_that_is_no_longer_named_is_removed_with_all_that_others_did_not_name() -> None:
    first = applied(NEW, {}, config(ports=[{"port": 80}, {"port": 81}]))
    live = deep_copy(first.object)
    live["spec"]["ports"][0]["targetPort"] = 8080  # defaulted: nobody's
    second = applied(live, first.owners, config(ports=[{"port": 81}]))
    assert second.object["spec"]["ports"] == [{"port": 81}]


def test_what_another_manager_owns_too_stays() -> None:
    first = applied(NEW, {}, config(type="NodePort", externalName="x"))
    second = applied(first.object, first.owners, config(type="NodePort"), "b")
    assert second.owners[applier("b")].time is None
    third = applied(second.object, second.owners, config(externalName="x"), "a")
    assert third.object["spec"] == {"type": "NodePort", "externalName": "x"}
    assert ".spec.type" not in shown(third.owners[applier("a")].fields)
    fourth = applied(third.object, third.owners, config(), "b")
    assert "type" not in fourth.object["spec"]


def test_an_item_that_another_manager_has_fields_in_stays_with_these() -> None:
    first = applied(NEW, {}, config(ports=[{"port": 80, "name": "http", "nodePort": 30007}]))
    second = applied(first.object, first.owners, config(ports=[{"port": 80, "targetPort": 8080}]), "b")
    third = applied(second.object, second.owners, config(), "a")
    assert third.object["spec"]["ports"] == [{"port": 80, "targetPort": 8080}]


def test_what_the_server_filled_in_goes_with_the_struct_that_named_it() -> None:
    first = applied(NEW, {}, config(sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}}))
    live = deep_copy(first.object)
    live["spec"]["type"] = "ClusterIP"
    second = applied(live, first.owners, config())
    assert second.object["spec"] == {"type": "ClusterIP"}


def test_applying_twice_changes_nothing_the_time_included() -> None:
    wanted = config(labels={"a": "b"}, ports=[{"port": 80}])
    first = applied(NEW, {}, wanted)
    assert applied(first.object, first.owners, wanted, time=LATER) == first


def test_a_field_of_another_is_a_conflict_and_force_takes_it() -> None:
    first = applied(NEW, {}, config(type="NodePort", externalName="x"))
    with pytest.raises(Conflicts) as caught:
        applied(first.object, first.owners, config(type="ClusterIP"), "b")
    assert str(caught.value) == 'Apply failed with 1 conflict: conflict with "a": .spec.type'
    forced = applied(first.object, first.owners, config(type="ClusterIP"), "b", force=True)
    assert forced.object["spec"]["type"] == "ClusterIP"
    assert shown(forced.owners[applier("a")].fields) == [".spec.externalName"]


def test_to_apply_the_same_value_is_no_conflict_but_shared_ownership() -> None:
    first = applied(NEW, {}, config(type="NodePort"))
    second = applied(first.object, first.owners, config(type="NodePort"), "b")
    assert {manager.name for manager in second.owners} == {"a", "b"}


def test_several_conflicts_are_told_by_manager_with_a_cause_each() -> None:
    live = config(type="NodePort", externalName="x", ports=[{"port": 80, "nodePort": 30007}])
    owners: Owners = {
        updater("kubectl", "v1"): Owned(
            {"f:spec": {"f:type": {}, "f:ports": {P80: {".": {}, "f:nodePort": {}}}}}, "v1"
        ),
        updater("lb", "v1", "status"): Owned({"f:spec": {"f:externalName": {}}}, "v1"),
    }
    wanted = config(type="ClusterIP", externalName="y", ports=[{"port": 80, "nodePort": 30008}])
    with pytest.raises(Conflicts) as caught:
        applied(live, owners, wanted, "me")
    status = answer(caught.value.found).to_status()
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["message"] == (
        'Apply failed with 3 conflicts: conflicts with "kubectl" using v1:\n'
        "- .spec.type\n"
        '- .spec.ports[port=80,protocol="TCP"].nodePort\n'
        'conflicts with "lb" with subresource "status" using v1:\n'
        "- .spec.externalName"
    )
    assert status["details"]["causes"][1] == {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "kubectl" using v1',
        "field": '.spec.ports[port=80,protocol="TCP"].nodePort',
    }


def test_updates_by_the_same_name_are_another_manager() -> None:
    live = config(type="NodePort")
    with pytest.raises(Conflicts):
        applied(live, created(SERVICE, live, updater("a", "v1"), NOON), config(type="ClusterIP"), "a")


def test_an_untracked_object_belongs_to_before_first_apply() -> None:
    live = config(type="NodePort", externalName="x")
    with pytest.raises(Conflicts) as caught:
        applied(live, {}, config(type="ClusterIP"))
    assert 'conflict with "before-first-apply" using v1: .spec.type' in str(caught.value)
    done = applied(live, {}, config(type="ClusterIP"), force=True)
    assert shown(done.owners[updater("before-first-apply", "v1")].fields) == [".spec.externalName"]


def test_status_is_nobody_s_when_applied_through_the_object() -> None:
    wanted = config(type="NodePort") | {"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}
    assert shown(applied(NEW, {}, wanted).owners[applier("a")].fields) == [".spec.type"]
    done = applied(
        config(type="A"), created(SERVICE, config(type="A"), updater("u", "v1"), NOON), wanted, scope=STATUS
    )
    assert shown(done.owners[applier("a", "status")].fields) == [".status.loadBalancer.ingress"]


def test_an_apply_of_nothing_gives_back_all_that_only_it_owned() -> None:
    first = applied(NEW, {}, config(labels={"x": "y"}, type="NodePort", ports=[{"port": 80}]))
    second = applied(
        first.object, first.owners, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    )
    assert second.object == {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    assert second.owners == {}


def test_kubectl_may_take_what_its_own_client_side_apply_wrote() -> None:
    last = config(type="NodePort", externalName="x")
    live = deep_copy(last)
    live["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(last)}
    owners = created(SERVICE, live, updater("kubectl-client-side-apply", "v1"), NOON)
    done = applied(live, owners, config(type="ClusterIP", externalName="x"), "kubectl")
    assert done.object["spec"]["type"] == "ClusterIP"
    kept = json.loads(done.object["metadata"]["annotations"][LAST_APPLIED])
    assert kept["spec"] == {"type": "ClusterIP", "externalName": "x"}
    with pytest.raises(Conflicts):
        applied(live, owners, config(type="ClusterIP"), "helm")


def test_kubectl_may_not_take_what_was_changed_after_its_client_side_apply() -> None:
    live = config(type="LoadBalancer", externalName="x")
    live["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(config(type="NodePort", externalName="x"))}
    owners = created(SERVICE, live, updater("somebody", "v1"), NOON)
    with pytest.raises(Conflicts) as caught:
        applied(live, owners, config(type="ClusterIP", externalName="y"), "kubectl")
    assert str(caught.value) == 'Apply failed with 1 conflict: conflict with "somebody" using v1: .spec.type'


@pytest.mark.parametrize("annotation", ["", "no json", "[]", '{"apiVersion":"v2"}'])
def test_a_last_applied_annotation_that_says_nothing_excuses_nothing(annotation: str) -> None:
    live = config(type="LoadBalancer")
    live["metadata"]["annotations"] = {LAST_APPLIED: annotation}
    with pytest.raises(Conflicts):
        applied(live, created(SERVICE, live, updater("u", "v1"), NOON), config(type="A"), "kubectl")


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ({"spec": {"foo": 1}}, ".spec.foo: field not declared in schema"),
        ({"spec": {"ports": [{"port": 80, "x": 1}]}}, '.spec.ports[port=80,protocol="TCP"].x: field not declared in schema'),
        ({"spec": {"ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]}},
         '.spec.ports: duplicate entries for key [port=80,protocol="TCP"]'),
        ({"spec": {"ports": [None]}}, ".spec.ports: element 0: associative list with keys may not have a null element"),
        ({"spec": {"ports": [1]}}, ".spec.ports: element 0: associative list with keys may not have non-map elements"),
        ({"metadata": {"ownerReferences": [{"name": "n"}]}},
         ".metadata.ownerReferences: element 0: associative list with keys has an element that omits all key fields "
         '["uid"] (and doesn\'t have default values for any key fields)'),
        ({"metadata": {"finalizers": [None]}},
         ".metadata.finalizers: element 0: associative list without keys has an element that's an explicit null"),
        ({"spec": 1}, ".spec: expected map, got &{1}"),
        ({"spec": {"ports": {"a": 1}}}, ".spec.ports: expected list, got &{map[a:1]}"),
        ({"spec": {"type": 1}}, ".spec.type: expected string, got &value.valueUnstructured{Value:1}"),
        ({"spec": {"healthCheckNodePort": "x"}}, ".spec.healthCheckNodePort: expected numeric (int or float), got string"),
        ({"spec": {"publishNotReadyAddresses": "x"}}, ".spec.publishNotReadyAddresses: expected boolean, got &{x}"),
        ({"spec": {"ports": [{"port": 80, "targetPort": {}}]}},
         '.spec.ports[port=80,protocol="TCP"].targetPort: expected any scalar, got &{map[]}'),
        ({"spec": {"selector": []}}, ".spec.selector: expected map, got &{[]}"),
        ({"spec": {"foo": 1, "bar": 2}},
         "errors:\n  .spec.foo: field not declared in schema\n  .spec.bar: field not declared in schema"),
    ],
)  # fmt: skip
def test_a_configuration_that_does_not_fit_is_told_where(wanted: JsonObject, fault: str) -> None:
    assert text_of(faults(SERVICE.type, wanted)) == fault


def test_a_configuration_that_fits_has_no_fault() -> None:
    wanted = config(
        labels={"a": "b"},
        ports=[{"port": 80, "targetPort": "http"}, {"port": 80, "protocol": "UDP"}],
        type=None,
    )
    assert faults(SERVICE.type, wanted) == []


PORTS = st.lists(
    st.fixed_dictionaries(
        {"port": st.integers(80, 83)},
        optional={
            "name": st.sampled_from("ab"),
            "protocol": st.sampled_from(["TCP", "UDP"]),
            "nodePort": st.just(30007),
        },
    ),
    max_size=3,
    unique_by=lambda port: (port["port"], port.get("protocol", "TCP")),
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["NodePort", "ClusterIP"]),
        "selector": st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2),
        "ports": PORTS,
        "sessionAffinityConfig": st.just({"clientIP": {"timeoutSeconds": 3}}),
    },
)
LABELS = st.none() | st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=2)
CONFIGS = st.tuples(LABELS, SPECS).map(lambda drawn: config(labels=drawn[0], **drawn[1]))


def pruned(value: Any) -> Any:
    """Without nulls and what is empty: the form in which an object is stored."""
    if isinstance(value, dict):
        kept = {key: pruned(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, {}, [])}
    return [pruned(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=150)
@given(CONFIGS, CONFIGS)
def test_applying_again_is_no_change_whatever_was_there(first: JsonObject, second: JsonObject) -> None:
    one = applied(NEW, {}, first)
    two = applied(one.object, one.owners, second, "b", force=True)
    again = applied(two.object, two.owners, second, "b", time=LATER)
    assert again == two


@settings(max_examples=150)
@given(CONFIGS, CONFIGS)
def test_who_applies_alone_gets_exactly_the_last_configuration(first: JsonObject, second: JsonObject) -> None:
    one = applied(NEW, {}, first)
    two = applied(one.object, one.owners, second)
    assert pruned(two.object) == pruned(second) or _reordered(two.object) == _reordered(second)


def _reordered(obj: JsonObject) -> JsonObject:
    made: JsonObject = pruned(obj)
    ports = made.get("spec", {}).get("ports")
    if ports:
        ports.sort(key=lambda port: (port["port"], port.get("protocol", "TCP")))
    return made


@settings(max_examples=150)
@given(CONFIGS, CONFIGS)
def test_giving_back_removes_only_what_nobody_else_owns(first: JsonObject, second: JsonObject) -> None:
    one = applied(NEW, {}, first)
    two = applied(one.object, one.owners, second, "b", force=True)
    nothing: JsonObject = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    three = applied(two.object, two.owners, nothing, "a")
    assert _reordered(three.object) == _reordered(second)
    assert applier("a") not in three.owners


@settings(max_examples=100)
@given(CONFIGS, CONFIGS)
def test_every_field_that_an_update_changed_is_the_updater_s(old: JsonObject, new: JsonObject) -> None:
    owners = created(SERVICE, old, updater("a", "v1"), NOON) or {
        updater("x", "v1"): Owned({"f:data": {}}, "v1")
    }
    after = updated(SERVICE, old, new, owners, updater("b", "v1"), LATER)
    _, modified, added = SERVICE.type.compare(SERVICE.managed_part(old), SERVICE.managed_part(new))
    changed = {*paths(modified or {}), *paths(added or {})}
    mine = after.get(updater("b", "v1"))
    assert set(paths(mine.fields if mine else {})) == changed
    theirs = after.get(updater("a", "v1"))
    assert not changed & set(paths(theirs.fields if theirs else {}))
    for owned in (mine, theirs):
        assert owned is None or json.dumps(owned.fields) == json.dumps(ordered(owned.fields))


def test_data_of_a_config_map_is_merged_key_by_key() -> None:
    def data(**entries: str) -> JsonObject:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": entries}

    first = applied({"metadata": {}}, {}, data(a="1", b="2"), scope=CONFIG_MAP)
    second = applied(first.object, first.owners, data(c="3"), "other", scope=CONFIG_MAP)
    third = applied(second.object, second.owners, data(a="1"), scope=CONFIG_MAP)
    assert third.object["data"] == {"a": "1", "c": "3"}


def test_a_deployment_s_replicas_can_be_given_up_to_an_autoscaler() -> None:
    scope = Scope.of(type_of(DEPLOYMENTS.schema), "apps/v1", "", ["status"])
    base: JsonObject = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}
    first = applied({"metadata": {}}, {}, base | {"spec": {"replicas": 3, "paused": True}}, scope=scope)
    live = deep_copy(first.object)
    live["spec"]["replicas"] = 7
    owners = updated(scope, first.object, live, first.owners, updater("hpa", "apps/v1"), LATER)
    second = applied(live, owners, base | {"spec": {"paused": True}}, scope=scope)
    assert second.object["spec"] == {"replicas": 7, "paused": True}
