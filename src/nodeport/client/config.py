"""Where an API server is and how to prove who we are; light enough for a command that lives for 50 ms."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Pem = Path | bytes
"""PEM in a file, or the PEM itself."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """``server`` is a URL without a trailing slash; ``ca`` PEM, None for the system's trust.

    ``namespace`` is what a kubeconfig context names; empty when it names none. ``proxy``: the URL, ``http://`` only, of
    a proxy that connections to the server go through; empty for none.
    """

    server: str
    ca: bytes | None = None
    client_cert: Pem | None = None
    client_key: Pem | None = None
    token: str = ""
    namespace: str = ""
    verify: bool = True
    server_name: str = ""
    proxy: str = ""

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def ssl_context(self) -> ssl.SSLContext | None:
        """None for plain HTTP. Raises ``ssl.SSLError`` or ``OSError`` for certificates that cannot be loaded."""
        if not self.server.startswith("https:"):
            return None
        context = ssl.create_default_context(cadata=self.ca.decode() if self.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _ClosedSocket
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert is not None:
            with ExitStack() as stack:
                certificate = stack.enter_context(_as_path(self.client_cert))
                key = stack.enter_context(_as_path(self.client_key)) if self.client_key is not None else None
                context.load_cert_chain(certificate, key)
        return context


class _ClosedSocket(ssl.SSLSocket):
    """Closed when the peer has hung up before the handshake: the ssl module asks who the peer is, and lets go of the
    socket without closing it when there is none any more.
    """

    def getpeername(self) -> Any:
        try:
            return super().getpeername()
        except OSError:
            self.close()
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None


def with_scheme(server: str, *, secured: bool) -> str:
    """``server`` as a URL: what is only a host and a port is reached over TLS where something about TLS was said.

    client-go's rule for ``server`` in a kubeconfig and for ``--master``. Raises ValueError for a URL of another kind.
    """
    scheme, separator, _ = server.partition("://")
    if separator:
        if scheme.lower() not in ("http", "https"):
            raise ValueError(
                f'server "{server}": unsupported protocol scheme "{scheme}", must be http or https'
            )
        return server
    return f"{'https' if secured else 'http'}://{server}"


@contextmanager
def _as_path(pem: Pem) -> Iterator[Path]:
    """The ssl module loads key pairs from files only; a key that came as bytes must not touch a disk for
    that.
    """
    if isinstance(pem, Path):
        yield pem
        return
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
