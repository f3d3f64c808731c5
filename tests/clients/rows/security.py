"""Who may do what."""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from clients.kit import Kit, manifest, row, wait_for


@row("auth", "can-i, as oneself and --as another")
def can_i(k: Kit) -> None:
    assert k("auth", "can-i", "create", "services").strip().endswith("yes")
    assert k("auth", "can-i", "create", "services", "--as=jane", code=1).strip().endswith("no")


@row("auth", "can-i --list")
def can_i_list(k: Kit) -> None:
    assert "*.*" in k("auth", "can-i", "--list")


@row("auth", "reconcile; create role, rolebinding: --as is then allowed")
def create_roles(k: Kit) -> None:
    k("create", "role", "reader", "--verb=get,list", "--resource=services,pods")
    k("create", "rolebinding", "readers", "--role=reader", "--user=jane")
    assert "services" in k("describe", "role", "reader")
    k("auth", "can-i", "list", "services", "--as=jane")
    assert k("get", "services", "--as=jane").startswith("No resources")
    text = k("get", "secrets", "--as=jane", code=1)
    assert 'User "jane" cannot list resource "secrets" in API group "" in the namespace' in text


@row("create", "clusterrole, clusterrolebinding; describe")
def create_cluster_roles(k: Kit) -> None:
    name = f"r-{k.namespace}"
    k("create", "clusterrole", name, "--verb=get", "--resource=nodes")
    k("create", "clusterrolebinding", name, f"--clusterrole={name}", "--user=jane")
    assert "nodes" in k("describe", "clusterrole", name)
    assert name in k("describe", "clusterrolebinding", name)
    k("delete", "clusterrole,clusterrolebinding", name)
    assert "cluster-admin" in k("get", "clusterroles", "cluster-admin")


@row("create", "token: it is good for its ServiceAccount", since="1.24")
def create_token(k: Kit) -> None:
    k("create", "serviceaccount", "robot")
    token = k("create", "token", "robot").strip().splitlines()[-1]
    words = (*elsewhere(k), f"--token={token}")
    text = k(*words, "get", "pods", "-n", k.namespace, code=1)
    assert f'User "system:serviceaccount:{k.namespace}:robot" cannot list resource "pods"' in text


def elsewhere(k: Kit) -> tuple[str, ...]:
    """Words that lead to the same server as nobody."""
    config, ca = k.home / f"empty-{k.namespace}", k.home / f"ca-{k.namespace}"
    server, authority = k("config", "view", "--minify", "--raw", "-o",
        "jsonpath={.clusters[0].cluster.server} {.clusters[0].cluster.certificate-authority-data}").split()  # fmt: skip
    ca.write_bytes(base64.b64decode(authority))
    config.write_text("")
    return (f"--kubeconfig={config}", f"--server={server}", f"--certificate-authority={ca}")


@row("auth", "whoami", since="1.28")
def whoami(k: Kit) -> None:
    assert "system:masters" in k("auth", "whoami")


@row("create", "a SubjectAccessReview is answered")
def create_review(k: Kit) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "secrets"}},
    }  # fmt: skip
    text = k("create", "-o", "jsonpath={.status.allowed}", "-f", "-", stdin=manifest(review))
    assert text == "false"


@row("get", "crd: there are none, and making one is refused")
def custom_resources_refused(k: Kit) -> None:
    assert "No resources found" in k("get", "crd")
    made = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "as.b.c"},
        "spec": {
            "group": "b.c", "names": {"plural": "as", "singular": "a", "kind": "A", "listKind": "AList"},
            "scope": "Namespaced", "versions": [],
        },
    }  # fmt: skip
    assert "this server serves no custom resources" in k("create", "-f", "-", stdin=manifest(made), code=1)


@row("certificate", "approve: what is signed holds, for its user; deny: nothing is signed")
def certificate_requests(k: Kit) -> None:
    key, user = ec.generate_private_key(ec.SECP256R1()), f"jane-{k.namespace}"
    wanted, refused = f"wanted-{k.namespace}", f"refused-{k.namespace}"
    k("create", "-f", "-", stdin=manifest(*(signing_request(each, user, key) for each in (wanted, refused))))
    k("certificate", "deny", refused)
    k("certificate", "approve", wanted)
    signed = wait_for(lambda: k.path("csr", wanted, ".status.certificate"), "the certificate is signed")
    assert "Approved,Issued" in k("get", "csr", wanted)
    assert k.path("csr", refused, ".status").count("Denied") == 1
    cert, secret = k.home / f"cert-{k.namespace}", k.home / f"key-{k.namespace}"
    cert.write_bytes(base64.b64decode(signed))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    words = (*elsewhere(k), f"--client-certificate={cert}", f"--client-key={secret}")
    text = k(*words, "get", "pods", "-n", k.namespace, code=1)
    assert f'User "{user}" cannot list resource "pods"' in text
    k("delete", "csr", wanted, refused)


def signing_request(name: str, user: str, key: ec.EllipticCurvePrivateKey) -> dict[str, object]:
    """A request for what the API takes as ``user``, for client authentication and nothing else."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user)])
    pem = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    return {
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(pem).decode(), "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client",
        },
    }  # fmt: skip
