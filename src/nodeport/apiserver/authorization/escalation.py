"""Nobody hands out more than he has.

Rules: RBAC's escalation checks in Kubernetes 1.36, with their texts. The verbs ``escalate`` (roles) and ``bind``
(bindings) lift them, and so does the group system:masters.
"""

from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.api.rbac import ALL, PolicyRule, quoted, rules_of, uncovered
from nodeport.api.resources import CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Resource
from nodeport.api.status import Forbidden, not_found
from nodeport.apiserver.auth import Authorizer, User, about
from nodeport.apiserver.authorization.rbac import RbacIndex

_FULL_AUTHORITY = (PolicyRule((ALL,), (ALL,), (ALL,)), PolicyRule((ALL,), non_resource_urls=(ALL,)))
_COLLECTED = ("ownerReferences", "finalizers")


class Escalation:
    def __init__(self, index: RbacIndex, authorizer: Authorizer) -> None:
        self._index = index
        self._authorizer = authorizer

    async def check(self, user: User, resource: Resource, new: JsonObject, old: JsonObject | None) -> None:
        """403 when writing ``new`` would give somebody what ``user`` may not give. ``old`` None: it is created."""
        if user.is_master or (old is not None and _only_for_the_collector(new, old)):
            return
        if resource in (ROLES, CLUSTER_ROLES):
            await self._check_role(user, resource, new, old)
        else:
            await self._check_binding(user, resource, new)

    async def _check_role(
        self, user: User, resource: Resource, new: JsonObject, old: JsonObject | None
    ) -> None:
        name, namespace = new["metadata"].get("name") or "", new["metadata"].get("namespace") or ""
        if (await self._authorizer.decide(about(user, "escalate", resource, namespace, name))).allowed:
            return
        if old is not None and _same_power(new, old):
            return
        self._confirm(user, resource, name, namespace, rules_of(new))
        if new.get("aggregationRule") and uncovered(self._index.rules_for(user, ""), _FULL_AUTHORITY):
            raise _refused(resource, name, "must have cluster-admin privileges to use an aggregationRule")

    async def _check_binding(self, user: User, resource: Resource, new: JsonObject) -> None:
        name, namespace = new["metadata"].get("name") or "", new["metadata"].get("namespace") or ""
        role = new.get("roleRef") or {}
        bound = CLUSTER_ROLES if role.get("kind") == CLUSTER_ROLES.kind else ROLES
        role_name = role.get("name") or ""
        home = namespace if bound is ROLES else ""
        where = namespace if resource is ROLE_BINDINGS else ""
        if (await self._authorizer.decide(about(user, "bind", bound, where, role_name))).allowed:
            return
        rules = self._index.rules_of_role((home, role_name))
        if rules is None:
            raise not_found(bound, role_name)
        self._confirm(user, resource, name, namespace, rules)

    def _confirm(
        self, user: User, resource: Resource, name: str, namespace: str, rules: tuple[PolicyRule, ...]
    ) -> None:
        missing = uncovered(self._index.rules_for(user, namespace), rules)
        if missing:
            listed = "\n".join(sorted({str(rule) for rule in missing}))
            raise _refused(
                resource,
                name,
                f'user "{user.name}" (groups={quoted(user.groups)}) is attempting to grant RBAC permissions not '
                f"currently held:\n{listed}",
            )


def _refused(resource: Resource, name: str, why: str) -> Forbidden:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return Forbidden(
        f'{resource.qualified_name} "{name}" is forbidden: {why}',
        details={key: value for key, value in details.items() if value},
    )


def _same_power(new: JsonObject, old: JsonObject) -> bool:
    return all((new.get(field) or None) == (old.get(field) or None) for field in ("rules", "aggregationRule"))


def _only_for_the_collector(new: JsonObject, old: JsonObject) -> bool:
    """Whether a change only lets garbage collection proceed: owners and finalizers."""

    def rest(obj: JsonObject) -> JsonObject:
        left = (*_COLLECTED, "managedFields", "resourceVersion")
        return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key not in left}}

    return new["metadata"] != old["metadata"] and rest(new) == rest(old)
