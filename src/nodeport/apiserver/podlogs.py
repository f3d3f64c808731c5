"""pods/{name}/log: fetched from the pod's node, as Kubernetes fetches it from the kubelet."""

from __future__ import annotations

import ssl
from urllib.parse import quote

import aiohttp
from aiohttp import web

from nodeport.api.meta import JsonObject
from nodeport.api.resources import NODES
from nodeport.api.status import BadRequest, InternalError, NotFound, ServiceUnavailable
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.requests import Address
from nodeport.apiserver.routes import Target

CONNECT_SECONDS = 5.0
CHUNK_BYTES = 32 * 1024


class PodLogs:
    """``tls`` None: no client certificate for nodes, so there are no logs."""

    def __init__(self, registry: Registry, tls: ssl.SSLContext | None) -> None:
        self._registry = registry
        self._tls = tls

    async def serve(self, request: web.BaseRequest, target: Target, address: Address) -> web.StreamResponse:
        kv = await self._registry.find(target.resource, target.namespace, target.name)
        pod = self._registry.entry(target.resource).splicer.read(kv)
        container = choose_container(pod, address.query.get("container", ""))
        check_started(pod, container)
        base = await self._node_url(pod)
        path = "/".join(quote(part, safe="") for part in (target.namespace, target.name, container))
        url = f"{base}/containerLogs/{path}"
        if address.query_text:
            url = f"{url}?{address.query_text}"
        return await self._relay(request, url)

    async def _node_url(self, pod: JsonObject) -> str:
        name = pod["spec"].get("nodeName") or ""
        kv = await self._registry.find(NODES, "", name)
        status = self._registry.entry(NODES).splicer.read(kv).get("status") or {}
        endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
        addresses = {each["type"]: each["address"] for each in status.get("addresses") or []}
        port, host = endpoint.get("Port"), addresses.get("InternalIP")
        if not port or not host or self._tls is None:
            raise ServiceUnavailable(f"node {name} offers no logs")
        return f"https://{host}:{port}"

    async def _relay(self, request: web.BaseRequest, url: str) -> web.StreamResponse:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        assert self._tls is not None
        connector = aiohttp.TCPConnector(ssl=self._tls)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as session:
            try:
                upstream = await session.get(url)
            except aiohttp.ClientError as error:
                raise InternalError(f"Get {url!r}: {error}") from error
            async with upstream:
                if upstream.status != 200:
                    text = (await upstream.text()).strip()
                    raise (NotFound if upstream.status == 404 else BadRequest)(text or upstream.reason or "")
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                response.enable_chunked_encoding()
                await response.prepare(request)
                async for chunk in upstream.content.iter_chunked(CHUNK_BYTES):
                    await response.write(chunk)
                await response.write_eof()
                return response


def choose_container(pod: JsonObject, asked: str) -> str:
    """The container whose log is meant; 400 when that is not clear."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    containers = [each["name"] for each in spec.get("containers") or []]
    initial = [each["name"] for each in spec.get("initContainers") or []]
    if asked:
        if asked not in (*containers, *initial):
            raise BadRequest(f"container {asked} is not valid for pod {name}")
        return asked
    if len(containers) == 1:
        return str(containers[0])
    text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(containers)}]"
    if initial:
        text += f" or one of the init containers: [{' '.join(initial)}]"
    raise BadRequest(text)


def check_started(pod: JsonObject, container: str) -> None:
    """400 for a container that has never run."""
    name = pod["metadata"]["name"]
    if not pod["spec"].get("nodeName"):
        raise BadRequest(f"pod {name} does not have a host assigned")
    status = pod.get("status") or {}
    for each in (*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])):
        waiting = (each.get("state") or {}).get("waiting")
        if each.get("name") == container and waiting and not each.get("lastState"):
            reason = waiting.get("reason") or "ContainerCreating"
            raise BadRequest(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
