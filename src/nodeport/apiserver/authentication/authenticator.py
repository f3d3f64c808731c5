"""Turns a connection and its headers into a user.

A client is known by the certificate that TLS verified (common name: user, organizations: groups) or by a bearer token,
which wins where both are there.
"""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Mapping, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

from nodeport.api.status import Unauthorized
from nodeport.apiserver.auth import ANONYMOUS, AUTHENTICATED, User, user_of


class TokenAuthenticator(Protocol):
    async def user_of_token(self, token: str) -> User | None:
        """The token's user; None when the token is not one of these, or not valid any more."""
        ...


class StaticTokens:
    """Tokens that were given to the server when it started."""

    def __init__(self, tokens: Mapping[str, User]) -> None:
        self._tokens = [(token.encode(), _authenticated(user)) for token, user in tokens.items()]

    async def user_of_token(self, token: str) -> User | None:
        asked = token.encode()
        found = None
        for candidate, user in self._tokens:
            if hmac.compare_digest(candidate, asked):
                found = user
        return found


def _authenticated(user: User) -> User:
    if AUTHENTICATED in user.groups:
        return user
    return User(user.name, (*user.groups, AUTHENTICATED), user.uid, user.extra)


class Authenticator:
    """``tokens`` are asked in turn."""

    def __init__(self, tokens: Sequence[TokenAuthenticator]) -> None:
        self._tokens = tuple(tokens)
        self._by_connection: WeakKeyDictionary[ssl.SSLObject, User] = WeakKeyDictionary()

    async def user(self, connection: ssl.SSLObject | None, authorization: str) -> User:
        """Whoever shows nothing is anonymous, and may what RBAC lets him; 401 for a token that is not valid."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            if (found := await self.user_of_token(token.strip())) is not None:
                return found
            raise Unauthorized("Unauthorized")
        if connection is None:
            return ANONYMOUS
        known = self._by_connection.get(connection)
        if known is None:
            known = self._by_connection[connection] = user_of(connection)
        return known

    async def user_of_token(self, token: str) -> User | None:
        if not token or not token.isascii():  # RFC 6750; what else a header holds may not even be text
            return None
        for authenticator in self._tokens:
            if (found := await authenticator.user_of_token(token)) is not None:
                return found
        return None
