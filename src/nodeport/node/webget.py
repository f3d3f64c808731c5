"""Connections and HTTP requests into pods, as a kubelet makes them for probes and hooks; what fails in Go's words.

Sockets are opened in the node's network namespace. Certificates are not verified, by the API's own rule.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from nodeport import KUBERNETES_VERSION
from nodeport.netlink.namespace import open_in
from nodeport.node.actions import HttpGet

MAX_BODY = 10 * 1024
MOST_HEADERS = 200
BODY_WAIT = 0.05
"""Seconds for the start of a body, which is for messages only."""
REFUSED_RETRY = 0.02
"""Seconds between tries while the program does not listen yet."""
MOST_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)
USER_AGENT = f"kube-probe/{'.'.join(KUBERNETES_VERSION.removeprefix('v').split('.')[:2])}"
NO_TLS = "http: server gave HTTP response to HTTPS client"
_WORDS = {
    errno.ECONNREFUSED: "connect: connection refused", errno.EHOSTUNREACH: "connect: no route to host",
    errno.ENETUNREACH: "connect: network is unreachable", errno.ECONNRESET: "read: connection reset by peer",
    errno.EPIPE: "write: broken pipe", errno.EINVAL: "connect: invalid argument",
}  # fmt: skip


class RequestFailed(OSError):
    """There is no answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``body``: its start. ``location``: where a redirection leads, empty without one."""

    status: int
    body: str = ""
    location: str = ""


def address_of(host: str, port: int) -> str:
    """``10.0.0.1:80``, ``[fd00::1]:80``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(slots=True)
class Dialer:
    """``netns``: the node's namespace, None for the current one."""

    netns: Path | None
    _tls: ssl.SSLContext | None = field(default=None)

    async def connect(self, host: str, port: int, *, patience: float = 0.0) -> socket.socket:
        """A connected socket. ``patience``: seconds to wait for somebody to listen. Raises RequestFailed."""
        try:
            return await self._connect(host, port, patience)
        except OSError as error:
            words = _WORDS.get(error.errno or 0, error.strerror or str(error))
            raise RequestFailed(f"dial tcp {address_of(host, port)}: {words}") from error

    async def _connect(self, host: str, port: int, patience: float) -> socket.socket:
        loop, family = asyncio.get_running_loop(), _family(host)
        until = loop.time() + patience
        while True:
            sock = open_in(
                self.netns, lambda: socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            )
            try:
                sock.setblocking(False)
                await loop.sock_connect(sock, (host, port))
                return sock
            except ConnectionRefusedError:
                sock.close()
                if loop.time() >= until:
                    raise
                await asyncio.sleep(REFUSED_RETRY)
            except BaseException:
                sock.close()
                raise

    async def get(self, request: HttpGet, host: str, *, patience: float = 0.0) -> Answer:
        """The answer, after redirections that stay on the host. Raises RequestFailed."""
        url = url_of(request, host)
        headers: Mapping[str, str] = request_headers(request.headers)
        answer = await self._fetch(url, headers, patience)
        for _ in range(MOST_REDIRECTS):
            target = urljoin(url, answer.location)
            if not answer.location or urlsplit(target).hostname != urlsplit(url).hostname:
                return answer
            url = target
            answer = await self._fetch(url, headers)
        if answer.location:
            raise RequestFailed(f'Get "{url}": stopped after {MOST_REDIRECTS} redirects')
        return answer

    async def _fetch(self, url: str, headers: Mapping[str, str], patience: float = 0.0) -> Answer:
        parts = urlsplit(url)
        host, tls = parts.hostname or "", parts.scheme == "https"
        try:
            port = parts.port or (443 if tls else 80)
            sock = await self.connect(host, port, patience=patience)
            return await self._exchange(sock, host if tls else "", _request(url, headers))
        except ssl.SSLError as error:
            words = NO_TLS if "WRONG_VERSION_NUMBER" in str(error) or "RECORD" in str(error) else str(error)
            raise RequestFailed(f'Get "{url}": {words}') from error
        except (OSError, ValueError) as error:
            words = _WORDS.get(getattr(error, "errno", None) or 0, str(error))
            raise RequestFailed(f'Get "{url}": {words}') from error
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise RequestFailed(f'Get "{url}": EOF') from error

    async def _exchange(self, sock: socket.socket, tls_name: str, request: bytes) -> Answer:
        options: dict[str, Any] = {}
        if tls_name:
            self._tls = self._tls or _trusting_tls()
            options = {"ssl": self._tls, "server_hostname": tls_name}
        try:
            reader, writer = await asyncio.open_connection(sock=sock, **options)
        except BaseException:
            sock.close()
            raise
        try:
            writer.write(request)
            status, location = parse_head(await _head(reader))
            return Answer(status, (await _some(reader)).decode("utf-8", "replace"), location)
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()


def url_of(request: HttpGet, host: str) -> str:
    path = request.path if request.path.startswith("/") else f"/{request.path}"
    return f"{request.scheme.lower()}://{address_of(host, int(request.port))}{path}"


def request_headers(wanted: Sequence[tuple[str, str]]) -> dict[str, str]:
    """By their names in small letters; an empty User-Agent or Accept takes ours away. One of a name is sent."""
    found = {"user-agent": USER_AGENT, "accept": "*/*"}
    for name, value in wanted:
        found[name.lower()] = value
    for name in ("user-agent", "accept"):
        if not found[name]:
            del found[name]
    return {**found, "connection": "close"}


def _request(url: str, headers: Mapping[str, str]) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {target} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    if "host" not in headers:
        lines.insert(1, f"host: {parts.netloc}")
    return "\r\n".join([*lines, "", ""]).encode()


def parse_head(lines: Sequence[bytes]) -> tuple[int, str]:
    """(status, where a redirection leads). Raises ValueError for what is no HTTP."""
    words = lines[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        said = lines[0].rstrip(b"\r\n").decode("utf-8", "replace")
        raise ValueError(f'net/http: HTTP/1.x transport connection broken: malformed HTTP response "{said}"')
    status = int(words[1])
    pairs = (line.partition(b":") for line in lines[1:])
    found = {name.strip().lower(): value.strip() for name, _, value in pairs}
    location = found.get(b"location", b"").decode("utf-8", "replace")
    return status, location if status in REDIRECTS else ""


async def _head(reader: asyncio.StreamReader) -> list[bytes]:
    """The lines before the body. Raises IncompleteReadError when there is no first one."""
    lines = [await reader.readuntil(b"\r\n")]
    while len(lines) < MOST_HEADERS and (line := await reader.readline()).strip():
        lines.append(line)
    return lines


async def _some(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(reader.read(MAX_BODY), BODY_WAIT)
    return b""


def _family(host: str) -> socket.AddressFamily:
    try:
        return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return socket.AF_INET


def _trusting_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
