"""Users who speak for others: ``kubectl --as``.

Rules: Kubernetes' impersonation. Each thing that is claimed is a resource that the verb ``impersonate`` must be allowed
on: users, groups, serviceaccounts, and in ``authentication.k8s.io`` uids and userextras/KEY.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from nodeport.api import names
from nodeport.api.rbac import SERVICE_ACCOUNT_PREFIX
from nodeport.api.status import BadRequest
from nodeport.apiserver.auth import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, Attributes, User

PREFIX = b"impersonate-"
_EXTRA = "impersonate-extra-"
_GROUP = "authentication.k8s.io"


@dataclass(frozen=True, slots=True)
class Claim:
    """Whom a request claims to be."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def user(self) -> User:
        groups = self.groups
        account = service_account_of(self.name)
        if account is not None and not groups:
            groups = service_account_groups(account[0])
        standing = UNAUTHENTICATED if self.name == ANONYMOUS.name else AUTHENTICATED
        if standing not in groups:
            groups = (*groups, standing)
        return User(self.name, groups, self.uid, self.extra)

    def questions(self, user: User) -> Iterator[Attributes]:
        """What ``user`` must be allowed to do."""
        account = service_account_of(self.name)
        if account is not None:
            namespace, name = account
            yield Attributes(user, "impersonate", resource="serviceaccounts", namespace=namespace, name=name)
        else:
            yield Attributes(user, "impersonate", resource="users", name=self.name)
        for group in self.groups:
            yield Attributes(user, "impersonate", resource="groups", name=group)
        if self.uid:
            yield Attributes(user, "impersonate", _GROUP, "uids", name=self.uid)
        for key, values in self.extra:
            for value in values:
                yield Attributes(user, "impersonate", _GROUP, "userextras", key, name=value)


def claim_of(headers: Iterable[tuple[bytes, bytes]]) -> Claim | None:
    """The claim in a request's raw headers. 400 for groups, a uid or extras of nobody."""
    found = [
        (key.decode("latin-1").lower(), value.decode(errors="replace"))
        for key, value in headers
        if key[:12].lower() == PREFIX
    ]
    if not found:
        return None
    values: dict[str, list[str]] = {}
    for key, value in found:
        values.setdefault(key, []).append(value)
    name = values.get("impersonate-user", [""])[0]
    if not name:
        raise BadRequest(f"requested {sorted(values)} without impersonating a user")
    extra = sorted(
        (unquote(key.removeprefix(_EXTRA)), tuple(each))
        for key, each in values.items()
        if key.startswith(_EXTRA)
    )
    groups = tuple(values.get("impersonate-group", ()))
    return Claim(name, groups, values.get("impersonate-uid", [""])[0], tuple(extra))


def service_account_of(name: str) -> tuple[str, str] | None:
    """(namespace, name) of ``system:serviceaccount:NAMESPACE:NAME``."""
    if not name.startswith(SERVICE_ACCOUNT_PREFIX):
        return None
    namespace, colon, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    if not colon or names.dns_label(namespace) or names.dns_subdomain(account):
        return None
    return namespace, account


def service_account_groups(namespace: str) -> tuple[str, ...]:
    """The groups of every ServiceAccount of a namespace."""
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
