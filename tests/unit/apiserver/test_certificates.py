"""CertificateSigningRequests: what may be asked for, who decides, and what comes of it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodeport.api.resources import SELF_SUBJECT_REVIEWS
from nodeport.apiserver.auth import User
from nodeport.client.rest import RestClient
from nodeport.testing.apiserver import running_apiserver
from unit.apiserver.security import RBAC, TOKENS, Client, Json, asking, binding, role, rule

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
GROUP = "certificates.k8s.io"
USERS = {
    **TOKENS,
    "machine": User("system:bootstrap:abcdef", ("system:bootstrappers:kubeadm:default-node-token",)),
}


@pytest.fixture
async def ask() -> AsyncIterator[Client]:
    async with asking(tokens=USERS) as client:
        yield client


def pem(name: str, *organizations: str, dns: str = "") -> str:
    """A signed request, as ``spec.request``."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


def csr(name: str = "x", request: str = "", **spec: Any) -> Json:
    wanted = {
        "request": request or pem("system:node:node-a", "system:nodes"), "signerName": SIGNER,
        "usages": ["digital signature", "client auth"], **spec,
    }  # fmt: skip
    return {"metadata": {"name": name}, "spec": wanted}


def decided(made: Json, kind: str, **more: str) -> Json:
    condition = {"type": kind, "status": "True", "reason": "Test", **more}
    return {**made, "status": {**(made.get("status") or {}), "conditions": [condition]}}


def broken(text: str) -> str:
    """The same request under a signature that is not its own."""
    other, own = (base64.b64decode(each).decode() for each in (pem("other"), text))
    requests = [x509.load_pem_x509_csr(each.encode()) for each in (other, own)]
    der = requests[1].public_bytes(serialization.Encoding.DER)
    body = requests[1].tbs_certrequest_bytes
    at = der.index(body)
    forged = der[:at] + body.replace(b"system:node:node-a", b"system:node:node-b") + der[at + len(body) :]
    lines = base64.encodebytes(forged).decode()
    return base64.b64encode(
        f"-----BEGIN CERTIFICATE REQUEST-----\n{lines}-----END CERTIFICATE REQUEST-----\n".encode()
    ).decode()


async def test_who_asks_is_what_the_server_knows(ask: Client) -> None:
    await ask.must("admin", "POST", f"{RBAC}/clusterroles", role("r", rule("*", "*", GROUP)))
    await ask.must(
        "admin", "POST", f"{RBAC}/clusterrolebindings", binding("b", "ClusterRole", "r", "User:bob")
    )
    made = await ask.must("bob", "POST", CSRS, csr(username="root", groups=["system:masters"], uid="7"))
    assert made["spec"]["username"] == "bob"
    assert made["spec"]["groups"] == ["team", "system:authenticated"]
    assert "uid" not in made["spec"]
    assert made["status"] == {}


async def test_a_request_never_changes_but_in_its_metadata(ask: Client) -> None:
    made = await ask.must("admin", "POST", CSRS, csr())
    changed = decided({**made, "spec": {**made["spec"], "usages": ["any"]}}, "Approved")
    changed["metadata"]["labels"] = {"a": "b"}
    after = await ask.must("admin", "PUT", f"{CSRS}/x", changed)
    assert (after["spec"], after["status"], after["metadata"]["labels"]) == (made["spec"], {}, {"a": "b"})


FAULTS: list[tuple[Callable[[], Json], str]] = [
    (lambda: csr(request=base64.b64encode(b"no pem").decode()), "PEM block type must be CERTIFICATE REQUEST"),
    (lambda: csr(usages=[]), "spec.usages: Required value"),
    (lambda: csr(usages=["any", "any"]), 'spec.usages[1]: Duplicate value: "any"'),
    (lambda: csr(usages=["fishing"]), 'spec.usages[0]: Unsupported value: "fishing": supported values: "any", '),
    (lambda: csr(signerName=""), "spec.signerName: Required value"),
    (lambda: csr(signerName="me"),
     'spec.signerName: Invalid value: "me": must be a fully qualified domain and path of the form '
     "'example.com/signer-name'"),
    (lambda: csr(signerName="one/x"),
     'spec.signerName: Invalid value: "one": should be a domain with at least two segments separated by dots'),
    (lambda: csr(signerName="kubernetes.io/legacy-unknown"),
     'spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this '
     "API version"),
    (lambda: csr(expirationSeconds=599),
     "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=lambda each: each if isinstance(each, str) else "")
async def test_what_cannot_be_asked_for_is_said_in_kubernetes_words(
    ask: Client, make: Callable[[], Json], text: str
) -> None:
    status, body = await ask("admin", "POST", CSRS, make())
    assert status == 422
    assert text in body["message"]


async def test_a_signature_that_is_not_the_keys_is_refused(ask: Client) -> None:
    status, body = await ask(
        "admin", "POST", CSRS, csr(request=broken(pem("system:node:node-a", "system:nodes")))
    )
    assert (status, body["details"]["causes"][0]["field"]) == (422, "spec.request")


async def test_a_decision_is_made_through_approval_once_and_stays(ask: Client) -> None:
    made = await ask.must("admin", "POST", CSRS, csr())
    status, body = await ask("admin", "PUT", f"{CSRS}/x/status", decided(made, "Approved"))
    assert (status, body["message"].partition("invalid: ")[2]) == (
        422, 'status.conditions: Forbidden: updates may not add a condition of type "Approved"',
    )  # fmt: skip
    approved = await ask.must("admin", "PUT", f"{CSRS}/x/approval", decided(made, "Approved"))
    (condition,) = approved["status"]["conditions"]
    assert condition["lastUpdateTime"] == condition["lastTransitionTime"] != ""
    both = {**approved, "status": {"conditions": [condition, {"type": "Denied", "status": "True"}]}}
    status, body = await ask("admin", "PUT", f"{CSRS}/x/approval", both)
    assert "Approved and Denied conditions are mutually exclusive" in body["message"]
    none = {**approved, "status": {}}
    status, body = await ask("admin", "PUT", f"{CSRS}/x/approval", none)
    assert 'updates may not remove a condition of type "Approved"' in body["message"]
    status, body = await ask(
        "admin", "PUT", f"{CSRS}/x/approval", decided(approved, "Approved", status="False")
    )
    assert 'supported values: "True"' in body["message"]


async def test_what_is_set_as_certificate_must_be_one(ask: Client) -> None:
    made = await ask.must("admin", "POST", CSRS, csr())
    wrong = {**made, "status": {"certificate": base64.b64encode(b"nothing").decode()}}
    status, body = await ask("admin", "PUT", f"{CSRS}/x/status", wrong)
    assert (status, body["message"].partition("invalid: ")[2]) == (
        422,
        'status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block',
    )
    good = base64.b64encode(ask.server.ca_pem).decode()
    signed = await ask.must("admin", "PUT", f"{CSRS}/x/status", {**made, "status": {"certificate": good}})
    two = base64.b64encode(ask.server.ca_pem * 2).decode()
    status, body = await ask("admin", "PUT", f"{CSRS}/x/status", {**signed, "status": {"certificate": two}})
    assert "updates may not modify existing certificate content" in body["message"]


@pytest.mark.parametrize("name", [SIGNER, "kubernetes.io/*"])
async def test_who_approves_needs_the_right_for_the_signer(ask: Client, name: str) -> None:
    made = await ask.must("admin", "POST", CSRS, csr())
    whole = role("r", rule("*", "certificatesigningrequests certificatesigningrequests/approval", GROUP))
    await ask.must("admin", "POST", f"{RBAC}/clusterroles", whole)
    await ask.must(
        "admin", "POST", f"{RBAC}/clusterrolebindings", binding("b", "ClusterRole", "r", "User:bob")
    )
    status, body = await ask("bob", "PUT", f"{CSRS}/x/approval", decided(made, "Approved"))
    assert (status, body["message"]) == (
        403,
        'certificatesigningrequests.certificates.k8s.io "x" is forbidden: user not permitted to approve requests with '
        f'signerName "{SIGNER}"',
    )
    await ask.must(
        "admin", "POST", f"{RBAC}/clusterroles", role("s", rule("approve", "signers", GROUP, name))
    )
    await ask.must(
        "admin", "POST", f"{RBAC}/clusterrolebindings", binding("c", "ClusterRole", "s", "User:bob")
    )
    await ask.must("bob", "PUT", f"{CSRS}/x/approval", decided(made, "Approved"))


async def test_nobody_asks_for_a_masters_certificate_and_no_node_for_anothers(ask: Client) -> None:
    client = "kubernetes.io/kube-apiserver-client"
    status, body = await ask(
        "admin", "POST", CSRS, csr(request=pem("me", "system:masters"), signerName=client)
    )
    assert (status, body["message"].partition("forbidden: ")[2]) == (
        403, f"use of {client} signer with system:masters group is not allowed",
    )  # fmt: skip
    status, body = await ask("node-a", "POST", CSRS, csr(request=pem("system:node:node-b", "system:nodes")))
    assert (status, body["message"].partition("forbidden: ")[2]) == (
        403, "can only create a node CSR with CN=system:node:node-a",
    )  # fmt: skip
    await ask.must("node-a", "POST", CSRS, csr())


async def test_a_machine_with_a_token_may_ask_and_nothing_else(ask: Client) -> None:
    await ask.must("machine", "POST", CSRS, csr())
    await ask.must("machine", "GET", f"{CSRS}/x")
    assert (await ask("machine", "DELETE", f"{CSRS}/x"))[0] == 403
    assert (await ask("machine", "GET", "/api/v1/nodes"))[0] == 403
    assert (await ask("machine", "PUT", f"{CSRS}/x/approval", decided(csr(), "Approved")))[0] == 403


def test_the_purposes_that_certificates_are_signed_for_have_their_numbers() -> None:
    from nodeport.controllers.certificates.signing import _PURPOSES

    assert _PURPOSES["client auth"] == ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string
    assert _PURPOSES["server auth"] == ExtendedKeyUsageOID.SERVER_AUTH.dotted_string


async def test_whoever_comes_with_a_certificate_is_told_which() -> None:
    async with running_apiserver() as server, RestClient(server.admin_config) as client:
        found = await client.create(SELF_SUBJECT_REVIEWS, {"metadata": {}})
        admin = x509.load_pem_x509_certificate(server.pki.admin.cert.read_bytes())
        assert found["status"]["userInfo"] == {
            "username": "kubernetes-admin",
            "groups": ["system:masters", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/credential-id": [
                    f"X509SHA256={admin.fingerprint(hashes.SHA256()).hex()}"
                ]
            },
        }
