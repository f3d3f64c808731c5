"""A node's HTTPS server, with the paths of a kubelet's: its pods, their logs, and connections into them.

::

    GET /healthz                                        ok
    GET /pods                                           the node's pods
    GET /containerLogs/NAMESPACE/POD/CONTAINER          ?follow=&tailLines=…
    GET /exec/NAMESPACE/POD/CONTAINER                   ?command=…&input=1&output=1&error=1&tty=1, a WebSocket
    GET /attach/NAMESPACE/POD/CONTAINER                 ?input=1&output=1&error=1&tty=1, a WebSocket
    GET /portForward/NAMESPACE/POD/PORT                 a WebSocket to a port of the pod's loopback
    GET /podConnection/NAMESPACE/POD/PORT               the same to the pod's address; ?tls=1 speaks TLS with it

For holders of an administrator's certificate of the cluster's authority only, as the API server has one. The socket is
opened inside the node's namespace.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from aiohttp import web

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.netlink.namespace import family_of, open_in
from nodeport.node import dialing, logs, remote
from nodeport.node.containers import Keeper
from nodeport.node.logfiles import LogFiles
from nodeport.node.logs import BadLogOption
from nodeport.node.pod_record import PodRecord
from nodeport.node.runtime import Runtime
from nodeport.node.sandbox import NodeSurroundings
from nodeport.node.sessions import StreamOptions

PATIENCE = 30.0
"""Seconds that a client has for the TLS handshake and for its request."""
STOP_PATIENCE = 0.5
REFUSAL = "X-Refusal"
"""Header with a refusal's text, percent-encoded: clients of a WebSocket are not shown the body."""
ALLOWED_GROUP = "system:masters"
_log = get_logger(__name__)


class Refusal(Exception):
    """A request that is answered with ``status`` and a line of text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class NodePods:
    """What the server asks the agent for: ``record_of`` a pod that has a worker, ``uid_of`` any pod of the node."""

    def __init__(
        self,
        record_of: Callable[[NamespacedName], PodRecord | None],
        uid_of: Callable[[NamespacedName], str],
        objects: Callable[[], list[JsonObject]],
    ) -> None:
        self.record_of, self.uid_of, self.objects = record_of, uid_of, objects


class NodeServer:
    """``run`` serves until cancelled."""

    def __init__(
        self,
        node: NodeSurroundings,
        runtime: Runtime,
        port: int,
        tls: ssl.SSLContext,
        pods: NodePods,
        clock: Clock,
    ) -> None:
        self._node, self._runtime, self._port, self._tls = node, runtime, port, tls
        self._pods, self._clock = pods, clock
        self._logs = LogFiles(node)
        self._to_pods = dialing.unverified_tls()

    async def run(self) -> None:
        """Raises OSError when the port is taken."""
        sock = open_in(self._node.netns, self._listen)
        server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=STOP_PATIENCE)
        try:
            await runner.setup()
            site = web.SockSite(runner, sock, ssl_context=self._tls)
            await site.start()
            await asyncio.get_running_loop().create_future()
        finally:
            await runner.cleanup()
            sock.close()

    def _listen(self) -> socket.socket:
        address = str(self._node.address)
        sock = socket.socket(family_of(address), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, self._port))
            sock.listen(128)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)
        except Refusal as error:
            return web.Response(
                status=error.status, text=f"{error.text}\n", headers={REFUSAL: quote(error.text)}
            )
        except ConnectionError:
            raise
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            return web.Response(status=500, text="Internal error\n")

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if not is_allowed(request):
            raise Refusal(403, "Forbidden: only the cluster's API server may ask a node")
        parts = [unquote(part) for part in request.raw_path.partition("?")[0].split("/")[1:]]
        if request.method != "GET":
            raise Refusal(405, "only GET is served")
        match parts:
            case ["healthz"]:
                return web.Response(text="ok")
            case ["pods"] | ["pods" | "runningpods", ""]:
                return self._serve_pods()
            case ["containerLogs", namespace, pod, container]:
                return await self._serve_log(request, NamespacedName(namespace, pod), container)
            case ["exec", namespace, pod, container]:
                return await self._serve_exec(request, NamespacedName(namespace, pod), container)
            case ["attach", namespace, pod, container]:
                return await self._serve_attach(request, NamespacedName(namespace, pod), container)
            case ["portForward", namespace, pod, port]:
                return await self._serve_port(request, NamespacedName(namespace, pod), port, "127.0.0.1")
            case ["podConnection", namespace, pod, port]:
                return await self._serve_port(request, NamespacedName(namespace, pod), port, "")
        raise Refusal(404, f"there is nothing at {request.path}")

    def _serve_pods(self) -> web.Response:
        found = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._pods.objects()}
        return web.json_response(found, dumps=json.dumps)

    # --- logs

    async def _serve_log(
        self, request: web.BaseRequest, pod: NamespacedName, container: str
    ) -> web.StreamResponse:
        query = dict(parse_qsl(request.rel_url.raw_query_string))
        try:
            options = logs.parse_options(query, self._clock.now())
        except BadLogOption as error:
            raise Refusal(400, str(error)) from error
        uid = self._pods.uid_of(pod)
        if not uid:
            raise Refusal(404, f'pod "{pod.name}" not found on this node')
        found = self._logs.find(pod, uid, container, previous=query.get("previous") in ("true", "1"))
        if isinstance(found, str):
            raise Refusal(400, found)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        async for chunk in logs.read(found.path, options, self._clock, found.ended):
            await response.write(chunk)
        await response.write_eof()
        return response

    # --- commands

    async def _serve_exec(
        self, request: web.BaseRequest, pod: NamespacedName, container: str
    ) -> web.StreamResponse:
        query = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)
        argv = [value for name, value in query if name == "command"]
        if not argv:
            raise Refusal(400, "you must specify at least one command to run")
        record, keeper = self._running(pod, container)
        options = stream_options(dict(query))
        assert record.sandbox is not None
        assert keeper.current is not None
        socket_ = await upgrade(request)
        said = await remote.first_words(socket_) if options.tty else remote.FirstWords()
        try:
            session = self._runtime.open_exec(record.sandbox, keeper.current, argv, options, said.size)
        except OSError as error:
            await remote.refuse(socket_, f"error executing command in container: {error}")
            return socket_
        await remote.serve_command(socket_, session, argv, self._clock, said.messages)
        return socket_

    async def _serve_attach(
        self, request: web.BaseRequest, pod: NamespacedName, container: str
    ) -> web.StreamResponse:
        options = stream_options(dict(parse_qsl(request.rel_url.raw_query_string)))
        _, keeper = self._running(pod, container)
        assert keeper.current is not None
        try:
            session = self._runtime.open_attach(keeper.current, options)
        except OSError as error:
            raise Refusal(500, f"error attaching to container: {error}") from error
        try:
            socket_ = await upgrade(request)
        except BaseException:
            session.close()
            raise
        await remote.serve_output(socket_, session, self._clock)
        return socket_

    def _running(self, pod: NamespacedName, container: str) -> tuple[PodRecord, Keeper]:
        record = self._pods.record_of(pod)
        if record is None:
            raise Refusal(404, f'pod does not exist: "{pod.name}_{pod.namespace}"')
        keeper = next((one for one in record.all_keepers() if one.name == container), None)
        if keeper is None or not keeper.is_running or record.sandbox is None:
            raise Refusal(404, f'container not found ("{container}")')
        return record, keeper

    # --- ports

    async def _serve_port(
        self, request: web.BaseRequest, pod: NamespacedName, port: str, host: str
    ) -> web.StreamResponse:
        record = self._pods.record_of(pod)
        if record is None or record.sandbox is None:
            raise Refusal(404, f'pod not found ("{pod.name}_{pod.namespace}")')
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise Refusal(400, f"port {port!r}: must be from 1 to 65535")
        sandbox = record.sandbox
        where = dialing.Destination(
            netns=sandbox.node.netns if sandbox.host_network or not host else sandbox.netns,
            host=host or str(sandbox.address),
            port=int(port),
            tls=self._to_pods if request.query.get("tls") else None,
        )
        socket_ = await upgrade(request)
        await dialing.serve(socket_, where, self._clock)
        return socket_


async def upgrade(request: web.BaseRequest) -> web.WebSocketResponse:
    """The request as a WebSocket. Raises Refusal when it asks for none."""
    found = web.WebSocketResponse(protocols=(remote.PROTOCOL.name,), autoping=True, compress=False)
    if not found.can_prepare(request):
        raise Refusal(400, "Upgrade request required")
    await found.prepare(request)
    return found


def stream_options(query: dict[str, str]) -> StreamOptions:
    """``input``, ``output``, ``error`` and ``tty`` as a kubelet takes them. Raises Refusal when none is wanted."""
    wanted = {name: query.get(name) in ("1", "true") for name in ("input", "output", "error", "tty")}
    if not (wanted["input"] or wanted["output"] or wanted["error"]):
        raise Refusal(400, "you must specify at least 1 of stdin, stdout, stderr")
    return StreamOptions(wanted["input"], wanted["output"], wanted["error"], wanted["tty"])


def is_allowed(request: web.BaseRequest) -> bool:
    """TLS verified the certificate; its groups decide."""
    certificate: dict[str, Any] = request.get_extra_info("peercert") or {}
    groups = {
        value for part in certificate.get("subject", ()) for key, value in part if key == "organizationName"
    }  # fmt: skip
    return ALLOWED_GROUP in groups


def server_tls(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """TLS for servers that let nobody in without a certificate of ``client_ca``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
