"""Who asks, and for what: the words that authentication and authorization share."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from nodeport.api.resources import NAMESPACES, Resource
from nodeport.api.status import Forbidden

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"
NODES_GROUP = "system:nodes"
NODE_PREFIX = "system:node:"
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
"""In a user's ``extra``: by which credential it is known, as ``X509SHA256=HEX`` or ``JTI=ID``."""

Extra = tuple[tuple[str, tuple[str, ...]], ...]
"""Further facts about a user, such as the pod that a token belongs to, sorted by name."""


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Extra = ()

    @property
    def is_master(self) -> bool:
        """Whether nothing is refused to this user."""
        return MASTERS in self.groups

    @property
    def node_name(self) -> str:
        """The node that this user is; empty for everyone else."""
        if self.name.startswith(NODE_PREFIX) and NODES_GROUP in self.groups:
            return self.name.removeprefix(NODE_PREFIX)
        return ""


ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """What is asked for. ``resource`` empty: a path that is no object, given in ``path``.

    ``field_selector``: of list, watch and deletecollection, as it was sent.
    """

    user: User
    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""

    @property
    def combined(self) -> str:
        """``pods`` or ``pods/log``."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True)
class Decision:
    """``reason`` says why, where there is more to say than that no rule allows it."""

    allowed: bool
    reason: str = ""


class Authorizer(Protocol):
    async def decide(self, attributes: Attributes) -> Decision: ...


def about(
    user: User,
    verb: str,
    resource: Resource,
    namespace: str = "",
    name: str = "",
    subresource: str = "",
    field_selector: str = "",
) -> Attributes:
    """Attributes of a request for ``resource``. A namespace lies in itself."""
    where = name if resource is NAMESPACES else namespace
    return Attributes(
        user, verb, resource.group, resource.plural, subresource, where, name, field_selector=field_selector
    )


def user_of(connection: ssl.SSLObject) -> User:
    """The user that a verified client certificate names; nobody in particular without one."""
    certificate = connection.getpeercert()
    if not certificate:
        return ANONYMOUS
    name, groups = "", []
    for part in certificate.get("subject", ()):
        for key, value in _pairs(part):
            if key == "commonName":
                name = value
            elif key == "organizationName":
                groups.append(value)
    if not name:
        return ANONYMOUS
    digest = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
    return User(name, (*groups, AUTHENTICATED), extra=((CREDENTIAL_ID, (f"X509SHA256={digest}",)),))


def _pairs(part: object) -> Iterable[tuple[str, str]]:
    assert isinstance(part, tuple)
    return ((str(pair[0]), str(pair[1])) for pair in part)


def forbidden(attributes: Attributes, reason: str = "") -> Forbidden:
    """403 in the words of the Kubernetes API."""
    user = attributes.user.name
    suffix = f": {reason}" if reason else ""
    if not attributes.resource:
        return Forbidden(
            f'forbidden: User "{user}" cannot {attributes.verb} path "{attributes.path}"{suffix}',
            details={},
        )
    group = attributes.group
    qualified = f"{attributes.resource}.{group}" if group else attributes.resource
    subject = f'{qualified} "{attributes.name}"' if attributes.name else qualified
    where = f' in the namespace "{attributes.namespace}"' if attributes.namespace else " at the cluster scope"
    details = {"name": attributes.name, "group": group, "kind": attributes.resource}
    return Forbidden(
        f'{subject} is forbidden: User "{user}" cannot {attributes.verb} resource "{attributes.combined}" in API group '
        f'"{group}"{where}{suffix}',
        details={key: value for key, value in details.items() if value},
    )
