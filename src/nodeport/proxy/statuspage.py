"""What the proxy serves on port 10249, as kube-proxy does: /metrics, /metrics/slis, /proxyMode, /configz, /healthz."""

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


def service_levels(answered: int) -> bytes:
    """``/metrics/slis`` of a component whose only check, ``ping``, always succeeds; empty until it was asked."""
    if not answered:
        return b""
    return (
        "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.\n"
        "# TYPE kubernetes_healthcheck gauge\n"
        'kubernetes_healthcheck{name="ping",type="healthz"} 1\n'
        "# HELP kubernetes_healthchecks_total [STABLE] This metric records the results of all healthcheck.\n"
        "# TYPE kubernetes_healthchecks_total counter\n"
        f'kubernetes_healthchecks_total{{name="ping",status="success",type="healthz"}} {answered}\n'
    ).encode()


def status_handler(mode: str, configz: JsonObject, render: Callable[[], bytes]) -> Handler:
    """``render`` makes the metrics; it is called in a thread, since it takes a while."""
    shown = json.dumps(configz, separators=(",", ":")).encode()
    answered = 0

    async def metrics() -> Response:
        return Response(HTTPStatus.OK, await asyncio.to_thread(render), CONTENT_TYPE, ())

    async def answer(request: Request) -> Response:
        nonlocal answered
        match request.path:
            case "/metrics/slis":
                return Response(HTTPStatus.OK, service_levels(answered), CONTENT_TYPE, ())
            case "/metrics":
                return await metrics()
            case "/proxyMode":
                return Response(HTTPStatus.OK, mode.encode())
            case "/configz":
                return Response(HTTPStatus.OK, shown, _JSON)
            case "/healthz":
                answered += 1
                return Response(HTTPStatus.OK, _VERBOSE if "verbose" in request.query else b"ok")
            case "/healthz/ping":
                return Response(HTTPStatus.OK, b"ok")
        return NOT_FOUND

    return answer
