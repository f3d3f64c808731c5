"""ServiceAccount tokens, bootstrap tokens, and the reviews that tell about users."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from nodeport.api.resources import SECRETS, SERVICE_ACCOUNTS
from nodeport.apiserver.auth import User
from nodeport.apiserver.authentication.bootstraptokens import BootstrapTokens
from nodeport.apiserver.authentication.serviceaccounts import DEFAULT_ISSUER, ServiceAccountTokens
from nodeport.apiserver.authentication.signing import SigningKeys, read_key
from nodeport.apiserver.encoding import encode_stored, key_of
from nodeport.apiserver.pki import ClusterPki
from nodeport.kit.clock import SystemClock
from nodeport.store.base import Put
from nodeport.store.memory import MemoryStore
from unit.apiserver.security import RBAC, Client, Json, asking, binding, pod, role, rule

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
PODS = "/api/v1/namespaces/default/pods"
AUTHENTICATION = "/apis/authentication.k8s.io/v1"
AUTHORIZATION = "/apis/authorization.k8s.io/v1"


@pytest.fixture
async def ask() -> AsyncIterator[Client]:
    async with asking() as client:
        await client.must("admin", "POST", ACCOUNTS, {"metadata": {"name": "robot"}})
        yield client


async def token_for(ask: Client, name: str = "robot", asker: str = "admin", **spec: Any) -> str:
    found = await ask.must(asker, "POST", f"{ACCOUNTS}/{name}/token", {"spec": spec})
    return str(found["status"]["token"])


def claims_of(token: str) -> Json:
    payload = token.split(".")[1]
    found: Json = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


async def whoami(ask: Client, token: str) -> tuple[int, Json]:
    status, found = await ask(token, "POST", f"{AUTHENTICATION}/selfsubjectreviews", {})
    return status, found["status"]["userInfo"] if status == 201 else found


async def test_a_token_says_who_one_is(ask: Client) -> None:
    answer = await ask.must("admin", "POST", f"{ACCOUNTS}/robot/token", {"spec": {}})
    assert (answer["kind"], answer["apiVersion"]) == ("TokenRequest", "authentication.k8s.io/v1")
    assert answer["spec"] == {"audiences": [DEFAULT_ISSUER], "expirationSeconds": 3600}
    token = answer["status"]["token"]
    claims = claims_of(token)
    account = await ask.must("admin", "GET", f"{ACCOUNTS}/robot")
    uid = account["metadata"]["uid"]
    assert claims["exp"] - claims["iat"] == 3600
    assert (claims["iss"], claims["aud"]) == (DEFAULT_ISSUER, [DEFAULT_ISSUER])
    assert claims["kubernetes.io"] == {
        "namespace": "default",
        "serviceaccount": {"name": "robot", "uid": uid},
    }
    status, user = await whoami(ask, token)
    assert status == 201
    assert user == {
        "username": "system:serviceaccount:default:robot",
        "uid": uid,
        "groups": ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
        "extra": {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]},
    }
    assert (await ask(token, "GET", PODS))[0] == 403
    await ask.must("admin", "POST", f"{RBAC}/namespaces/default/rolebindings",
                   binding("b", "ClusterRole", "view", "ServiceAccount:robot:default"))  # fmt: skip
    assert (await ask(token, "GET", PODS))[0] == 200


async def test_a_token_dies_with_its_account_even_if_another_takes_the_name(ask: Client) -> None:
    token = await token_for(ask)
    assert (await whoami(ask, token))[0] == 201
    await ask.must("admin", "DELETE", f"{ACCOUNTS}/robot")
    assert (await whoami(ask, token))[0] == 401
    await ask.must("admin", "POST", ACCOUNTS, {"metadata": {"name": "robot"}})
    assert (await whoami(ask, token))[0] == 401


@pytest.mark.parametrize(
    ("kind", "path", "obj"),
    [
        ("Pod", PODS, pod("bound", "", serviceAccountName="robot")),
        ("Secret", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "bound"}}),
        ("Node", "/api/v1/nodes", {"metadata": {"name": "bound"}}),
    ],
)
async def test_a_token_dies_with_what_it_is_bound_to(ask: Client, kind: str, path: str, obj: Json) -> None:
    made = await ask.must("admin", "POST", path, obj)
    reference = {"kind": kind, "apiVersion": "v1", "name": "bound", "uid": made["metadata"]["uid"]}
    token = await token_for(ask, boundObjectRef=reference)
    status, user = await whoami(ask, token)
    assert status == 201
    if kind == "Pod":
        assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["bound"]
    await ask.must("admin", "DELETE", f"{path}/bound?gracePeriodSeconds=0")
    assert (await whoami(ask, token))[0] == 401
    status, body = await ask(
        "admin", "POST", f"{ACCOUNTS}/robot/token", {"spec": {"boundObjectRef": reference}}
    )
    assert (status, body["reason"]) == (404, "NotFound")


@pytest.mark.parametrize(
    ("request_body", "status", "message"),
    [
        ({"spec": {"expirationSeconds": 599}}, 422,
         'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify '
         "a duration less than 10 minutes"),
        ({"spec": {"expirationSeconds": 2**32 + 1}}, 422,
         'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not '
         "specify a duration larger than 2^32 seconds"),
        ({"metadata": {"name": "other"}, "spec": {}}, 422,
         'TokenRequest.authentication.k8s.io "robot" is invalid: metadata.name: Invalid value: "other": must match the '
         "service account name if specified"),
        ({"metadata": {"namespace": "other"}, "spec": {}}, 422,
         'TokenRequest.authentication.k8s.io "robot" is invalid: metadata.namespace: Invalid value: "other": must match '
         "the service account namespace if specified"),
        ({"spec": {"boundObjectRef": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "d"}}}, 400,
         "cannot bind token to object of type apps/v1, Kind=Deployment"),
        ({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "other"}}}, 400,
         'cannot bind token for serviceaccount "robot" to pod running with different serviceaccount name.'),
        ({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "mine", "uid": "x"}}}, 409,
         'Operation cannot be fulfilled on Pod "mine": the UID in the bound object reference (x) does not match the UID '
         "in record. The object might have been deleted and then recreated"),
    ],
)  # fmt: skip
async def test_token_requests_that_are_refused(
    ask: Client, request_body: Json, status: int, message: str
) -> None:
    await ask.must("admin", "POST", PODS, pod("other", ""))
    await ask.must("admin", "POST", PODS, pod("mine", "", serviceAccountName="robot"))
    found, body = await ask("admin", "POST", f"{ACCOUNTS}/robot/token", request_body)
    assert (found, body["message"]) == (status, message)


async def test_tokens_are_asked_for_by_those_who_may_and_not_made_by_dry_runs(ask: Client) -> None:
    assert (await ask("ann", "POST", f"{ACCOUNTS}/robot/token", {"spec": {}}))[0] == 403
    assert (await ask("admin", "POST", f"{ACCOUNTS}/nobody/token", {"spec": {}}))[0] == 404
    dry = await ask.must("admin", "POST", f"{ACCOUNTS}/robot/token?dryRun=All", {"spec": {}})
    assert dry["status"]["token"] == ""
    assert (await ask("admin", "GET", f"{ACCOUNTS}/robot/token"))[0] == 405


async def test_nodes_get_tokens_for_their_pods_alone(ask: Client) -> None:
    await ask.must("admin", "POST", "/api/v1/nodes", {"metadata": {"name": "node-a"}})
    here = await ask.must("admin", "POST", PODS, pod("here", "node-a", serviceAccountName="robot"))
    there = await ask.must("admin", "POST", PODS, pod("there", "node-b", serviceAccountName="robot"))

    def bound(made: Json) -> Json:
        meta = made["metadata"]
        return {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}

    token = await token_for(ask, asker="node-a", boundObjectRef=bound(here))
    extra = (await whoami(ask, token))[1]["extra"]
    assert extra["authentication.kubernetes.io/node-name"] == ["node-a"]
    path = f"{ACCOUNTS}/robot/token"
    assert (await ask("node-a", "POST", path, {"spec": {}}))[1]["message"] == (
        'serviceaccounts "robot" is forbidden: node requested token not bound to a pod'
    )
    body = (await ask("node-a", "POST", path, {"spec": {"boundObjectRef": bound(there)}}))[1]
    assert body["message"] == (
        'serviceaccounts "robot" is forbidden: node requested token bound to a pod scheduled on a different node'
    )
    await ask.must("admin", "POST", ACCOUNTS, {"metadata": {"name": "unused"}})
    assert (await ask("node-a", "POST", f"{ACCOUNTS}/unused/token", {"spec": {}}))[0] == 403


async def test_a_token_for_another_audience_is_nobody_here_but_can_be_reviewed(ask: Client) -> None:
    token = await token_for(ask, audiences=["vault"])
    assert (await whoami(ask, token))[0] == 401
    path = f"{AUTHENTICATION}/tokenreviews"
    found = await ask.must("admin", "POST", path, {"spec": {"token": token}})
    assert found["status"] == {"user": {}, "error": "invalid bearer token"}
    found = await ask.must("admin", "POST", path, {"spec": {"token": token, "audiences": ["vault", "x"]}})
    assert found["status"]["authenticated"] is True
    assert found["status"]["audiences"] == ["vault"]
    assert found["status"]["user"]["username"] == "system:serviceaccount:default:robot"
    assert (await ask("admin", "POST", path, {"spec": {"token": ""}}))[0] == 400
    found = await ask.must("admin", "POST", path, {"spec": {"token": "ann"}})
    assert found["status"]["user"] == {"username": "ann", "groups": ["system:authenticated"]}
    found = await ask.must("admin", "POST", path, {"spec": {"token": "ann", "audiences": ["vault"]}})
    assert "authenticated" not in found["status"]
    assert (await ask("ann", "POST", path, {"spec": {"token": token}}))[0] == 403


async def test_a_forged_token_is_nobodys(ask: Client) -> None:
    token = await token_for(ask)
    head, payload, signature = token.split(".")
    claims = claims_of(token) | {"sub": "system:serviceaccount:kube-system:admin"}
    other = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    own_key = SigningKeys(None).sign(claims_of(token))
    hmac_signed = jwt.encode(claims, "x" * 32, algorithm="HS256")
    for forged in (
        f"{head}.{other}.{signature}", f"{none}.{payload}.", f"{head}.{payload}.", own_key, hmac_signed, "a.b.c", "..", "é.é.é",
    ):  # fmt: skip
        assert (await whoami(ask, forged.encode().decode("latin-1")))[0] == 401, forged


async def test_others_can_verify_tokens_by_the_published_keys(ask: Client) -> None:
    token = await token_for(ask, audiences=["vault"])
    discovery = await ask.must("admin", "GET", "/.well-known/openid-configuration")
    assert discovery["issuer"] == DEFAULT_ISSUER
    assert discovery["jwks_uri"] == f"{ask.server.url}/openid/v1/jwks"
    keys = await ask.must("admin", "GET", "/openid/v1/jwks")
    key = jwt.PyJWK(keys["keys"][0])
    assert jwt.get_unverified_header(token)["kid"] == keys["keys"][0]["kid"]
    claims = jwt.decode(token, key, algorithms=["ES256"], audience="vault", issuer=DEFAULT_ISSUER)
    assert claims["sub"] == "system:serviceaccount:default:robot"
    assert (await ask("ann", "GET", "/openid/v1/jwks"))[0] == 403
    own = await token_for(ask)
    assert (await ask(own, "GET", "/openid/v1/jwks"))[0] == 200


class Moment(SystemClock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()


async def account_in(store: MemoryStore) -> Json:
    account = {"metadata": {"name": "a", "namespace": "n", "uid": "1"}}
    await store.commit([Put(key_of(SERVICE_ACCOUNTS, "n", "a"), encode_stored(account))])
    return account


@pytest.mark.parametrize("make_rsa", [False, True])
async def test_a_token_holds_for_its_time_and_across_restarts(tmp_path: Path, make_rsa: bool) -> None:
    path = ClusterPki.ensure(tmp_path).service_account_key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if make_rsa:
        key = rsa.generate_private_key(65537, 2048)
        path.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))  # fmt: skip
    store, clock = MemoryStore(), Moment()
    account = await account_in(store)
    tokens = ServiceAccountTokens(store, SigningKeys(path), clock)
    token, end = tokens.sign(account, ["x", DEFAULT_ISSUER], timedelta(hours=1), {})
    assert end == clock.moment + timedelta(hours=1)
    assert jwt.get_unverified_header(token)["alg"] == ("RS256" if make_rsa else "ES256")
    before = path.read_bytes()
    ClusterPki.ensure(tmp_path)
    assert path.read_bytes() == before
    again = ServiceAccountTokens(store, SigningKeys(path), clock)
    assert await again.user_of_token(token) is not None
    clock.moment += timedelta(hours=1, seconds=30)
    assert await again.user_of_token(token) is not None  # clocks differ
    clock.moment += timedelta(minutes=1)
    assert await again.user_of_token(token) is None
    clock.moment -= timedelta(days=1)
    assert await again.user_of_token(token) is None
    await store.close()


def drop_key(folder: Path, name: str, *, age: int = 0) -> Path:
    """Another key beside ``sa.key``, ``age`` seconds older than now."""
    path = folder / name
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))  # fmt: skip
    moment = path.stat().st_mtime_ns - age * 10**9
    os.utime(path, ns=(moment, moment))
    return path


async def test_keys_are_changed_while_the_server_runs(tmp_path: Path) -> None:
    """The newest signs; a token holds as long as its key is there."""
    store, clock = MemoryStore(), Moment()
    account = await account_in(store)
    first = drop_key(tmp_path, "sa.key", age=100)
    tokens = ServiceAccountTokens(store, SigningKeys(first, clock), clock)

    def signed() -> str:
        clock.moment += timedelta(seconds=2)
        return tokens.sign(account, [DEFAULT_ISSUER], timedelta(hours=1), {})[0]

    async def holds(token: str) -> bool:
        clock.moment += timedelta(seconds=2)
        return await tokens.user_of_token(token) is not None

    old = signed()
    drop_key(tmp_path, "sa-2.key")
    new = signed()
    names = [jwt.get_unverified_header(token)["kid"] for token in (new, old)]
    assert names[0] != names[1]
    assert [key["kid"] for key in tokens.key_set()["keys"]] == names
    assert await holds(old)
    assert await holds(new)
    drop_key(tmp_path, "sa-0.key", age=200)
    assert jwt.get_unverified_header(signed())["kid"] == names[0]
    public = read_key(first).public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "sa-old.pub").write_bytes(public)
    first.unlink()
    assert await holds(old)
    (tmp_path / "sa-old.pub").unlink()
    assert not await holds(old)
    (tmp_path / "sa-3.key").write_text("half of a k")
    assert jwt.get_unverified_header(signed())["kid"] == names[0]
    for path in tmp_path.glob("sa-[02].key"):
        path.unlink()
    assert await holds(new)  # nothing that signs is left but a broken file: nothing changes


async def test_no_key_is_taken_for_another_of_its_name() -> None:
    ours, theirs = SigningKeys(None), SigningKeys(None)
    forged = jwt.encode(
        {"sub": "x"}, theirs.signer.private, algorithm="ES256", headers={"kid": ours.signer.id}
    )
    assert ours.verified(forged) is None
    assert ours.verified(ours.sign({"sub": "x"})) == {"sub": "x"}
    nameless = jwt.encode({"sub": "x"}, ours.signer.private, algorithm="ES256")
    assert ours.verified(nameless) == {"sub": "x"}


BOOTSTRAP = {
    "token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
    "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token", "expiration": "2026-01-02T03:05:00Z",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "token", "accepted"),
    [
        ({}, "abcdef.0123456789abcdef", True),
        ({"expiration": ""}, "abcdef.0123456789abcdef", True),
        ({}, "abcdef.0123456789abcdee", False),
        ({}, "abcdeg.0123456789abcdef", False),
        ({}, "ABCDEF.0123456789abcdef", False),
        ({"expiration": "2026-01-02T03:04:05Z"}, "abcdef.0123456789abcdef", False),
        ({"expiration": "tomorrow"}, "abcdef.0123456789abcdef", False),
        ({"usage-bootstrap-authentication": "false"}, "abcdef.0123456789abcdef", False),
        ({"token-id": "xxxxxx"}, "abcdef.0123456789abcdef", False),
        ({"auth-extra-groups": "system:masters"}, "abcdef.0123456789abcdef", False),
        ({"type": "Opaque"}, "abcdef.0123456789abcdef", False),
    ],
)
async def test_bootstrap_tokens(change: dict[str, str], token: str, accepted: bool) -> None:
    store, clock = MemoryStore(), Moment()
    data = {**BOOTSTRAP, **change}
    kind = data.pop("type", "bootstrap.kubernetes.io/token")
    secret = {
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "type": kind,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
    await store.commit([Put(key_of(SECRETS, "kube-system", "bootstrap-token-abcdef"), encode_stored(secret))])
    found = await BootstrapTokens(store, clock).user_of_token(token)
    wanted = User(
        "system:bootstrap:abcdef",
        ("system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token", "system:authenticated"),
    )
    assert found == (wanted if accepted else None)
    await store.close()


def access(**attributes: str) -> Json:
    return {"spec": {"resourceAttributes": attributes}}


async def test_access_is_reviewed_for_oneself_and_for_others(ask: Client) -> None:
    own, others = f"{AUTHORIZATION}/selfsubjectaccessreviews", f"{AUTHORIZATION}/subjectaccessreviews"
    await ask.must("admin", "POST", f"{RBAC}/namespaces/default/rolebindings",
                   binding("b", "ClusterRole", "view", "User:ann"))  # fmt: skip
    listing = access(verb="list", resource="pods", namespace="default")
    found = await ask.must("ann", "POST", own, listing)
    assert found["status"] == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "b/default" of ClusterRole "view" to User "ann"',
    }
    assert found["spec"] == listing["spec"]
    assert (await ask.must("ann", "POST", own, access(verb="list", resource="pods")))["status"] == {
        "allowed": False
    }
    assert (await ask.must("admin", "POST", own, access(verb="x", resource="y")))["status"] == {
        "allowed": True
    }
    status, body = await ask("ann", "POST", others, {"spec": {**listing["spec"], "user": "bob"}})
    assert (status, body["reason"]) == (403, "Forbidden")
    for user, allowed in (("ann", True), ("bob", False)):
        found = await ask.must("admin", "POST", others, {"spec": {**listing["spec"], "user": user}})
        assert found["status"]["allowed"] is allowed
    path = {
        "spec": {
            "user": "x",
            "groups": ["system:authenticated"],
            "nonResourceAttributes": {"verb": "get", "path": "/api"},
        }
    }
    assert (await ask.must("admin", "POST", others, path))["status"]["allowed"] is True


@pytest.mark.parametrize(
    ("plural", "spec", "message"),
    [
        ("subjectaccessreviews", {"resourceAttributes": {}},
         'SubjectAccessReview.authorization.k8s.io "" is invalid: spec.user: Invalid value: "": at least one of user or '
         "group must be specified"),
        ("subjectaccessreviews", {"user": "u"},
         'SubjectAccessReview.authorization.k8s.io "" is invalid: spec.resourceAttributes: Invalid value: null: exactly '
         "one of nonResourceAttributes or resourceAttributes must be specified"),
        ("selfsubjectaccessreviews", {"resourceAttributes": {}, "nonResourceAttributes": {}},
         'SelfSubjectAccessReview.authorization.k8s.io "" is invalid: spec.nonResourceAttributes: Invalid value: {}: '
         "cannot be specified in combination with resourceAttributes"),
    ],
)  # fmt: skip
async def test_reviews_that_ask_nothing_are_refused(
    ask: Client, plural: str, spec: Json, message: str
) -> None:
    status, body = await ask("admin", "POST", f"{AUTHORIZATION}/{plural}", {"spec": spec})
    assert (status, body["message"]) == (422, message)


async def test_a_namespaces_admin_reviews_access_in_it(ask: Client) -> None:
    await ask.must("admin", "POST", f"{RBAC}/namespaces/default/rolebindings",
                   binding("b", "ClusterRole", "admin", "User:bob"))  # fmt: skip
    path = AUTHORIZATION + "/namespaces/{}/localsubjectaccessreviews"
    body = {"metadata": {"namespace": "default"}, "spec": {"user": "ann", "resourceAttributes": {
        "verb": "get", "resource": "pods", "namespace": "default",
    }}}  # fmt: skip
    assert (await ask.must("bob", "POST", path.format("default"), body))["status"] == {"allowed": False}
    assert (await ask("bob", "POST", path.format("kube-system"), {}))[0] == 403
    body["spec"]["resourceAttributes"]["namespace"] = "kube-system"
    status, found = await ask("bob", "POST", path.format("default"), body)
    assert status == 422
    assert (
        'spec.resourceAttributes.namespace: Invalid value: "kube-system": must match metadata.namespace'
        in found["message"]
    )


async def test_ones_own_rules_are_listed(ask: Client) -> None:
    await ask.must(
        "admin", "POST", f"{RBAC}/namespaces/default/roles", role("r", rule("get", "pods", names="a"))
    )
    await ask.must(
        "admin", "POST", f"{RBAC}/namespaces/default/rolebindings", binding("b", "Role", "r", "User:ann")
    )
    path = f"{AUTHORIZATION}/selfsubjectrulesreviews"
    status = (await ask.must("ann", "POST", path, {"spec": {"namespace": "default"}}))["status"]
    assert status["incomplete"] is False
    assert rule("get", "pods", names="a") in status["resourceRules"]
    assert any("/api/*" in each["nonResourceURLs"] for each in status["nonResourceRules"])
    elsewhere = (await ask.must("ann", "POST", path, {"spec": {"namespace": "kube-system"}}))["status"]
    assert rule("get", "pods", names="a") not in elsewhere["resourceRules"]
    assert (await ask("ann", "POST", path, {"spec": {}}))[0] == 400
    node = (await ask.must("node-a", "POST", path, {"spec": {"namespace": "default"}}))["status"]
    assert node["incomplete"] is True


async def test_the_key_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    store, key = MemoryStore(), ClusterPki.ensure(tmp_path).service_account_key
    async with asking(store, service_account_key=key) as ask:
        await ask.must("admin", "POST", ACCOUNTS, {"metadata": {"name": "robot"}})
        token = await token_for(ask)
    async with asking(store, service_account_key=key) as ask:
        assert (await whoami(ask, token))[0] == 201
    async with asking(store) as ask:
        assert (await whoami(ask, token))[0] == 401
    await store.close()
