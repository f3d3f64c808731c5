"""Connections that cannot be used up: bounded in number, in idle time, in the size of headers and the time to read.

Whatever the HTTP parser refuses is answered with a Status, as every other refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import http_exceptions, web

from nodeport.api.status import ApiError, BadRequest
from nodeport.apiserver.audit import audit_id
from nodeport.apiserver.errors import answer_of, bug
from nodeport.kit.logs import get_logger

IDLE_SECONDS = 90.0
"""A connection without a request, or with a part of its head only, is closed after this time."""
LINGER_SECONDS = 2.0
"""How long the rest of a refused body is swallowed, so that its sender reads the refusal."""
MAX_LINE_BYTES = 64 * 1024
MAX_FIELD_BYTES = 16 * 1024
MAX_FIELDS = 100
READ_SECONDS = 60.0
"""How long a client may take to read a large answer."""
LARGE_BYTES = 1024 * 1024
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
    """One client's connection."""

    __slots__ = ()

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
                f"the request's head is too large: a line may have {MAX_LINE_BYTES} bytes, a field {MAX_FIELD_BYTES}"
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
    """Accepts ``most`` connections at a time; further ones are closed at once."""

    def __init__(self, handler: Any, most: int) -> None:
        super().__init__(handler, request_factory=self._request, handler_cancellation=True)
        self._most = most
        self.refused = 0

    def _request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]
    ) -> web.BaseRequest:
        return Request(message, payload, protocol, writer, task, self._loop)

    def __call__(self) -> web.RequestHandler:
        return Connection(
            self,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type]  # how it is switched off
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_headers=MAX_FIELDS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            auto_decompress=False,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > self._most:
            self.refused += 1
            transport.abort()

    def metrics(self) -> list[str]:
        return [
            "# TYPE nodeport_apiserver_connections gauge",
            f"nodeport_apiserver_connections {len(self._connections)}",
            "# TYPE nodeport_apiserver_refused_connections_total counter",
            f"nodeport_apiserver_refused_connections_total {self.refused}",
        ]
