"""Bootstrap tokens: short secrets by which a new machine is let in, kept as Secrets in ``kube-system``.

Rules: the bootstrap token authenticator of Kubernetes 1.36.
"""

from __future__ import annotations

import hmac
import re

from nodeport.api.resources import SECRETS
from nodeport.api.validation.others import decoded
from nodeport.apiserver.auth import AUTHENTICATED, User
from nodeport.apiserver.encoding import decode, key_of
from nodeport.kit.clock import Clock, parse_rfc3339
from nodeport.store.base import Store

NAMESPACE = "kube-system"
TYPE = "bootstrap.kubernetes.io/token"
GROUP = "system:bootstrappers"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_EXTRA_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def user_of_token(self, token: str) -> User | None:
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        token_id, secret_text = match.groups()
        found = await self._store.get(key_of(SECRETS, NAMESPACE, f"bootstrap-token-{token_id}"))
        if found is None:
            return None
        secret = decode(found.value)
        if secret.get("type") != TYPE or secret["metadata"].get("deletionTimestamp"):
            return None
        data = {key: decoded(value) for key, value in (secret.get("data") or {}).items()}
        return self._user(token_id, secret_text.encode(), data)

    def _user(self, token_id: str, secret_text: bytes, data: dict[str, bytes]) -> User | None:
        if not hmac.compare_digest(data.get("token-secret", b""), secret_text):
            return None
        if data.get("token-id") != token_id.encode() or self._has_expired(data.get("expiration", b"")):
            return None
        if data.get("usage-bootstrap-authentication") != b"true":
            return None
        words = data.get("auth-extra-groups", b"").decode(errors="replace").split(",")
        extra = [word.strip() for word in words if word.strip()]
        if any(_EXTRA_GROUP.fullmatch(word) is None for word in extra):
            return None
        groups = (GROUP, *dict.fromkeys(extra), AUTHENTICATED)
        return User(f"system:bootstrap:{token_id}", groups)

    def _has_expired(self, expiration: bytes) -> bool:
        """An unreadable time is no time to trust."""
        if not expiration:
            return False
        try:
            return parse_rfc3339(expiration.decode()) <= self._clock.now()
        except (ValueError, UnicodeDecodeError):
            return True
