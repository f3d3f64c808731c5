"""What the proxy serves on port 10249, as kube-proxy does: /metrics, /proxyMode, /configz, /healthz."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from nodeport.api.meta import JsonObject
from nodeport.proxy.http import NOT_FOUND, Handler, Request, Response
from nodeport.proxy.metrics import CONTENT_TYPE

_JSON: Final = "application/json"
_VERBOSE: Final = b"[+]ping ok\nhealthz check passed\n"


def status_handler(mode: str, configz: JsonObject, render: Callable[[], bytes]) -> Handler:
    """``render`` makes the metrics; it is called in a thread, since it takes a while."""
    shown = json.dumps(configz, separators=(",", ":")).encode()

    async def metrics() -> Response:
        return Response(HTTPStatus.OK, await asyncio.to_thread(render), CONTENT_TYPE, ())

    async def answer(request: Request) -> Response:
        match request.path:
            case "/metrics":
                return await metrics()
            case "/proxyMode":
                return Response(HTTPStatus.OK, mode.encode())
            case "/configz":
                return Response(HTTPStatus.OK, shown, _JSON)
            case "/healthz":
                return Response(HTTPStatus.OK, _VERBOSE if "verbose" in request.query else b"ok")
            case "/healthz/ping":
                return Response(HTTPStatus.OK, b"ok")
        return NOT_FOUND

    return answer
