"""The cluster's authority: signs what was approved.

Rules: the permissive signing policy of kube-controller-manager 1.36. The library is imported when the first
certificate is signed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

DEFAULT_LIFETIME = timedelta(days=365)
LEAST_LIFETIME = timedelta(minutes=10)
BACKDATED = timedelta(minutes=5)
SHORT = timedelta(hours=8)
_KEY_USAGES = {
    "signing": "digital_signature", "digital signature": "digital_signature",
    "content commitment": "content_commitment", "key encipherment": "key_encipherment",
    "key agreement": "key_agreement", "data encipherment": "data_encipherment", "cert sign": "key_cert_sign",
    "crl sign": "crl_sign", "encipher only": "encipher_only", "decipher only": "decipher_only",
}  # fmt: skip
_PURPOSES = {
    "any": "2.5.29.37.0", "server auth": "1.3.6.1.5.5.7.3.1", "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3", "email protection": "1.3.6.1.5.5.7.3.4", "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5", "ipsec tunnel": "1.3.6.1.5.5.7.3.6", "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8", "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3", "netscape sgc": "2.16.840.1.113730.4.1",
}  # fmt: skip


def lifetime(asked_seconds: int | None, most: timedelta = DEFAULT_LIFETIME) -> timedelta:
    """What is asked for, but from ten minutes to ``most``."""
    if asked_seconds is None:
        return most
    return min(max(timedelta(seconds=asked_seconds), LEAST_LIFETIME), most)


@dataclass(frozen=True, slots=True)
class Authority:
    """``cert`` and ``key`` in PEM."""

    cert: bytes
    key: bytes

    def sign(
        self, request: x509.CertificateSigningRequest, usages: Iterable[str], valid: timedelta, now: datetime
    ) -> bytes:
        """A certificate in PEM for the request's key, subject and alternative names; no other wish of it is heard.

        A lifetime of eight hours or more reaches five minutes back, for clocks that differ.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        authority = x509.load_pem_x509_certificate(self.cert)
        key = serialization.load_pem_private_key(self.key, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is not an elliptic one")
        usages = tuple(usages)
        begin = now - BACKDATED if valid >= SHORT else now
        end = min(begin + valid, authority.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(authority.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
            )
        )
        if bits := _key_usages(usages):
            builder = builder.add_extension(_key_usage(bits), critical=True)
        purposes = [x509.ObjectIdentifier(_PURPOSES[each]) for each in usages if each in _PURPOSES]
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(dict.fromkeys(purposes)), critical=False)
        try:
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            builder = builder.add_extension(names.value, critical=names.critical)
        except x509.ExtensionNotFound:
            pass
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_usages(usages: Iterable[str]) -> frozenset[str]:
    """The bits; without any the extension is left out: OpenSSL takes a certificate with none for an invalid one."""
    asked = {_KEY_USAGES[each] for each in usages if each in _KEY_USAGES}
    if "key_agreement" not in asked:
        asked -= {"encipher_only", "decipher_only"}
    return frozenset(asked)


def _key_usage(bits: frozenset[str]) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(**{name: name in bits for name in dict.fromkeys(_KEY_USAGES.values())})


def valid_until(pem: bytes) -> datetime:
    """When the first certificate ends. ValueError for what is none."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem).not_valid_after_utc
