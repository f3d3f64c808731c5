"""Rules on CertificateSigningRequests.

Rules: the validation of ``certificates.k8s.io/v1`` in Kubernetes 1.36.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from nodeport.api import certificates, names
from nodeport.api.certificates import APPROVED, DENIED, FAILED
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, duplicate, forbidden, invalid, not_supported, required, too_long

LEAST_SECONDS = 600
USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
_SUBDOMAIN_LENGTH = 253
_CONDITIONS = "status.conditions"
_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\r?\n(.*?)-----END \1-----", re.S)


def validate_request(obj: JsonObject, old: JsonObject | None = None) -> Iterator[FieldError]:
    """``old``: what is wrong there already is borne."""
    spec = obj.get("spec") or {}
    try:
        certificates.parse(spec.get("request"))
    except certificates.BadRequestFile as error:
        yield invalid("spec.request", spec.get("request"), str(error))
    yield from _usages(spec.get("usages") or [])
    signer = spec.get("signerName") or ""
    if signer == certificates.LEGACY_UNKNOWN:
        if old is None:
            yield invalid(
                "spec.signerName", signer, "the legacy signerName is not allowed via this API version"
            )
    else:
        yield from _signer_name(signer)
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < LEAST_SECONDS:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        yield invalid("spec.expirationSeconds", seconds, detail)
    yield from _conditions((obj.get("status") or {}).get("conditions") or [])
    certificate = _certificate(obj)
    if old is None or certificate != _certificate(old):
        why = _certificate_fault(certificate)
        if why:
            yield invalid("status.certificate", "<certificate data>", why)


def _usages(usages: list[str]) -> Iterator[FieldError]:
    if not usages:
        yield required("spec.usages")
    for index, usage in enumerate(usages):
        if usage not in USAGES:
            yield not_supported(f"spec.usages[{index}]", usage, USAGES)
    for index, usage in enumerate(usages):
        if usage in usages[:index]:
            yield duplicate(f"spec.usages[{index}]", usage)


def _signer_name(name: str) -> Iterator[FieldError]:
    path = "spec.signerName"
    segments = name.split("/")
    if not name:
        yield required(path)
        return
    if len(segments) != 2:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        yield invalid(path, name, detail)
        return
    domain, last = segments
    if len(domain) > _SUBDOMAIN_LENGTH:
        yield too_long(path, _SUBDOMAIN_LENGTH)
    labels = domain.split(".")
    for label in labels:
        for why in names.dns_label(label):
            yield invalid(path, domain, f'validating label "{label}": {why}')
    if len(labels) < 2:
        yield invalid(path, domain, "should be a domain with at least two segments separated by dots")
    for label in last.split("."):
        for why in names.dns_subdomain(label):
            yield invalid(path, last, f'validating label "{label}": {why}')
    most = 2 * _SUBDOMAIN_LENGTH + 1 + 63 + 1
    if len(name) > most:
        yield too_long(path, most)


def _conditions(found: list[JsonObject]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, condition in enumerate(found):
        path, kind = f"{_CONDITIONS}[{index}]", condition.get("type") or ""
        if not kind:
            yield required(f"{path}.type")
        allowed = ("True",) if kind in (APPROVED, DENIED, FAILED) else ("False", "True", "Unknown")
        status = condition.get("status") or ""
        if not status:
            yield required(f"{path}.status")
        elif status not in allowed:
            yield not_supported(f"{path}.status", status, allowed)
        if {APPROVED, DENIED} <= {*seen, kind} and kind in (APPROVED, DENIED):
            yield invalid(f"{path}.type", kind, "Approved and Denied conditions are mutually exclusive")
        if kind in seen:
            yield duplicate(f"{path}.type", kind)
        seen.add(kind)


def _certificate(obj: JsonObject) -> str:
    return (obj.get("status") or {}).get("certificate") or ""


def _certificate_fault(text: str) -> str:
    if not text:
        return ""
    from cryptography import x509

    try:
        pem = base64.b64decode(text, validate=True).decode("latin-1")
    except (binascii.Error, ValueError) as error:
        return str(error)
    blocks = _PEM_BLOCK.findall(pem)
    for kind, content in blocks:
        if kind != "CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{kind}"'
        if ":" in content:
            return "no PEM block headers are permitted"
        try:
            x509.load_der_x509_certificate(base64.b64decode(content))
        except ValueError as error:
            return f"x509: malformed certificate: {error}"
    return "" if blocks else "must contain at least one CERTIFICATE PEM block"


def validate_request_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """Through the object itself neither conditions nor a certificate can change."""
    yield from validate_request(new, old)
    yield from _none_removed(new, old)
    yield from _decision_kept(new, old)
    if _certificate(new) != _certificate(old):
        yield forbidden("status.certificate", "updates may not set certificate content")


def validate_request_status(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """/status sets the certificate, once, and does not decide."""
    yield from validate_request(new, old)
    yield from _none_removed(new, old)
    yield from _decision_kept(new, old)
    if _certificate(old) and _certificate(new) != _certificate(old):
        yield forbidden("status.certificate", "updates may not modify existing certificate content")


def validate_request_approval(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """/approval decides, and takes no decision back."""
    yield from validate_request(new, old)
    yield from _none_removed(new, old)


def _none_removed(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    for kind in (APPROVED, DENIED, FAILED):
        if len(certificates.conditions(new, kind)) < len(certificates.conditions(old, kind)):
            yield forbidden(_CONDITIONS, f'updates may not remove a condition of type "{kind}"')


def _decision_kept(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    for kind in (APPROVED, DENIED):
        ours, theirs = certificates.conditions(new, kind), certificates.conditions(old, kind)
        if len(ours) > len(theirs):
            yield forbidden(_CONDITIONS, f'updates may not add a condition of type "{kind}"')
        elif len(ours) == len(theirs) and ours != theirs:
            yield forbidden(_CONDITIONS, f'updates may not modify a condition of type "{kind}"')
