"""Jobs against the real API server with puppet nodes, whose pods the tests end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.api.resources import EVENTS, JOBS, NAMESPACES, PODS, Resource
from nodeport.api.status import NotFound
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, TransportError
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

TEMPLATE: JsonObject = {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}


def job(**spec: Any) -> JsonObject:
    return {"metadata": {"name": "j", "namespace": "default"}, "spec": {"template": TEMPLATE, **spec}}


async def end_pods(cluster: ControlledCluster, phase: str) -> None:
    for pod in await cluster.items(PODS):
        if (pod["status"].get("phase"), is_being_deleted(pod)) == ("Running", False):
            with suppress(NotFound):
                await cluster.client.patch(
                    PODS, pod["metadata"]["name"], {"status": {"phase": phase}}, "default",
                    content_type=STRATEGIC_MERGE_PATCH, subresource="status",
                )  # fmt: skip


@asynccontextmanager
async def ending_pods(cluster: ControlledCluster, phase: str = "Succeeded") -> AsyncIterator[None]:
    """Every running pod ends in ``phase``."""

    async def work() -> None:
        while True:
            await end_pods(cluster, phase)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def has_condition(cluster: ControlledCluster, kind: str) -> JsonObject | None:
    found = await cluster.client.get(JOBS, "j", "default")
    listed = found["status"].get("conditions") or []
    is_there = any(each["type"] == kind and each["status"] == "True" for each in listed)
    return found["status"] if is_there else None


async def test_a_job_runs_its_pods_until_enough_have_succeeded() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(JOBS, job(completions=5, parallelism=2))
        async with ending_pods(cluster):
            status: JsonObject = await eventually(lambda: has_condition(cluster, "Complete"))
        assert (status["succeeded"], status["ready"], status["uncountedTerminatedPods"]) == (5, 0, {})
        assert status["completionTime"] >= status["startTime"]
        pods = await cluster.items(PODS)
        assert len(pods) == 5
        assert not any(pod["metadata"].get("finalizers") for pod in pods)
        reasons = {"SuccessfulCreate", "Completed"}

        async def told() -> bool:
            return {event["reason"] for event in await cluster.items(EVENTS)} >= reasons

        await eventually(told)


async def test_a_pod_whose_answer_was_lost_is_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server makes it, the controller hears an error, and its cache is slow to show the pod."""
    async with controlled_cluster() as cluster:
        await cluster.stop_controllers()
        create, watch_batches, made_pods = cluster.controllers.create, cluster.controllers.watch_batches, []

        async def loses_first(resource: Resource, *words: Any, **options: Any) -> JsonObject:
            made = await create(resource, *words, **options)
            if resource is not PODS:
                return made
            made_pods.append(made)
            if len(made_pods) == 1:
                raise TransportError("the connection was closed")
            return made

        async def slow(resource: Resource, *words: Any, **options: Any) -> AsyncIterator[Any]:
            async for batch in watch_batches(resource, *words, **options):
                if resource is PODS:
                    await asyncio.sleep(0.3)
                yield batch

        monkeypatch.setattr(cluster.controllers, "create", loses_first)
        monkeypatch.setattr(cluster.controllers, "watch_batches", slow)
        cluster.start_controllers()
        await cluster.client.create(JOBS, job(completions=1))
        async with ending_pods(cluster):
            await eventually(lambda: has_condition(cluster, "Complete"))
        assert len(made_pods) == 1


async def test_each_index_of_an_indexed_job_succeeds() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(JOBS, job(completions=4, parallelism=4, completionMode="Indexed"))
        async with ending_pods(cluster):
            status: JsonObject = await eventually(lambda: has_condition(cluster, "Complete"))
        assert (status["completedIndexes"], status["succeeded"]) == ("0-3", 4)
        assert sorted(pod["spec"]["hostname"] for pod in await cluster.items(PODS)) == [
            "j-0",
            "j-1",
            "j-2",
            "j-3",
        ]


async def test_a_job_fails_after_its_tries_and_ends_what_still_runs() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(JOBS, job(backoffLimit=0, parallelism=2, completions=2))

        async def running() -> bool:
            phases = [pod["status"]["phase"] for pod in await cluster.items(PODS)]
            return phases == ["Running"] * 2

        await eventually(running)
        victim = (await cluster.items(PODS))[0]["metadata"]["name"]
        await cluster.client.patch(
            PODS, victim, {"status": {"phase": "Failed"}}, "default",
            content_type=STRATEGIC_MERGE_PATCH, subresource="status",
        )  # fmt: skip
        status: JsonObject = await eventually(lambda: has_condition(cluster, "Failed"))
        assert status["conditions"][-1]["reason"] == "BackoffLimitExceeded"
        assert (status.get("active", 0), status["failed"]) == (0, 2)

        async def is_alone() -> bool:
            return [pod["metadata"]["name"] for pod in await cluster.items(PODS)] == [victim]

        await eventually(is_alone)


async def test_a_suspended_job_rests_and_goes_on() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(JOBS, job(suspend=True))
        await eventually(lambda: has_condition(cluster, "Suspended"))
        assert await cluster.items(PODS) == []
        await cluster.client.patch(JOBS, "j", {"spec": {"suspend": False}}, "default")
        async with ending_pods(cluster):
            status: JsonObject = await eventually(lambda: has_condition(cluster, "Complete"))
        assert status.get("failed", 0) == 0


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_a_deleted_job_takes_its_pods_along(policy: str) -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(JOBS, job(parallelism=3, completions=3))

        async def started() -> bool:
            return len(await cluster.items(PODS)) == 3

        await eventually(started)
        await cluster.client.delete(JOBS, "j", "default", propagation_policy=policy)

        async def empty() -> bool:
            return not (await cluster.items(PODS) or await cluster.items(JOBS))

        await eventually(empty)


async def test_pods_of_an_orphaning_job_live_on_and_are_not_held() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(JOBS, job())

        async def started() -> bool:
            return len(await cluster.items(PODS)) == 1

        await eventually(started)
        await cluster.client.delete(JOBS, "j", "default")

        async def free() -> bool:
            [pod] = await cluster.items(PODS)
            meta = pod["metadata"]
            return not (await cluster.items(JOBS) or meta.get("ownerReferences") or meta.get("finalizers"))

        await eventually(free)


async def test_a_finished_job_goes_after_its_time_and_with_its_namespace() -> None:
    async with controlled_cluster() as cluster:
        await cluster.client.create(JOBS, job(ttlSecondsAfterFinished=0))
        async with ending_pods(cluster):

            async def gone() -> bool:
                return not (await cluster.items(JOBS) or await cluster.items(PODS))

            await eventually(gone)
        await cluster.client.create(NAMESPACES, {"metadata": {"name": "n"}})
        elsewhere = job(parallelism=2, completions=2)
        elsewhere["metadata"]["namespace"] = "n"
        await cluster.client.create(JOBS, elsewhere)
        await eventually(lambda: cluster.items(PODS, "n"))
        await cluster.client.delete(NAMESPACES, "n")

        async def ended() -> bool:
            try:
                await cluster.client.get(NAMESPACES, "n")
            except NotFound:
                return True
            return False

        await eventually(ended)
