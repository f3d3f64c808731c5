"""What ``/healthz`` and ``/livez`` say."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from nodeport.proxy.health import Health, respond

UPDATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = datetime(2026, 1, 2, 3, 4, 9, tzinfo=UTC)


def answer(request: str, *, healthy: bool = True, eligible: bool = True) -> tuple[int, bytes]:
    raw = respond(f"{request} HTTP/1.1\r\n\r\n".encode(), Health(healthy, eligible, UPDATED, NOW))
    head, body = raw.split(b"\r\n\r\n", 1)
    assert f"Content-Length: {len(body)}".encode() in head
    return int(head.split(b" ")[1]), body


def test_the_body_is_kube_proxys() -> None:
    status, body = answer("GET /healthz")
    assert status == 200
    assert json.loads(body) == {
        "lastUpdated": "2026-01-02T03:04:05Z",
        "currentTime": "2026-01-02T03:04:09Z",
        "nodeEligible": True,
        "healthy": True,
        "status": {"IPv4": {"lastUpdated": "2026-01-02T03:04:05Z", "healthy": True}},
    }


@pytest.mark.parametrize(
    ("healthy", "eligible", "healthz", "livez"),
    [(True, True, 200, 200), (True, False, 503, 200), (False, True, 503, 503), (False, False, 503, 503)],
)
def test_a_node_that_is_leaving_is_alive_but_not_healthy(
    healthy: bool, eligible: bool, healthz: int, livez: int
) -> None:
    assert answer("GET /healthz?verbose", healthy=healthy, eligible=eligible)[0] == healthz
    assert answer("GET /livez", healthy=healthy, eligible=eligible)[0] == livez


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("GET /", 404), ("POST /healthz", 405), ("nonsense", 405), ("HEAD /healthz", 200)],
)
def test_everything_else_is_refused(request_line: str, status: int) -> None:
    assert answer(request_line) == (status, b"")
