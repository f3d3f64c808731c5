"""Serves the logs of a node's containers to the API server: the one path of a kubelet's server that we have.

``GET /containerLogs/NAMESPACE/POD/CONTAINER?follow=&tailLines=…`` over TLS, for holders of a certificate of the
cluster's authority only. The socket is opened inside the node's namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from nodeport.api.meta import NamespacedName
from nodeport.kit.clock import Clock
from nodeport.netlink.namespace import open_in
from nodeport.node import logs
from nodeport.node.logs import BadLogOption
from nodeport.node.sandbox import NodeSurroundings

PATIENCE = 30.0
"""Seconds that a client has to send its request."""
REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}
ALLOWED_GROUPS = frozenset(("system:masters", "system:nodes"))


@dataclass(frozen=True, slots=True)
class LogFile:
    """``run_directory`` holds a file ``exit`` once the container has ended, or is gone with its pod."""

    path: Path
    run_directory: Path

    def ended(self) -> bool:
        return not self.run_directory.exists() or (self.run_directory / "exit").exists()


class LogServer:
    """``uid_of`` answers with the uid of the pod of that name on this node, empty when there is none."""

    def __init__(
        self,
        node: NodeSurroundings,
        port: int,
        tls: ssl.SSLContext,
        uid_of: Callable[[NamespacedName], str],
        clock: Clock,
    ) -> None:
        self._node, self._port, self._tls, self._uid_of, self._clock = node, port, tls, uid_of, clock

    async def run(self) -> None:
        """Serves until cancelled. Raises OSError when the port is taken."""
        sock = open_in(self._node.netns, self._listen)
        server = await asyncio.start_server(
            self._serve, sock=sock, ssl=self._tls, ssl_handshake_timeout=PATIENCE
        )
        try:
            await server.serve_forever()
        finally:
            server.close()

    def _listen(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((str(self._node.address), self._port))
            sock.listen(64)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            await self._answer(head.decode("latin-1"), reader, writer)
        except (
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            TimeoutError,
            ConnectionError,
            ssl.SSLError,
        ):
            pass  # the client went away
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = head.split("\r\n", 1)[0].split(" ")
        if not _is_allowed(writer):
            return _refuse(writer, 403, "Forbidden: only the cluster's API server may read logs")
        if len(words) != 3 or words[0] != "GET":
            return _refuse(writer, 405, "only GET is served")
        url = urlsplit(words[1])
        parts = [unquote(part) for part in url.path.split("/")[1:]]
        if len(parts) != 4 or parts[0] != "containerLogs":
            return _refuse(writer, 404, f"there is nothing at {url.path}")
        query = dict(parse_qsl(url.query))
        try:
            options = logs.parse_options(query, self._clock.now())
        except BadLogOption as error:
            return _refuse(writer, 400, str(error))
        found = self.find(
            NamespacedName(parts[1], parts[2]), parts[3], previous=query.get("previous") in ("true", "1")
        )
        if isinstance(found, str):
            return _refuse(writer, 404 if "not found" in found else 400, found)
        await self._stream(found, options, reader, writer)
        return None

    def find(self, pod: NamespacedName, container: str, *, previous: bool) -> LogFile | str:
        """The log of the container's newest (or last but one) run, or why there is none."""
        uid = self._uid_of(pod)
        if not uid:
            return f'pod "{pod.name}" not found on this node'
        directory = self._node.log_directory / f"{pod.namespace}_{pod.name}_{uid}" / Path(container).name
        attempts = sorted(int(file.stem) for file in directory.glob("*.log") if file.stem.isdigit())
        if not attempts:
            return f'container "{container}" in pod "{pod.name}" is waiting to start: ContainerCreating'
        if previous and len(attempts) < 2:
            return f'previous terminated container "{container}" in pod "{pod.name}" not found'
        attempt = attempts[-2] if previous else attempts[-1]
        run = self._node.pods_directory / uid / "containers" / container / str(attempt)
        return LogFile(directory / f"{attempt}.log", run)

    async def _stream(
        self,
        found: LogFile,
        options: logs.LogOptions,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        sending = asyncio.ensure_future(self._send(found, options, writer))
        leaving = asyncio.ensure_future(reader.read(1))  # a client that ends a follow closes the connection
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError, ssl.SSLError):
                    await task

    async def _send(self, found: LogFile, options: logs.LogOptions, writer: asyncio.StreamWriter) -> None:
        async for chunk in logs.read(found.path, options, self._clock, found.ended):
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _is_allowed(writer: asyncio.StreamWriter) -> bool:
    """TLS verified the certificate; its groups decide."""
    certificate = writer.get_extra_info("peercert") or {}
    groups = {
        value for part in certificate.get("subject", ()) for key, value in part if key == "organizationName"
    }  # fmt: skip
    return not ALLOWED_GROUPS.isdisjoint(groups)


def _refuse(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    )
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)


def server_tls(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """TLS for servers that let nobody in without a certificate of ``client_ca``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
