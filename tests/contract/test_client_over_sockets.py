"""The client against servers that misbehave, byte by byte, and against the real one coming and going."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import CONFIG_MAPS, EVENTS, SERVICES
from nodeport.api.status import Conflict, Expired, Forbidden, NotFound, TooManyRequests
from nodeport.apiserver.server import ApiServer, ApiServerConfig, TlsFiles
from nodeport.client.cache import Change
from nodeport.client.config import ClientConfig
from nodeport.client.events import EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient, TransportError
from nodeport.store.base import Store
from nodeport.store.memory import MemoryStore
from nodeport.testing.apiserver import RunningApiServer, running_apiserver
from nodeport.testing.controlplane import eventually

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def frame(kind: str, name: str, version: int) -> bytes:
    obj = {"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version)}}
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def refusal(code: int, body: bytes, *headers: str) -> bytes:
    head = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {code} No\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


@asynccontextmanager
async def answering(*pieces: bytes, hang: bool = False) -> AsyncIterator[RestClient]:
    """A server that reads one request, sends ``pieces`` one by one, and closes (or hangs)."""
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if hang:
            await release.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        patience = timedelta(seconds=0.5 if hang else 60)
        async with RestClient(ClientConfig(f"http://127.0.0.1:{port}"), timeout=patience) as client:
            yield client
    finally:
        release.set()
        server.close()
        await server.wait_closed()


async def watched(client: RestClient) -> list[str]:
    found = []
    async for event in client.watch(SERVICES, resource_version="1"):
        found.append(f"{event.type} {event.object['metadata']['name']}")
    return found


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
async def test_events_arrive_whole_however_the_network_cuts_them(size: int) -> None:
    stream = b"".join(frame("ADDED", name, n) for n, name in enumerate("abc", start=2))
    cut = [chunk(stream[at : at + size]) for at in range(0, len(stream), size)]
    async with answering(CHUNKED, *cut, b"0\r\n\r\n") as client:
        assert await watched(client) == ["ADDED a", "ADDED b", "ADDED c"]


@pytest.mark.parametrize(
    "tail",
    [b"", chunk(b'{"type":"ADD'), chunk(b'{"type":"ADD') + b"0\r\n\r\n", b"5\r\n{", chunk(b"nonsense\n")],
    ids=["cut-between", "cut-inside", "ended-inside", "cut-in-a-chunk", "no-json"],
)
async def test_a_stream_that_is_cut_is_a_transport_error(tail: bytes) -> None:
    async with answering(CHUNKED, chunk(frame("ADDED", "a", 2)), tail) as client:
        seen = []
        with pytest.raises(TransportError):  # noqa: PT012  # what came before the cut counts too
            async for event in client.watch(SERVICES, resource_version="1"):
                seen.append(event.type)
        assert seen == ["ADDED"]


async def test_an_error_event_is_raised_after_the_events_before_it() -> None:
    status = {
        "kind": "Status",
        "code": 410,
        "reason": "Expired",
        "message": "too old resource version: 1 (9)",
    }
    error = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
    async with answering(CHUNKED, chunk(frame("ADDED", "a", 2) + error)) as client:
        seen = []
        with pytest.raises(Expired, match="too old"):  # noqa: PT012
            async for event in client.watch(SERVICES, resource_version="1"):
                seen.append(event.type)
        assert seen == ["ADDED"]


async def test_a_refusal_that_is_no_status_keeps_its_code_and_text() -> None:
    async with answering(refusal(403, b"go away")) as client:
        with pytest.raises(Forbidden, match="go away"):
            await client.get(SERVICES, "a", "ns")


async def test_retry_after_reaches_the_caller() -> None:
    async with answering(refusal(429, b"", "Retry-After: 7")) as client:
        with pytest.raises(TooManyRequests) as caught:
            await client.get(SERVICES, "a", "ns")
        assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", refusal(200, b"[]"), refusal(200, b"{"), b"junk\r\n\r\n"]
)  # fmt: skip
async def test_half_an_answer_is_a_transport_error(answer: bytes) -> None:
    async with answering(answer) as client:
        with pytest.raises(TransportError, match="/api/v1/namespaces/ns/services/a"):
            await client.get(SERVICES, "a", "ns")


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with answering(hang=True) as client:
        with pytest.raises(TransportError):
            await client.get(SERVICES, "a", "ns")


async def test_nobody_there_is_a_transport_error() -> None:
    async with RestClient(ClientConfig("http://127.0.0.1:9")) as client:
        with pytest.raises(TransportError):
            await client.get(SERVICES, "a", "ns")


# --- the real server


def config_map(name: str, **data: str) -> JsonObject:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


async def test_errors_of_the_real_server_come_back_as_what_they_are() -> None:
    async with running_apiserver() as api, RestClient(api.admin_config) as client:
        with pytest.raises(NotFound, match='configmaps "x" not found'):
            await client.get(CONFIG_MAPS, "x", "default")
        made = await client.create(CONFIG_MAPS, config_map("x"))
        await client.update(CONFIG_MAPS, {**made, "data": {"a": "1"}})
        with pytest.raises(Conflict, match="the object has been modified"):
            await client.update(CONFIG_MAPS, {**made, "data": {"a": "2"}})
        with pytest.raises(Conflict, match="the UID in the precondition"):
            await client.delete(CONFIG_MAPS, "x", "default", uid="another")


async def test_pages_are_joined() -> None:
    async with running_apiserver() as api, RestClient(api.admin_config) as client:
        for number in range(7):
            await client.create(CONFIG_MAPS, config_map(f"m{number}"))
        page = await client.list(CONFIG_MAPS, "default", limit=3)
        assert len(page["items"]) == 3
        assert page["metadata"]["continue"]
        assert len((await client.list_all(CONFIG_MAPS, "default"))["items"]) == 7


@asynccontextmanager
async def serving(api: RunningApiServer, store: Store, port: int) -> AsyncIterator[int]:
    """Another life of the server: same certificates, same port."""
    pki = api.pki
    config = replace(
        ApiServerConfig(
            store=store,
            listen=(("127.0.0.1", port),),
            tls=TlsFiles(pki.server.cert, pki.server.key, pki.ca.cert),
        )
    )
    server = ApiServer(config)
    task = asyncio.create_task(server.run())
    await server.wait_until_serving()
    try:
        yield server.addresses[0][1]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_informer_outlives_its_server_and_learns_what_it_missed() -> None:
    async with running_apiserver() as api:
        first_life, second_life = MemoryStore(), MemoryStore()
        async with serving(api, first_life, 0) as port:
            pass
        config = replace(api.admin_config, server=f"https://127.0.0.1:{port}")
        async with RestClient(config) as client:
            informer = Informer(client, CONFIG_MAPS, namespace="default")
            told: list[str] = []

            def note(change: Change) -> None:
                words = "gone" if change.new is None else "new" if change.old is None else "changed"
                told.append(f"{change.object['metadata']['name']} {words}")

            informer.subscribe(note)
            running = asyncio.create_task(informer.run())
            async with serving(api, first_life, port):
                await client.create(CONFIG_MAPS, config_map("a"))
                await client.create(CONFIG_MAPS, config_map("b"))
                await eventually(lambda: told == ["a new", "b new"])
            async with serving(api, first_life, port):
                await client.delete(CONFIG_MAPS, "a", "default")
                await client.create(CONFIG_MAPS, config_map("c"))
                await eventually(lambda: told[2:] == ["a gone", "c new"])
            async with serving(api, second_life, port):
                await client.create(CONFIG_MAPS, config_map("z"))
                await eventually(lambda: sorted(told[4:]) == ["b gone", "c gone", "z new"])
                assert informer.get(NamespacedName("default", "z")) is not None
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_repeated_events_become_one_with_a_count() -> None:
    async with running_apiserver() as api, RestClient(api.admin_config) as client:
        recorder = EventRecorder(client, "tester", "host")
        task = asyncio.create_task(recorder.run())
        made = await client.create(CONFIG_MAPS, config_map("a"))
        for _ in range(3):
            recorder.event(object_reference(CONFIG_MAPS, made), "Normal", "Looked", "at it")
        await recorder.wait_until_written()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        [event] = (await client.list(EVENTS, "default"))["items"]
        assert (event["count"], event["reason"], event["source"]) == (
            3,
            "Looked",
            {"component": "tester", "host": "host"},
        )
        assert event["involvedObject"]["uid"] == made["metadata"]["uid"]


async def test_a_chatty_object_is_cut_short() -> None:
    recorder = EventRecorder(RestClient(ClientConfig("http://127.0.0.1:9")), "tester")
    for number in range(40):
        recorder.event({"kind": "Pod", "name": "a", "namespace": "ns"}, "Normal", "Noise", str(number))
    assert recorder.dropped == 15
