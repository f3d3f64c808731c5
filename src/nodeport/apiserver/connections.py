"""Connections that cannot be used up: bounded in number, in idle time, in the size of headers and the time to read.

Whatever the HTTP parser refuses is answered with a Status, as every other refusal.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import http_exceptions, web

from nodeport.api.status import ApiError, BadRequest
from nodeport.apiserver.audit import audit_id
from nodeport.apiserver.errors import answer_of, bug
from nodeport.apiserver.limits import Limits
from nodeport.kit.logs import get_logger

IDLE_SECONDS = 90.0
"""A connection without a request, or with a part of its head only, is closed after this time."""
LINGER_SECONDS = 2.0
"""How long the rest of a refused body is swallowed, so that its sender reads the refusal."""
MAX_FIELD_BYTES = 16 * 1024
MAX_FIELDS = 100
READ_SECONDS = 60.0
"""How long a client may take to read a large answer, and how long it may read nothing at all of any answer."""
LARGE_BYTES = 256 * 1024
PART_BYTES = 256 * 1024
AUDIT_ID = "Audit-Id"
REQUEST_ID = web.RequestKey("audit_id", str)
STARTED: web.RequestKey[Callable[[int], None]] = web.RequestKey("started")
"""What is to be called with the status when an answer begins that goes on for long."""
_log = get_logger("nodeport.apiserver")


class FieldsTooLarge(ApiError):
    """431; Kubernetes has no word for the reason."""

    code, reason = 431, ""


class Request(web.BaseRequest):
    """Every answer names the request that it belongs to."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers[AUDIT_ID] = self.get(REQUEST_ID) or audit_id(self.headers.get(AUDIT_ID))
        if told := self.get(STARTED):
            told(response.status)


class Connection(web.RequestHandler):
    """One client's connection, cut when nothing of an answer is read for a while.

    ``may_pause``: for as long as it carries a stream whose reader may stop and go on, as a terminal does.
    """

    __slots__ = ("_cutting", "_max_line_bytes", "may_pause")

    def __init__(self, *args: Any, max_line_size: int, **options: Any) -> None:
        super().__init__(*args, max_line_size=max_line_size, **options)
        self._max_line_bytes = max_line_size
        self._cutting: asyncio.TimerHandle | None = None
        self.may_pause = False

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cutting = self._loop.call_later(READ_SECONDS, self._cut)

    def resume_writing(self) -> None:
        self._stop_cutting()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_cutting()
        super().connection_lost(exc)

    def _cut(self) -> None:
        if self.may_pause:
            self._cutting = self._loop.call_later(READ_SECONDS, self._cut)
        elif self.transport is not None:
            self.transport.abort()

    def _stop_cutting(self) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
            self._cutting = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the parser refuses, and what nobody caught."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun: it cannot become another one")
        error: ApiError
        if isinstance(exc, http_exceptions.LineTooLong):
            error = FieldsTooLarge(
                f"the request's head is too large: a line may have {self._max_line_bytes} bytes, a field "
                f"{min(MAX_FIELD_BYTES, self._max_line_bytes)}"
            )
        elif status < 500:
            first_line = (message or "").strip().partition("\n")[0].rstrip(":")
            error = BadRequest(f"the request is no HTTP: {first_line}")
        else:
            _log.error("a request failed outside its handler", exc_info=exc)
            error = bug(exc or RuntimeError("unknown"))
        response = answer_of(error)
        response.force_close()
        return response


async def send_in_parts(request: web.BaseRequest, response: web.Response, body: bytes) -> web.StreamResponse:
    """Send a large answer as its client reads it; one that is not read in time is cut off: it holds memory."""
    parts = web.StreamResponse(status=response.status, headers=response.headers)
    parts.content_length = len(body)
    await parts.prepare(request)
    view = memoryview(body)
    try:
        async with asyncio.timeout(READ_SECONDS):
            for at in range(0, len(body), PART_BYTES):
                await parts.write(view[at : at + PART_BYTES])
            await parts.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return parts


class BoundedServer(web.Server):
    """Has so many connections at a time, of one address half as many; further ones are closed at once."""

    def __init__(self, handler: Any, limits: Limits) -> None:
        super().__init__(handler, request_factory=self._request, handler_cancellation=True)
        self._limits = limits
        self._addresses: dict[web.RequestHandler, str] = {}
        self._of_address: Counter[str] = Counter()
        self.refused = 0

    def _request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]
    ) -> web.BaseRequest:
        return Request(
            message, payload, protocol, writer, task, self._loop, client_max_size=self._limits.body_bytes
        )

    def __call__(self) -> web.RequestHandler:
        return Connection(
            self,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_headers=MAX_FIELDS,
            max_line_size=self._limits.header_bytes,
            max_field_size=min(MAX_FIELD_BYTES, self._limits.header_bytes),
            auto_decompress=False,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        address = str((transport.get_extra_info("peername") or ("",))[0])
        self._addresses[handler] = address
        self._of_address[address] += 1
        most = self._limits.connections
        if len(self._connections) > most or self._of_address[address] > (most + 1) // 2:
            self.refused += 1
            transport.abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        address = self._addresses.pop(handler, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def metrics(self) -> list[str]:
        return [
            "# TYPE nodeport_apiserver_connections gauge",
            f"nodeport_apiserver_connections {len(self._connections)}",
            "# TYPE nodeport_apiserver_refused_connections_total counter",
            f"nodeport_apiserver_refused_connections_total {self.refused}",
        ]
