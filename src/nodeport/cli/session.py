"""A command's connection to the API: one server, one HTTP connection, plain blocking calls."""

from __future__ import annotations

import functools
import http.client
import json
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode, urlsplit

import click

from nodeport import __version__
from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.api.status import from_status
from nodeport.cli.errors import Unreachable, UserError
from nodeport.client.config import ClientConfig

DEFAULT_NAMESPACE = "default"
FIELD_MANAGER = "nodeport"
PATIENCE = 30.0
"""Seconds without a byte after which a request is given up; watches may be silent for longer."""

JSON = "application/json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said, and the warnings that came with it."""

    body: JsonObject
    code: int


class Session:
    """Raises ``api.status.ApiError`` for refusals, ``Unreachable`` when nobody answers. A context manager."""

    def __init__(self, config: ClientConfig, *, namespace: str = "") -> None:
        self.config = config
        self.namespace = namespace or config.namespace or DEFAULT_NAMESPACE
        self._connection: http.client.HTTPConnection | None = None
        self._warned: set[str] = set()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def get(self, path: str, query: Mapping[str, object] | None = None, *, accept: str = JSON) -> JsonObject:
        return self.request("GET", path, query=query, accept=accept).body

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Answer:
        """One request; empty members of ``query`` are left out, ``body`` is sent as JSON."""
        response = self._send(method, path, query, body, content_type, accept)
        try:
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        return Answer(self._object(content, response), response.status)

    def watch(self, path: str, query: Mapping[str, object], *, accept: str = JSON) -> Iterator[JsonObject]:
        """The events of a watch as they come; ends when the server ends it."""
        response = self._send("GET", path, {**query, "watch": "true"}, None, JSON, accept)
        if response.status != http.client.OK:
            self._object(response.read(), response)
        if self._connection is not None and self._connection.sock is not None:
            self._connection.sock.settimeout(None)
        while line := response.readline():
            event: JsonObject = json.loads(line)
            if event.get("type") == "ERROR":
                raise from_status(event["object"])
            yield event

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        content_type: str,
        accept: str,
    ) -> http.client.HTTPResponse:
        target = urlsplit(self.config.server).path.rstrip("/") + path
        wanted = {key: value for key, value in (query or {}).items() if value not in ("", None, 0)}
        if wanted:
            target += f"?{urlencode(wanted)}"
        headers = {"Accept": accept, "User-Agent": f"nodeport/{__version__}", **self.config.headers()}
        if self.config.proxy and self.config.server.startswith("http:"):  # over TLS there is a tunnel instead
            target = f"http://{urlsplit(self.config.server).netloc}{target}"
            headers |= _proxy_headers(self.config.proxy)
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        try:
            connection = self._connected()
            connection.request(method, target, payload, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        self._show_warnings(response)
        return response

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = _connection(self.config)
        return self._connection

    def _object(self, content: bytes, response: http.client.HTTPResponse) -> JsonObject:
        try:
            body = json.loads(content) if content else {}
        except ValueError:
            body = {"message": content.decode(errors="replace").strip()[:500]}
        if response.status >= http.client.BAD_REQUEST:
            raise from_status({"code": response.status, **body} if isinstance(body, dict) else {})
        return body if isinstance(body, dict) else {}

    def _show_warnings(self, response: http.client.HTTPResponse) -> None:
        for header in response.headers.get_all("Warning") or []:
            text = _warning_text(header)
            if text and text not in self._warned:
                self._warned.add(text)
                click.echo(f"Warning: {text}", err=True)

    def _unreachable(self, error: Exception) -> Unreachable:
        self._connection = None
        server = self.config.server
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(
                f"{server} shows a certificate that this kubeconfig does not trust: {error.verify_message}"
            )
        if isinstance(error, TimeoutError | socket.timeout):
            return Unreachable(f"{server} did not answer within {PATIENCE:.0f} s")
        why = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else str(error) or type(error).__name__
        )
        return Unreachable(f"no server answers at {server}: {why}; is the cluster up?")


def _connection(config: ClientConfig) -> http.client.HTTPConnection:
    """To the server, or to the proxy in front of it; not connected yet."""
    address, proxy = urlsplit(config.server), urlsplit(config.proxy)
    host, tls = address.hostname or "", config.ssl_context()
    to_host, to_port = (proxy.hostname or "", proxy.port or 80) if config.proxy else (host, address.port)
    if tls is None:
        return http.client.HTTPConnection(to_host, to_port, timeout=PATIENCE)
    connection = _TlsConnection(to_host, to_port, tls, config.server_name or host)
    if config.proxy:
        connection.set_tunnel(host, address.port or 443, _proxy_headers(config.proxy))
    return connection


def _proxy_headers(proxy: str) -> dict[str, str]:
    """Who we are for the proxy, if its URL says so."""
    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}


class _TlsConnection(http.client.HTTPSConnection):
    """HTTPS to an address whose certificate may name somebody else (``tls-server-name``)."""

    def __init__(self, host: str, port: int | None, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(host, port, timeout=PATIENCE, context=context)
        self._tls = context
        self._server_name = server_name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


def _warning_text(header: str) -> str:
    """The text of ``299 - "some text"`` (RFC 7234 section 5.5), which may hold escaped quotes."""
    first, last = header.find('"'), header.rfind('"')
    text = header[first + 1 : last] if 0 <= first < last else ""
    return text.replace('\\"', '"').replace("\\\\", "\\")


def object_path(resource: Resource, session: Session, name: str = "", subresource: str = "") -> str:
    """The path of an object, or collection, in the session's namespace."""
    return resource.path(session.namespace if resource.namespaced else "", name, subresource)


def open_session(kubeconfig: Path | None, context: str, namespace: str) -> Session:
    """Connect as the kubeconfig says: ``--kubeconfig``, else ``KUBECONFIG``, else ``~/.kube/config``."""
    from nodeport.client.kubeconfig import KubeconfigError, load, paths_from

    try:
        config = load(kubeconfig or paths_from(os.environ), context or None)
        config.ssl_context()
    except KubeconfigError as error:
        sentence = " ".join(str(error).split())
        raise UserError(f"{sentence}; 'nodeport up' starts a cluster and writes one") from error
    except (OSError, ValueError) as error:
        raise UserError(f"the kubeconfig's certificates cannot be used: {error}") from error
    return Session(config, namespace=namespace)


def connected(command: Command) -> Command:
    """Give a command the options that say which cluster and namespace, and a ``session`` as its first argument."""

    @click.option("--kubeconfig", type=click.Path(path_type=Path), help="Use this kubeconfig file.")
    @click.option("--context", default="", help="Use this context of the kubeconfig.")
    @click.option("-n", "--namespace", default="", help="Work in this namespace.")
    @functools.wraps(command)
    def wrapped(kubeconfig: Path | None, context: str, namespace: str, **options: Any) -> Any:
        with open_session(kubeconfig, context, namespace) as session:
            return command(session, **options)

    return wrapped  # type: ignore[return-value]  # click rewrites the signature in any case
