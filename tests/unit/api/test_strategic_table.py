"""Strategic merge patches, directive by directive: what was there, what is sent, what comes of it or what is said."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.patch import strategic_merge_patch
from nodeport.api.status import ApiError

SERVICE, POD = "io.k8s.api.core.v1.Service", "io.k8s.api.core.v1.Pod"
DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"
P, Q, R = {"port": 1, "name": "p"}, {"port": 2, "name": "q"}, {"port": 3, "name": "r"}
PORTS = {"spec": {"ports": [P, Q]}}
ORDER, DELETE = "$setElementOrder", "$deleteFromPrimitiveList"


def spec(**fields: Any) -> JsonObject:
    return {"spec": fields}


def ports(*found: Any) -> JsonObject:
    return {"spec": {"ports": list(found)}}


def finalizers(*found: Any, **more: Any) -> JsonObject:
    return {"metadata": {**({"finalizers": list(found)} if found else {}), **more}}


ROWS: dict[str, tuple[str, JsonObject, JsonObject, JsonObject]] = {
    # $patch in a map
    "replace keeps the patch alone": (SERVICE, spec(selector={"a": "1"}), spec(selector={"$patch": "replace", "b": "2"}), spec(selector={"b": "2"})),
    "replace of the whole object": (SERVICE, spec(type="NodePort"), {"$patch": "replace", "metadata": {"name": "x"}}, {"metadata": {"name": "x"}}),
    "delete empties a map": (SERVICE, spec(selector={"a": "1"}, type="X"), spec(selector={"$patch": "delete"}), spec(selector={}, type="X")),
    "delete of what is not there": (SERVICE, spec(type="X"), spec(selector={"$patch": "delete"}), spec(type="X")),
    "replace of what is not there": (SERVICE, spec(type="X"), spec(selector={"$patch": "replace", "a": "1"}), spec(type="X")),
    # $patch in a list of maps
    "delete by key": (SERVICE, PORTS, ports({"$patch": "delete", "port": 1}), ports(Q)),
    "delete of a stranger": (SERVICE, PORTS, ports({"$patch": "delete", "port": 9}), ports(P, Q)),
    "delete of all with the key": (SERVICE, ports(P, {**P, "name": "u"}, Q), ports({"$patch": "delete", "port": 1}), ports(Q)),
    "delete and add at once": (SERVICE, PORTS, ports({"$patch": "delete", "port": 1}, R), ports(R, Q)),
    "delete and set the same": (SERVICE, PORTS, ports({"$patch": "delete", "port": 1}, {"port": 1}), ports({"port": 1}, Q)),
    "replace takes the others": (SERVICE, PORTS, ports({"$patch": "replace"}, R), ports(R)),
    "replace with nothing": (SERVICE, PORTS, ports({"$patch": "replace"}), ports()),
    "replace passes deletes over": (SERVICE, PORTS, ports({"$patch": "replace"}, {"$patch": "delete", "port": 2}, R), ports(R)),
    "marked maps are left out of a new list": (SERVICE, spec(), ports({"$patch": "delete", "port": 1}, R), ports(R)),
    # merge keys
    "merges by key": (SERVICE, PORTS, ports({"port": 2, "targetPort": 9}), ports(P, {**Q, "targetPort": 9})),
    "the key is the number alone, not the protocol": (SERVICE, ports({**P, "protocol": "TCP"}), ports({"port": 1, "protocol": "UDP"}), ports({**P, "protocol": "UDP"})),
    "a null in an element takes the field": (SERVICE, PORTS, ports({"port": 1, "name": None}), ports({"port": 1}, Q)),
    "an empty list changes nothing": (SERVICE, PORTS, ports(), ports(P, Q)),
    "null takes the list": (SERVICE, PORTS, spec(ports=None), spec()),
    "nested lists have keys of their own": (
        POD, spec(containers=[{"name": "c", "env": [{"name": "A", "value": "1"}]}]),
        spec(containers=[{"name": "c", "env": [{"name": "A", "value": "2"}, {"name": "B"}]}]),
        spec(containers=[{"name": "c", "env": [{"name": "A", "value": "2"}, {"name": "B"}]}])),
    "delete in a nested list": (
        POD, spec(containers=[{"name": "c", "env": [{"name": "A"}, {"name": "B"}]}]),
        spec(containers=[{"name": "c", "env": [{"name": "A", "$patch": "delete"}]}]),
        spec(containers=[{"name": "c", "env": [{"name": "B"}]}])),
    "mounts merge by path": (
        POD, spec(containers=[{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/a"}]}]),
        spec(containers=[{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/b"}]}]),
        spec(containers=[{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/b"}, {"name": "v", "mountPath": "/a"}]}])),
    # atomic lists and other types
    "lists without a strategy are replaced": (SERVICE, spec(externalIPs=["a"]), spec(externalIPs=["b"]), spec(externalIPs=["b"])),
    "tolerations are replaced": (POD, spec(tolerations=[{"key": "a"}]), spec(tolerations=[{"key": "b"}]), spec(tolerations=[{"key": "b"}])),
    "another type is put in its place": (SERVICE, spec(selector={"a": "1"}), spec(selector="x"), spec(selector="x")),
    "nulls in what is new are left out": (SERVICE, {}, spec(selector={"a": None, "b": "1"}), spec(selector={"b": "1"})),
    # lists of primitives
    "primitives merge as a set, the patch's first": (SERVICE, finalizers("a", "b"), finalizers("c", "a"), finalizers("c", "a", "b")),
    "primitives are deleted": (SERVICE, finalizers("a", "b"), finalizers(**{f"{DELETE}/finalizers": ["a", "x"]}), finalizers("b")),
    "deleted from an atomic list": (SERVICE, spec(externalIPs=["a", "b"]), spec(**{f"{DELETE}/externalIPs": ["a"]}), spec(externalIPs=["b"])),
    "deleted from what is not there": (SERVICE, spec(), finalizers(**{f"{DELETE}/finalizers": ["a"]}), {"spec": {}, "metadata": {f"{DELETE}/finalizers": ["a"]}}),
    "null deletes the list that it names": (SERVICE, finalizers("a"), finalizers(**{f"{DELETE}/finalizers": None}), {"metadata": {}}),
    # $setElementOrder
    "order alone": (SERVICE, ports(P, Q, R), spec(**{f"{ORDER}/ports": [{"port": 3}, {"port": 1}]}), ports(Q, R, P)),
    "order with changes": (SERVICE, PORTS, spec(**{f"{ORDER}/ports": [{"port": 3}, {"port": 1}], "ports": [R]}), ports(R, P, Q)),
    "order of primitives": (SERVICE, finalizers("a", "b", "c"), finalizers(**{f"{ORDER}/finalizers": ["c", "a"]}), finalizers("b", "c", "a")),
    "order with deletes": (
        SERVICE, ports(P, Q, R), spec(**{f"{ORDER}/ports": [{"port": 3}, {"port": 2}], "ports": [{"$patch": "delete", "port": 1}]}), ports(R, Q)),
    "order of a list that is new": (SERVICE, spec(), spec(**{f"{ORDER}/ports": [{"port": 2}, {"port": 1}], "ports": [Q, P]}), ports(Q, P)),
    "order of a list that is not there": (SERVICE, spec(), spec(**{f"{ORDER}/ports": [{"port": 2}]}), spec()),
    "strangers keep their place": (SERVICE, ports(P, Q, R), spec(**{f"{ORDER}/ports": [{"port": 1}, {"port": 3}]}), ports(P, Q, R)),
    # $retainKeys
    "retainKeys drops the others": (
        DEPLOYMENT, spec(strategy={"type": "RollingUpdate", "rollingUpdate": {}}),
        spec(strategy={"$retainKeys": ["type"], "type": "Recreate"}), spec(strategy={"type": "Recreate"})),
    "retainKeys in an element": (
        POD, spec(volumes=[{"name": "v", "emptyDir": {}}]),
        spec(volumes=[{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]),
        spec(volumes=[{"name": "v", "secret": {"secretName": "s"}}])),
    "retainKeys with a null beside": (
        DEPLOYMENT, spec(strategy={"type": "A", "rollingUpdate": {}}),
        spec(strategy={"$retainKeys": ["type"], "rollingUpdate": None}), spec(strategy={"type": "A"})),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_what_comes_of_a_patch(name: str) -> None:
    schema, old, patch, expected = ROWS[name]
    before = deep_copy(old), deep_copy(patch)
    assert strategic_merge_patch(schema, old, patch) == expected
    assert (old, patch) == before


FAULTS: dict[str, tuple[JsonObject, JsonObject, int, str]] = {
    "unknown directive": (PORTS, {"spec": {"$patch": "drop"}}, 500, "unknown patch type: drop in map: map[$patch:drop]"),
    "unknown directive in a list": (PORTS, ports({"$patch": "drop", "port": 1}), 500, "unknown patch type: drop in map: map[$patch:drop port:1]"),
    "merge in a list": (PORTS, ports({"$patch": "merge", "port": 1}), 500, "merging lists cannot yet be specified in the patch"),
    "no merge key": (PORTS, ports({"name": "p"}), 500, "map: map[name:p] does not contain declared merge key: port"),
    "delete without its key": (PORTS, ports({"$patch": "delete"}), 500, "map: map[$patch:delete] does not contain declared merge key: port"),
    "maps and numbers": (ports(P), ports(5), 500, "list element types are not identical: [[map[name:p port:1]] [5]]"),
    "texts and numbers": (finalizers("a"), finalizers(1), 500, "list element types are not identical: [[a] [1]]"),
    "lists in lists": (finalizers("a"), finalizers(["a"]), 500, "list element types are not identical: [[a] [[a]]]"),
    "retainKeys is no list": (spec(selector={}), spec(selector={"$retainKeys": "a"}), 400, "invalid patch format of retainKeys"),
    "retainKeys lacks a field": (spec(selector={}), spec(selector={"$retainKeys": [], "a": "1"}), 400, "invalid patch format of retainKeys"),
    "an order that is no list": (PORTS, spec(**{f"{ORDER}/ports": 1}), 500, "expected a []interface {}, but received a int64"),
    "an order of no field": (PORTS, spec(**{ORDER: []}), 400, "invalid patch format of setElementOrder list"),
    "deletes of no field": (PORTS, spec(**{DELETE: []}), 400, "invalid patch format of primitive list"),
    "changes against the order": (
        PORTS, spec(**{f"{ORDER}/ports": [{"port": 1}], "ports": [R]}), 500,
        "The order in patch list:\n[map[name:r port:3]]\n doesn't match $setElementOrder list:\n[map[port:1]]\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_said_of_a_patch_that_cannot_be(name: str) -> None:
    old, patch, status, text = FAULTS[name]
    with pytest.raises(ApiError) as caught:
        strategic_merge_patch(SERVICE, old, patch)
    assert (caught.value.code, caught.value.message) == (status, text)
