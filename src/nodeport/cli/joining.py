"""How a machine gets its node's certificate: with a bootstrap token it asks, and somebody approves.

Rules: a kubelet's TLS bootstrap (https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/).
"""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodeport.api.certificates import APPROVED, DENIED, FAILED, KUBELET_CLIENT, NODE_PREFIX, NODES, conditions
from nodeport.api.meta import JsonObject
from nodeport.api.resources import CERTIFICATE_SIGNING_REQUESTS
from nodeport.api.status import ApiError
from nodeport.client import kubeconfig
from nodeport.client.rest import RestClient, TransportError
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger

POLL = timedelta(milliseconds=500)
CLUSTER = "default"
_log = get_logger(__name__)


class JoinError(Exception):
    """The machine is not let in; one sentence."""


async def join(bootstrap: Path, target: Path, node: str, clock: Clock) -> None:
    """Write a kubeconfig with the node's own certificate to ``target``, asking with that of ``bootstrap``.

    Waits until the request is approved. Raises JoinError when it is refused, KubeconfigError for a bad file.
    """
    config = kubeconfig.load(bootstrap)
    key = ec.generate_private_key(ec.SECP256R1())
    async with RestClient(config, user_agent="nodeport-agent") as client:
        try:
            made = await client.create(CERTIFICATE_SIGNING_REQUESTS, request_for(node, key))
            certificate = await _certificate(client, made["metadata"]["name"], clock)
        except ApiError as error:
            raise JoinError(f"the cluster does not let node {node!r} in: {error}") from error
        except TransportError as error:
            raise JoinError(f"{config.server} does not answer: {error}") from error
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    kubeconfig.merge(
        target, name=CLUSTER, server=config.server, ca=config.ca or b"", cert=certificate, key=private,
        proxy=config.proxy,
    )  # fmt: skip
    _log.info("node %s has a certificate of its own: %s", node, target)


def request_for(node: str, key: ec.EllipticCurvePrivateKey) -> JsonObject:
    """The CertificateSigningRequest of a node's client certificate."""
    subject = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODES),
        x509.NameAttribute(NameOID.COMMON_NAME, f"{NODE_PREFIX}{node}"),
    ])  # fmt: skip
    signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return {
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode(),
            "signerName": KUBELET_CLIENT, "usages": ["digital signature", "client auth"],
        },
    }  # fmt: skip


async def _certificate(client: RestClient, name: str, clock: Clock) -> bytes:
    waiting = False
    while True:
        request = await client.get(CERTIFICATE_SIGNING_REQUESTS, name)
        for kind in (DENIED, FAILED):
            for condition in conditions(request, kind):
                why = condition.get("message") or condition.get("reason") or "no reason is given"
                raise JoinError(f"certificate signing request {name} is {kind.lower()}: {why}")
        if text := (request.get("status") or {}).get("certificate"):
            return base64.b64decode(text)
        if not waiting and not conditions(request, APPROVED):
            _log.info("waiting for approval: kubectl certificate approve %s", name)
            waiting = True
        await clock.sleep(POLL.total_seconds())
