"""What an image's puller says of a registry that it cannot talk with."""

from __future__ import annotations

import errno
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from nodeport.node.images.causes import cause


def key(host: str, port: int = 443) -> ConnectionKey:
    return ConnectionKey(host, port, True, True, None, None, None, None)


def certificate_error(number: int, words: str) -> aiohttp.ClientConnectorCertificateError:
    error = ssl.SSLCertVerificationError(1, words)
    error.verify_code, error.verify_message = number, words
    return aiohttp.ClientConnectorCertificateError(key("r.example.org"), error)


REFUSED = OSError(errno.ECONNREFUSED, "Connect call failed ('192.0.2.1', 443)")
NOT_TLS = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)")
NOT_TLS.reason = "WRONG_VERSION_NUMBER"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            aiohttp.ClientConnectorError(key("192.0.2.1"), REFUSED),
            "dial tcp 192.0.2.1:443: connect: connection refused",
        ),
        (
            aiohttp.ClientConnectorError(key("2001:db8::1", 5000), OSError(errno.EHOSTUNREACH, "x")),
            "dial tcp [2001:db8::1]:5000: connect: no route to host",
        ),
        (
            aiohttp.ClientConnectorDNSError(key("r.example.org"), socket.gaierror(socket.EAI_NONAME, "x")),
            "dial tcp: lookup r.example.org: no such host",
        ),
        (
            aiohttp.ClientConnectorDNSError(key("r.example.org"), socket.gaierror(socket.EAI_AGAIN, "try again")),
            "dial tcp: lookup r.example.org: try again",
        ),
        (
            aiohttp.ClientProxyConnectionError(key("proxy", 3128), REFUSED),
            "proxyconnect tcp: dial tcp proxy:3128: connect: connection refused",
        ),
        (
            certificate_error(18, "self-signed certificate"),
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        (
            certificate_error(10, "certificate has expired"),
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
        ),
        (
            certificate_error(62, "Hostname mismatch, certificate is not valid for 'r.example.org'."),
            "tls: failed to verify certificate: x509: Hostname mismatch, certificate is not valid for 'r.example.org'",
        ),
        (
            aiohttp.ClientConnectorSSLError(key("r.example.org"), NOT_TLS),
            "http: server gave HTTP response to HTTPS client",
        ),
        (aiohttp.ServerDisconnectedError(), "EOF"),
        (aiohttp.ClientPayloadError("Response payload is not completed"), "unexpected EOF"),
        (aiohttp.ServerTimeoutError("Connection timeout to host https://r.example.org"), "i/o timeout"),
        (aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by peer"), "connection reset by peer"),
        (aiohttp.InvalidURL("x"), "x"),
    ],
)  # fmt: skip
def test_causes_are_said_in_a_kubelets_words(error: Exception, words: str) -> None:
    assert cause(error) == words
