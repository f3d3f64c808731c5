"""Requests for certificates from asking to using them, through the real API."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from nodeport.api.certificates import KUBELET_SERVING, conditions
from nodeport.api.meta import JsonObject
from nodeport.api.resources import CERTIFICATE_SIGNING_REQUESTS, NODES, SECRETS
from nodeport.api.status import Forbidden, NotFound
from nodeport.cli.joining import JoinError, join
from nodeport.cli.token import GROUP
from nodeport.client import kubeconfig
from nodeport.client.rest import RestClient
from nodeport.kit.clock import SystemClock, rfc3339
from nodeport.node.certificaterequests import client_request
from nodeport.node.servingcertificate import ServingCertificate, renewal, tls_of
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

ROW = CERTIFICATE_SIGNING_REQUESTS
TOKEN = "abcdef.0123456789abcdef"


async def bootstrap(cluster: ControlledCluster, folder: Path, **more: str) -> Path:
    """A kubeconfig with a token that lets machines in; ``more`` of its Secret's data."""
    token_id, _, secret = TOKEN.partition(".")
    data = {
        "token-id": token_id, "token-secret": secret, "usage-bootstrap-authentication": "true",
        "auth-extra-groups": GROUP, **more,
    }  # fmt: skip
    await cluster.client.create(SECRETS, {
        "metadata": {"name": f"bootstrap-token-{token_id}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token", "stringData": data,
    })  # fmt: skip
    path = folder / "bootstrap"
    kubeconfig.merge(path, name="b", server=cluster.api.url, ca=cluster.api.ca_pem, token=TOKEN)
    return path


async def requested(cluster: ControlledCluster, name: str, **spec: object) -> JsonObject:
    """The administrator's request in a node's name."""
    made = client_request("n1", ec.generate_private_key(ec.SECP256R1()))
    made["metadata"] = {"name": name}
    made["spec"] |= spec
    return await cluster.client.create(ROW, made)


async def approve(cluster: ControlledCluster, request: JsonObject) -> None:
    condition = {"type": "Approved", "status": "True", "reason": "Test", "message": ""}
    status = {"conditions": [condition]}
    await cluster.client.update(ROW, {**request, "status": status}, subresource="approval")


async def test_a_machine_with_a_token_becomes_a_node_that_is_kept_to_its_own(tmp_path: Path) -> None:
    async with controlled_cluster(nodes=0) as cluster:
        target = tmp_path / "node.kubeconfig"
        await join(await bootstrap(cluster, tmp_path), target, "m1", SystemClock())
        assert target.stat().st_mode & 0o777 == 0o600
        async with RestClient(kubeconfig.load(target)) as node:
            await node.create(NODES, {"metadata": {"name": "m1"}})
            with pytest.raises(Forbidden):
                await node.create(NODES, {"metadata": {"name": "m2"}})
            with pytest.raises(Forbidden):
                await node.list(SECRETS)
        (made,) = (await cluster.client.list(ROW))["items"]
        (condition,) = conditions(made, "Approved")
        assert condition["message"] == "Auto approving kubelet client certificate after SubjectAccessReview."
        again = tmp_path / "again"
        await join(target, again, "m1", SystemClock())
        asked = [
            each
            for each in (await cluster.client.list(ROW))["items"]
            if each["spec"]["username"] == "system:node:m1"
        ]
        (condition,) = conditions(asked[0], "Approved")
        assert (
            condition["message"]
            == "Auto approving self kubelet client certificate after SubjectAccessReview."
        )


@pytest.mark.parametrize(
    "data", [{"expiration": rfc3339(datetime(2020, 1, 1, tzinfo=UTC))}, {"token-secret": "x" * 16}]
)
async def test_a_token_that_does_not_hold_lets_nobody_in(tmp_path: Path, data: dict[str, str]) -> None:
    async with controlled_cluster(nodes=0) as cluster:
        with pytest.raises(JoinError, match="does not let node 'm1' in: Unauthorized"):
            await join(await bootstrap(cluster, tmp_path, **data), tmp_path / "t", "m1", SystemClock())
        assert not (tmp_path / "t").exists()


async def test_a_refused_machine_is_told_why(tmp_path: Path) -> None:
    async with controlled_cluster(nodes=0) as cluster:
        config = await bootstrap(cluster, tmp_path, **{"auth-extra-groups": "system:bootstrappers:strangers"})
        with pytest.raises(JoinError, match="cannot create resource"):
            await join(config, tmp_path / "t", "m1", SystemClock())


async def test_what_an_administrator_approves_is_signed_as_asked() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        usages = ["digital signature", "client auth"]
        made = await requested(cluster, "short", expirationSeconds=3600, usages=usages)
        await approve(cluster, made)

        async def certificate() -> str:
            found = await cluster.client.get(ROW, "short")
            return str((found.get("status") or {}).get("certificate") or "")

        pem = base64.b64decode(await eventually(certificate))
        signed = x509.load_pem_x509_certificate(pem)
        signed.verify_directly_issued_by(x509.load_pem_x509_certificate(cluster.api.ca_pem))
        assert signed.not_valid_after_utc - signed.not_valid_before_utc == timedelta(hours=1)
        purposes = signed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        constraints = signed.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert constraints.ca is False


async def test_a_certificate_for_clients_alone_is_one_that_openssl_takes(tmp_path: Path) -> None:
    async with controlled_cluster(nodes=0) as cluster:
        made = client_request("n1", key := ec.generate_private_key(ec.SECP256R1()))
        made["metadata"] = {"name": "plain"}
        made["spec"] |= {"usages": ["client auth"], "signerName": "kubernetes.io/kube-apiserver-client"}
        await approve(cluster, await cluster.client.create(ROW, made))

        async def certificate() -> str:
            found = await cluster.client.get(ROW, "plain")
            return str((found.get("status") or {}).get("certificate") or "")

        pem, path = base64.b64decode(await eventually(certificate)), tmp_path / "both.pem"
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(secret + pem)
        ssl.create_default_context().load_cert_chain(path)
        with pytest.raises(x509.ExtensionNotFound):
            x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.KeyUsage)


async def test_a_nodes_server_gets_a_certificate_for_what_is_its_own_and_keeps_it(tmp_path: Path) -> None:
    async with controlled_cluster(nodes=0) as cluster:
        target, clock = tmp_path / "node.kubeconfig", SystemClock()
        await join(await bootstrap(cluster, tmp_path), target, "m1", clock)
        address = IPv4Address("172.31.1.7")
        async with RestClient(kubeconfig.load(target)) as node:
            listed = [{"type": "InternalIP", "address": str(address)}, {"type": "Hostname", "address": "m1"}]
            made = await node.create(NODES, {"metadata": {"name": "m1"}, "status": {"addresses": listed}})
            assert made["status"]["addresses"] == listed

            async def at_once() -> None:
                return

            file, tls = tmp_path / "pki" / "server.pem", tls_of(cluster.api.ca_pem)
            serving = ServingCertificate(node, "m1", [address], file, tls, clock, at_once)
            keeping = asyncio.ensure_future(serving.run())

            async def is_there() -> bool:
                return renewal(file, "m1", [address]) is not None

            await eventually(is_there)
            keeping.cancel()
        assert file.stat().st_mode & 0o777 == 0o600
        signed = x509.load_pem_x509_certificate(file.read_bytes())
        signed.verify_directly_issued_by(x509.load_pem_x509_certificate(cluster.api.ca_pem))
        names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.IPAddress) == [address]
        due = renewal(file, "m1", [address])
        assert due is not None
        assert timedelta(days=280) < due - datetime.now(UTC) < timedelta(days=300)
        assert renewal(file, "m1", [address, IPv4Address("172.31.1.8")]) is None
        assert renewal(file, "m2", [address]) is None
        assert tls.get_ca_certs()


async def test_servers_of_nodes_wait_for_somebody_and_are_checked_when_signed() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        usages = ["digital signature", "server auth"]
        made = await requested(cluster, "serving", signerName=KUBELET_SERVING, usages=usages)
        await requested(cluster, "later")  # looked at after it
        made = await cluster.client.get(ROW, "serving")
        assert not conditions(made, "Approved")
        await approve(cluster, made)

        async def failure() -> str:
            found = conditions(await cluster.client.get(ROW, "serving"), "Failed")
            return str(found[0]["message"]) if found else ""

        assert await eventually(failure) == "DNS or IP subjectAltName is required"


async def test_requests_of_other_signers_are_left_alone_and_old_ones_go() -> None:
    async with controlled_cluster(nodes=0) as cluster:
        foreign = await requested(cluster, "foreign", signerName="example.com/mine")
        await approve(cluster, foreign)
        old = await requested(cluster, "old", signerName="example.com/mine")
        yesterday = rfc3339(datetime.now(UTC) - timedelta(hours=2))
        condition = {"type": "Denied", "status": "True", "lastUpdateTime": yesterday}
        await cluster.client.update(
            ROW, {**old, "status": {"conditions": [condition]}}, subresource="approval"
        )

        async def is_gone() -> bool:
            try:
                await cluster.client.get(ROW, "old")
            except NotFound:
                return True
            return False

        await eventually(is_gone)
        status = (await cluster.client.get(ROW, "foreign"))["status"]
        assert set(status) == {"conditions"}


def test_the_private_key_never_leaves_the_machine() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = base64.b64decode(client_request("n1", key)["spec"]["request"])
    assert b"PRIVATE" not in pem
    assert x509.load_pem_x509_csr(pem).public_key() == key.public_key()
