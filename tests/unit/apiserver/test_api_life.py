"""Starting, stopping, slow readers, logs from nodes, old events."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from nodeport.apiserver import server as server_module
from nodeport.apiserver.eventexpiry import EventExpiry
from nodeport.apiserver.locks import KeyLocks
from nodeport.kit.clock import SystemClock
from nodeport.store.memory import MemoryStore
from nodeport.testing.apiserver import running_apiserver

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


async def test_stopping_does_not_wait_for_watchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SHUTDOWN_SECONDS", 600)
    async with running_apiserver() as api:
        connector = aiohttp.TCPConnector(ssl=api.admin_config.ssl_context())
        async with aiohttp.ClientSession(connector=connector) as session:
            response = await session.get(f"{api.url}{CONFIG_MAPS}?watch=1")
            api.task.cancel()
            async with asyncio.timeout(60):
                await asyncio.gather(api.task, return_exceptions=True)
            response.close()


async def test_a_restarted_server_serves_the_same_objects() -> None:
    store = MemoryStore()
    found = []
    for _ in range(2):
        async with running_apiserver(store) as api, session_of(api) as session:
            answer = await session.get(f"{api.url}/api/v1/services")
            found.append(await answer.json())
    first, second = found
    assert first["items"][0]["metadata"] == second["items"][0]["metadata"]
    await store.close()


@asynccontextmanager
async def session_of(api: Any) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=api.admin_config.ssl_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def test_the_endpoints_of_the_api_follow_its_address(tmp_path: Any) -> None:
    store = MemoryStore()
    for port in (6443, 6444):
        async with running_apiserver(store, advertise=("192.0.2.1", port)) as api, session_of(api) as session:
            path = f"{api.url}/api/v1/namespaces/default/endpoints/kubernetes"
            async with session.get(path) as response:
                subsets = (await response.json())["subsets"]
            assert subsets[0]["ports"][0]["port"] == port
            path = f"{api.url}/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
            async with session.get(path) as response:
                found = await response.json()
            assert found["metadata"]["labels"] == {"kubernetes.io/service-name": "kubernetes"}
            assert found["endpoints"][0]["addresses"] == ["192.0.2.1"]
    await store.close()


async def test_a_watcher_that_does_not_read_is_dropped_and_harms_nobody() -> None:
    store = MemoryStore(watch_buffer=50)
    async with running_apiserver(store) as api, session_of(api) as session:
        lazy = await session.get(f"{api.url}{CONFIG_MAPS}?watch=1")
        brisk = await session.get(f"{api.url}{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%3Dlast")
        body = {"metadata": {"name": "c"}, "data": {"a": "x" * 100_000}}
        await session.post(f"{api.url}{CONFIG_MAPS}", json=body)
        for index in range(300):
            body["data"]["b"] = str(index)  # type: ignore[index]
            async with session.put(f"{api.url}{CONFIG_MAPS}/c", json=body) as response:
                assert response.status == 200
        await session.post(f"{api.url}{CONFIG_MAPS}", json={"metadata": {"name": "last"}})
        async with asyncio.timeout(60):
            assert json.loads(await brisk.content.readline())["object"]["metadata"]["name"] == "last"
        received = 0
        async with asyncio.timeout(60):
            async for part in lazy.content.iter_any():
                received += len(part)
        assert received < 250 * 100_000
        brisk.close()
    await store.close()


@asynccontextmanager
async def kubelet(api: Any, seen: list[str]) -> AsyncIterator[int]:
    """A node's log endpoint: TLS with the node's certificate, for clients of the cluster's authority only."""
    from ipaddress import IPv4Address

    pair = api.pki.node("node-1", [IPv4Address("127.0.0.1")])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.cert, pair.key)
    tls.load_verify_locations(api.pki.ca.cert)
    tls.verify_mode = ssl.CERT_REQUIRED

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.raw_path)
        if "gone" in request.path:
            return web.Response(status=404, text="no such container")
        return web.Response(text="line 1\nline 2\n")

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_logs_come_from_the_pods_node(raw: Any, api: Any) -> None:
    seen: list[str] = []
    async with kubelet(api, seen) as port:
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        await raw.create("/api/v1/nodes", {"metadata": {"name": "node-1"}, "status": status})
        for name, node in (("p", "node-1"), ("gone", "node-1"), ("unbound", "")):
            spec = {"containers": [{"name": "c", "image": "i"}], **({"nodeName": node} if node else {})}
            await raw.create(PODS, {"metadata": {"name": name}, "spec": spec})
        answer = await raw("GET", f"{PODS}/p/log?tailLines=2")
        assert (answer.status, answer.body) == (200, b"line 1\nline 2\n")
        assert answer.headers["Content-Type"] == "text/plain"
        assert seen == ["/containerLogs/default/p/c?tailLines=2"]
        missing = await raw("GET", f"{PODS}/gone/log")
        assert (missing.status, missing.message) == (404, "no such container")
        wrong = await raw("GET", f"{PODS}/p/log?container=x")
        assert (wrong.status, wrong.message) == (400, "container x is not valid for pod p")
        unbound = await raw("GET", f"{PODS}/unbound/log")
        assert (unbound.status, unbound.body) == (204, b"")
        waiting = {
            "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}]
        }
        await raw(
            "PATCH", f"{PODS}/p/status", {"status": waiting}, Content_Type="application/merge-patch+json"
        )
        early = await raw("GET", f"{PODS}/p/log")
        assert early.message == 'container "c" in pod "p" is waiting to start: ContainerCreating'


async def test_a_node_without_a_log_endpoint_is_unavailable(raw: Any) -> None:
    await raw.create("/api/v1/nodes", {"metadata": {"name": "node-1"}})
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "node-1"}
    await raw.create(PODS, {"metadata": {"name": "p"}, "spec": spec})
    answer = await raw("GET", f"{PODS}/p/log")
    assert (answer.status, answer.reason) == (503, "ServiceUnavailable")


class LaterClock(SystemClock):
    def __init__(self, later: timedelta) -> None:
        self.later = later

    def now(self) -> datetime:
        return datetime.now(UTC) + self.later


async def test_events_are_kept_for_an_hour_after_they_were_last_seen(raw: Any, api: Any) -> None:
    events = "/api/v1/namespaces/default/events"
    old = (datetime.now(UTC) - timedelta(minutes=50)).strftime("%Y-%m-%dT%H:%M:%SZ")
    involved = {"kind": "Pod", "name": "p", "namespace": "default"}
    for name, more in (("old", {"lastTimestamp": old}), ("new", {})):
        await raw.create(events, {"metadata": {"name": name}, "involvedObject": involved, **more})
    assert await EventExpiry(api.store, LaterClock(timedelta(minutes=5))).sweep() == 0
    assert await EventExpiry(api.store, LaterClock(timedelta(minutes=11))).sweep() == 1
    assert [each["metadata"]["name"] for each in (await raw.get(events))["items"]] == ["new"]


async def test_writers_of_one_key_take_turns_and_leave_nothing_behind() -> None:
    locks, order = KeyLocks(), []

    async def write(name: str) -> None:
        async with locks.holding("k"):
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

    await asyncio.gather(*(write(name) for name in "abc"))
    assert "".join(order) == "aabbcc"
    assert len(locks) == 0
