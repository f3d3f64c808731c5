"""The certificate of a node's server: asked for over the API, kept on disk, renewed before it ends.

The node serves from its start; as long as it has no certificate, connections to it fail at their handshake.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nodeport.api.status import ApiError
from nodeport.client.rest import RestClient, TransportError
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.node import certificaterequests
from nodeport.node.certificaterequests import NotGranted

RETRY = timedelta(seconds=30)
RENEWED_AT = 0.8
"""Of its lifetime."""
_log = get_logger(__name__)


def tls_of(client_ca: bytes) -> ssl.SSLContext:
    """TLS for a server without a certificate yet, that lets nobody in without one of ``client_ca`` (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=client_ca.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@dataclass(frozen=True, slots=True)
class ServingCertificate:
    """``file``: where certificate and key are kept, one behind the other. ``ready``: waits until it may ask."""

    client: RestClient
    node: str
    addresses: Sequence[IPv4Address | IPv6Address]
    file: Path
    tls: ssl.SSLContext
    clock: Clock
    ready: Callable[[], Awaitable[None]]

    async def run(self) -> None:
        """Keep ``tls`` with a certificate that holds, until cancelled."""
        due = renewal(self.file, self.node, self.addresses)
        if due is not None:
            self.tls.load_cert_chain(self.file)
        while True:
            if due is not None and (left := due - self.clock.now()) > timedelta():
                await self.clock.sleep(min(left, timedelta(days=1)).total_seconds())
                continue
            await self.ready()
            try:
                await self._renew()
            except (ApiError, TransportError, NotGranted, OSError) as error:
                _log.warning("no certificate for the server of node %s: %s", self.node, error)
                await self.clock.sleep(RETRY.total_seconds())
                continue
            due = renewal(self.file, self.node, self.addresses)
            _log.info("the server of node %s has a certificate until %s", self.node, due)

    async def _renew(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        request = certificaterequests.server_request(self.node, self.addresses, key)
        certificate = await certificaterequests.ask(self.client, request, self.clock)
        fresh = self.file.with_suffix(".new")
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_bytes(certificate + certificaterequests.private_pem(key))
        fresh.rename(self.file)
        self.tls.load_cert_chain(self.file)


def renewal(file: Path, node: str, addresses: Sequence[IPv4Address | IPv6Address]) -> datetime | None:
    """When the kept certificate is to be renewed; None: there is none, or it is not for these names."""
    try:
        pem = file.read_bytes()
        found = x509.load_pem_x509_certificate(pem)
        key = load_pem_private_key(pem[pem.index(b"-----BEGIN PRIVATE KEY") :], password=None)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return None
    told = {*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress)}
    if key.public_key() != found.public_key() or told != {node, *addresses}:
        return None
    whole = found.not_valid_after_utc - found.not_valid_before_utc
    return found.not_valid_before_utc + whole * RENEWED_AT
