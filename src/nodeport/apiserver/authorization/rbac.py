"""Roles and bindings in memory, so that a question is answered without reading any object.

What a user may do is worked out when he first asks, for the cluster and for each namespace, and forgotten whenever a
role or binding changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nodeport.api.meta import JsonObject
from nodeport.api.rbac import GROUP_KIND, USER, PolicyRule, allows_path, concerns, rules_of, subject_key
from nodeport.api.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Resource
from nodeport.apiserver.auth import Attributes, Decision, User

KINDS: tuple[Resource, ...] = (CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, ROLES, ROLE_BINDINGS)
REMEMBERED_USERS = 4096
REMEMBERED_QUESTIONS = 4096

ANY_NAME = None
Names = frozenset[str] | None
"""Which objects: those named, or any (None)."""
_NO_NAMES: frozenset[str] = frozenset()

Key = tuple[str, str]
"""(namespace, name); the namespace is empty for what belongs to the cluster."""


@dataclass(frozen=True, slots=True)
class Binding:
    """``role``: the resource of the role that is bound, and its key."""

    key: Key
    role_kind: str
    role_name: str
    subjects: frozenset[tuple[str, str]]

    @classmethod
    def from_json(cls, namespace: str, obj: JsonObject) -> Binding:
        role = obj.get("roleRef") or {}
        subjects = frozenset(subject_key(each, namespace) for each in obj.get("subjects") or ())
        name = obj["metadata"]["name"]
        return cls((namespace, name), role.get("kind") or "", role.get("name") or "", subjects)

    @property
    def role_key(self) -> Key:
        return ("" if self.role_kind == "ClusterRole" else self.key[0], self.role_name)

    def __str__(self) -> str:
        namespace, name = self.key
        shown = f'"{name}/{namespace}"' if namespace else f'"{name}"'
        return f"{'RoleBinding' if namespace else 'ClusterRoleBinding'} {shown}"


class Grants:
    """The rules that hold for one user in one scope."""

    __slots__ = ("_names", "rules")

    def __init__(self, rules: Sequence[PolicyRule]) -> None:
        self.rules = tuple(rules)
        self._names: dict[tuple[str, str, str], Names] = {}

    def allows(self, verb: str, group: str, resource: str, name: str) -> bool:
        """``resource`` with its subresource: ``pods/log``."""
        question = (verb, group, resource)
        try:
            names = self._names[question]
        except KeyError:
            if len(self._names) >= REMEMBERED_QUESTIONS:
                self._names.clear()
            names = self._names[question] = self._which(verb, group, resource)
        return names is None or name in names

    def _which(self, verb: str, group: str, resource: str) -> Names:
        names: set[str] = set()
        for rule in self.rules:
            if concerns(rule, verb, group, resource):
                if not rule.resource_names:
                    return ANY_NAME
                names.update(rule.resource_names)
        return frozenset(names) if names else _NO_NAMES

    def allows_path(self, verb: str, path: str) -> bool:
        return any(allows_path(rule, verb, path) for rule in self.rules)

    def allow(self, asked: Attributes) -> bool:
        if not asked.resource:
            return self.allows_path(asked.verb, asked.path)
        return self.allows(asked.verb, asked.group, asked.combined, asked.name)


class RbacIndex:
    """``put`` and ``remove`` keep it up to date; everything else asks."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, JsonObject]] = {row.plural: {} for row in KINDS}
        self._rules: dict[Key, tuple[PolicyRule, ...]] = {}
        self._bindings: dict[str, dict[Key, Binding]] = {"": {}}
        self._grants: dict[tuple[str, tuple[str, ...], str], Grants] = {}

    def put(self, resource: Resource, obj: JsonObject) -> None:
        key = _key(obj)
        self._objects[resource.plural][key] = obj
        if resource in (ROLES, CLUSTER_ROLES):
            self._rules[key] = rules_of(obj)
        else:
            self._bindings.setdefault(key[0], {})[key] = Binding.from_json(key[0], obj)
        self._grants.clear()

    def remove(self, resource: Resource, key: Key) -> None:
        self._objects[resource.plural].pop(key, None)
        if resource in (ROLES, CLUSTER_ROLES):
            self._rules.pop(key, None)
        else:
            self._bindings.get(key[0], {}).pop(key, None)
        self._grants.clear()

    def replace(self, resource: Resource, objects: Iterable[JsonObject]) -> None:
        """Everything there is of a resource."""
        for key in list(self._objects[resource.plural]):
            self.remove(resource, key)
        for obj in objects:
            self.put(resource, obj)

    def cluster_roles(self) -> list[JsonObject]:
        return list(self._objects[CLUSTER_ROLES.plural].values())

    def rules_of_role(self, key: Key) -> tuple[PolicyRule, ...] | None:
        """The rules of the (Cluster)Role called so; None when there is none."""
        return self._rules.get(key)

    def bindings_of(self, user: User, namespace: str) -> Iterator[Binding]:
        """Who is meant by which binding of this one scope."""
        subjects = {(USER, user.name), *((GROUP_KIND, group) for group in user.groups)}
        for binding in self._bindings.get(namespace, {}).values():
            if not subjects.isdisjoint(binding.subjects):
                yield binding

    def grants(self, user: User, namespace: str) -> Grants:
        """What holds for the user in this scope alone: the cluster (``namespace`` empty) or one namespace."""
        question = (user.name, user.groups, namespace)
        found = self._grants.get(question)
        if found is None:
            if len(self._grants) >= REMEMBERED_USERS:
                self._grants.clear()
            rules = dict.fromkeys(
                rule
                for binding in self.bindings_of(user, namespace)
                for rule in self._rules.get(binding.role_key, ())
            )
            found = self._grants[question] = Grants(tuple(rules))
        return found

    def rules_for(self, user: User, namespace: str) -> list[PolicyRule]:
        """Every rule that holds for the user in a namespace, those of the cluster first."""
        found = list(self.grants(user, "").rules)
        return found + list(self.grants(user, namespace).rules) if namespace else found

    def allows(self, asked: Attributes) -> bool:
        """What the cluster's bindings allow, and those of the object's namespace."""
        if self.grants(asked.user, "").allow(asked):
            return True
        return bool(asked.resource and asked.namespace) and self.grants(asked.user, asked.namespace).allow(
            asked
        )

    def why_allowed(self, asked: Attributes) -> str:
        """Which binding allows it, as reviews tell; empty when none does."""
        for namespace in dict.fromkeys(("", asked.namespace if asked.resource else "")):
            for binding in self.bindings_of(asked.user, namespace):
                if Grants(self._rules.get(binding.role_key, ())).allow(asked):
                    return (
                        f'RBAC: allowed by {binding} of {binding.role_kind} "{binding.role_name}" to '
                        f"{self._shown_subject(binding, asked.user)}"
                    )
        return ""

    @staticmethod
    def _shown_subject(binding: Binding, user: User) -> str:
        if (USER, user.name) in binding.subjects:
            return f'User "{user.name}"'
        group = next(group for group in user.groups if (GROUP_KIND, group) in binding.subjects)
        return f'Group "{group}"'


class RbacAuthorizer:
    def __init__(self, index: RbacIndex) -> None:
        self._index = index

    async def decide(self, attributes: Attributes) -> Decision:
        return ALLOWED if self._index.allows(attributes) else DENIED


ALLOWED, DENIED = Decision(True), Decision(False)


def _key(obj: JsonObject) -> Key:
    metadata = obj["metadata"]
    return (metadata.get("namespace") or "", metadata["name"])
