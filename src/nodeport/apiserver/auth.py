"""Who asks, and whether they may.

A client is known by the certificate that TLS verified (common name: user, organizations: groups) or by a bearer token.
Authorization is a seam: ``Authorizer``.
"""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from nodeport.api.resources import Resource
from nodeport.api.status import Forbidden, Unauthorized

AUTHENTICATED = "system:authenticated"
OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/version"})
"""What anyone may read: clients ask it before they know who they are."""

_MASTERS = frozenset({"system:masters", "system:nodes"})
_COMPONENTS = frozenset({"system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"})


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked for. ``resource`` None: a path that is no object, given in ``path``."""

    user: User
    verb: str
    resource: Resource | None = None
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    path: str = ""


class Authorizer(Protocol):
    def allows(self, attributes: Attributes) -> bool: ...


class GroupAuthorizer:
    """Administrators, nodes and the cluster's own components may do everything; others read non-object paths only."""

    def allows(self, attributes: Attributes) -> bool:
        user = attributes.user
        if user.name in _COMPONENTS or not _MASTERS.isdisjoint(user.groups):
            return True
        return attributes.resource is None and attributes.verb == "get"


class Authenticator:
    """Turns a connection and its headers into a user."""

    def __init__(self, tokens: Mapping[str, User]) -> None:
        self._tokens = dict(tokens)
        self._by_connection: WeakKeyDictionary[ssl.SSLObject, User] = WeakKeyDictionary()

    def user(self, connection: ssl.SSLObject | None, authorization: str) -> User:
        """401 when nothing proves who it is."""
        if authorization:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() == "bearer" and (found := self._by_token(token.strip())) is not None:
                return found
            raise Unauthorized("Unauthorized")
        if connection is None:
            raise Unauthorized("Unauthorized")
        known = self._by_connection.get(connection)
        if known is None:
            known = self._by_connection[connection] = user_of(connection)
        return known

    def _by_token(self, token: str) -> User | None:
        asked = token.encode()
        found = None
        for candidate, user in self._tokens.items():
            if hmac.compare_digest(candidate.encode(), asked):
                found = user
        return found


def user_of(connection: ssl.SSLObject) -> User:
    """The user that a verified client certificate names; 401 without one."""
    certificate = connection.getpeercert()
    if not certificate:
        raise Unauthorized("Unauthorized")
    name, groups = "", []
    for part in certificate.get("subject", ()):
        for key, value in _pairs(part):
            if key == "commonName":
                name = value
            elif key == "organizationName":
                groups.append(value)
    if not name:
        raise Unauthorized("Unauthorized")
    return User(name, (*groups, AUTHENTICATED))


def _pairs(part: object) -> Iterable[tuple[str, str]]:
    assert isinstance(part, tuple)
    return ((str(pair[0]), str(pair[1])) for pair in part)


def forbidden(attributes: Attributes) -> Forbidden:
    """403 in the words of the Kubernetes API."""
    user = attributes.user.name
    resource = attributes.resource
    if resource is None:
        return Forbidden(f'forbidden: User "{user}" cannot {attributes.verb} path "{attributes.path}"')
    shown = f"{resource.plural}/{attributes.subresource}" if attributes.subresource else resource.plural
    subject = f'{resource.qualified_name} "{attributes.name}"' if attributes.name else resource.qualified_name
    where = f' in the namespace "{attributes.namespace}"' if attributes.namespace else " at the cluster scope"
    details = {"name": attributes.name, "group": resource.group, "kind": resource.plural}
    return Forbidden(
        f'{subject} is forbidden: User "{user}" cannot {attributes.verb} resource "{shown}" in API group '
        f'"{resource.group}"{where}',
        details={key: value for key, value in details.items() if value},
    )
