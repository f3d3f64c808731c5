"""URL paths -> what is asked of which resource."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nodeport.api.resources import Resource

_ITEM_VERBS = {
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
    "POST": "create",
}
_COLLECTION_VERBS = {"GET": "list", "HEAD": "list", "POST": "create", "DELETE": "deletecollection"}
PROXY = "proxy"
"""The subresource that any method may be used on, and any path below it."""
UPGRADED = frozenset(("exec", "attach", "portforward"))
"""Subresources that a WebSocket opens by GET: it does what POST does, so it needs the right to create as well."""


class Target(msgspec.Struct, frozen=True, gc=False):
    """What a URL names. ``name`` is empty for collections; ``watch_prefix`` says that the legacy form was used."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    watch_prefix: bool = False

    @property
    def all_namespaces(self) -> bool:
        return self.resource.namespaced and not self.namespace

    def verb(self, method: str) -> str:
        """The API verb, empty when the method means nothing here."""
        if self.watch_prefix:
            return "watch" if method == "GET" else ""
        return (_ITEM_VERBS if self.name else _COLLECTION_VERBS).get(method, "")


class Router:
    """Finds targets by splitting the path; all it knows comes from the resource table."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        rows = tuple(resources)
        self._by_path = {(row.base_path, row.plural): row for row in rows}
        self._bases = frozenset(row.base_path for row in rows)

    def target(self, path: str) -> Target | None:
        """None: no such path."""
        segments = path.strip("/").split("/")
        taken = 2 if segments[0] == "api" else 3 if segments[0] == "apis" else 0
        if not taken or len(segments) <= taken:
            return None
        base = "/" + "/".join(segments[:taken])
        rest = segments[taken:]
        if base not in self._bases:
            return None
        watch_prefix = rest[0] == "watch"
        if watch_prefix:
            rest = rest[1:]
        return self._resolve(base, rest, watch_prefix=watch_prefix) if rest and rest[0] else None

    def _resolve(self, base: str, rest: list[str], *, watch_prefix: bool) -> Target | None:
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and not self._is_namespace_subresource(base, rest):
            namespace, rest = rest[1], rest[2:]
            if not namespace:
                return None
        resource = self._by_path.get((base, rest[0]))
        if resource is None or (namespace and not resource.namespaced):
            return None
        if len(rest) > 3 and rest[2] == PROXY:
            rest = rest[:3]  # what follows is the far side's
        if len(rest) > 3 or not all(rest):
            return None
        name = rest[1] if len(rest) > 1 else ""
        subresource = rest[2] if len(rest) > 2 else ""
        if resource.namespaced and name and not namespace:
            return None
        if subresource and resource.subresource(subresource) is None:
            return None
        return Target(resource, namespace, name, subresource, watch_prefix)

    def _is_namespace_subresource(self, base: str, rest: list[str]) -> bool:
        namespaces = self._by_path.get((base, "namespaces"))
        return namespaces is not None and len(rest) == 3 and namespaces.subresource(rest[2]) is not None
