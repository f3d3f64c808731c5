"""Why a registry could not be talked with, in the words that people know from a kubelet: those of Go's libraries."""

from __future__ import annotations

import os
import socket
import ssl

import aiohttp

_UNKNOWN_AUTHORITY = frozenset((2, 18, 19, 20, 21))
_EXPIRED, _WRONG_NAME = 10, 62
"""OpenSSL's numbers of what is wrong with a certificate (X509_V_ERR_...)."""


def cause(error: Exception) -> str:
    """Of an error of aiohttp's; names who was called, if that was the matter."""
    match error:
        case aiohttp.ClientProxyConnectionError():
            return f"proxyconnect tcp: {_dial(error)}"
        case aiohttp.ClientConnectorCertificateError():
            return _certificate(error.certificate_error)
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ssl.SSLError):
            return _tls(error.os_error)
        case aiohttp.ClientConnectorError():
            return _dial(error)
        case aiohttp.ServerDisconnectedError():
            return "EOF"
        case aiohttp.ClientPayloadError():
            return "unexpected EOF"
        case TimeoutError():
            return "i/o timeout"
        case ssl.SSLError():
            return _tls(error)
        case OSError():
            return _plain(error)
    return str(error) or type(error).__name__


def _dial(error: aiohttp.ClientConnectorError) -> str:
    found = error.os_error
    if isinstance(found, socket.gaierror):
        unknown = found.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        return f"dial tcp: lookup {error.host}: {'no such host' if unknown else found.strerror}"
    host = f"[{error.host}]" if ":" in error.host else error.host
    return f"dial tcp {host}:{error.port}: connect: {_plain(found)}"


def _plain(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _certificate(error: Exception) -> str:
    number = getattr(error, "verify_code", 0)
    if number in _UNKNOWN_AUTHORITY:
        what = "certificate signed by unknown authority"
    elif number == _EXPIRED:
        what = "certificate has expired or is not yet valid"
    else:
        what = getattr(error, "verify_message", "") or str(error)
        what = what.rstrip(".") if number == _WRONG_NAME else what
    return f"tls: failed to verify certificate: x509: {what}"


def _tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error)
    if error.reason == "WRONG_VERSION_NUMBER":
        return "http: server gave HTTP response to HTTPS client"
    return f"tls: {(error.reason or str(error)).replace('_', ' ').lower()}"
