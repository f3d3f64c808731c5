"""How a node asks for a certificate, and waits until somebody has approved and signed it.

Rules: a kubelet's TLS bootstrap (https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodeport.api.certificates import (
    APPROVED,
    DENIED,
    FAILED,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    NODE_PREFIX,
    NODES,
    conditions,
)
from nodeport.api.meta import JsonObject
from nodeport.api.resources import CERTIFICATE_SIGNING_REQUESTS
from nodeport.client.rest import RestClient
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger

POLL = timedelta(milliseconds=500)
_log = get_logger(__name__)


class NotGranted(Exception):
    """The request is denied, or cannot be signed; one sentence."""


def client_request(node: str, key: ec.EllipticCurvePrivateKey) -> JsonObject:
    """The CertificateSigningRequest of a node's client certificate."""
    return _request(node, key, KUBELET_CLIENT, "client auth", None)


def server_request(
    node: str, addresses: Sequence[IPv4Address | IPv6Address], key: ec.EllipticCurvePrivateKey
) -> JsonObject:
    """That of the certificate of a node's server, for its name and its addresses."""
    names = [x509.DNSName(node), *map(x509.IPAddress, addresses)]
    return _request(node, key, KUBELET_SERVING, "server auth", x509.SubjectAlternativeName(names))


def _request(
    node: str,
    key: ec.EllipticCurvePrivateKey,
    signer: str,
    purpose: str,
    names: x509.SubjectAlternativeName | None,
) -> JsonObject:
    subject = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODES),
        x509.NameAttribute(NameOID.COMMON_NAME, f"{NODE_PREFIX}{node}"),
    ])  # fmt: skip
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names is not None:
        asked = asked.add_extension(names, critical=False)
    signed = asked.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return {
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64.b64encode(signed).decode(), "signerName": signer,
            "usages": ["digital signature", purpose],
        },
    }  # fmt: skip


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


async def ask(client: RestClient, request: JsonObject, clock: Clock) -> bytes:
    """The certificate in PEM, whenever it comes. Raises NotGranted, ApiError, TransportError."""
    made = await client.create(CERTIFICATE_SIGNING_REQUESTS, request)
    name, waiting = made["metadata"]["name"], False
    while True:
        found = await client.get(CERTIFICATE_SIGNING_REQUESTS, name)
        for kind in (DENIED, FAILED):
            for condition in conditions(found, kind):
                why = condition.get("message") or condition.get("reason") or "no reason is given"
                raise NotGranted(f"certificate signing request {name} is {kind.lower()}: {why}")
        if text := (found.get("status") or {}).get("certificate"):
            return base64.b64decode(text)
        if not waiting and not conditions(found, APPROVED):
            _log.info("waiting for approval: kubectl certificate approve %s", name)
            waiting = True
        await clock.sleep(POLL.total_seconds())
