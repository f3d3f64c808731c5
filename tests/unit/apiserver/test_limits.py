"""What one client may use up: places, streams, connections, time and bytes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from nodeport.api.status import TooManyRequests
from nodeport.apiserver import connections, listening, requests
from nodeport.apiserver.auth import MASTERS, User
from nodeport.apiserver.limits import FairGate, Limits, RequestLimits, UnreadBytes, is_stream
from nodeport.apiserver.server import ApiServer, ApiServerConfig
from nodeport.store.base import KeyValue, Revision
from nodeport.store.memory import MemoryStore
from nodeport.testing.controlplane import eventually
from unit.apiserver.security import RBAC, Client, asking, binding

MAPS = "/api/v1/namespaces/default/configmaps"


async def test_places_are_given_until_there_are_none() -> None:
    gate = FairGate(places=2, waiting=1, patience=60)
    await gate.enter("a")
    await gate.enter("b")
    waiting = asyncio.create_task(gate.enter("a"))
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests) as refused:
        await gate.enter("a")
    assert refused.value.retry_after_seconds == 1
    assert (gate.in_flight, gate.refused) == (2, 1)
    gate.leave("a")
    await waiting
    assert gate.in_flight == 2


async def test_one_client_has_at_most_half_of_the_places() -> None:
    gate = FairGate(places=4, waiting=1, patience=0.01)
    for _ in range(2):
        await gate.enter("greedy")
    with pytest.raises(TooManyRequests):
        await gate.enter("greedy")
    await gate.enter("modest")


async def test_a_free_place_goes_to_each_client_in_turn() -> None:
    gate = FairGate(places=2, waiting=100, patience=60)
    await gate.enter("greedy")
    await gate.enter("other")
    order: list[str] = []

    async def come(client: str) -> None:
        await gate.enter(client)
        order.append(client)
        gate.leave(client)

    tasks = [asyncio.create_task(come("greedy")) for _ in range(10)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(come("modest")))
    await asyncio.sleep(0)
    gate.leave("other")
    gate.leave("greedy")
    await asyncio.gather(*tasks)
    assert order.index("modest") <= 1
    assert gate.in_flight == 0


async def test_who_gives_up_takes_no_place_with_him() -> None:
    gate = FairGate(places=1, waiting=10, patience=60)
    await gate.enter("a")
    leaving, staying = (asyncio.create_task(gate.enter(client)) for client in ("b", "c"))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    gate.leave("a")
    await staying
    late = asyncio.create_task(gate.enter("d"))
    await asyncio.sleep(0)
    gate.leave("c")  # the place is d's now, who is cancelled before he learns of it
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    assert gate.in_flight == 0
    await gate.enter("e")


async def test_a_thousand_at_once_leave_no_place_taken() -> None:
    gate = FairGate(places=10, waiting=50, patience=60)
    outcomes: list[bool] = []

    async def come(client: str) -> None:
        try:
            await gate.enter(client)
        except TooManyRequests:
            outcomes.append(False)
            return
        assert gate.in_flight <= 10
        await asyncio.sleep(0)
        gate.leave(client)
        outcomes.append(True)

    await asyncio.gather(*(come(f"client-{number % 7}") for number in range(1000)))
    assert gate.in_flight == 0
    assert sum(outcomes) >= 7 * 50
    assert len(outcomes) == 1000


def test_streams_are_counted_for_each_client() -> None:
    limits = RequestLimits(Limits(streams=1))
    ann, bob = User("ann"), User("bob")
    limits.open_stream(ann)
    limits.open_stream(bob)
    with pytest.raises(TooManyRequests):
        limits.open_stream(ann)
    limits.close_stream(ann)
    limits.open_stream(ann)


@pytest.mark.parametrize(
    ("verb", "subresource", "stream"),
    [
        ("watch", "", True),
        ("get", "log", True),
        ("create", "exec", True),
        ("get", "", False),
        ("get", "status", False),
    ],
)
def test_streams_are_watches_and_what_talks_to_pods(verb: str, subresource: str, stream: bool) -> None:
    assert is_stream(verb, subresource) is stream


def test_administrators_always_get_in() -> None:
    limits = RequestLimits(Limits())
    assert limits.gate(User("root", (MASTERS,)), "create") is None
    assert limits.gate(User("a"), "create") is not limits.gate(User("a"), "get")


class SlowStore(MemoryStore):
    """Reads of objects called ``slow`` wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.reading = 0

    async def get(self, key: str, *, revision: Revision | None = None) -> KeyValue | None:
        if key.endswith("/slow"):
            self.reading += 1
            await self.go.wait()
        return await super().get(key, revision=revision)


@asynccontextmanager
async def viewers(store: MemoryStore, **limits: Any) -> AsyncIterator[Client]:
    async with asking(store, limits=Limits(**limits)) as ask:
        bound = binding("b", "ClusterRole", "view", "User:ann", "User:bob")
        await ask.must("admin", "POST", f"{RBAC}/clusterrolebindings", bound)
        yield ask


async def test_too_many_requests_are_told_to_come_later_and_others_get_in() -> None:
    store = SlowStore()
    async with viewers(store, reading=2, waiting=1, patience=60) as ask:
        held = asyncio.create_task(ask("ann", "GET", f"{MAPS}/slow"))
        await eventually(lambda: store.reading == 1)
        waiting = asyncio.create_task(ask("ann", "GET", f"{MAPS}/slow"))
        try:
            refusals = []
            while not refusals:  # until the second one stands in the queue
                late = asyncio.create_task(ask("ann", "GET", f"{MAPS}/slow"))
                await asyncio.wait({late, waiting}, timeout=0.05)
                if late.done():
                    refusals.append(late.result())
                else:
                    late.cancel()
            status, body = refusals[0]
            assert (status, body["reason"], body["details"]) == (
                429,
                "TooManyRequests",
                {"retryAfterSeconds": 1},
            )
            assert body["message"] == "Too many requests, please try again later."
            assert (await ask("bob", "GET", MAPS))[0] == 200
            assert (await ask("admin", "GET", MAPS))[0] == 200
        finally:
            store.go.set()
        assert [(await each)[0] for each in (held, waiting)] == [404, 404]
        assert (await ask("ann", "GET", MAPS))[0] == 200


async def test_streams_take_no_place_and_have_a_limit_of_their_own() -> None:
    async with viewers(MemoryStore(), reading=1, streams=2) as ask:
        session, url = ask._session, f"{ask.server.url}{MAPS}?watch=true"
        headers = {"Authorization": "Bearer ann"}
        streams = [await session.get(url, headers=headers) for _ in range(2)]
        assert (await ask("ann", "GET", MAPS))[0] == 200
        async with session.get(url, headers=headers) as refused:
            assert refused.status == 429
            assert refused.headers["Retry-After"] == "1"
        streams[0].close()

        async def again() -> bool:
            async with session.get(url, headers=headers) as answer:
                return answer.status == 200

        await eventually(again)
        streams[1].close()


async def speak(ask: Client, *parts: bytes, read: bool = True) -> bytes:
    """Bytes over TLS, as no polite client sends them; everything that comes back until the connection ends."""
    tls = ask.server.admin_config.ssl_context()
    host, port = ask.server.server.addresses[0]
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 60) if read else b""
    except ConnectionError:
        return b""
    finally:
        writer.close()


HEAD = b"GET /api HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("sent", "code", "text"),
    [
        (HEAD + b"X-Long: " + b"x" * 20_000 + b"\r\n\r\n", 431, b"the request's head is too large"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, b"the request's head is too large"),
        (HEAD + b"no colon here\r\n\r\n", 400, b"the request is no HTTP"),
        (b"\x00\x01\x02 nonsense\r\n\r\n", 400, b"the request is no HTTP"),
        (b"GET /api HTTP/9.9\r\nHost: x\r\n\r\n", 400, b"the request is no HTTP"),
        (HEAD + b"Content-Length: -5\r\n\r\n", 400, b"the request is no HTTP"),
        (HEAD + b"".join(b"X-%d: x\r\n" % number for number in range(200)) + b"\r\n", 400, b"the request is no HTTP"),
    ],
)  # fmt: skip
async def test_what_is_no_request_is_answered_with_a_status(sent: bytes, code: int, text: bytes) -> None:
    async with asking() as ask:
        answer = await speak(ask, sent)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split(b" ", 2)[1] == b"%d" % code, answer
        assert b"application/json" in head
        assert b"Audit-Id: " in head
        assert b'"kind":"Status"' in body
        assert text in body
        assert (await ask("admin", "GET", MAPS))[0] == 200


async def test_a_body_that_is_too_large_is_refused_before_it_is_read() -> None:
    async with asking() as ask:
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % MAPS.encode()
        announced = await speak(ask, head + b"Connection: close\r\nContent-Length: 4000000\r\n\r\n{")
        assert announced.startswith(b"HTTP/1.1 413 ")
        assert b'"reason":"RequestEntityTooLarge"' in announced
        status, body = await ask(
            "admin", "POST", MAPS, {"metadata": {"name": "x"}, "data": {"k": "x" * 3_200_000}}
        )
        assert (status, body["reason"]) == (413, "RequestEntityTooLarge")
        assert body["message"] == "Request entity too large: limit is 3145728"


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking() as ask:
        monkeypatch.setattr(requests, "BODY_SECONDS", 0.05)
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % MAPS.encode()
        answer = await speak(ask, head + b"Connection: close\r\nContent-Length: 100\r\n\r\n", b"{")
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert b'"reason":"Timeout"' in answer


async def test_a_body_is_sent_for_when_the_client_waits_for_leave() -> None:
    async with asking() as ask:
        body = b'{"metadata":{"name":"awaited"}}'
        head = (
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        ) % (MAPS.encode(), len(body))
        reader, writer = await asyncio.open_connection(
            *ask.server.server.addresses[0], ssl=ask.server.admin_config.ssl_context()
        )
        with contextlib.closing(writer):
            writer.write(head)
            leave = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            assert leave == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            answer = await asyncio.wait_for(reader.read(), 60)
        assert answer.startswith(b"HTTP/1.1 201 "), answer
        assert (await ask("admin", "GET", f"{MAPS}/awaited"))[0] == 200


async def test_a_head_that_comes_by_and_by_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)
    async with asking() as ask:
        assert await speak(ask, b"GET /api HT") == b""
        assert await speak(ask) == b""


async def test_connections_beyond_the_limit_are_closed_and_come_back_when_there_is_room() -> None:
    async with asking(limits=Limits(connections=3)) as ask:
        tls = ask.server.admin_config.ssl_context()
        host, port = ask.server.server.addresses[0]
        held = [await asyncio.open_connection(host, port, ssl=tls) for _ in range(3)]
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await ask("admin", "GET", MAPS)
        for _, writer in held:
            writer.close()

        async def gets_in() -> bool:
            try:
                return (await ask("admin", "GET", MAPS))[0] == 200
            except (aiohttp.ClientError, ConnectionError):
                return False

        await eventually(gets_in)


async def test_a_large_answer_that_nobody_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 0.2)
    async with asking() as ask:
        for number in range(30):
            await ask.must(
                "admin", "POST", MAPS, {"metadata": {"name": f"m{number}"}, "data": {"k": "x" * 900_000}}
            )
        tls = ask.server.admin_config.ssl_context()
        host, port = ask.server.server.addresses[0]
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=1024)
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % MAPS.encode())
        await writer.drain()

        async def forgotten() -> bool:
            async with ask._session.get(
                f"{ask.server.url}/metrics", headers={"Authorization": "Bearer admin"}
            ) as answer:
                return "nodeport_apiserver_connections 1\n" in await answer.text()

        await eventually(forgotten)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
            await reader.readexactly(27_000_000)
        writer.close()


async def metric(ask: Client, name: str) -> int:
    """Asked for through a connection of its own."""
    url = f"{ask.server.url}/metrics"
    async with ask._session.get(url, headers={"Authorization": "Bearer admin"}) as answer:
        line = next(line for line in (await answer.text()).splitlines() if line.startswith(f"{name} "))
        return int(line.split()[1])


async def test_small_answers_that_nobody_reads_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 0.2)
    async with asking() as ask:
        made = {"metadata": {"name": "m"}, "data": {"k": "x" * 200_000}}
        await ask.must("admin", "POST", MAPS, made)
        tls = ask.server.admin_config.ssl_context()
        host, port = ask.server.server.addresses[0]
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=1024)
        writer.write((b"GET %b/m HTTP/1.1\r\nHost: x\r\n\r\n" % MAPS.encode()) * 100)
        await writer.drain()

        async def forgotten() -> bool:
            return await metric(ask, "nodeport_apiserver_connections") == 1

        await eventually(forgotten)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
            await reader.readexactly(20_000_000)
        writer.close()


async def test_who_never_ends_his_handshake_is_counted_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HANDSHAKE_SECONDS", 0.3)
    async with asking(limits=Limits(handshakes=4)) as ask:
        assert (await ask("admin", "GET", MAPS))[0] == 200
        host, port = ask.server.server.addresses[0]
        silent = [await asyncio.open_connection(host, port) for _ in range(5)]

        async def refused() -> bool:
            return await metric(ask, "nodeport_apiserver_refused_handshakes_total") == 3

        await eventually(refused)  # the address has half of the four
        for reader, writer in silent:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        assert await metric(ask, "nodeport_apiserver_handshakes") == 0
        assert await metric(ask, "nodeport_apiserver_failed_handshakes_total") == 2
        tls = ask.server.admin_config.ssl_context()
        _, writer = await asyncio.open_connection(host, port, ssl=tls)
        writer.close()


def test_a_client_may_leave_so_much_unread_and_a_single_answer_of_any_size() -> None:
    unread = UnreadBytes(100)
    with unread.holding("ann", 1000):
        with pytest.raises(TooManyRequests), unread.holding("ann", 1):
            pass
        with unread.holding("bob", 60), unread.holding("bob", 40):
            assert unread.metrics()[-1].endswith(" 1100")
    assert unread.metrics()[-1].endswith(" 0")


async def test_bodies_are_as_large_as_the_server_says() -> None:
    async with asking(limits=Limits(body_bytes=1000, header_bytes=8192)) as ask:
        status, body = await ask(
            "admin", "POST", MAPS, {"metadata": {"name": "x"}, "data": {"k": "x" * 1000}}
        )
        assert (status, body["message"]) == (413, "Request entity too large: limit is 1000")
        answer = await speak(ask, HEAD + b"X-Long: " + b"x" * 9_000 + b"\r\n\r\n")
        assert b"a line may have 8192 bytes, a field 8192" in answer


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.0.2.1", False),
        ("::", False),
    ],
)
def test_nothing_but_loopback_is_served_in_the_clear(host: str, allowed: bool) -> None:
    config = ApiServerConfig(store=MemoryStore(), listen=((host, 0),))
    if allowed:
        ApiServer(config)
    else:
        with pytest.raises(ValueError, match="without tls; only loopback may be served in the clear"):
            ApiServer(config)
