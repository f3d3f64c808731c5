"""The informer against a scripted server: every way a watch can end, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import SERVICES
from nodeport.api.status import ApiError, BadRequest, Expired, Invalid, ServiceUnavailable, Timeout
from nodeport.client.informer import Change, Informer
from nodeport.client.rest import RestClient, TransportError, WatchEvent


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


def svc(name: str, version: int, uid: str = "") -> JsonObject:
    return {
        "metadata": {"namespace": "ns", "name": name, "uid": uid or name, "resourceVersion": str(version)},
        "spec": {},
    }


def event(kind: str, obj: JsonObject) -> WatchEvent:
    return WatchEvent(kind, obj)


def bookmark(version: int, *, end: bool = False) -> WatchEvent:
    notes = {"annotations": {"k8s.io/initial-events-end": "true"}} if end else {}
    return WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(version), **notes}})


CUT = TransportError("cut")
END = "the server ends the stream"
HANG = "nothing more comes"

Step = list[WatchEvent] | Exception | str
NO_WATCH_LIST = Invalid(
    "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
)


class ScriptedServer:
    """Each watch plays the next script; lists answer the next page; both are noted."""

    def __init__(self, watches: list[list[Step]], lists: list[Any] | None = None) -> None:
        self.watches = watches
        self.lists = lists or []
        self.asked: list[str] = []

    async def watch_batches(
        self,
        _resource: object,
        _namespace: str = "",
        *,
        resource_version: str,
        send_initial_events: bool,
        **_: Any,
    ) -> AsyncGenerator[list[WatchEvent], None]:
        self.asked.append("stream" if send_initial_events else f"watch {resource_version}")
        for step in self.watches.pop(0) if self.watches else [HANG]:
            if isinstance(step, Exception):
                raise step
            if step == END:
                return
            if step == HANG:
                await asyncio.Event().wait()
            yield cast("list[WatchEvent]", step)

    async def list(self, *_: object, limit: int = 0, **__: object) -> JsonObject:
        self.asked.append("check" if limit == 1 else "list")
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast("JsonObject", answer)

    async def list_all(self, *_: object, **__: object) -> JsonObject:
        return await self.list()


def page(version: int, *items: JsonObject) -> JsonObject:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


class Followed:
    def __init__(self, server: ScriptedServer) -> None:
        self.informer = Informer(cast("RestClient", server), SERVICES, clock=QuickClock())
        self.server = server
        self.told: list[str] = []
        self.informer.subscribe(lambda change: self.told.append(in_words(change)))

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(500):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError(f"told {self.told}, asked {self.server.asked}")

    def names(self) -> list[str]:
        return sorted(obj["metadata"]["name"] for obj in self.informer.list())


def in_words(change: Change) -> str:
    def version(obj: JsonObject | None) -> str:
        return obj["metadata"]["resourceVersion"] if obj else "-"

    return f"{change.object['metadata']['name']} {version(change.old)}>{version(change.new)}"


@asynccontextmanager
async def following(
    watches: list[list[Step]], lists: list[Any] | None = None
) -> AsyncGenerator[Followed, None]:
    followed = Followed(ScriptedServer(watches, lists))
    task = asyncio.create_task(followed.informer.run())
    try:
        yield followed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


INITIAL: list[Step] = [[event("ADDED", svc("a", 1)), event("ADDED", svc("b", 2))], [bookmark(5, end=True)]]


async def test_the_initial_stream_is_told_when_it_is_complete() -> None:
    async with following([[INITIAL[0], HANG]]) as f:
        await f.until(lambda: f.server.asked == ["stream"])
        assert not f.informer.synced
        assert f.told == []
    async with following([[*INITIAL, [event("MODIFIED", svc("a", 6))], HANG]]) as f:
        await f.informer.wait_until_synced()
        await f.until(lambda: len(f.told) == 3)
        assert f.told == ["a ->1", "b ->2", "a 1>6"]
        assert f.informer.resource_version == "6"


@pytest.mark.parametrize("end", [END, CUT, ServiceUnavailable("busy")])
async def test_an_ended_watch_is_resumed_from_the_last_version(end: Any) -> None:
    lists = [page(6)]
    async with following(
        [[*INITIAL, [bookmark(6)], end], [[event("DELETED", svc("a", 7))], HANG]], lists
    ) as f:
        await f.until(lambda: f.names() == ["b"])
        assert f.told == ["a ->1", "b ->2", "a 1>-"]
        assert f.server.asked[-1] == "watch 6"
        assert f.server.asked.count("stream") == 1


@pytest.mark.parametrize(
    "error", [Expired("too old resource version"), Timeout("Too large resource version"), ApiError("what")]
)
async def test_a_forgotten_version_means_a_new_list_told_as_differences(error: Exception) -> None:
    again: list[Step] = [
        [event("ADDED", svc("b", 9)), event("ADDED", svc("c", 8))],
        [bookmark(9, end=True)],
        HANG,
    ]
    async with following([[*INITIAL, error], again]) as f:
        await f.until(lambda: len(f.told) == 5)
        assert f.told[2:] == ["a 1>-", "b 2>9", "c ->8"]


async def test_a_server_without_watch_list_is_listed_and_watched() -> None:
    watches: list[list[Step]] = [[NO_WATCH_LIST], [[event("ADDED", svc("c", 9))], HANG]]
    async with following(watches, [page(7, svc("a", 1))]) as f:
        await f.until(lambda: f.names() == ["a", "c"])
        assert f.server.asked == ["stream", "list", "watch 7"]


UNKNOWN_FIELD = BadRequest('"spec.clusterIP" is not a known field selector: only "metadata.name"')


class Selecting(ScriptedServer):
    """Notes by which fields it was asked to select."""

    async def list_all(self, *_: object, field_selector: str, **__: object) -> JsonObject:
        self.asked.append(field_selector)
        return await self.list()


@pytest.mark.parametrize("spares_work", [True, False])
async def test_a_field_that_a_server_does_not_know_is_given_up_where_it_only_spares_work(
    *, spares_work: bool
) -> None:
    server = Selecting([[NO_WATCH_LIST]], [UNKNOWN_FIELD, page(7, svc("a", 1)), page(8)])
    informer = Informer(
        cast("RestClient", server),
        SERVICES,
        clock=QuickClock(),
        field_selector="a!=b",
        spares_work=spares_work,
    )
    task = asyncio.create_task(informer.run())
    try:
        await informer.wait_until_synced()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [one for one in server.asked if one in ("", "a!=b")] == (
        ["a!=b", ""] if spares_work else ["a!=b"] * 2
    )


async def test_an_expired_continue_token_is_answered_with_one_whole_list() -> None:
    async with following([[NO_WATCH_LIST], [HANG]], [Expired("token"), page(7, svc("a", 1))]) as f:
        await f.informer.wait_until_synced()
        assert f.server.asked[:3] == ["stream", "list", "list"]


async def test_a_server_that_ignores_the_request_for_initial_events_is_listed() -> None:
    watches: list[list[Step]] = [[[event("ADDED", svc("a", 1))], [bookmark(4)], HANG], [HANG]]
    async with following(watches, [page(7, svc("a", 1))]) as f:
        await f.informer.wait_until_synced()
        assert f.server.asked[:2] == ["stream", "list"]


async def test_an_event_of_a_kind_that_nobody_knows_means_a_new_list() -> None:
    odd: list[Step] = [[WatchEvent("BOGUS", {})], HANG]
    async with following([odd, [*INITIAL, HANG]]) as f:
        await f.informer.wait_until_synced()
        assert f.server.asked == ["stream", "stream"]


async def test_a_server_that_restarted_with_older_state_is_listed_again() -> None:
    again: list[Step] = [[event("ADDED", svc("b", 2))], [bookmark(3, end=True)], HANG]
    async with following([[*INITIAL, CUT], again], [page(3)]) as f:
        await f.until(lambda: f.names() == ["b"])
        assert f.server.asked == ["stream", "check", "stream"]
        assert f.informer.resource_version == "3"


async def test_news_from_before_our_version_mean_a_new_list() -> None:
    again: list[Step] = [[event("ADDED", svc("z", 3))], [bookmark(3, end=True)], HANG]
    async with following([[*INITIAL, [event("ADDED", svc("new", 2))], HANG], again]) as f:
        await f.until(lambda: f.names() == ["z"])
        assert f.told[-3:] == ["a 1>-", "b 2>-", "z ->3"]


async def test_a_server_that_contradicts_itself_every_time_is_listed_ever_more_rarely() -> None:
    stubborn: list[Step] = [*INITIAL, Expired("again")]
    async with following([list(stubborn) for _ in range(12)]) as f:
        await f.until(lambda: f.server.asked.count("stream") == 12)
        assert cast("QuickClock", f.informer._clock).time > 30


async def test_repeated_events_are_told_once() -> None:
    twice = [event("MODIFIED", svc("a", 6)), event("MODIFIED", svc("a", 6)), event("MODIFIED", svc("a", 1))]
    async with following([[*INITIAL, twice, [event("ADDED", svc("c", 8))], HANG]]) as f:
        await f.until(lambda: "c" in f.names())
        assert f.told == ["a ->1", "b ->2", "a 1>6", "c ->8"]


async def test_a_recreated_object_is_told_as_deleted_and_created() -> None:
    async with following([[*INITIAL, [event("MODIFIED", svc("a", 9, uid="other"))], HANG]]) as f:
        await f.until(lambda: len(f.told) == 4)
        assert f.told[2:] == ["a 1>-", "a ->9"]


async def test_an_unreachable_server_is_tried_until_it_answers() -> None:
    async with following([[CUT], [CUT], [ServiceUnavailable("starting")], [*INITIAL, HANG]]) as f:
        await f.informer.wait_until_synced()
        assert f.server.asked == ["stream"] * 4


async def test_a_late_subscriber_gets_what_there_is_and_then_every_change() -> None:
    async with following([[*INITIAL, HANG]]) as f:
        await f.informer.wait_until_synced()
        late: list[str] = []
        f.informer.subscribe(lambda change: late.append(in_words(change)))
        assert late == ["a ->1", "b ->2"]


async def test_a_handler_that_subscribes_is_never_interrupted_by_the_new_one() -> None:
    calls: list[str] = []
    informer = Informer(cast("RestClient", ScriptedServer([[*INITIAL, HANG]])), SERVICES, clock=QuickClock())

    def second(change: Change) -> None:
        calls.append(f"second {in_words(change)}")

    def first(change: Change) -> None:
        calls.append("first begins")
        if len(calls) == 1:
            informer.subscribe(second)
        calls.append("first ends")

    informer.subscribe(first)
    task = asyncio.create_task(informer.run())
    await informer.wait_until_synced()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert calls == [
        "first begins", "first ends", "second a ->1", "first begins", "first ends", "second b ->2",
    ]  # fmt: skip


async def test_a_failing_handler_does_not_keep_the_news_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    informer = Informer(cast("RestClient", ScriptedServer([[*INITIAL, HANG]])), SERVICES, clock=QuickClock())
    told: list[str] = []

    def broken(_: Change) -> None:
        raise RuntimeError("a bug")

    informer.subscribe(broken)
    informer.subscribe(lambda change: told.append(in_words(change)))
    task = asyncio.create_task(informer.run())
    await informer.wait_until_synced()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == ["a ->1", "b ->2"]
    assert "ns/a" in caplog.text


async def test_a_cancelled_informer_resumes_where_it_was() -> None:
    server = ScriptedServer([[*INITIAL, HANG], [[event("ADDED", svc("c", 8))], HANG]])
    informer = Informer(cast("RestClient", server), SERVICES, clock=QuickClock())
    run: Callable[[], Awaitable[None]] = informer.run
    first = asyncio.ensure_future(run())
    await informer.wait_until_synced()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.ensure_future(run())
    while informer.get(NamespacedName("ns", "c")) is None:
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert server.asked == ["stream", "watch 5"]
