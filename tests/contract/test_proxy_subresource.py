"""pods, services and nodes /proxy over real sockets: what is sent on, what comes back, and what is refused."""

from __future__ import annotations

import gzip
import io
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from contract.streamed_pods import LOOPBACK, NODE, World, world
from freeports import free_port

POD = "/api/v1/namespaces/default/pods/web"
SERVICE = "/api/v1/namespaces/default/services/web"


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    """What a pod of the test says: it tells what it was asked, or plays what the path names."""
    match request.path:
        case "/page":
            return web.Response(text='<a href="/rewriteme">test</a>', content_type="text/html")
        case "/packed":
            packed = gzip.compress(b'<a href="/rewriteme">test</a>')
            return web.Response(
                body=packed, headers={"Content-Type": "text/html", "Content-Encoding": "gzip"}
            )
        case "/moved":
            return web.Response(status=302, headers={"Location": "/elsewhere?x=1"})
        case "/large":
            return web.Response(body=io.BytesIO(bytes(3_000_000)))
        case "/status":
            return web.Response(status=418, text="short and stout", headers={"X-Own": "1"})
        case "/socket":
            socket = web.WebSocketResponse(protocols=("chat",))
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(f"heard {message.data}")
            return socket
    told = {
        "method": request.method, "path": request.raw_path, "headers": dict(request.headers),
        "body": sum([len(chunk) async for chunk in request.content.iter_any()]),
    }  # fmt: skip
    return web.json_response(told)


@asynccontextmanager
async def pod_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, LOOPBACK, port, ssl_context=tls).start()
    try:
        yield port
    finally:
        await runner.cleanup()


async def told(answered: aiohttp.ClientResponse) -> dict[str, Any]:
    async with answered:
        assert answered.status == 200, await answered.text()
        found: dict[str, Any] = await answered.json()
        return found


async def message(answered: aiohttp.ClientResponse) -> tuple[int, str]:
    async with answered:
        return answered.status, (await answered.json())["message"]


@pytest.mark.parametrize("method", ["DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"])
async def test_any_method_path_and_query_is_sent_on(there: World, method: str) -> None:
    async with pod_server() as port:
        await there.pod("web", port)
        found = await told(await there.request(method, f"{POD}/proxy/some/path/with/{method}?a=1&b=%20x"))
        assert (found["method"], found["path"]) == (method, f"/some/path/with/{method}?a=1&b=%20x")


@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "PATCH", "POST", "PUT"])
async def test_a_bare_proxy_path_means_the_root(there: World, method: str) -> None:
    async with pod_server() as port:
        await there.pod("web", port)
        found = await told(await there.request(method, f"{POD}/proxy?method={method}"))
        assert (found["method"], found["path"]) == (method, f"/?method={method}")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_bare_proxy_path_moves_readers_below_a_slash(there: World, method: str) -> None:
    await there.pod("web", 80)
    async with await there.request(method, f"{POD}/proxy?a=1", allow_redirects=False) as found:
        assert (found.status, found.headers["Location"]) == (301, f"{POD}/proxy/?a=1")


async def test_a_body_goes_in_and_a_large_one_comes_out(there: World) -> None:
    async with pod_server() as port:
        await there.pod("web", port)
        url = f"{there.api.url}{POD}/proxy/upload"
        async with there.session.post(url, data=io.BytesIO(bytes(2_000_000))) as found:
            assert (await found.json())["body"] == 2_000_000
        async with await there.request("GET", f"{POD}/proxy/large") as found:
            assert len(await found.read()) == 3_000_000


async def test_headers_of_the_connection_and_credentials_are_not_sent_on(there: World) -> None:
    async with pod_server() as port:
        await there.pod("web", port)
        await there.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
            "metadata": {"name": "ann"}, "subjects": [{"kind": "User", "name": "ann"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        })  # fmt: skip
        sent = {
            "Connection": "keep-alive, X-Mine",
            "X-Mine": "1",
            "X-Kept": "2",
            "TE": "trailers",
            "Impersonate-User": "ann",
        }
        found = (await told(await there.request("GET", f"{POD}/proxy/x/", headers=sent)))["headers"]
        assert found["X-Kept"] == "2"
        assert not {"X-Mine", "TE", "Authorization", "Impersonate-User"} & set(found)
        assert found["X-Forwarded-Uri"] == f"{POD}/proxy/x/"
        assert found["X-Forwarded-Proto"] == "https"
        assert found["X-Forwarded-For"] == LOOPBACK
        assert found["Host"] == found["X-Forwarded-Host"] == there.api.url.removeprefix("https://")


async def test_an_answer_comes_back_as_it_was(there: World) -> None:
    async with pod_server() as port:
        await there.pod("web", port)
        async with await there.request("GET", f"{POD}/proxy/status") as found:
            assert (found.status, await found.text(), found.headers["X-Own"]) == (418, "short and stout", "1")
        async with await there.request("HEAD", f"{POD}/proxy/large") as found:
            assert (found.status, found.headers["Content-Length"], await found.read()) == (
                200,
                "3000000",
                b"",
            )


@pytest.mark.parametrize("path", ["/page", "/packed"])
async def test_links_of_pages_lead_through_the_proxy(there: World, path: str) -> None:
    async with pod_server() as port:
        await there.pod("web", port)
        async with await there.request("GET", f"{POD}/proxy{path}") as found:
            assert await found.text() == f'<a href="{POD}/proxy/rewriteme">test</a>'
        async with await there.request("GET", f"{POD}/proxy/moved", allow_redirects=False) as found:
            assert (found.status, found.headers["Location"]) == (302, f"{POD}/proxy/elsewhere?x=1")


async def test_websockets_pass_through(there: World) -> None:
    async with pod_server() as port:
        await there.pod("web", port)
        url = f"{there.api.url}{POD}/proxy/socket"
        async with there.session.ws_connect(url, protocols=("chat",)) as socket:
            assert socket.protocol == "chat"
            for word in ("one", "two"):
                await socket.send_str(word)
                assert await socket.receive_str() == f"heard {word}"


async def test_the_scheme_and_port_of_a_pods_name_are_obeyed(there: World) -> None:
    pair = there.api.pki.node("pod", [])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.cert, pair.key)
    async with pod_server() as port, pod_server(tls) as secure:
        await there.pod("web", port)
        base = "/api/v1/namespaces/default/pods"
        for name in (f"web:{port}", f"http:web:{port}", f":web:{port}", f"https:web:{secure}"):
            found = await told(await there.request("GET", f"{base}/{name}/proxy/x"))
            assert found["path"] == "/x"
        assert await message(await there.request("GET", f"{base}/ftp:web:1/proxy/")) == (
            400,
            'invalid pod request "ftp:web:1"',
        )
        endless = await there.request("GET", f"{base}/web:{5000 * '9'}/proxy/")
        assert endless.status == 400
        assert await message(await there.request("GET", f"{base}/https:web:{port}/proxy/")) == (
            503,
            "error trying to reach service: http: server gave HTTP response to HTTPS client",
        )


async def test_a_pod_that_does_not_listen_is_unavailable(there: World) -> None:
    port = free_port()
    await there.pod("web", port)
    assert await message(await there.request("GET", f"{POD}/proxy/")) == (
        503,
        f"error trying to reach service: dial tcp4 {LOOPBACK}:{port}: connect: connection refused",
    )
    found = await there.request("GET", "/api/v1/namespaces/default/pods/none/proxy/")
    assert await message(found) == (404, 'pods "none" not found')


async def service(there: World, port: int, *, ready: bool = True) -> None:
    pod = await there.pod("one", port)
    base = "/api/v1/namespaces/default"
    ports = [{"name": "web", "port": 80, "targetPort": port}, {"name": "other", "port": 81, "targetPort": 1}]
    await there.create(f"{base}/services", {"metadata": {"name": "web"}, "spec": {"ports": ports}})
    reference = {"kind": "Pod", "namespace": "default", "name": "one", "uid": pod["metadata"]["uid"]}
    address = {"ip": "10.1.2.3", "targetRef": reference}
    subset = {
        "addresses" if ready else "notReadyAddresses": [address],
        "ports": [{"name": "web", "port": port}],
    }
    await there.create(f"{base}/endpoints", {"metadata": {"name": "web"}, "subsets": [subset]})
    if ready:
        await there.patch_status(f"{base}/pods/one", {"podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}]})


async def test_a_services_port_is_found_by_name_and_by_number(there: World) -> None:
    async with pod_server() as port:
        await service(there, port)
        for name in ("web:web", "http:web:web", "web:80", ":web:80"):
            path = f"/api/v1/namespaces/default/services/{name}/proxy/x?y=1"
            assert (await told(await there.request("GET", path)))["path"] == "/x?y=1"


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("web:82", 503, 'no service port 82 found for service "web"'),
        ("web:other", 503, 'no endpoints available for service "web:other"'),
        ("web", 503, 'no endpoints available for service "web"'),
        ("none:web", 404, 'endpoints "none" not found'),
        ("a:b:c:d", 400, 'invalid service request "a:b:c:d"'),
    ],
)
async def test_what_a_service_lacks_is_said(there: World, name: str, status: int, text: str) -> None:
    await service(there, free_port())
    found = await there.request("GET", f"/api/v1/namespaces/default/services/{name}/proxy/")
    assert await message(found) == (status, text)


async def test_endpoints_that_are_not_ready_or_not_the_pods_get_nothing(there: World) -> None:
    await service(there, free_port(), ready=False)
    found = await there.request("GET", f"{SERVICE}:web/proxy/")
    assert await message(found) == (503, 'no endpoints available for service "web:web"')


async def test_a_nodes_server_is_reached_through_its_name(there: World) -> None:
    await there.pod("web", 80)
    base = f"/api/v1/nodes/{NODE}/proxy"
    async with await there.request("GET", f"{base}/healthz") as found:
        assert (found.status, await found.text()) == (200, "ok")
    pods = await told(await there.request("GET", f"{base}/pods"))
    assert [pod["metadata"]["name"] for pod in pods["items"]] == ["web"]
    assert await message(await there.request("GET", "/api/v1/nodes/gone/proxy/pods")) == (
        404,
        'nodes "gone" not found',
    )
    assert (await message(await there.request("GET", f"/api/v1/nodes/{NODE}:1/proxy/pods")))[0] == 400


async def test_paths_beside_the_proxy_are_none(there: World) -> None:
    for path in (
        f"{POD}/status/more",
        "/api/v1/namespaces//pods",
        f"{POD}//proxy",
        "/api/v1/pods/web/proxy/x",
    ):
        async with await there.request("GET", path) as found:
            assert found.status == 404
