"""kubectl's commands about users, roles and tokens, oldest and newest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from nodeport.node.certificaterequests import client_request


def minor(kubectl: Any) -> int:
    return int(kubectl.version.split(".")[1])


async def test_roles_are_made_bound_and_tried_in_another_name(kubectl: Any) -> None:
    await kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods,pods/log")
    await kubectl(
        "create", "rolebinding", "readers", "--role=reader", "--user=ann", "--serviceaccount=default:robot"
    )
    assert (await kubectl("auth", "can-i", "list", "pods", "--as=ann")).out.strip() == "yes"
    assert (
        await kubectl("auth", "can-i", "get", "pods", "--subresource=log", "--as=ann")
    ).out.strip() == "yes"
    refused = await kubectl("auth", "can-i", "delete", "pods", "--as=ann", fails=True)
    assert refused.out.split()[0] == "no"
    assert (await kubectl("auth", "can-i", "*", "*")).out.strip() == "yes"
    account = "--as=system:serviceaccount:default:robot"
    assert "No resources found" in (await kubectl("get", "pods", account)).err
    denied = await kubectl("get", "secrets", account, fails=True)
    assert (
        'Error from server (Forbidden): secrets is forbidden: User "system:serviceaccount:default:robot" cannot list '
        'resource "secrets" in API group "" in the namespace "default"'
    ) in denied.err
    listed = await kubectl("get", "role,rolebinding", "-o", "wide")
    assert "Role/reader" in listed.out
    assert "default/robot" in listed.out


async def test_what_one_may_do_is_listed(kubectl: Any) -> None:
    await kubectl("create", "clusterrole", "r", "--verb=get", "--resource=nodes")
    await kubectl("create", "clusterrolebinding", "b", "--clusterrole=r", "--group=team")
    listed = await kubectl(
        "auth", "can-i", "--list", "--as=bob", "--as-group=team", "--as-group=system:authenticated"
    )
    rows = {line.split()[0]: line for line in listed.lines}
    assert "[get]" in rows["nodes"]
    assert "[create]" in rows["selfsubjectaccessreviews.authorization.k8s.io"]
    assert "[/api/*]" in listed.out


async def test_nobody_hands_out_more_than_he_has(kubectl: Any) -> None:
    await kubectl("create", "rolebinding", "admins", "--clusterrole=admin", "--user=bob")
    words = ("create", "rolebinding", "more", "--clusterrole=cluster-admin", "--user=bob", "--as=bob")
    refused = await kubectl(*words, fails=True)
    assert "is attempting to grant RBAC permissions not currently held:" in refused.err
    assert "impersonate" in (await kubectl("describe", "clusterrole", "edit")).out


async def test_roles_are_reconciled_from_a_file(kubectl: Any, tmp_path: Path) -> None:
    manifest = tmp_path / "role.yaml"
    manifest.write_text(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: default}\n"
        "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n"
    )
    done = await kubectl("auth", "reconcile", "-f", str(manifest))
    assert "role.rbac.authorization.k8s.io/r reconciled" in done.out


async def test_a_token_is_made_and_lets_in(kubectl: Any) -> None:
    await kubectl("create", "serviceaccount", "robot")
    await kubectl("create", "rolebinding", "b", "--clusterrole=view", "--serviceaccount=default:robot")
    if minor(kubectl) >= 24:
        made = await kubectl(
            "create",
            "token",
            "robot",
            "--duration=20m",
            "--audience=https://kubernetes.default.svc.cluster.local",
        )
        token = made.out.strip()
    else:
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 1200},
        }
        path = "/api/v1/namespaces/default/serviceaccounts/robot/token"
        token = (await kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(request))).json["status"][
            "token"
        ]
    config = json.loads((await kubectl("config", "view", "--raw", "-o", "json")).out)
    config["users"] = [{"name": "robot", "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = "robot"
    own = kubectl.kubeconfig.with_name("robot")
    own.write_text(json.dumps(config))
    environment = {"KUBECONFIG": str(own)}
    assert "No resources found" in (await kubectl("get", "pods", **environment)).err
    refused = await kubectl("get", "secrets", fails=True, **environment)
    assert 'User "system:serviceaccount:default:robot" cannot list resource "secrets"' in refused.err
    if minor(kubectl) >= 28:
        shown = await kubectl("auth", "whoami", "-o", "json", **environment)
        assert shown.json["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"


async def test_access_reviews_are_made_from_files(kubectl: Any) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "ann", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}},
    }  # fmt: skip
    made = await kubectl("create", "--validate=false", "-f", "-", "-o", "json", stdin=json.dumps(review))
    assert made.json["status"] == {"allowed": False}


async def test_certificates_are_approved_and_denied(kubectl: Any, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        made = client_request("n1", ec.generate_private_key(ec.SECP256R1()))
        kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        (tmp_path / name).write_text(json.dumps({**kind, **made, "metadata": {"name": name}}))
        await kubectl("create", "-f", str(tmp_path / name))
    assert "good approved" in (await kubectl("certificate", "approve", "good")).out
    assert "bad denied" in (await kubectl("certificate", "deny", "bad")).out
    rows = {line.split()[0]: line.split() for line in (await kubectl("get", "csr")).lines}
    assert rows["NAME"][2:] == ["SIGNERNAME", "REQUESTOR", "REQUESTEDDURATION", "CONDITION"]
    assert rows["good"][2] == "kubernetes.io/kube-apiserver-client-kubelet"
    assert (rows["good"][-1], rows["bad"][-1]) == ("Approved", "Denied")
    refused = await kubectl("certificate", "approve", "good", "--as=ann", fails=True)
    assert "forbidden" in refused.err.lower()
    assert "system:node:n1" in (await kubectl("describe", "csr", "good")).out
