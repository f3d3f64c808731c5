"""pods/{name}/log: fetched from the pod's node, as Kubernetes fetches it from the kubelet."""

from __future__ import annotations

import base64

import aiohttp
from aiohttp import web

from nodeport.api.channels import ChannelProtocol
from nodeport.api.meta import JsonObject
from nodeport.api.status import (
    BadRequest,
    Cause,
    FieldError,
    InternalError,
    Invalid,
    forbidden,
    invalid,
    not_supported,
)
from nodeport.api.timestamps import timestamp_error
from nodeport.apiserver.options import Query, flag, integer
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.requests import Address
from nodeport.apiserver.routes import Target
from nodeport.apiserver.streams.nodes import NodeConnections, path_of, refused
from nodeport.apiserver.streams.openstreams import OpenStreams
from nodeport.apiserver.streams.pods import choose_container, read_pod
from nodeport.apiserver.streams.websockets import accept, agreed_protocol, asks_for_websocket

CHUNK_BYTES = 32 * 1024
STREAMS = ("All", "Stderr", "Stdout")
_WAITING = {
    "ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image",
}  # fmt: skip
BINARY, BASE64 = ChannelProtocol("binary.k8s.io"), ChannelProtocol("base64.binary.k8s.io", is_text=True)
"""One stream alone over a WebSocket: messages are its bytes, without a channel."""


class PodLogs:
    def __init__(self, registry: Registry, nodes: NodeConnections, streams: OpenStreams) -> None:
        self._registry, self._nodes, self._streams = registry, nodes, streams

    async def serve(self, request: web.BaseRequest, target: Target, address: Address) -> web.StreamResponse:
        if errors := option_errors(address.query):
            raise invalid_log_options(target.name, errors)
        pod = await read_pod(self._registry, target)
        container = choose_container(pod, address.query.get("container", ""))
        node = pod["spec"].get("nodeName") or ""
        if not node:  # nothing was said yet, which is no error
            return web.Response(status=204)
        if not flag(address.query, "previous"):
            check_started(pod, container)
        path = path_of("containerLogs", target.namespace, target.name, container)
        url = f"{await self._nodes.url_of(node)}{path}"
        if address.query_text:
            url = f"{url}?{address.query_text}"
        with self._streams.holding():
            return await self._relay(request, url)

    async def _relay(self, request: web.BaseRequest, url: str) -> web.StreamResponse:
        async with self._nodes.session() as session:
            try:
                answer = await session.get(url)
            except aiohttp.ClientError as error:
                raise InternalError(f"Get {url!r}: {error}") from error
            async with answer:
                if answer.status != 200:
                    text = (await answer.text()).strip()
                    raise refused(answer.status, text or answer.reason or "")
                if asks_for_websocket(request):
                    return await self._say(request, answer)
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                response.enable_chunked_encoding()
                await response.prepare(request)
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    await response.write(chunk)
                await response.write_eof()
                return response

    async def _say(self, request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """The log as messages of a WebSocket, closed at its end; what a client says there is passed over."""
        protocol = agreed_protocol(request, (BINARY, BASE64))
        socket = await accept(request, protocol.name)
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            if protocol is BASE64:
                await socket.send_str(base64.b64encode(chunk).decode("ascii"))
            else:
                await socket.send_bytes(chunk)
        await socket.close()
        return socket


def option_errors(query: Query) -> list[FieldError]:
    """What is wrong with numbers and choices that can be read; 400 for a number that cannot."""
    found = []
    for name, least, rule in (
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ):
        if query.get(name) and (value := integer(query, name)) < least:
            found.append(invalid(name, value, rule))
    if (moment := query.get("sinceTime")) and (problem := timestamp_error(moment)):
        raise BadRequest(problem)
    if query.get("sinceSeconds") and query.get("sinceTime"):
        found.append(forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    stream = query.get("stream") or "All"
    if stream not in STREAMS:
        found.append(not_supported("stream", stream, STREAMS))
    elif stream != "All" and query.get("tailLines"):
        found.append(forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now"))
    return found


def invalid_log_options(pod: str, errors: list[FieldError]) -> Invalid:
    shown = str(errors[0]) if len(errors) == 1 else f"[{', '.join(map(str, errors))}]"
    return Invalid(
        f'PodLogOptions "{pod}" is invalid: {shown}',
        details={"name": pod, "kind": "PodLogOptions"},
        causes=[Cause(error.type.value[0], error.body(), error.field) for error in errors],
    )


def check_started(pod: JsonObject, container: str) -> None:
    """400 for a container that has never run."""
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    for each in (*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])):
        waiting = (each.get("state") or {}).get("waiting")
        if each.get("name") == container and waiting and not each.get("lastState"):
            reason = waiting.get("reason") or "ContainerCreating"
            raise BadRequest(
                f'container "{container}" in pod "{name}" is waiting to start: {_WAITING.get(reason, reason)}'
            )
