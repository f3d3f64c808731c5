"""The scheduler against the real API server: what users see of where pods go, and why they go nowhere."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.api.resources import (
    EVENTS,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    PRIORITY_CLASSES,
    SERVICES,
)
from nodeport.client.rest import JSON_PATCH, STRATEGIC_MERGE_PATCH
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

HOST = "kubernetes.io/hostname"
APP = {"app": "web"}


def pod(
    name: str, *, namespace: str = "default", labels: dict[str, str] | None = None, **spec: Any
) -> JsonObject:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"containers": [{"name": "c", "image": "v1"}], **spec},
    }


def asking(name: str, cpu: str, **spec: Any) -> JsonObject:
    container = {"name": "c", "image": "v1", "resources": {"requests": {"cpu": cpu}}}
    return pod(name, **{"containers": [container], **spec})


async def node_of(cluster: ControlledCluster, name: str, namespace: str = "default") -> str:
    found = await cluster.client.get(PODS, name, namespace)
    return found["spec"].get("nodeName") or ""


async def placed(cluster: ControlledCluster, name: str, namespace: str = "default") -> str:
    return str(await eventually(lambda: node_of(cluster, name, namespace)))


async def scheduled(cluster: ControlledCluster, name: str) -> JsonObject:
    """The pod's PodScheduled condition, when it has one."""
    found = await cluster.client.get(PODS, name, "default")
    conditions = (found.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == "PodScheduled"), {})


async def refused(cluster: ControlledCluster, name: str, message: str) -> None:
    """Until the pod's condition and an event both give this reason, before what is said of preemption."""

    async def is_told() -> bool:
        return _reason((await scheduled(cluster, name)).get("message") or "") == message

    async def is_reported() -> bool:
        told = [
            _reason(event["message"])
            for event in await cluster.items(EVENTS)
            if event["reason"] == "FailedScheduling" and event["involvedObject"]["name"] == name
        ]
        return message in told

    await eventually(is_told)
    await eventually(is_reported)
    found = await scheduled(cluster, name)
    assert (found["status"], found["reason"]) == ("False", "Unschedulable")


def _reason(message: str) -> str:
    return message.partition(" preemption: ")[0]


async def change_node(cluster: ControlledCluster, name: str, patch: JsonObject) -> None:
    await cluster.client.patch(NODES, name, patch, content_type=STRATEGIC_MERGE_PATCH)


async def test_a_pod_that_fits_nowhere_is_told_why_of_every_node_and_goes_when_one_changes() -> None:
    async with controlled_cluster(nodes=3) as cluster:
        await change_node(cluster, "node-1", {"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}})
        await change_node(cluster, "node-2", {"spec": {"unschedulable": True}})
        await cluster.client.create(PODS, asking("big", "9"))
        why = (
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), "
            "1 node(s) were unschedulable."
        )
        await refused(cluster, "big", why)
        await cluster.client.create(PODS, asking("small", "1", nodeSelector={"disk": "ssd"}))
        await refused(
            cluster, "small",
            "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated "
            "taint(s), 1 node(s) were unschedulable.",
        )  # fmt: skip
        await change_node(cluster, "node-3", {"metadata": {"labels": {"disk": "ssd"}}})
        assert await placed(cluster, "small") == "node-3"
        assert (await scheduled(cluster, "small"))["status"] == "True"


async def test_pods_that_shun_each_other_take_a_node_each_and_one_follows_who_goes() -> None:
    apart = {"topologyKey": HOST, "labelSelector": {"matchLabels": APP}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    async with controlled_cluster(nodes=2) as cluster:
        for name in ("one", "two"):
            await cluster.client.create(PODS, pod(name, labels=APP, affinity=affinity))
        assert {await placed(cluster, "one"), await placed(cluster, "two")} == {"node-1", "node-2"}
        await cluster.client.create(PODS, pod("three", labels=APP, affinity=affinity))
        await refused(
            cluster, "three", "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."
        )
        await cluster.client.create(PODS, pod("plain", labels=APP))
        await refused(
            cluster,
            "plain",
            "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules.",
        )
        left = await node_of(cluster, "one")
        await cluster.client.delete(PODS, "one", "default")
        waiting = ("three", "plain")

        async def one_followed() -> bool:
            found = [await node_of(cluster, name) for name in waiting]
            return sorted(found) == ["", left]

        await eventually(one_followed)


async def test_affinity_across_namespaces_is_by_their_labels_also_when_these_come_later() -> None:
    beside = {
        "topologyKey": HOST,
        "labelSelector": {"matchLabels": APP},
        "namespaceSelector": {"matchLabels": {"team": "x"}},
    }
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside]}}
    async with controlled_cluster(nodes=3) as cluster:
        await cluster.client.create(NAMESPACES, {"metadata": {"name": "other"}})
        await cluster.client.create(PODS, pod("target", namespace="other", labels=APP))
        home = await placed(cluster, "target", "other")
        await cluster.client.create(PODS, pod("follower", affinity=affinity))
        await refused(
            cluster, "follower", "0/3 nodes are available: 3 node(s) didn't match pod affinity rules."
        )
        patch = {"metadata": {"labels": {"team": "x"}}}
        await cluster.client.patch(NAMESPACES, "other", patch)
        assert await placed(cluster, "follower") == home


async def test_a_pod_waiting_for_another_goes_beside_it_when_that_one_comes() -> None:
    beside = {"topologyKey": HOST, "labelSelector": {"matchLabels": APP}}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside]}}
    async with controlled_cluster(nodes=3) as cluster:
        await cluster.client.create(PODS, pod("follower", affinity=affinity))
        await refused(
            cluster, "follower", "0/3 nodes are available: 3 node(s) didn't match pod affinity rules."
        )
        await cluster.client.create(PODS, pod("target", labels=APP))
        assert await placed(cluster, "follower") == await placed(cluster, "target")


async def test_hard_spread_holds_over_many_pods_and_says_when_it_cannot() -> None:
    even = {
        "topologyKey": HOST, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": APP},
    }  # fmt: skip
    async with controlled_cluster(nodes=3) as cluster:
        names = [f"web-{number}" for number in range(9)]
        for name in names:
            await cluster.client.create(PODS, pod(name, labels=APP, topologySpreadConstraints=[even]))
        assert Counter([await placed(cluster, name) for name in names]) == {
            "node-1": 3, "node-2": 3, "node-3": 3,
        }  # fmt: skip
        await change_node(cluster, "node-1", {"spec": {"unschedulable": True}})
        for name in ("more-1", "more-2", "more-3"):
            await cluster.client.create(PODS, pod(name, labels=APP, topologySpreadConstraints=[even]))

        async def two_went() -> bool:
            return len([name for name in ("more-1", "more-2", "more-3") if await node_of(cluster, name)]) == 2

        await eventually(two_went)
        [waiting] = [name for name in ("more-1", "more-2", "more-3") if not await node_of(cluster, name)]
        await refused(
            cluster, waiting,
            "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread "
            "constraints.",
        )  # fmt: skip


async def test_a_gated_pod_waits_until_its_last_gate_is_taken_away() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(PODS, pod("gated", schedulingGates=[{"name": "a/b"}, {"name": "c/d"}]))
        await cluster.client.create(PODS, pod("free"))
        await placed(cluster, "free")
        assert await node_of(cluster, "gated") == ""
        found = await scheduled(cluster, "gated")
        assert (found["status"], found["reason"]) == ("False", "SchedulingGated")
        assert found["message"] == "Scheduling is blocked due to non-empty scheduling gates"
        remove = [{"op": "remove", "path": "/spec/schedulingGates"}]
        await cluster.client.patch(PODS, "gated", remove, "default", content_type=JSON_PATCH)
        await placed(cluster, "gated")


async def test_of_pods_that_wait_for_room_the_one_of_the_highest_priority_gets_it() -> None:
    async with controlled_cluster(nodes=1) as cluster:
        for name, value in (("low", 1), ("high", 1000)):
            made = {"metadata": {"name": name}, "value": value, "preemptionPolicy": "Never"}
            await cluster.client.create(PRIORITY_CLASSES, made)
        await change_node(cluster, "node-1", {"spec": {"unschedulable": True}})
        why = "0/1 nodes are available: 1 node(s) were unschedulable."
        for name in ("low", "high"):
            await cluster.client.create(PODS, asking(name, "8", priorityClassName=name))
            await refused(cluster, name, why)
        await change_node(cluster, "node-1", {"spec": {"unschedulable": False}})
        assert await placed(cluster, "high") == "node-1"
        await refused(cluster, "low", "0/1 nodes are available: 1 Insufficient cpu.")


async def test_bare_pods_of_a_service_are_spread() -> None:
    async with controlled_cluster(nodes=3) as cluster:
        service = {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": APP, "ports": [{"port": 80}]},
        }
        await cluster.client.create(SERVICES, service)
        for number in range(2):
            await cluster.client.create(PODS, asking(f"filler-{number}", "2", nodeName=f"node-{number + 2}"))
        names = ["web-0", "web-1", "web-2"]
        for name in names:
            await cluster.client.create(PODS, pod(name, labels=APP))
        assert {await placed(cluster, name) for name in names} == {"node-1", "node-2", "node-3"}


@pytest.mark.parametrize("address", ["", "10.0.0.1"])
async def test_one_host_port_is_given_once_a_node(address: str) -> None:
    port = {"containerPort": 80, "hostPort": 8080, **({"hostIP": address} if address else {})}
    container = {"name": "c", "image": "v1", "ports": [port]}
    async with controlled_cluster(nodes=2) as cluster:
        for name in ("one", "two"):
            await cluster.client.create(PODS, pod(name, containers=[container]))
        assert {await placed(cluster, "one"), await placed(cluster, "two")} == {"node-1", "node-2"}
        await cluster.client.create(PODS, pod("three", containers=[container]))
        await refused(
            cluster, "three",
            "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports.",
        )  # fmt: skip


async def priority_class(cluster: ControlledCluster, name: str, value: int, **more: Any) -> None:
    await cluster.client.create(PRIORITY_CLASSES, {"metadata": {"name": name}, "value": value, **more})


async def test_a_pod_of_a_higher_priority_drives_away_as_few_as_it_must() -> None:
    async with controlled_cluster(nodes=2) as cluster:
        await priority_class(cluster, "high", 1000)
        for number in range(4):
            await cluster.client.create(PODS, asking(f"low-{number}", "4"))
            await placed(cluster, f"low-{number}")
        await cluster.client.create(PODS, asking("high", "4", priorityClassName="high"))
        home = await placed(cluster, "high")
        left = {found["metadata"]["name"] for found in await cluster.items(PODS)}
        assert len(left) == 4
        assert "nominatedNodeName" not in (await cluster.client.get(PODS, "high", "default"))["status"]
        uid = (await cluster.client.get(PODS, "high", "default"))["metadata"]["uid"]

        async def is_reported() -> bool:
            events = [each for each in await cluster.items(EVENTS) if each["reason"] == "Preempted"]
            return [each["message"] for each in events] == [f"Preempted by pod {uid} on node {home}"]

        await eventually(is_reported)


async def test_the_room_of_a_victim_that_takes_its_time_is_kept_for_whom_it_goes() -> None:
    async with controlled_cluster(nodes=1) as cluster:
        await priority_class(cluster, "high", 1000)
        await cluster.client.create(PODS, asking("low", "8"))
        await placed(cluster, "low")
        cluster.nodes.silent.add("node-1")  # nothing stops there
        await cluster.client.create(PODS, asking("high", "6", priorityClassName="high"))

        async def is_leaving() -> bool:
            found = await cluster.client.get(PODS, "low", "default")
            conditions = {each["type"]: each for each in found["status"]["conditions"]}
            return (
                "deletionTimestamp" in found["metadata"]
                and conditions["DisruptionTarget"]["reason"] == "PreemptionByScheduler"
            )

        await eventually(is_leaving)
        status = (await cluster.client.get(PODS, "high", "default"))["status"]
        assert status["nominatedNodeName"] == "node-1"
        await cluster.client.create(PODS, asking("later", "8"))
        await refused(cluster, "later", "0/1 nodes are available: 1 Insufficient cpu.")
        await cluster.client.delete(PODS, "low", "default", grace_period_seconds=0)
        assert await placed(cluster, "high") == "node-1"
        assert await node_of(cluster, "later") == ""


async def test_nobody_is_driven_away_by_a_pod_that_must_not_or_need_not() -> None:
    async with controlled_cluster(nodes=1) as cluster:
        await priority_class(cluster, "polite", 1000, preemptionPolicy="Never")
        await cluster.client.create(PODS, asking("low", "8"))
        await placed(cluster, "low")
        told = {
            "polite": "preemption: not eligible due to preemptionPolicy=Never.",
            "equal": "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        }
        await cluster.client.create(PODS, asking("polite", "8", priorityClassName="polite"))
        await cluster.client.create(PODS, asking("equal", "8"))
        for name, why in told.items():
            await refused(cluster, name, "0/1 nodes are available: 1 Insufficient cpu.")
            assert (await scheduled(cluster, name))["message"].endswith(why)
        assert "deletionTimestamp" not in (await cluster.client.get(PODS, "low", "default"))["metadata"]


async def test_a_crowd_that_waits_is_placed_when_there_is_room_the_more_important_first() -> None:
    async with controlled_cluster(nodes=2) as cluster:
        await priority_class(cluster, "high", 1000)
        for name in ("node-1", "node-2"):
            await change_node(cluster, name, {"spec": {"unschedulable": True}})
        for number in range(120):
            more = {"priorityClassName": "high"} if number % 2 else {}
            await cluster.client.create(PODS, asking(f"web-{number}", "100m", **more))
        why = "0/2 nodes are available: 2 node(s) were unschedulable."
        await refused(cluster, "web-118", why)
        await refused(cluster, "web-119", why)
        await change_node(cluster, "node-2", {"spec": {"unschedulable": False}})

        async def on_nodes() -> list[JsonObject]:
            return [found for found in await cluster.items(PODS) if found["spec"].get("nodeName")]

        async def is_full() -> bool:
            return Counter(found["spec"]["priority"] for found in await on_nodes()) == {1000: 60, 0: 20}

        await eventually(is_full)
        await change_node(cluster, "node-1", {"spec": {"unschedulable": False}})
        assert await placed(cluster, "web-0")

        async def are_all_there() -> bool:
            return len(await on_nodes()) == 120

        await eventually(are_all_there)


async def test_a_pod_waits_for_its_claim_to_be_there_and_to_be_bound() -> None:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim: JsonObject = {"metadata": {"name": "data", "namespace": "default"}, "spec": wanted}
    async with controlled_cluster(nodes=2) as cluster:
        await cluster.client.create(PODS, pod("p", volumes=[volume]))
        await refused(cluster, "p", '0/2 nodes are available: persistentvolumeclaim "data" not found.')
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim)
        await refused(
            cluster, "p", "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        )
        told = (await scheduled(cluster, "p"))["message"]
        assert told.endswith(
            "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        )
        named, bound = {"spec": {"volumeName": "v"}}, {"status": {"phase": "Bound"}}
        merge = {"content_type": STRATEGIC_MERGE_PATCH}
        await cluster.client.patch(PERSISTENT_VOLUME_CLAIMS, "data", named, "default", **merge)
        await cluster.client.patch(
            PERSISTENT_VOLUME_CLAIMS, "data", bound, "default", subresource="status", **merge
        )
        assert await placed(cluster, "p") in ("node-1", "node-2")
