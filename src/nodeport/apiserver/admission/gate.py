"""The checks that need both the user and the object: called by whoever writes, before validation."""

from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.api.rbac import GROUP
from nodeport.api.resources import CERTIFICATE_SIGNING_REQUESTS, Resource
from nodeport.apiserver.admission import certificates, noderestriction
from nodeport.apiserver.auth import Authorizer, User, about, forbidden
from nodeport.apiserver.authorization.escalation import Escalation
from nodeport.apiserver.routes import Target


class AdmissionGate:
    """Each method raises 403, or lets it pass. ``user`` None: the server itself, to whom nothing is refused."""

    def __init__(self, escalation: Escalation, authorizer: Authorizer) -> None:
        self._escalation = escalation
        self._authorizer = authorizer

    async def create(self, user: User | None, target: Target, obj: JsonObject) -> None:
        if user is None:
            return
        if target.resource.group == GROUP:
            await self._escalation.check(user, target.resource, obj, None)
        if node := user.node_name:
            noderestriction.check_create(node, target, obj)
        if target.resource is CERTIFICATE_SIGNING_REQUESTS:
            certificates.note_requester(obj, user)
            certificates.check_create(user, target, obj)

    async def update(self, user: User | None, target: Target, new: JsonObject, old: JsonObject) -> None:
        if user is None:
            return
        if target.resource.group == GROUP:
            await self._escalation.check(user, target.resource, new, old)
        if node := user.node_name:
            noderestriction.check_update(node, target, new, old)
        if target.resource is CERTIFICATE_SIGNING_REQUESTS:
            await certificates.check_update(self._authorizer, user, target, new, old)

    async def delete(self, user: User | None, target: Target, old: JsonObject) -> None:
        if user is not None and (node := user.node_name):
            noderestriction.check_delete(node, target, old)

    async def may_create(self, user: User | None, resource: Resource, namespace: str, name: str) -> None:
        """For writes that create what is missing: whoever may only update may not create in this way."""
        if user is None or user.is_master:
            return
        asked = about(user, "create", resource, namespace, name)
        decision = await self._authorizer.decide(asked)
        if not decision.allowed:
            raise forbidden(asked, decision.reason)
