"""Owners and dependents, and how namespaces end, against the real API server and all controllers."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.meta import JsonObject, is_being_deleted, owner_references
from nodeport.api.resources import (
    CONFIG_MAPS,
    EVENTS,
    INGRESS_CLASSES,
    NAMESPACES,
    PODS,
    REPLICATION_CONTROLLERS,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from nodeport.api.status import Forbidden, NotFound
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually


async def make(
    cluster: ControlledCluster, name: str, *owners: JsonObject, block: bool = False, **meta: Any
) -> JsonObject:
    references = [
        {
            "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "blockOwnerDeletion": block,
        }
        for owner in owners
    ]  # fmt: skip
    metadata = {"name": name, "namespace": "default", "ownerReferences": references, **meta}
    return await cluster.client.create(CONFIG_MAPS, {"metadata": metadata})


async def find(
    cluster: ControlledCluster, name: str, namespace: str = "default", resource: Resource = CONFIG_MAPS
) -> JsonObject | None:
    try:
        return await cluster.client.get(resource, name, namespace)
    except NotFound:
        return None


async def gone(cluster: ControlledCluster, *names: str) -> bool:
    return not any([await find(cluster, name) for name in names])


async def test_an_object_goes_with_its_last_owner_only() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        first, second = await make(cluster, "first"), await make(cluster, "second")
        await make(cluster, "shared", first, second)
        await make(cluster, "lone", first)
        await cluster.client.delete(CONFIG_MAPS, "first", "default")
        await eventually(lambda: gone(cluster, "first", "lone"))

        async def dropped() -> bool:
            shared = await find(cluster, "shared")
            assert shared is not None
            return [ref["name"] for ref in owner_references(shared)] == ["second"]

        await eventually(dropped)
        await cluster.client.delete(CONFIG_MAPS, "second", "default")
        await eventually(lambda: gone(cluster, "shared"))


async def test_a_foreground_deletion_waits_for_the_dependents_that_block_it() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        owner = await make(cluster, "owner")
        held = await make(cluster, "held", owner, block=True, finalizers=["example.com/f"])
        await make(cluster, "leaf", held, block=True)
        await cluster.client.delete(CONFIG_MAPS, "owner", "default", propagation_policy="Foreground")
        await eventually(lambda: gone(cluster, "leaf"))

        async def waiting() -> bool:
            found = await find(cluster, "held")
            return found is not None and is_being_deleted(found)

        await eventually(waiting)
        waits = await find(cluster, "owner")
        assert waits is not None
        assert waits["metadata"]["finalizers"] == ["foregroundDeletion"]
        await cluster.client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, "default")
        await eventually(lambda: gone(cluster, "owner", "held"))


async def test_a_circle_of_owners_ends() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        first = await make(cluster, "first")
        second = await make(cluster, "second", first, block=True)
        back = {"apiVersion": "v1", "kind": "ConfigMap", "name": "second", "uid": second["metadata"]["uid"], "blockOwnerDeletion": True}  # fmt: skip
        await cluster.client.patch(CONFIG_MAPS, "first", {"metadata": {"ownerReferences": [back]}}, "default")
        await cluster.client.delete(CONFIG_MAPS, "first", "default", propagation_policy="Foreground")
        await eventually(lambda: gone(cluster, "first", "second"))


async def test_an_owner_that_never_was_takes_its_object_along() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        real = await make(cluster, "real")
        await make(cluster, "kept", real)
        await make(cluster, "phantom", {"metadata": {"name": "real", "uid": "of-another-object"}})
        await eventually(lambda: gone(cluster, "phantom"))
        assert await find(cluster, "kept")


async def test_an_owner_in_another_namespace_is_no_owner_and_an_event_says_so() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        await cluster.client.create(NAMESPACES, {"metadata": {"name": "far"}})
        metadata = {"name": "there", "namespace": "far"}
        owner = await cluster.client.create(CONFIG_MAPS, {"metadata": metadata})
        await make(cluster, "here", owner)
        await eventually(lambda: gone(cluster, "here"))
        assert await find(cluster, "there", "far")

        async def told() -> bool:
            return "OwnerRefInvalidNamespace" in {e["reason"] for e in await cluster.items(EVENTS)}

        await eventually(told)


async def test_a_cluster_scoped_object_outlives_a_namespaced_owner() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        owner = await make(cluster, "owner")
        reference = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "owner",
            "uid": owner["metadata"]["uid"],
        }
        metadata = {"name": "wide", "ownerReferences": [reference]}
        await cluster.client.create(INGRESS_CLASSES, {"metadata": metadata, "spec": {"controller": "a.b/c"}})
        await make(cluster, "leaf", owner)
        await cluster.client.delete(CONFIG_MAPS, "owner", "default")
        await eventually(lambda: gone(cluster, "owner", "leaf"))
        assert await find(cluster, "wide", "", INGRESS_CLASSES)


async def test_a_namespace_says_what_holds_it_and_goes_once_that_is_gone() -> None:
    async with controlled_cluster(nodes=1) as cluster:
        await cluster.client.create(NAMESPACES, {"metadata": {"name": "shop"}})
        held = {"name": "held", "namespace": "shop", "finalizers": ["example.com/f"]}
        await cluster.client.create(CONFIG_MAPS, {"metadata": held})
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        rc = {"metadata": {"name": "rc", "namespace": "shop"}, "spec": {"replicas": 2, "template": template}}
        await cluster.client.create(REPLICATION_CONTROLLERS, rc)
        await eventually(lambda: cluster.items(PODS, "shop"))
        await cluster.client.delete(NAMESPACES, "shop")

        async def explained() -> bool:
            found = await cluster.client.get(NAMESPACES, "shop")
            told = {c["type"]: c["message"] for c in found["status"].get("conditions") or []}
            return (
                told.get("NamespaceContentRemaining")
                == "Some resources are remaining: configmaps. has 1 resource instances"
                and told["NamespaceFinalizersRemaining"]
                == "Some content in the namespace has finalizers remaining: example.com/f in 1 resource instances"
            )

        await eventually(explained)
        with pytest.raises(Forbidden, match="because it is being terminated"):
            await cluster.client.create(SECRETS, {"metadata": {"name": "late", "namespace": "shop"}})
        await cluster.client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, "shop")

        async def ended() -> bool:
            return await find(cluster, "shop", "", NAMESPACES) is None

        await eventually(ended)
        for resource in (CONFIG_MAPS, PODS, REPLICATION_CONTROLLERS, SERVICE_ACCOUNTS):
            assert await cluster.items(resource, "shop") == []
        await cluster.client.create(NAMESPACES, {"metadata": {"name": "shop"}})

        async def furnished() -> bool:
            return bool(
                await find(cluster, "kube-root-ca.crt", "shop")
                and await cluster.items(SERVICE_ACCOUNTS, "shop")
            )

        await eventually(furnished)
