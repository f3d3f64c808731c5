"""Carrying out slice plans: order, failures half way, namespaces that go away, and cancellation."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.status import ApiError, Cause, Conflict, Forbidden, NotFound, ServiceUnavailable
from nodeport.client.cache import Change
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.endpointslice.changes import SlicePlan
from nodeport.controllers.endpointslice.writer import SliceWriteError, SliceWriter
from nodeport.kit.clock import SystemClock

KEY = NamespacedName("ns", "web")


def obj(name: str = "", version: str = "1") -> JsonObject:
    identity = {"name": name, "uid": name} if name else {"generateName": "web-"}
    return {"metadata": {**identity, "namespace": "ns", "resourceVersion": version}}


class Server:
    """Answers writes as told; remembers them in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failures: dict[int, ApiError] = {}
        self.gate: asyncio.Event | None = None

    async def _write(self, what: str) -> JsonObject:
        number = len(self.done)
        self.done.append(what)
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if number in self.failures:
            raise self.failures[number]
        return obj(f"{what}-{number}", "9")

    async def create(self, _resource: Any, _new: JsonObject) -> JsonObject:
        return await self._write("create")

    async def update(self, _resource: Any, _changed: JsonObject) -> JsonObject:
        return await self._write("update")

    async def delete(self, *_identity: str, **_options: str) -> JsonObject:
        return await self._write("delete")


class Cache:
    """A slice informer that has seen nothing yet."""

    resource_version = "1"

    def get(self, _key: NamespacedName) -> JsonObject | None:
        return None


def writer_on(server: Server, mended: list[NamespacedName]) -> SliceWriter:
    return SliceWriter(
        cast("RestClient", server), cast("Informer", Cache()), owner="Service", clock=SystemClock(),
        mend=mended.append,
    )  # fmt: skip


def plan(create: int = 0, update: int = 0, delete: int = 0) -> SlicePlan:
    existing = [obj(f"s{number}") for number in range(update + delete)]
    return SlicePlan((obj(),) * create, tuple(existing[:update]), tuple(existing[update:]))


async def test_creations_come_before_updates_and_deletions_last() -> None:
    server = Server()
    await writer_on(server, []).write(KEY, plan(10, 10, 10))
    assert server.done == ["create"] * 10 + ["update"] * 10 + ["delete"] * 10


async def test_after_a_failure_what_was_begun_is_noted_and_the_rest_left() -> None:
    server, mended = Server(), list[NamespacedName]()
    server.failures = {2: ServiceUnavailable("not now")}
    writer = writer_on(server, mended)
    with pytest.raises(SliceWriteError, match="failed to create EndpointSlice for Service ns/web: not now"):
        await writer.write(KEY, plan(20, 1))
    assert server.done == ["create"] * 8
    assert not writer.is_caught_up(KEY), "seven were written, and the cache does not show them"


async def test_nothing_is_remembered_of_an_owner_that_is_gone() -> None:
    writer = writer_on(Server(), [])
    await writer.write(KEY, plan(1))
    assert not writer.is_caught_up(KEY)
    writer.forget(KEY)
    assert writer.is_caught_up(KEY)


@pytest.mark.parametrize("race", [Conflict("changed"), NotFound("gone")])
async def test_races_are_not_told_as_failures(race: ApiError) -> None:
    server = Server()
    server.failures = {0: race}
    with pytest.raises(type(race)):
        await writer_on(server, []).write(KEY, plan(update=1))


async def test_a_slice_that_is_gone_needs_no_deletion() -> None:
    server = Server()
    server.failures = {0: NotFound("gone")}
    await writer_on(server, []).write(KEY, plan(delete=2))
    assert server.done == ["delete"] * 2


async def test_in_a_namespace_that_goes_away_nothing_is_wrong() -> None:
    server = Server()
    ending = Forbidden("no", causes=(Cause("NamespaceTerminating", "ns is being terminated"),))
    server.failures = {0: ending}
    await writer_on(server, []).write(KEY, plan(create=1, update=1))
    assert server.done == ["create"]


async def test_a_change_of_somebody_else_during_a_write_is_mended_after_it() -> None:
    server, mended = Server(), list[NamespacedName]()
    server.gate = asyncio.Event()
    writer = writer_on(server, mended)
    writing = asyncio.create_task(writer.write(KEY, plan(create=1)))
    await asyncio.sleep(0)
    writer.seen(Change(None, obj("create-0", "9")), lambda _found: KEY)
    writer.seen(Change(None, obj("theirs", "8")), lambda _found: KEY)
    assert mended == []
    server.gate.set()
    await writing
    assert mended == [KEY]


async def test_a_cancelled_write_leaves_no_coroutine_behind() -> None:
    server = Server()
    server.gate = asyncio.Event()
    writing = asyncio.create_task(writer_on(server, []).write(KEY, plan(create=30)))
    while len(server.done) < 8:
        await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert len(server.done) == 8
