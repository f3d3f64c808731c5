from __future__ import annotations

import pytest

from nodeport.node.actions import HttpGet
from nodeport.node.webget import address_of, parse_head, request_headers, url_of


def test_addresses_and_urls_are_spelled_as_go_spells_them() -> None:
    assert address_of("fd00::1", 80) == "[fd00::1]:80"
    assert url_of(HttpGet(80, "x?y=1", scheme="HTTPS"), "10.0.0.1") == "https://10.0.0.1:80/x?y=1"


def test_headers_of_a_probe_come_before_ours_and_may_take_them_away() -> None:
    assert request_headers(()) == {"user-agent": "kube-probe/1.36", "accept": "*/*", "connection": "close"}
    found = request_headers((("Host", "a.example"), ("User-Agent", ""), ("Accept", "text/html")))
    assert found == {"host": "a.example", "accept": "text/html", "connection": "close"}


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([b"HTTP/1.1 200 OK\r\n", b"Location: /x\r\n"], (200, "")),
        ([b"HTTP/1.0 302\r\n", b"LOCATION:  /x\r\n"], (302, "/x")),
        ([b"HTTP/1.1 304 Not Modified\r\n"], (304, "")),
    ],
)
def test_a_redirection_is_told_by_its_status(lines: list[bytes], found: tuple[int, str]) -> None:
    assert parse_head(lines) == found


def test_what_is_no_http_is_quoted() -> None:
    with pytest.raises(ValueError, match='malformed HTTP response "SSH-2.0-x"'):
        parse_head([b"SSH-2.0-x\r\n"])
