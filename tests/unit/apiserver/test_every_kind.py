"""What holds for every kind alike: each verb, each form, each way to watch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from nodeport.api.resources import RESOURCES, Resource

Json = dict[str, Any]
TEMPLATE: Json = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
SELECTOR = {"matchLabels": {"app": "x"}}
ROLE_REF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
REQUEST = (
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIRk1HNENBUUF3RERFS01BZ0dBMVVFQXd3QmVEQlpNQk1HQnlx"
    "R1NNNDlBZ0VHQ0NxR1NNNDlBd0VIQTBJQQpCSUZZTk8wcm9ZN0VEOWNsNG92SXg0VGs1U1hicC8rbFMxSURYZGRSTUxNNjVMUmpF"
    "M3NibHVIdnJ2MDA4VVAwCmZLekdrbzRPMVhwbXpNNmZSajVzekZDZ0FEQUtCZ2dxaGtqT1BRUURBZ05IQURCRUFoOXljN0g4YzZG"
    "Rm43Rk0KVUM3U2VQVzhOL1graFYyMXBOS1ZwclpZdi80WkFpRUFrZXVZQWx1QklzZUM3REk5aUUvaTdYQm80akhacUJMTgpGc2Z5"
    "M0RQSUVVWT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg=="
)
"""A certificate request of nobody in particular."""
MINIMAL: dict[str, Json] = {
    "pods": {"spec": TEMPLATE["spec"]},
    "services": {"spec": {"ports": [{"port": 80}]}},
    "endpoints": {"subsets": []},
    "events": {"involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}},
    "events.events.k8s.io": {
        "eventTime": "2026-01-01T12:00:00.000000Z", "reportingController": "c", "reportingInstance": "i",
        "action": "a", "reason": "r", "type": "Normal",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    },
    "replicationcontrollers": {"spec": {"replicas": 0, "selector": {"app": "x"}, "template": TEMPLATE}},
    "deployments.apps": {"spec": {"replicas": 0, "selector": SELECTOR, "template": TEMPLATE}},
    "replicasets.apps": {"spec": {"replicas": 0, "selector": SELECTOR, "template": TEMPLATE}},
    "statefulsets.apps": {"spec": {"replicas": 0, "serviceName": "s", "selector": SELECTOR, "template": TEMPLATE}},
    "daemonsets.apps": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "controllerrevisions.apps": {"data": {"a": 1}, "revision": 1},
    "jobs.batch": {"spec": {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}},
    "endpointslices.discovery.k8s.io": {"addressType": "IPv4", "endpoints": []},
    "ingresses.networking.k8s.io": {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
    "ingressclasses.networking.k8s.io": {"spec": {"controller": "example.com/c"}},
    "servicecidrs.networking.k8s.io": {"spec": {"cidrs": ["10.200.0.0/24"]}},
    "ipaddresses.networking.k8s.io": {"spec": {"parentRef": {"resource": "services", "namespace": "d", "name": "s"}}},
    "rolebindings.rbac.authorization.k8s.io": {"roleRef": ROLE_REF},
    "clusterrolebindings.rbac.authorization.k8s.io": {"roleRef": ROLE_REF},
    "limitranges": {"spec": {"limits": []}},
    "podtemplates": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
    "poddisruptionbudgets.policy": {"spec": {"minAvailable": 1, "selector": SELECTOR}},
    "priorityclasses.scheduling.k8s.io": {"value": 5},
    "runtimeclasses.node.k8s.io": {"handler": "h"},
    "persistentvolumes": {
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/srv"}}
    },
    "persistentvolumeclaims": {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    },
    "storageclasses.storage.k8s.io": {"provisioner": "example.com/p"},
    "certificatesigningrequests.certificates.k8s.io": {
        "spec": {"request": REQUEST, "signerName": "example.com/s", "usages": ["client auth"]}
    },
}  # fmt: skip
HELD = ("namespaces",)
"""What somebody must let go of first."""
NEVER_MADE = ("customresourcedefinitions",)
"""What is only listed, always empty."""
ROWS = [
    row
    for row in RESOURCES
    if {"create", "list", "watch", "patch"} <= {*row.verbs} and row.plural not in NEVER_MADE
]
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
WATCH_LIST = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


def paths(row: Resource) -> tuple[str, str]:
    """(the collection, the object)."""
    name = "198.51.100.7" if row.plural == "ipaddresses" else "x"
    return row.path("default"), row.path("default", name)


async def created(raw: Any, row: Resource) -> Json:
    collection, item = paths(row)
    metadata = {"name": item.rpartition("/")[2], "labels": {"of": "mine"}}
    made: Json = await raw.create(collection, {"metadata": metadata, **MINIMAL.get(row.qualified_name, {})})
    return made


@asynccontextmanager
async def watching(raw: Any, path: str, accept: str = "") -> AsyncIterator[Any]:
    headers = {"Accept": accept} if accept else {}
    async with raw.session.get(raw.url + path, headers=headers) as response:
        assert response.status == 200

        async def event() -> Json:
            found: Json = json.loads(await response.content.readline())
            return found

        yield event


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.qualified_name)
async def test_an_object_is_shown_in_every_form(raw: Any, row: Resource) -> None:
    made = await created(raw, row)
    collection, item = paths(row)
    assert (made["kind"], made["apiVersion"]) == (row.kind, row.api_version)
    if row.plural != "resourcequotas":  # whose status is counted meanwhile
        assert await raw.get(item) == made
    listed = await raw.get(f"{collection}?labelSelector=of%3Dmine")
    assert (listed["kind"], len(listed["items"])) == (row.list_kind, 1)
    table = (await raw("GET", f"{collection}?labelSelector=of%3Dmine", Accept=TABLE)).json
    assert [len(entry["cells"]) for entry in table["rows"]] == [len(table["columnDefinitions"])]
    bare = (await raw("GET", f"{collection}?labelSelector=of%3Dmine", Accept=METADATA_LIST)).json
    assert bare["items"][0]["metadata"]["uid"] == made["metadata"]["uid"]
    assert set(bare["items"][0]) == {"kind", "apiVersion", "metadata"}
    shown = (await raw("GET", item, Accept="application/yaml")).body
    assert yaml.safe_load(shown)["metadata"]["uid"] == made["metadata"]["uid"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.qualified_name)
async def test_an_object_is_watched_in_every_form(raw: Any, row: Resource) -> None:
    made = await created(raw, row)
    collection, item = paths(row)
    name = made["metadata"]["name"]
    for accept, kind in (("", row.kind), (TABLE, "Table"), (METADATA, "PartialObjectMetadata")):
        async with watching(raw, f"{collection}?{WATCH_LIST}&labelSelector=of%3Dmine", accept) as event:
            first, last = await event(), await event()
            assert (first["type"], first["object"]["kind"]) == ("ADDED", kind)
            assert last["type"] == "BOOKMARK"
            assert last["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    legacy = row.base_path + "/watch" + item.removeprefix(row.base_path)
    async with watching(raw, legacy) as event:
        assert (await event())["object"]["metadata"]["name"] == name
        await raw("DELETE", f"{item}?gracePeriodSeconds=0&propagationPolicy=Background")
        seen = await event()
        assert seen["type"] == ("MODIFIED" if row.plural in HELD else "DELETED")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.qualified_name)
async def test_an_object_takes_every_kind_of_patch(raw: Any, row: Resource) -> None:
    made = await created(raw, row)
    _, item = paths(row)
    for number, (kind, body) in enumerate((
        ("merge-patch", {"metadata": {"annotations": {"a": "0"}}}),
        ("strategic-merge-patch", {"metadata": {"annotations": {"a": "1"}}}),
        ("json-patch", [{"op": "replace", "path": "/metadata/annotations/a", "value": "2"}]),
    )):  # fmt: skip
        patched = await raw("PATCH", item, body, Content_Type=f"application/{kind}+json")
        assert (patched.status, patched.json["metadata"]["annotations"]["a"]) == (200, str(number)), kind
    same = await raw("PATCH", item, {}, Content_Type="application/merge-patch+json")
    assert same.json["metadata"]["resourceVersion"] == patched.json["metadata"]["resourceVersion"]
    counts = 4 if row.plural == "deployments" else made["metadata"].get("generation")
    assert same.json["metadata"].get("generation") == counts, "annotations count of Deployments only"
    dry = await raw("DELETE", f"{item}?dryRun=All")
    assert dry.status == 200
    assert (await raw.get(item))["metadata"]["annotations"]["a"] == "2"


async def test_custom_resource_definitions_are_listed_but_cannot_be_made(raw: Any) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    found = await raw.get(path)
    assert (found["kind"], found["items"]) == ("CustomResourceDefinitionList", [])
    made = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a.b.c"},
        "spec": {"group": "b.c", "names": {"plural": "a", "kind": "A"}, "scope": "Namespaced", "versions": []},
    }  # fmt: skip
    answer = await raw("POST", path, made)
    assert (answer.status, answer.json["reason"]) == (403, "Forbidden")
    assert answer.json["message"] == (
        'customresourcedefinitions.apiextensions.k8s.io "a.b.c" is forbidden: this server serves no custom resources'
    )
    assert (await raw("GET", f"{path}/a.b.c")).status == 404
    table = await raw("GET", path, Accept=TABLE)
    assert [column["name"] for column in table.json["columnDefinitions"]] == ["Name", "Created At"]
