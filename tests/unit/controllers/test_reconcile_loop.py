"""The reconcile loop: failures of a key are its own, and nothing is forgotten over a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.status import Conflict
from nodeport.client.informer import Informer
from nodeport.controllers.freshness import WriteGuard
from nodeport.controllers.loop import ReconcileLoop
from nodeport.controllers.pacing import Pacer


class QuickClock:
    """Sleeps take no time but move the clock."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


@asynccontextmanager
async def running(loop: ReconcileLoop[str]) -> AsyncIterator[None]:
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("never happened")


async def test_a_failing_key_is_logged_once_counted_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def reconcile(key: str) -> timedelta | None:
        seen.append(key)
        if key == "bad" and seen.count("bad") < 4:
            raise RuntimeError("a bug")
        return None

    loop: ReconcileLoop[str] = ReconcileLoop("test", reconcile, clock=QuickClock())
    with caplog.at_level(logging.WARNING):
        async with running(loop):
            loop.queue.add("bad")
            loop.queue.add("good")
            await until(lambda: seen.count("bad") == 4 and loop.queue.idle)
    assert seen.count("good") == 1
    assert loop.failures == 3
    assert len(caplog.records) == 1
    assert "test bad: a bug" in caplog.text


async def test_losing_a_race_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def reconcile(_: str) -> timedelta | None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Conflict("somebody was faster")
        return None

    loop: ReconcileLoop[str] = ReconcileLoop("test", reconcile, clock=QuickClock())
    with caplog.at_level(logging.WARNING):
        async with running(loop):
            loop.queue.add("a")
            await until(lambda: tries == 2)
    assert (loop.failures, caplog.records) == (0, [])


async def test_a_key_in_hand_when_the_loop_is_cancelled_is_taken_up_by_the_next_run() -> None:
    started, release, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def reconcile(_: str) -> timedelta | None:
        started.set()
        await release.wait()
        finished.set()
        return None

    loop: ReconcileLoop[str] = ReconcileLoop("test", reconcile, clock=QuickClock())
    loop.queue.add("a")
    async with running(loop):
        await started.wait()
    release.set()
    async with running(loop):
        await asyncio.wait_for(finished.wait(), 30)


async def test_a_key_may_ask_to_be_looked_at_again() -> None:
    tries = 0

    async def reconcile(_: str) -> timedelta | None:
        nonlocal tries
        tries += 1
        return timedelta(seconds=5) if tries < 3 else None

    clock = QuickClock()
    loop: ReconcileLoop[str] = ReconcileLoop("test", reconcile, clock=clock)
    async with running(loop):
        loop.queue.add("a")
        await until(lambda: tries == 3)
    assert clock.time >= 10


class Cache:
    """As much of an informer as a guard looks at."""

    def __init__(self) -> None:
        self.resource_version = "1"
        self.objects: dict[NamespacedName, JsonObject] = {}

    def get(self, key: NamespacedName) -> JsonObject | None:
        return self.objects.get(key)


def written(version: int, **meta: Any) -> JsonObject:
    return {"metadata": {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": str(version), **meta}}


def test_a_guard_waits_until_the_cache_passed_the_write() -> None:
    cache, clock = Cache(), QuickClock()
    guard: WriteGuard[str] = WriteGuard(cast("Informer", cache), clock)
    assert guard.is_caught_up("k")
    guard.wrote("k", written(10))
    assert not guard.is_caught_up("k")
    assert guard.is_caught_up("other")
    cache.resource_version = "10"
    assert guard.is_caught_up("k")


def test_a_guard_waits_until_a_deletion_shows() -> None:
    cache, clock = Cache(), QuickClock()
    guard: WriteGuard[str] = WriteGuard(cast("Informer", cache), clock)
    key = NamespacedName("ns", "a")
    cache.objects[key] = written(1)
    guard.deleted("k", written(1))
    assert not guard.is_caught_up("k")
    cache.objects[key] = written(2, deletionTimestamp="now")
    assert guard.is_caught_up("k")


def test_a_guard_gives_up_on_a_server_that_lost_the_write() -> None:
    cache, clock = Cache(), QuickClock()
    guard: WriteGuard[str] = WriteGuard(cast("Informer", cache), clock)
    guard.wrote("k", written(10))
    clock.time += 31
    assert guard.is_caught_up("k")


def test_only_costly_keys_are_held_back() -> None:
    pacer: Pacer[str] = Pacer()
    pacer.note("cheap", timedelta(microseconds=200))
    pacer.note("dear", timedelta(milliseconds=30))
    pacer.note("dearest", timedelta(seconds=30))
    pauses = [pacer.pause(key) for key in ("cheap", "dear", "dearest", "unknown")]
    assert pauses == [timedelta(0), timedelta(milliseconds=300), timedelta(seconds=1), timedelta(0)]
