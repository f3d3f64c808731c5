"""The conformance rows of the proxy subresources, each named after its upstream test.

The pod is a set of servers like agnhost's ``porter``, on loopback; the node's server and the API server are the real ones.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from contract.streamed_pods import LOOPBACK, World, world
from freeports import free_port
from nodeport.api.meta import JsonObject

BASE = "/api/v1/namespaces/default"
PAGE = '<a href="/rewriteme">test</a>'
PORTS = {"80": "not serving", "1080": PAGE, "160": "foo", "162": "bar"}
TLS_PORTS = {"443": "tls baz", "460": "tls qux", "462": "tls quux"}
ATTEMPTS = 20
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


async def serve(stack: AsyncExitStack, handler: object, tls: ssl.SSLContext | None = None) -> int:
    """A server of the pod's; its port."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)  # type: ignore[arg-type]
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    port = free_port()
    await web.TCPSite(runner, LOOPBACK, port, ssl_context=tls).start()
    return port


def saying(body: str) -> object:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        kind = "text/html" if body.startswith("<") else "text/plain"
        return web.Response(text=body, content_type=kind)

    return handler


async def porter(stack: AsyncExitStack, there: World) -> dict[str, int]:
    """Upstream's port numbers to those that are really listened on."""
    pair = there.api.pki.node("porter", [])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.cert, pair.key)
    plain = {number: await serve(stack, saying(body)) for number, body in PORTS.items()}
    return plain | {number: await serve(stack, saying(body), tls) for number, body in TLS_PORTS.items()}


async def expose(there: World, pod: JsonObject, ports: dict[str, tuple[int, int]]) -> None:
    """The Service ``web`` in front of the pod; ``ports``: name to (service's, pod's)."""
    spec = {"ports": [{"name": name, "port": port, "targetPort": to} for name, (port, to) in ports.items()]}
    await there.create(f"{BASE}/services", {"metadata": {"name": "web"}, "spec": spec})
    reference = {"kind": "Pod", "namespace": "default", "name": "web", "uid": pod["metadata"]["uid"]}
    subset = {
        "addresses": [{"ip": "10.1.2.3", "targetRef": reference}],
        "ports": [{"name": name, "port": to} for name, (_, to) in ports.items()],
    }
    await there.create(f"{BASE}/endpoints", {"metadata": {"name": "web"}, "subsets": [subset]})
    await there.patch_status(f"{BASE}/pods/web", {"podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}]})


async def test_proxy_version_v1_should_proxy_through_a_service_and_a_pod(there: World) -> None:
    async with AsyncExitStack() as stack:
        port = await porter(stack, there)
        pod = await there.pod("web", port["80"])
        await expose(there, pod, {
            "portname1": (80, port["160"]), "portname2": (81, port["162"]),
            "tlsportname1": (443, port["443"]), "tlsportname2": (444, port["460"]),
        })  # fmt: skip
        services, pods = f"{BASE}/services", f"{BASE}/pods"
        expected = {
            f"{services}/{name}/proxy/": body
            for names, body in (
                (("web:portname1", "http:web:portname1", "web:80", "http:web:80"), "foo"),
                (("web:portname2", "http:web:portname2", "web:81"), "bar"),
                (("https:web:tlsportname1", "https:web:443"), "tls baz"),
                (("https:web:tlsportname2", "https:web:444"), "tls qux"),
            )
            for name in names
        }
        for name in (f"web:{port['1080']}", f"http:web:{port['1080']}"):
            expected[f"{pods}/{name}/proxy/"] = f'<a href="{pods}/{name}/proxy/rewriteme">test</a>'
        for number in ("160", "162"):
            expected[f"{pods}/web:{port[number]}/proxy/"] = PORTS[number]
        for number in TLS_PORTS:
            expected[f"{pods}/https:web:{port[number]}/proxy/"] = TLS_PORTS[number]

        async def attempt(path: str, body: str) -> None:
            began = time.monotonic()
            async with await there.request("GET", path) as answer:
                assert (answer.status, await answer.text()) == (200, body), path
            assert time.monotonic() - began < 30

        assert len(expected) >= 16
        await asyncio.gather(*(attempt(*one) for one in expected.items() for _ in range(ATTEMPTS)))


async def tell(request: web.BaseRequest) -> web.StreamResponse:
    """``porter --json-response``."""
    return web.json_response({"Method": request.method, "Body": "foo"})


async def both(stack: AsyncExitStack, there: World) -> list[str]:
    """The paths of a pod and of a service in front of it."""
    port = await serve(stack, tell)
    pod = await there.pod("web", port)
    await expose(there, pod, {"web": (80, port)})
    return [f"{BASE}/pods/web:{port}", f"{BASE}/services/web:80"]


async def test_proxy_version_v1_a_set_of_valid_responses_are_returned_for_both_pod_and_service_proxywithpath(
    there: World,
) -> None:
    async with AsyncExitStack() as stack:
        for path in await both(stack, there):
            for method in METHODS:
                async with await there.request(method, f"{path}/proxy/some/path/with/{method}") as answer:
                    assert answer.status == 200
                    if method != "HEAD":
                        assert (await answer.json())["Method"] == method


async def test_proxy_version_v1_a_set_of_valid_responses_are_returned_for_both_pod_and_service_proxy(
    there: World,
) -> None:
    async with AsyncExitStack() as stack:
        for path in await both(stack, there):
            for method in METHODS:
                url = f"{path}/proxy?method={method}"
                async with await there.request(method, url, allow_redirects=False) as answer:
                    if method in ("GET", "HEAD"):
                        assert answer.status == 301
                        continue
                    assert (answer.status, (await answer.json())["Method"]) == (200, method)
