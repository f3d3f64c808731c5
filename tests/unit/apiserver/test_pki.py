"""The cluster's certificates."""

from __future__ import annotations

import stat
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodeport.apiserver.pki import ClusterPki


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_every_part_has_a_certificate_that_says_who_it_is(tmp_path: Path) -> None:
    pki = ClusterPki.ensure(tmp_path / "pki", service_address=IPv4Address("10.96.0.1"))
    who = {
        pki.admin: ("kubernetes-admin", ["system:masters"]), pki.controller: ("system:kube-controller-manager", []),
        pki.proxy: ("system:kube-proxy", []),
        pki.kubelet_client: ("kube-apiserver-kubelet-client", ["system:masters"]),
        pki.node("node-1"): ("system:node:node-1", ["system:nodes"]),
    }  # fmt: skip
    authority = load(pki.ca.cert)
    for pair, (name, groups) in who.items():
        subject = load(pair.cert).subject
        assert [each.value for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [name]
        assert [each.value for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == groups
        load(pair.cert).verify_directly_issued_by(authority)
        assert isinstance(load(pair.cert).public_key(), ec.EllipticCurvePublicKey)


def test_the_server_is_known_by_all_its_names(tmp_path: Path) -> None:
    pki = ClusterPki.ensure(
        tmp_path,
        addresses=[IPv4Address("172.30.0.1")],
        names=["cp.example.com"],
        service_address=IPv4Address("10.96.0.1"),
    )
    found = load(pki.server.cert).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    names = found.get_values_for_type(x509.DNSName)
    assert {"localhost", "kubernetes.default.svc", "cp.example.com"} <= set(names)
    addresses = {str(each) for each in found.get_values_for_type(x509.IPAddress)}
    assert {"127.0.0.1", "172.30.0.1", "10.96.0.1"} <= addresses


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    pki = ClusterPki.ensure(tmp_path / "pki")
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700
    files = list(pki.directory.iterdir())
    assert len(files) == 13
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_ensuring_again_keeps_what_is_good_and_renews_what_is_not(tmp_path: Path) -> None:
    first = ClusterPki.ensure(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ClusterPki.ensure(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    ClusterPki.ensure(tmp_path, addresses=[IPv4Address("192.0.2.1")])
    changed = {path.name for path in tmp_path.iterdir() if path.read_bytes() != before[path.name]}
    assert changed == {"server.crt", "server.key"}
    first.service_account_key.rename(tmp_path / "sa-2.key")
    first.admin.key.unlink()
    ClusterPki.ensure(tmp_path)
    load(first.admin.cert).verify_directly_issued_by(load(first.ca.cert))
    assert not first.service_account_key.exists()


def test_every_node_has_a_key_of_its_own_and_torn_files_are_made_again(tmp_path: Path) -> None:
    pki = ClusterPki.ensure(tmp_path)
    wanted = {name: (IPv4Address(address),) for name, address in (("a", "192.0.2.1"), ("b", "192.0.2.2"))}
    made = pki.nodes(wanted)
    assert made["a"].key.read_bytes() != made["b"].key.read_bytes()
    before = made["a"].cert.read_bytes()
    made["b"].cert.write_bytes(b"")
    made["a"].key.write_bytes(made["b"].key.read_bytes())
    assert pki.nodes(wanted) == made
    assert made["a"].cert.read_bytes() != before
    for pair in made.values():
        key = serialization.load_pem_private_key(pair.key.read_bytes(), password=None)
        assert load(pair.cert).public_key() == key.public_key()
    pki.keep_nodes(["b"])
    assert [path.name for path in sorted(tmp_path.glob("node-*"))] == ["node-b.crt", "node-b.key"]
