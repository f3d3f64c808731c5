"""The cluster's own certificate authority and the certificates of its parts.

Kept in one directory as PEM files, keys readable by their owner only. Making them is idempotent: what is there, valid
and covers the wanted names is kept, so that a restart invalidates no kubeconfig.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodeport.apiserver.auth import NODE_PREFIX, NODES_GROUP

CA_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=30)
BACKDATED = timedelta(minutes=5)
NODE_STEM = "node-"
"""What the files of nodes' certificates begin with."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SERVER_NAMES = (
    "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a certificate and its private key, PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Authority:
    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class ClusterPki:
    """The files of one cluster. ``server`` serves the API; the others are clients of it or of the kubelets.

    ``service_account_key`` signs the tokens of ServiceAccounts: they hold as long as it stays.
    """

    directory: Path
    ca: KeyPair
    server: KeyPair
    admin: KeyPair
    controller: KeyPair
    proxy: KeyPair
    kubelet_client: KeyPair
    service_account_key: Path

    @property
    def ca_pem(self) -> bytes:
        return self.ca.cert.read_bytes()

    @classmethod
    def ensure(
        cls,
        directory: Path,
        *,
        addresses: Iterable[Address] = (),
        names: Iterable[str] = (),
        service_address: Address | None = None,
    ) -> ClusterPki:
        """Make what is missing. The server's certificate covers localhost, ``addresses``, ``names``, and
        ``service_address``, the ClusterIP of the ``kubernetes`` Service."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        covered = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"), *addresses]
        if service_address is not None:
            covered.append(service_address)
        authority = _ensure_authority(directory)
        make = _Maker(directory, authority)
        return cls(
            directory=directory,
            ca=_pair(directory, "ca"),
            server=make.server("server", "kube-apiserver", (*SERVER_NAMES, *names), covered),
            admin=make.client("admin", "kubernetes-admin", ("system:masters",)),
            controller=make.client("controller", "system:kube-controller-manager", ()),
            proxy=make.client("proxy", "system:kube-proxy", ()),
            kubelet_client=make.client(
                "kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",)
            ),
            service_account_key=_ensure_key(directory / "sa.key"),
        )

    def node(self, name: str, addresses: Iterable[Address] = ()) -> KeyPair:
        """The certificate of a node: its client certificate here and its server certificate for logs."""
        return self.nodes({name: tuple(addresses)})[name]

    def nodes(self, addresses: Mapping[str, Sequence[Address]]) -> dict[str, KeyPair]:
        """The certificates of several nodes, by name. They are not synced to the disk one by one: what a power cut
        takes is made again."""
        make = _Maker(self.directory, _load_authority(self.ca), durable=False)
        return {
            name: make.both(f"{NODE_STEM}{name}", f"{NODE_PREFIX}{name}", (NODES_GROUP,), (name,), known)
            for name, known in addresses.items()
        }

    def keep_nodes(self, names: Iterable[str]) -> None:
        """Remove the certificates of all other nodes."""
        kept = {f"{NODE_STEM}{name}" for name in names}
        for path in self.directory.glob(f"{NODE_STEM}*"):
            if path.stem not in kept:
                path.unlink()


def _pair(directory: Path, stem: str) -> KeyPair:
    return KeyPair(directory / f"{stem}.crt", directory / f"{stem}.key")


def _ensure_authority(directory: Path) -> _Authority:
    pair = _pair(directory, "ca")
    if pair.cert.exists() and pair.key.exists():
        return _load_authority(pair)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nodeport-ca")])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    cert = (
        _builder(name, name, key.public_key(), CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_pair(pair, cert, key)
    return _Authority(cert, key)


def _load_authority(pair: KeyPair) -> _Authority:
    cert = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    key = serialization.load_pem_private_key(pair.key.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return _Authority(cert, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
    )


class _Maker:
    """Makes the certificates that one authority signs."""

    def __init__(self, directory: Path, authority: _Authority, *, durable: bool = True) -> None:
        self._directory = directory
        self._authority = authority
        self._durable = durable

    def server(self, stem: str, name: str, names: Sequence[str], addresses: Sequence[Address]) -> KeyPair:
        return self._ensure(stem, name, (), [ExtendedKeyUsageOID.SERVER_AUTH], names, addresses)

    def client(self, stem: str, name: str, groups: Sequence[str]) -> KeyPair:
        return self._ensure(stem, name, groups, [ExtendedKeyUsageOID.CLIENT_AUTH], (), ())

    def both(
        self, stem: str, name: str, groups: Sequence[str], names: Sequence[str], addresses: Sequence[Address]
    ) -> KeyPair:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._ensure(stem, name, groups, usages, names, addresses)

    def _ensure(
        self,
        stem: str,
        name: str,
        groups: Sequence[str],
        usages: list[x509.ObjectIdentifier],
        names: Sequence[str],
        addresses: Sequence[Address],
    ) -> KeyPair:
        pair = _pair(self._directory, stem)
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        if self._still_good(pair, subject, names, addresses):
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._authority.cert.subject
        builder = (
            _builder(subject, issuer, key.public_key(), LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._authority.key.public_key()),
                critical=False,
            )
        )
        if names or addresses:
            alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        _write_pair(pair, builder.sign(self._authority.key, hashes.SHA256()), key, durable=self._durable)
        return pair

    def _still_good(
        self, pair: KeyPair, subject: x509.Name, names: Sequence[str], addresses: Sequence[Address]
    ) -> bool:
        try:
            cert = x509.load_pem_x509_certificate(pair.cert.read_bytes())
            key = serialization.load_pem_private_key(pair.key.read_bytes(), password=None)
        except (FileNotFoundError, ValueError):  # missing, or cut off when the machine went down
            return False
        if cert.public_key() != key.public_key():
            return False
        if cert.not_valid_after_utc - RENEW_BEFORE < datetime.now(UTC):
            return False
        if cert.issuer != self._authority.cert.subject or cert.subject != subject:
            return False
        if not names and not addresses:
            return True
        try:
            found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return False
        return set(names) <= set(found.get_values_for_type(x509.DNSName)) and set(addresses) <= set(
            found.get_values_for_type(x509.IPAddress)
        )


def _ensure_key(path: Path) -> Path:
    """Another one of the family (``sa-2.key``) may have taken its place."""
    if not any(path.parent.glob(f"{path.stem}*{path.suffix}")):
        _write(path, _private_bytes(ec.generate_private_key(ec.SECP256R1())))
    return path


def _private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_pair(
    pair: KeyPair, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey, *, durable: bool = True
) -> None:
    _write(pair.key, _private_bytes(key), durable=durable)
    _write(pair.cert, cert.public_bytes(serialization.Encoding.PEM), durable=durable)


def _write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write whole or not at all, mode 0600 from the first byte."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
