"""JSON patch, merge patch and strategic merge patch."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.patch import json_patch, merge_patch, strategic_merge_patch
from nodeport.api.status import ApiError, BadRequest, Invalid, RequestEntityTooLarge

SERVICE, POD = "io.k8s.api.core.v1.Service", "io.k8s.api.core.v1.Pod"
DEPLOYMENT, NODE = "io.k8s.api.apps.v1.Deployment", "io.k8s.api.core.v1.Node"

SCALARS = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}), ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}), ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}), ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}), ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)  # fmt: skip
def test_merge_patch_follows_the_examples_of_rfc_7386(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@settings(max_examples=60)
@given(OBJECTS, OBJECTS)
def test_merge_patch_is_idempotent_and_leaves_its_arguments_alone(
    target: JsonObject, patch: JsonObject
) -> None:
    before = deep_copy(target), deep_copy(patch)
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once
    assert (target, patch) == before
    for key, value in patch.items():
        assert once.get(key) == without_nulls(value) or isinstance(target.get(key), dict) or value is None


def test_a_merge_patch_must_be_an_object() -> None:
    with pytest.raises(BadRequest):
        merge_patch({}, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "ops", "result"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": [2]}], {"a": [1, [2]]}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/-1"}], {"a": [1]}),
        ({"a": {"b/c": 1, "~": 2}}, [{"op": "remove", "path": "/a/b~1c"}, {"op": "replace", "path": "/a/~0", "value": 3}],
         {"a": {"~": 3}}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/b"}], {"b": 1}),
        ({"a": {"x": 1}}, [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "add", "path": "/b/y", "value": 1}],
         {"a": {"x": 1}, "b": {"x": 1, "y": 1}}),
        ({"a": [1, {"b": None}]}, [{"op": "test", "path": "/a", "value": [1.0, {"b": None}]}], {"a": [1, {"b": None}]}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"c": 1}}], {"c": 1}),
        ({"a": 1}, [{"op": "add", "path": "/a", "value": None}], {"a": None}),
        ({}, [{"op": "test", "path": "/gone", "value": None}], {}),
        ({"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}),
    ],
)  # fmt: skip
def test_json_patch_applies(target: Any, ops: Any, result: Any) -> None:
    before = deep_copy(target)
    assert json_patch(target, ops) == result
    assert target == before


@pytest.mark.parametrize(
    "op",
    [
        {"op": "remove", "path": "/x"}, {"op": "replace", "path": "/x", "value": 1}, {"op": "add", "path": "/x/y"},
        {"op": "add", "path": "/x/y", "value": 1}, {"op": "add", "path": "/a/3", "value": 1},
        {"op": "add", "path": "/a/01", "value": 1}, {"op": "test", "path": "/a", "value": [True]},
        {"op": "test", "path": "/b", "value": 2}, {"op": "frob", "path": "/a"}, {"path": "/a"}, {"op": "remove"},
        {"op": "remove", "path": "a"}, {"op": "move", "from": "/c", "path": "/c/d"}, {"op": "add", "path": "/b/c", "value": 1},
        {"op": "copy", "path": "/z"}, {"op": "remove", "path": ""}, {"op": "add", "path": "", "value": {}},
    ],
)  # fmt: skip
def test_json_patch_operations_that_do_not_apply_are_unprocessable(op: JsonObject) -> None:
    with pytest.raises(Invalid) as caught:
        json_patch({"a": [1], "b": "s", "c": {}}, [op])
    assert caught.value.message == "the server rejected our request due to an error in our request"
    assert caught.value.to_status()["details"] == {}


def test_json_patches_have_a_shape_and_a_limit() -> None:
    for ops in ({}, [1], "x"):
        with pytest.raises(BadRequest):
            json_patch({}, ops)  # type: ignore[arg-type]
    with pytest.raises(RequestEntityTooLarge, match="maximum operations in a JSON patch is 10000, got 10001"):
        json_patch({}, [{}] * 10_001)


def test_copies_cannot_double_a_document_without_end() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/{step}"} for step in range(60)]
    with pytest.raises(Invalid):
        json_patch({"a": {"b": "c"}}, doubling)
    copied = json_patch({"a": "b" * 100_000}, [{"op": "copy", "from": "/a", "path": "/c"}] * 30)
    assert copied["a"] == copied["c"]


OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
    optional={"path": st.sampled_from(["", "/a", "/a/b", "/a/0", "/b/-", "/c"]), "value": VALUES,
              "from": st.sampled_from(["", "/a", "/a/b"])},
)  # fmt: skip


@settings(max_examples=100)
@given(OBJECTS, st.lists(OPERATIONS, max_size=4))
def test_any_json_patch_gives_an_object_or_an_api_error(target: JsonObject, ops: list[Any]) -> None:
    before = deep_copy(target)
    with suppress(ApiError):
        assert isinstance(json_patch(target, ops), dict)
    assert target == before


def service(*ports: JsonObject, **spec: Any) -> JsonObject:
    return {"metadata": {"name": "a", "finalizers": ["x/a", "x/b"]}, "spec": {"ports": list(ports), **spec}}


def ports_of(obj: JsonObject) -> Any:
    return obj["spec"]["ports"]


def test_lists_merge_by_their_merge_key_and_new_elements_come_first() -> None:
    patched = strategic_merge_patch(
        SERVICE, service({"port": 80, "name": "a"}, {"port": 81}), {"spec": {"ports": [{"port": 80, "targetPort": 1},
                                                                                       {"port": 82}]}}
    )  # fmt: skip
    assert ports_of(patched) == [{"port": 80, "name": "a", "targetPort": 1}, {"port": 82}, {"port": 81}]


def test_set_element_order_decides_the_order_and_keeps_foreign_elements_in_place() -> None:
    patch = {
        "spec": {"$setElementOrder/ports": [{"port": 82}, {"port": 80}], "ports": [{"port": 82, "name": "n"}]}
    }
    patched = strategic_merge_patch(SERVICE, service({"port": 80}, {"port": 81}), patch)
    assert ports_of(patched) == [{"port": 82, "name": "n"}, {"port": 80}, {"port": 81}]


def test_apply_sends_orders_for_lists_that_do_not_change() -> None:
    patch = {"spec": {"$setElementOrder/ports": [{"port": 80}], "type": "NodePort"}}
    assert strategic_merge_patch(SERVICE, service({"port": 80}), patch)["spec"] == {
        "ports": [{"port": 80}], "type": "NodePort",
    }  # fmt: skip


def test_the_directives_delete_and_replace() -> None:
    old = service({"port": 80}, {"port": 81}, selector={"a": "1", "b": "2"})
    patched = strategic_merge_patch(SERVICE, old, {"spec": {
        "ports": [{"$patch": "delete", "port": 80}], "selector": {"$patch": "replace", "c": "3"}}})  # fmt: skip
    assert patched["spec"] == {"ports": [{"port": 81}], "selector": {"c": "3"}}
    assert ports_of(
        strategic_merge_patch(SERVICE, old, {"spec": {"ports": [{"$patch": "replace"}, {"port": 1}]}})
    ) == [{"port": 1}]
    assert (
        strategic_merge_patch(SERVICE, old, {"spec": {"selector": {"$patch": "delete"}}})["spec"]["selector"]
        == {}
    )
    assert strategic_merge_patch(SERVICE, old, {"spec": {"selector": {"a": None}}})["spec"]["selector"] == {
        "b": "2"
    }


def test_primitive_lists_merge_as_sets_and_elements_can_be_deleted() -> None:
    old = service({"port": 80})
    added = strategic_merge_patch(SERVICE, old, {"metadata": {"finalizers": ["x/c", "x/a"]}})
    assert sorted(added["metadata"]["finalizers"]) == ["x/a", "x/b", "x/c"]
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a", "x/z"]}}
    assert strategic_merge_patch(SERVICE, old, patch)["metadata"]["finalizers"] == ["x/b"]


def test_atomic_lists_are_replaced() -> None:
    old = {"spec": {"externalIPs": ["1.1.1.1"]}, "subsets": [{"addresses": [{"ip": "1.1.1.1"}]}]}
    assert strategic_merge_patch(SERVICE, old, {"spec": {"externalIPs": ["2.2.2.2"]}})["spec"] == {
        "externalIPs": ["2.2.2.2"],
    }  # fmt: skip
    endpoints = strategic_merge_patch("io.k8s.api.core.v1.Endpoints", old, {"subsets": [{"ports": []}]})
    assert endpoints["subsets"] == [{"ports": []}]


def test_retain_keys_drops_what_the_patch_does_not_list() -> None:
    old = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge_patch(DEPLOYMENT, old, patch)["spec"] == {"strategy": {"type": "Recreate"}}
    with pytest.raises(BadRequest, match="invalid patch format of retainKeys"):
        strategic_merge_patch(
            DEPLOYMENT, old, {"spec": {"strategy": {"$retainKeys": [], "type": "Recreate"}}}
        )


def test_keys_of_nested_lists_come_from_the_schema() -> None:
    old = {"spec": {"template": {"spec": {"containers": [
        {"name": "a", "env": [{"name": "X", "value": "1"}], "ports": [{"containerPort": 1}]}]}}}}  # fmt: skip
    patch = {"spec": {"template": {"spec": {"containers": [
        {"name": "a", "env": [{"name": "Y", "value": "2"}], "ports": [{"containerPort": 1, "name": "p"}]}]}}}}  # fmt: skip
    container = strategic_merge_patch(DEPLOYMENT, old, patch)["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]
    assert container["ports"] == [{"containerPort": 1, "name": "p"}]
    status = {
        "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Disk", "status": "False"}]}
    }
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert strategic_merge_patch(NODE, status, ready)["status"]["conditions"] == [
        {"type": "Ready", "status": "True"}, {"type": "Disk", "status": "False"},
    ]  # fmt: skip


def test_nulls_and_directives_never_end_up_in_a_new_field() -> None:
    patch = {"spec": {"selector": {"a": None, "b": "1"}, "sessionAffinityConfig": {"$patch": "delete"},
                      "ports": [{"port": 1, "name": None}, {"$patch": "delete", "port": 2}]}}  # fmt: skip
    expected = {"spec": {"selector": {"b": "1"}, "ports": [{"port": 1}]}}
    assert strategic_merge_patch(SERVICE, {}, patch) == expected
    assert strategic_merge_patch(SERVICE, {"spec": {}}, patch) == expected


@pytest.mark.parametrize(
    ("patch", "status", "why"),
    [
        ({"spec": {"ports": [{"name": "x"}]}}, 500, "map: map[name:x] does not contain declared merge key: port"),
        ({"spec": {"ports": [{"$patch": "merge", "port": 1}]}}, 500, "merging lists cannot yet be specified in the patch"),
        ({"spec": {"$patch": "odd"}}, 500, "unknown patch type: odd in map: map[$patch:odd]"),
        ({"metadata": {"$deleteFromPrimitiveList": ["a"]}}, 400, "invalid patch format of primitive list"),
        ({"metadata": {"$retainKeys": "a"}}, 400, "invalid patch format of retainKeys"),
        ({"spec": {"$setElementOrder/ports": {}}}, 500, "expected a []interface {}, but received a map[string]interface {}"),
    ],
)  # fmt: skip
def test_malformed_strategic_patches_are_refused_in_the_apis_words(
    patch: JsonObject, status: int, why: str
) -> None:
    """Where Kubernetes has no word for what is wrong, it answers 500 without a reason."""
    with pytest.raises(ApiError) as caught:
        strategic_merge_patch(SERVICE, service({"port": 80}), patch)
    assert (caught.value.code, caught.value.message) == (status, why)


PORTS = st.lists(
    st.builds(lambda port: {"port": port}, st.integers(1, 5)), max_size=4, unique_by=lambda p: p["port"]
)
NAMED = st.lists(
    st.builds(lambda port, name: {"port": port, "name": name}, st.integers(1, 5), st.sampled_from("ab")),
    max_size=4, unique_by=lambda p: p["port"],
)  # fmt: skip
LABELS = st.dictionaries(st.sampled_from("abc"), st.none() | st.sampled_from("xy"), max_size=3)


@settings(max_examples=60)
@given(PORTS, NAMED, LABELS, LABELS)
def test_strategic_merge_is_idempotent_and_leaves_its_arguments_alone(
    old: list[Any], new: list[Any], labels: JsonObject, change: JsonObject
) -> None:
    obj = {"metadata": {"labels": without_nulls(labels)}, "spec": {"ports": old}}
    patch = {"metadata": {"labels": change}, "spec": {"ports": new, "$setElementOrder/ports": deep_copy(new)}}
    before = deep_copy(obj), deep_copy(patch)
    once = strategic_merge_patch(SERVICE, obj, patch)
    assert strategic_merge_patch(SERVICE, once, patch) == once
    assert (obj, patch) == before
    assert {port["port"] for port in ports_of(once)} == {port["port"] for port in [*old, *new]}


@settings(max_examples=60)
@given(st.data())
def test_any_strategic_patch_gives_an_object_or_an_api_error(data: st.DataObject) -> None:
    keys = st.sampled_from(["ports", "$patch", "$retainKeys", "$setElementOrder/ports", "port", "selector",
                            "$deleteFromPrimitiveList/ports", "finalizers"])  # fmt: skip
    values = st.recursive(
        SCALARS | st.just("replace"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    )
    patch = data.draw(
        st.dictionaries(st.sampled_from(["spec", "metadata"]), st.dictionaries(keys, values, max_size=4))
    )
    with suppress(ApiError):
        assert isinstance(
            strategic_merge_patch(SERVICE, service({"port": 80}, selector={"a": "b"}), patch), dict
        )
