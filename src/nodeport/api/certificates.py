"""CertificateSigningRequests as data: what is asked for, by whom, and what has become of it.

Rules: ``certificates.k8s.io/v1`` in Kubernetes 1.36. The library that reads certificates is imported when the first of
them is looked at: most starts of a server see none.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodeport.api.meta import JsonObject

if TYPE_CHECKING:
    from cryptography.x509 import CertificateSigningRequest

GROUP = "certificates.k8s.io"
APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"
NODES, NODE_PREFIX = "system:nodes", "system:node:"
_BEGIN, _END = "-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----"


class BadRequestFile(ValueError):
    """``spec.request`` is no certificate request; one sentence."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the request's PKCS #10 part asks for; ``addresses`` as IP addresses are written, ``mails`` and ``uris``
    counted."""

    common_name: str
    organizations: tuple[str, ...]
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    mails: int = 0
    uris: int = 0


def parse(text: str | None) -> CertificateSigningRequest:
    """``spec.request``, base64 of PEM, with its signature checked. Raises BadRequestFile."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        pem = base64.b64decode(text or "", validate=True).decode("latin-1")
    except (binascii.Error, ValueError) as error:
        raise BadRequestFile(str(error)) from error
    begin = pem.find("-----BEGIN ")
    if begin < 0 or not pem.startswith(_BEGIN, begin) or _END not in pem:
        raise BadRequestFile("PEM block type must be CERTIFICATE REQUEST")
    try:
        found = x509.load_pem_x509_csr(pem[begin:].encode("latin-1"))
        is_signed = found.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadRequestFile(f"asn1: structure error: {error}") from error
    if not is_signed:
        raise BadRequestFile("x509: signature is not that of the request's key")
    return found


def wanted(found: CertificateSigningRequest) -> Wanted:
    """Raises BadRequestFile for names that cannot be read."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def values(oid: x509.ObjectIdentifier) -> list[str]:
        return [str(each.value) for each in found.subject.get_attributes_for_oid(oid)]

    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise BadRequestFile(f"x509: subjectAltName cannot be read: {error}") from error
    dns = tuple(names.get_values_for_type(x509.DNSName))
    addresses = tuple(str(each) for each in names.get_values_for_type(x509.IPAddress))
    counts = [
        len(names.get_values_for_type(kind)) for kind in (x509.RFC822Name, x509.UniformResourceIdentifier)
    ]
    common = values(NameOID.COMMON_NAME)
    organizations = tuple(values(NameOID.ORGANIZATION_NAME))
    return Wanted(common[-1] if common else "", organizations, dns, addresses, *counts)


def kubelet_client_fault(what: Wanted, usages: list[str]) -> str:
    """Why this is no client certificate of a node; empty when it is one."""
    if what.organizations != (NODES,):
        return "subject organization is not system:nodes"
    for count, kind in ((what.dns, "DNS"), (what.mails, "Email"), (what.addresses, "IP"), (what.uris, "URI")):
        if count:
            return f"{kind} subjectAltNames are not allowed"
    if not what.common_name.startswith(NODE_PREFIX):
        return "subject common name does not begin with system:node:"
    return _usages_fault(usages, "client auth")


def kubelet_serving_fault(what: Wanted, usages: list[str]) -> str:
    """Why this is no server certificate of a node; empty when it is one."""
    if what.organizations != (NODES,):
        return "subject organization is not system:nodes"
    if not what.dns and not what.addresses:
        return "DNS or IP subjectAltName is required"
    for count, kind in ((what.mails, "Email"), (what.uris, "URI")):
        if count:
            return f"{kind} subjectAltNames are not allowed"
    if fault := _usages_fault(usages, "server auth"):
        return fault
    return (
        ""
        if what.common_name.startswith(NODE_PREFIX)
        else "subject common name does not begin with system:node:"
    )


def client_fault(_what: Wanted, usages: list[str]) -> str:
    """Why this is no client certificate; empty when it is one."""
    for usage in usages:
        if usage not in ("digital signature", "key encipherment", "client auth"):
            return f"invalid usage for client certificate: {usage}"
    return "" if "client auth" in usages else "missing required usage for client certificate: client auth"


def _usages_fault(usages: list[str], purpose: str) -> str:
    required = {"digital signature", "key encipherment", purpose}
    if set(usages) in (required, required - {"key encipherment"}):
        return ""
    return f"usages did not match [{' '.join(sorted(required))}]"


SIGNERS: dict[str, Callable[[Wanted, list[str]], str]] = {
    KUBELET_CLIENT: kubelet_client_fault, KUBELET_SERVING: kubelet_serving_fault, CLIENT: client_fault,
    LEGACY_UNKNOWN: lambda _what, _usages: "",
}  # fmt: skip
"""What the cluster's authority signs -> what is wrong with a request for it."""


def conditions(request: JsonObject, kind: str) -> list[JsonObject]:
    """The conditions of that type."""
    found = (request.get("status") or {}).get("conditions") or []
    return [each for each in found if (each.get("type") or "") == kind]


def is_decided(request: JsonObject) -> bool:
    return bool(conditions(request, APPROVED) or conditions(request, DENIED))


def is_open_for_signing(request: JsonObject) -> bool:
    """Approved, not denied or failed, and without a certificate."""
    status = request.get("status") or {}
    refused = conditions(request, DENIED) or [
        each for each in conditions(request, FAILED) if each.get("status") == "True"
    ]
    return bool(conditions(request, APPROVED)) and not refused and not status.get("certificate")


def signer_names(name: str) -> Iterator[str]:
    """Under which names of ``signers`` somebody may have been given rights for a signer."""
    yield name
    yield f"{name.partition('/')[0]}/*"
