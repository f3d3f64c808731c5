"""Probes: when to ask, whom, and what the answers mean.

`ProbeState` is the pure part: results in, verdict and next time out. `Prober` asks: HTTP and TCP with sockets that are
opened in the node's namespace, as a kubelet's are, and commands through the runtime.
Rule source: https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from nodeport.netlink.namespace import open_in

MAX_BODY = 10 * 1024
REFUSED_RETRY = 0.02
"""Seconds between tries of a probe's first round while the program does not listen yet."""


class ProbeKind(Enum):
    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


@dataclass(frozen=True, slots=True)
class HttpGet:
    port: int
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TcpSocket:
    port: int
    host: str = ""


@dataclass(frozen=True, slots=True)
class Exec:
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe of a container, all defaults filled in."""

    kind: ProbeKind
    action: HttpGet | TcpSocket | Exec
    initial_delay: timedelta = timedelta(0)
    period: timedelta = timedelta(seconds=10)
    timeout: timedelta = timedelta(seconds=1)
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True, slots=True)
class ProbeResult:
    success: bool
    output: str = ""


@dataclass(frozen=True, slots=True)
class ProbeState:
    """What a probe's results add up to. ``verdict`` None: not decided yet.

    Until decided, a container counts as not ready and not started, but as alive.
    """

    probe: Probe
    verdict: bool | None = None
    run: int = 0
    last: ProbeResult | None = None

    def record(self, result: ProbeResult) -> ProbeState:
        """The state after one more result: a verdict changes after a threshold of equal results in a row."""
        same = self.last is not None and self.last.success == result.success
        run = self.run + 1 if same else 1
        threshold = self.probe.success_threshold if result.success else self.probe.failure_threshold
        verdict = result.success if run >= threshold else self.verdict
        return replace(self, verdict=verdict, run=run, last=result)

    @property
    def must_restart(self) -> bool:
        """A failed liveness or startup probe ends the container."""
        return self.verdict is False and self.probe.kind is not ProbeKind.READINESS


def parse(container: Mapping[str, Any], kind: ProbeKind) -> Probe | None:
    """The container's probe of that kind, None when it has none (or one we do not know, such as gRPC)."""
    spec = container.get(f"{kind.value}Probe")
    action = spec and _action(spec, container)
    if not spec or action is None:
        return None

    def seconds(name: str, default: int) -> timedelta:
        return timedelta(seconds=spec.get(name) or default)

    return Probe(
        kind=kind,
        action=action,
        initial_delay=seconds("initialDelaySeconds", 0),
        period=seconds("periodSeconds", 10),
        timeout=seconds("timeoutSeconds", 1),
        success_threshold=spec.get("successThreshold") or 1,
        failure_threshold=spec.get("failureThreshold") or 3,
    )


def _action(spec: Mapping[str, Any], container: Mapping[str, Any]) -> HttpGet | TcpSocket | Exec | None:
    if http := spec.get("httpGet"):
        headers = tuple((item["name"], item.get("value", "")) for item in http.get("httpHeaders") or ())
        return HttpGet(
            port_number(http["port"], container), http.get("path") or "/", http.get("host") or "",
            http.get("scheme") or "HTTP", headers,
        )  # fmt: skip
    if tcp := spec.get("tcpSocket"):
        return TcpSocket(port_number(tcp["port"], container), tcp.get("host") or "")
    if execute := spec.get("exec"):
        return Exec(tuple(execute.get("command") or ()))
    return None


def port_number(port: int | str, container: Mapping[str, Any]) -> int:
    """A port by number or by the name it has in the container; 0, which nothing listens on, for an unknown name."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    named = (item for item in container.get("ports") or () if item.get("name") == port)
    return next((item["containerPort"] for item in named), 0)


Execute = Callable[[Sequence[str], timedelta], Awaitable[tuple[int, str]]]


@dataclass(slots=True)
class Prober:
    """Asks one container. ``netns``: the node's namespace, None for the current one."""

    netns: Path | None
    address: IPv4Address
    execute: Execute
    _tls: ssl.SSLContext | None = field(default=None)

    async def ask(self, probe: Probe, *, first: bool = False) -> ProbeResult:
        """One result within the probe's timeout.

        In a probe's first round a refused connection is tried again until the timeout: the program may be starting,
        and the next round would come a whole period later.
        """
        try:
            async with asyncio.timeout(probe.timeout.total_seconds()):
                return await self._ask(probe, patient=first)
        except TimeoutError:
            return ProbeResult(False, f"no answer within {probe.timeout.total_seconds():g}s")
        except OSError as error:
            return ProbeResult(False, str(error))

    async def _ask(self, probe: Probe, *, patient: bool) -> ProbeResult:
        match probe.action:
            case HttpGet() as http:
                return await self._ask_http(http, patient=patient)
            case TcpSocket(port, host):
                (await self._connect(host, port, patient=patient)).close()
                return ProbeResult(True)
            case Exec(command):
                code, output = await self.execute(command, probe.timeout)
                return ProbeResult(code == 0, output)

    async def _connect(self, host: str, port: int, *, patient: bool) -> socket.socket:
        """A connected socket. Raises OSError."""
        loop = asyncio.get_running_loop()
        while True:
            sock = open_in(
                self.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            )
            try:
                sock.setblocking(False)
                await loop.sock_connect(sock, (host or str(self.address), port))
                return sock
            except ConnectionRefusedError:
                sock.close()
                if not patient:
                    raise
                await asyncio.sleep(REFUSED_RETRY)
            except BaseException:
                sock.close()
                raise

    async def _ask_http(self, http: HttpGet, *, patient: bool) -> ProbeResult:
        sock = await self._connect(http.host, http.port, patient=patient)
        name = http.host or str(self.address)
        options: dict[str, Any] = {}
        if http.scheme == "HTTPS":
            self._tls = self._tls or _trusting_tls()
            options = {"ssl": self._tls, "server_hostname": name}
        try:
            reader, writer = await asyncio.open_connection(sock=sock, **options)
        except BaseException:
            sock.close()
            raise
        try:
            writer.write(_http_request(http, name))
            head = await reader.readuntil(b"\r\n")
            rest = await _read_some(reader)
        except asyncio.IncompleteReadError:
            return ProbeResult(False, "the connection was closed without an answer")
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()
        return _http_result(head, rest)


async def _read_some(reader: asyncio.StreamReader) -> bytes:
    """The start of a body, for messages only."""
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(reader.read(MAX_BODY), 0.05)
    return b""


def _http_request(http: HttpGet, name: str) -> bytes:
    headers = {"host": f"{name}:{http.port}", "user-agent": "kube-probe/nodeport", "accept": "*/*"}
    for key, value in http.headers:
        headers[key.lower()] = value
    headers["connection"] = "close"
    path = http.path if http.path.startswith("/") else f"/{http.path}"
    lines = [f"GET {path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def _http_result(head: bytes, rest: bytes) -> ProbeResult:
    """Any status from 200 to 399 is a success."""
    words = head.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return ProbeResult(False, "the answer is not HTTP")
    status = int(words[1])
    body = rest.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")
    if 200 <= status < 400:
        return ProbeResult(True, body)
    return ProbeResult(False, f"HTTP probe failed with statuscode: {status}")


def _trusting_tls() -> ssl.SSLContext:
    """Probes do not verify certificates, by the API's own rule."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
