"""ServiceAccount tokens: signed claims that hold as long as the account, and what the token is bound to, exist.

Rules: the bound tokens of Kubernetes 1.36.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nodeport.api.meta import JsonObject
from nodeport.api.rbac import SERVICE_ACCOUNT_PREFIX
from nodeport.api.resources import NODES, PODS, SECRETS, SERVICE_ACCOUNTS, Resource
from nodeport.apiserver.auth import AUTHENTICATED, CREDENTIAL_ID, Extra, User
from nodeport.apiserver.authentication.impersonation import service_account_groups
from nodeport.apiserver.authentication.signing import SigningKeys
from nodeport.apiserver.encoding import decode, key_of
from nodeport.kit.clock import Clock, parse_rfc3339
from nodeport.store.base import Store

DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"
LEEWAY = timedelta(minutes=1)
"""How far clocks may differ, and how long a token outlives the end of what it is bound to."""
REMEMBERED_TOKENS = 4096
PRIVATE = "kubernetes.io"
_BOUND: dict[str, tuple[Resource, bool]] = {
    "pod": (PODS, True), "secret": (SECRETS, True), "node": (NODES, False),
}  # fmt: skip
"""Private claim -> (resource, whether it lies in the account's namespace)."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An object that a token belongs to."""

    name: str
    uid: str = ""

    def claim(self) -> JsonObject:
        return {"name": self.name, **({"uid": self.uid} if self.uid else {})}


@dataclass(frozen=True, slots=True)
class Verified:
    """``audiences``: those of the token that were asked for."""

    user: User
    audiences: tuple[str, ...]


class ServiceAccountTokens:
    """Signs tokens and says whose they are."""

    def __init__(
        self,
        store: Store,
        keys: SigningKeys,
        clock: Clock,
        *,
        issuer: str = DEFAULT_ISSUER,
        audiences: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._keys = keys
        self._version = keys.version
        self._clock = clock
        self.issuer = issuer
        self.audiences = tuple(audiences) or (issuer,)
        self._verified: OrderedDict[bytes, JsonObject] = OrderedDict()

    def sign(
        self,
        account: JsonObject,
        audiences: Sequence[str],
        lifetime: timedelta,
        bound: dict[str, Bound],
    ) -> tuple[str, datetime]:
        """A token for the ServiceAccount and its end. ``bound``: by ``pod``, ``secret`` or ``node``."""
        metadata = account["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        now = self._clock.now().replace(microsecond=0)
        private: JsonObject = {kind: each.claim() for kind, each in sorted(bound.items())}
        private |= {"namespace": namespace, "serviceaccount": {"name": name, "uid": metadata["uid"]}}
        seconds = int(now.timestamp())
        claims = {
            "aud": list(audiences), "exp": seconds + int(lifetime.total_seconds()), "iat": seconds,
            "iss": self.issuer, "jti": str(uuid.uuid4()), PRIVATE: private, "nbf": seconds,
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}",
        }  # fmt: skip
        return self._keys.sign(claims), now + lifetime

    async def user_of_token(self, token: str) -> User | None:
        found = await self.verify(token, self.audiences)
        return found.user if found else None

    async def verify(self, token: str, audiences: Iterable[str]) -> Verified | None:
        """The token's user; None unless it is valid now, and for one of ``audiences``."""
        if token.count(".") != 2:
            return None
        claims = self._claims(token)
        if claims is None or not self._is_in_time(claims):
            return None
        wanted = set(audiences)
        common = tuple(each for each in _words(claims.get("aud")) if each in wanted)
        private = claims.get(PRIVATE)
        if not common or claims.get("iss") != self.issuer or not isinstance(private, dict):
            return None
        user = await self._user(claims, private)
        return Verified(user, common) if user else None

    def _claims(self, token: str) -> JsonObject | None:
        """Checking a signature is slow; a client sends the same token again and again."""
        self._keys.look()
        if self._keys.version != self._version:
            self._version = self._keys.version
            self._verified.clear()
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        claims = self._verified.get(digest)
        if claims is None:
            claims = self._keys.verified(token)
            if claims is None:
                return None
            self._verified[digest] = claims
            if len(self._verified) > REMEMBERED_TOKENS:
                self._verified.popitem(last=False)
        return claims

    def _is_in_time(self, claims: JsonObject) -> bool:
        now, leeway = self._clock.now().timestamp(), LEEWAY.total_seconds()
        end, begin = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(end, int | float) or not isinstance(begin, int | float):
            return False
        return begin - leeway <= now <= end + leeway

    async def _user(self, claims: JsonObject, private: JsonObject) -> User | None:
        namespace, account = private.get("namespace"), private.get("serviceaccount")
        if not isinstance(namespace, str) or not isinstance(account, dict):
            return None
        name, uid = str(account.get("name")), str(account.get("uid"))
        user_name = f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"
        if claims.get("sub") != user_name or not await self._lives(SERVICE_ACCOUNTS, namespace, name, uid):
            return None
        for kind, (resource, namespaced) in _BOUND.items():
            bound = private.get(kind)
            if not isinstance(bound, dict) or (kind == "node" and "pod" in private):
                continue  # the node that a pod ran on is only told
            where = namespace if namespaced else ""
            if not await self._lives(resource, where, str(bound.get("name")), str(bound.get("uid"))):
                return None
        groups = (*service_account_groups(namespace), AUTHENTICATED)
        return User(user_name, groups, uid, _extra(claims, private))

    async def _lives(self, resource: Resource, namespace: str, name: str, uid: str) -> bool:
        found = await self._store.get(key_of(resource, namespace, name))
        if found is None:
            return False
        metadata = decode(found.value)["metadata"]
        if metadata.get("uid") != uid:
            return False
        deleted = metadata.get("deletionTimestamp")
        return not deleted or parse_rfc3339(deleted) + LEEWAY > self._clock.now()

    # What others need to verify tokens without asking this server

    def discovery(self, address: str) -> JsonObject:
        """``address``: ``https://HOST:PORT`` of this server."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{address}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": self._keys.algorithms,
        }

    def key_set(self) -> JsonObject:
        return self._keys.key_set()


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(each) for each in value) if isinstance(value, list) else ()


def _extra(claims: JsonObject, private: JsonObject) -> Extra:
    found = {CREDENTIAL_ID: (f"JTI={claims.get('jti')}",)}
    for kind in ("pod", "node"):
        bound = private.get(kind)
        if isinstance(bound, dict):
            for field in ("name", "uid"):
                if bound.get(field):
                    found[f"authentication.kubernetes.io/{kind}-{field}"] = (str(bound[field]),)
    return tuple(sorted(found.items()))
