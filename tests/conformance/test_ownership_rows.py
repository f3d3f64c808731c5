"""The conformance rows about garbage collection, namespaces and ReplicationControllers, each named after its upstream
test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nodeport.api.meta import JsonObject, controller_of, owner_references
from nodeport.api.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    SERVICES,
    Resource,
)
from nodeport.api.status import NotFound
from nodeport.client.rest import STRATEGIC_MERGE_PATCH
from nodeport.testing.controlplane import ControlledCluster, eventually

Named = Callable[..., JsonObject]
NAMESPACE = "e2e"
LABELS = {"app": "gc-test"}
TEMPLATE: JsonObject = {
    "metadata": {"labels": LABELS},
    "spec": {"containers": [{"name": "nginx", "image": "nginx"}]},
}


async def make_rc(
    cluster: ControlledCluster, named: Named, name: str, replicas: int, **spec: Any
) -> JsonObject:
    wanted = {"replicas": replicas, "selector": LABELS, "template": TEMPLATE, **spec}
    return await cluster.client.create(REPLICATION_CONTROLLERS, {"metadata": named(name), "spec": wanted})


async def pods_of(cluster: ControlledCluster, name: str) -> list[JsonObject]:
    pods = await cluster.items(PODS, NAMESPACE)
    return [pod for pod in pods if name in {ref["name"] for ref in owner_references(pod)}]


async def is_gone(
    cluster: ControlledCluster, resource: Resource, name: str, namespace: str = NAMESPACE
) -> bool:
    try:
        await cluster.client.get(resource, name, namespace)
    except NotFound:
        return True
    return False


async def has_replicas(cluster: ControlledCluster, name: str, replicas: int) -> bool:
    found = await cluster.client.get(REPLICATION_CONTROLLERS, name, NAMESPACE)
    counts = [found["status"].get(field, 0) for field in ("replicas", "readyReplicas")]
    return counts == [replicas] * 2


# --- Garbage collector


async def test_garbage_collector_should_delete_pods_created_by_rc_when_not_orphaned(
    cluster: ControlledCluster, named: Named
) -> None:
    await make_rc(cluster, named, "gc", 2)
    await eventually(lambda: pods_of(cluster, "gc"))
    await cluster.client.delete(REPLICATION_CONTROLLERS, "gc", NAMESPACE, propagation_policy="Background")

    async def empty() -> bool:
        return not await cluster.items(PODS, NAMESPACE)

    await eventually(empty)


async def test_garbage_collector_should_orphan_pods_created_by_rc_if_delete_options_say_so(
    cluster: ControlledCluster, named: Named
) -> None:
    await make_rc(cluster, named, "gc", 10)
    await eventually(lambda: has_replicas(cluster, "gc", 10))
    await cluster.client.delete(REPLICATION_CONTROLLERS, "gc", NAMESPACE, propagation_policy="Orphan")
    await eventually(lambda: is_gone(cluster, REPLICATION_CONTROLLERS, "gc"))
    pods = await cluster.items(PODS, NAMESPACE)
    assert len(pods) == 10
    assert not any(owner_references(pod) for pod in pods)


async def test_garbage_collector_should_delete_rs_created_by_deployment_when_not_orphaning(
    cluster: ControlledCluster, named: Named
) -> None:
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": TEMPLATE}
    await cluster.client.create(DEPLOYMENTS, {"metadata": named("gc"), "spec": spec})
    await eventually(lambda: cluster.items(REPLICA_SETS, NAMESPACE))
    await cluster.client.delete(DEPLOYMENTS, "gc", NAMESPACE, propagation_policy="Background")

    async def empty() -> bool:
        return not (await cluster.items(REPLICA_SETS, NAMESPACE) or await cluster.items(PODS, NAMESPACE))

    await eventually(empty)


async def test_garbage_collector_should_keep_the_rc_around_until_all_its_pods_are_deleted(
    cluster: ControlledCluster, named: Named
) -> None:
    await make_rc(cluster, named, "gc", 10)
    await eventually(lambda: has_replicas(cluster, "gc", 10))
    cluster.nodes.hesitant = True
    await cluster.client.delete(REPLICATION_CONTROLLERS, "gc", NAMESPACE, propagation_policy="Foreground")

    async def all_ending() -> bool:
        pods = await pods_of(cluster, "gc")
        assert not await is_gone(cluster, REPLICATION_CONTROLLERS, "gc")
        return len(pods) == 10 and all(pod["metadata"].get("deletionTimestamp") for pod in pods)

    await eventually(all_ending)
    for pod in await pods_of(cluster, "gc"):
        await cluster.client.delete(PODS, pod["metadata"]["name"], NAMESPACE, grace_period_seconds=0)
    await eventually(lambda: is_gone(cluster, REPLICATION_CONTROLLERS, "gc"))


async def test_garbage_collector_should_not_delete_dependents_that_have_both_valid_owner_and_owner_waiting_for_dependents(
    cluster: ControlledCluster, named: Named
) -> None:
    await make_rc(cluster, named, "to-be-deleted", 6)
    await eventually(lambda: has_replicas(cluster, "to-be-deleted", 6))
    stays = await make_rc(
        cluster,
        named,
        "to-stay",
        0,
        selector={"a": "b"},
        template={**TEMPLATE, "metadata": {"labels": {"a": "b"}}},
    )
    second = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "name": "to-stay",
        "uid": stays["metadata"]["uid"],
    }
    shared = sorted(pod["metadata"]["name"] for pod in await pods_of(cluster, "to-be-deleted"))[:3]
    for name in shared:
        patch = {"metadata": {"ownerReferences": [second]}}
        await cluster.client.patch(PODS, name, patch, NAMESPACE, content_type=STRATEGIC_MERGE_PATCH)
    await cluster.client.delete(
        REPLICATION_CONTROLLERS, "to-be-deleted", NAMESPACE, propagation_policy="Foreground"
    )
    await eventually(lambda: is_gone(cluster, REPLICATION_CONTROLLERS, "to-be-deleted"))
    pods = await cluster.items(PODS, NAMESPACE)
    assert sorted(pod["metadata"]["name"] for pod in pods) == shared
    assert all([ref["name"] for ref in owner_references(pod)] == ["to-stay"] for pod in pods)
    assert not any(pod["metadata"].get("deletionTimestamp") for pod in pods)


async def test_garbage_collector_should_not_be_blocked_by_dependency_circle(
    cluster: ControlledCluster, named: Named
) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    pods = [
        await cluster.client.create(PODS, {"metadata": named(f"pod{n}"), "spec": spec}) for n in (1, 2, 3)
    ]
    for pod, owner in zip(pods, [pods[2], pods[0], pods[1]], strict=True):
        meta = owner["metadata"]
        reference = {
            "apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"], "controller": True,
            "blockOwnerDeletion": True,
        }  # fmt: skip
        patch = {"metadata": {"ownerReferences": [reference]}}
        await cluster.client.patch(PODS, pod["metadata"]["name"], patch, NAMESPACE)
    await cluster.client.delete(PODS, "pod1", NAMESPACE, propagation_policy="Foreground")

    async def empty() -> bool:
        return not await cluster.items(PODS, NAMESPACE)

    await eventually(empty)


# --- Namespaces


async def test_namespaces_should_ensure_that_all_pods_and_services_are_removed_when_a_namespace_is_deleted(
    cluster: ControlledCluster,
) -> None:
    await cluster.client.create(NAMESPACES, {"metadata": {"name": "nsdeletetest"}})
    meta = {"name": "test", "namespace": "nsdeletetest"}
    await cluster.client.create(PODS, {"metadata": meta, "spec": TEMPLATE["spec"]})
    await cluster.client.create(SERVICES, {"metadata": meta, "spec": {"ports": [{"port": 80}]}})
    await cluster.client.delete(NAMESPACES, "nsdeletetest")
    await eventually(lambda: is_gone(cluster, NAMESPACES, "nsdeletetest", ""))
    await cluster.client.create(NAMESPACES, {"metadata": {"name": "nsdeletetest"}})
    assert await cluster.items(PODS, "nsdeletetest") == []
    assert await cluster.items(SERVICES, "nsdeletetest") == []


async def test_namespaces_should_apply_changes_to_a_namespace_status(cluster: ControlledCluster) -> None:
    await cluster.client.create(NAMESPACES, {"metadata": {"name": "changes"}})
    patch = {
        "metadata": {"annotations": {"e2e-patched-ns-status": "x"}},
        "status": {
            "conditions": [{"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched"}]
        },
    }
    found = await cluster.client.patch(NAMESPACES, "changes", patch, subresource="status")
    assert found["metadata"]["annotations"]["e2e-patched-ns-status"] == "x"
    changed = {
        **found,
        "status": {**found["status"], "conditions": [{"type": "StatusUpdate", "status": "True"}]},
    }
    updated = await cluster.client.update(NAMESPACES, changed, subresource="status")
    assert [condition["type"] for condition in updated["status"]["conditions"]] == ["StatusUpdate"]


async def test_namespaces_should_apply_a_finalizer_to_a_namespace(cluster: ControlledCluster) -> None:
    found = await cluster.client.create(NAMESPACES, {"metadata": {"name": "finalizer"}})
    mine = "e2e.example.com/fakeFinalizer"
    wanted = {**found, "spec": {"finalizers": [*found["spec"]["finalizers"], mine]}}
    updated = await cluster.client.update(NAMESPACES, wanted, subresource="finalize")
    assert updated["spec"]["finalizers"] == ["kubernetes", mine]
    less = {**updated, "spec": {"finalizers": ["kubernetes"]}}
    updated = await cluster.client.update(NAMESPACES, less, subresource="finalize")
    assert updated["spec"]["finalizers"] == ["kubernetes"]
    await cluster.client.delete(NAMESPACES, "finalizer")
    await eventually(lambda: is_gone(cluster, NAMESPACES, "finalizer", ""))


# --- ReplicationController


async def test_replicationcontroller_should_adopt_matching_pods_on_creation(
    cluster: ControlledCluster, named: Named
) -> None:
    metadata = named("pod-adoption", labels=LABELS)
    pod = await cluster.client.create(PODS, {"metadata": metadata, "spec": TEMPLATE["spec"]})
    rc = await make_rc(cluster, named, "pod-adoption", 1)

    async def adopted() -> bool:
        found = await cluster.client.get(PODS, "pod-adoption", NAMESPACE)
        owner = controller_of(found)
        return owner is not None and owner["uid"] == rc["metadata"]["uid"]

    await eventually(adopted)
    await eventually(lambda: has_replicas(cluster, "pod-adoption", 1))
    assert [p["metadata"]["uid"] for p in await cluster.items(PODS, NAMESPACE)] == [pod["metadata"]["uid"]]


async def test_replicationcontroller_should_release_no_longer_matching_pods(
    cluster: ControlledCluster, named: Named
) -> None:
    await make_rc(cluster, named, "pod-release", 1)
    await eventually(lambda: has_replicas(cluster, "pod-release", 1))
    [pod] = await pods_of(cluster, "pod-release")
    name = pod["metadata"]["name"]
    await cluster.client.patch(PODS, name, {"metadata": {"labels": {"app": "other"}}}, NAMESPACE)

    async def released() -> bool:
        return controller_of(await cluster.client.get(PODS, name, NAMESPACE)) is None

    await eventually(released)
    await eventually(lambda: has_replicas(cluster, "pod-release", 1))


async def test_replicationcontroller_should_test_the_lifecycle_and_the_scale_of_a_replicationcontroller(
    cluster: ControlledCluster, named: Named
) -> None:
    client = cluster.client
    await client.create(REPLICATION_CONTROLLERS, {
        "metadata": named("rc-test", labels={"test-rc-static": "true"}),
        "spec": {"replicas": 1, "selector": LABELS, "template": TEMPLATE},
    })  # fmt: skip
    await eventually(lambda: has_replicas(cluster, "rc-test", 1))
    patch = {"metadata": {"labels": {"test-rc": "patched"}}}
    found = await client.patch(
        REPLICATION_CONTROLLERS, "rc-test", patch, NAMESPACE, content_type=STRATEGIC_MERGE_PATCH
    )
    assert found["metadata"]["labels"]["test-rc"] == "patched"
    zero = {"status": {"readyReplicas": 0, "availableReplicas": 0}}
    told = await client.patch(REPLICATION_CONTROLLERS, "rc-test", zero, NAMESPACE, subresource="status")
    assert told["status"].get("readyReplicas", 0) == 0
    await eventually(lambda: has_replicas(cluster, "rc-test", 1))
    two = {"spec": {"replicas": 2}}
    scaled = await client.patch(REPLICATION_CONTROLLERS, "rc-test", two, NAMESPACE, subresource="scale")
    assert scaled["spec"]["replicas"] == 2
    await eventually(lambda: has_replicas(cluster, "rc-test", 2))
    assert scaled["status"]["selector"] == "app=gc-test"
    listed = await cluster.items(REPLICATION_CONTROLLERS, NAMESPACE, label_selector="test-rc-static=true")
    assert [each["metadata"]["name"] for each in listed] == ["rc-test"]
    await client.delete_collection(REPLICATION_CONTROLLERS, NAMESPACE, label_selector="test-rc-static=true")
    await eventually(lambda: is_gone(cluster, REPLICATION_CONTROLLERS, "rc-test"))
