"""What ``/healthz`` and ``/livez`` say, and how the small HTTP server takes requests."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest

from nodeport.forwarding.table import Family
from nodeport.proxy.health import FamilyHealth, Health, health_handler, is_eligible, respond
from nodeport.proxy.http import Request, Response, parse, render

UPDATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = datetime(2026, 1, 2, 3, 4, 9, 120000, tzinfo=UTC)


def health(*, healthy: bool = True, eligible: bool = True) -> Health:
    families = {
        Family.IPV6: FamilyHealth(healthy, UPDATED),
        Family.IPV4: FamilyHealth(True, UPDATED - timedelta(seconds=1)),
    }
    return Health(families, eligible, NOW)


def test_the_body_is_kube_proxys_field_by_field() -> None:
    response = respond(health(), with_node=True)
    assert response.status == HTTPStatus.OK
    assert response.body == (
        b'{"lastUpdated":"2026-01-02T03:04:09.12Z","currentTime":"2026-01-02T03:04:09.12Z","nodeEligible":true,'
        b'"healthy":true,"status":{"IPv4":{"lastUpdated":"2026-01-02T03:04:04Z","healthy":true},'
        b'"IPv6":{"lastUpdated":"2026-01-02T03:04:05Z","healthy":true}}}'
    )
    assert "nodeEligible" not in json.loads(respond(health(), with_node=False).body)


def test_an_unhealthy_proxy_tells_when_the_kernel_was_last_up_to_date() -> None:
    found = json.loads(respond(health(healthy=False), with_node=True).body)
    assert (found["lastUpdated"], found["healthy"]) == ("2026-01-02T03:04:05Z", False)
    assert [status["healthy"] for status in found["status"].values()] == [True, False]


@pytest.mark.parametrize(
    ("healthy", "eligible", "healthz", "livez"),
    [(True, True, 200, 200), (True, False, 503, 200), (False, True, 503, 503), (False, False, 503, 503)],
)
def test_a_node_that_is_leaving_is_alive_but_not_healthy(
    healthy: bool, eligible: bool, healthz: int, livez: int
) -> None:
    counted: list[tuple[str, int]] = []
    handler = health_handler(
        lambda: health(healthy=healthy, eligible=eligible),
        lambda name, status: counted.append((name, status)),
    )
    for path in ("/healthz", "/livez"):
        handler(Request("GET", path))
    assert counted == [("healthz", healthz), ("livez", livez)]


@pytest.mark.parametrize(
    ("node", "eligible"),
    [
        (None, False),
        ({"metadata": {}}, True),
        ({"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}}, False),
        ({"metadata": {}, "spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}}, False),
        ({"metadata": {}, "spec": {"taints": [{"key": "node.kubernetes.io/unschedulable"}]}}, True),
    ],
)
def test_which_nodes_load_balancers_should_use(node: dict[str, object] | None, eligible: bool) -> None:
    assert is_eligible(node) is eligible


def test_other_paths_are_not_found_in_gos_words() -> None:
    response = health_handler(health, lambda name, status: None)(Request("GET", "/"))
    assert isinstance(response, Response)
    assert (response.status, response.body) == (404, b"404 page not found\n")


@pytest.mark.parametrize(
    "head", [b"nonsense\r\n\r\n", b"GET /x\r\n\r\n", b"GET x HTTP/1.1\r\n\r\n", b"GET / SPDY/3\r\n\r\n"]
)
def test_what_is_no_request_is_told_so(head: bytes) -> None:
    assert parse(head) is None


def test_heads_and_queries_are_parted() -> None:
    request = parse(b"GET /healthz?verbose=1 HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, br\r\n\r\n")
    assert request == Request("GET", "/healthz", "verbose=1", {"host": "a", "accept-encoding": "gzip, br"})


def test_a_head_request_gets_the_length_but_not_the_body() -> None:
    raw = render(Request("HEAD", "/"), Response(HTTPStatus.OK, b"four"))
    assert raw.endswith(b"Content-Length: 4\r\nConnection: close\r\n\r\n")
    assert render(Request("GET", "/"), Response(HTTPStatus.OK, b"four")).endswith(b"\r\n\r\nfour")
