"""What the proxy serves on port 10249, as kube-proxy does: /metrics, /metrics/slis, /proxyMode, /configz, /healthz."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

from nodeport.api.kubeproxy.configz import configz
from nodeport.api.kubeproxy.types import KubeProxyConfiguration
from nodeport.api.meta import JsonObject
from nodeport.kit.clock import Clock
from nodeport.proxy.http import NOT_FOUND, Handler, Request, Response, serve_at
from nodeport.proxy.metrics import CONTENT_TYPE, ProxyMetrics
from nodeport.proxy.runner import ProxyRunner
from nodeport.proxy.settings import host_port

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


async def serve_status(
    config: KubeProxyConfiguration,
    runner: ProxyRunner,
    metrics: ProxyMetrics,
    netns: Path | None,
    clock: Clock,
) -> None:
    """In ``netns`` where ``config`` says, until cancelled; nothing if it says nowhere.

    Raises OSError when the address cannot be bound and ``config`` makes that fatal.
    """
    address = host_port(config.metricsBindAddress)
    if address is None:
        return
    handler = status_handler(config.mode, configz(config), lambda: _render(runner, metrics))
    await serve_at(address, netns, handler, clock, what="metrics", hard_fail=config.bindAddressHardFail)


def _render(runner: ProxyRunner, metrics: ProxyMetrics) -> bytes:
    for family, sizes in runner.sizes().items():
        metrics.set_sizes(family, sizes)
    for family, counts in runner.rule_counts().items():
        metrics.set_rules(family, counts)
    metrics.set_traffic(runner.traffic())
    return metrics.render()
