"""Questions about users and what they may do, asked as objects that are never stored.

Rules: ``authentication.k8s.io/v1`` and ``authorization.k8s.io/v1`` of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api.meta import JsonObject
from nodeport.api.rbac import PolicyRule
from nodeport.api.resources import (
    LOCAL_SUBJECT_ACCESS_REVIEWS,
    SELF_SUBJECT_ACCESS_REVIEWS,
    SELF_SUBJECT_REVIEWS,
    SELF_SUBJECT_RULES_REVIEWS,
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
)
from nodeport.api.status import BadRequest, FieldError, NotFound, invalid, invalid_object
from nodeport.apiserver.auth import Attributes, Authorizer, User
from nodeport.apiserver.authentication.authenticator import Authenticator
from nodeport.apiserver.authentication.serviceaccounts import ServiceAccountTokens
from nodeport.apiserver.authorization.rbac import RbacIndex
from nodeport.apiserver.routes import Target

_NODES_ARE_ASKED_ONE_BY_ONE = "node authorizer does not support user rule resolution"
_EXACTLY_ONE = "exactly one of nonResourceAttributes or resourceAttributes must be specified"


class Reviews:
    """``answer`` fills in a review's status. ``other_tokens``: those that are for this server only."""

    def __init__(
        self,
        tokens: ServiceAccountTokens,
        other_tokens: Authenticator,
        authorizer: Authorizer,
        index: RbacIndex,
    ) -> None:
        self._tokens = tokens
        self._other_tokens = other_tokens
        self._authorizer = authorizer
        self._index = index

    async def answer(self, target: Target, review: JsonObject, user: User) -> JsonObject:
        """The review with its answer. 400 and 422 for what cannot be answered."""
        match target.resource:
            case row if row is TOKEN_REVIEWS:
                status = await self._token(review)
            case row if row is SELF_SUBJECT_REVIEWS:
                status = {"userInfo": user_info(user)}
            case row if row is SELF_SUBJECT_RULES_REVIEWS:
                status = self._rules(review, user)
            case row if row in (
                SUBJECT_ACCESS_REVIEWS,
                LOCAL_SUBJECT_ACCESS_REVIEWS,
                SELF_SUBJECT_ACCESS_REVIEWS,
            ):
                status = await self._access(target, review, user)
            case _:
                raise NotFound("the server could not find the requested resource")
        head = {"kind": target.resource.kind, "apiVersion": target.resource.api_version}
        metadata = review.get("metadata") or {}
        spec = {"spec": review.get("spec") or {}} if target.resource is not SELF_SUBJECT_REVIEWS else {}
        return {**head, "metadata": metadata, **spec, "status": status}

    # Whose token is this?

    async def _token(self, review: JsonObject) -> JsonObject:
        spec = review.get("spec") or {}
        token, audiences = spec.get("token") or "", spec.get("audiences") or list(self._tokens.audiences)
        if not token:
            raise BadRequest("token is required for TokenReview in authentication")
        verified = await self._tokens.verify(token, audiences)
        if verified is not None:
            user, common = verified.user, list(verified.audiences)
        else:
            found = await self._other_tokens.user_of_token(token)
            common = [each for each in audiences if each in self._tokens.audiences]
            if found is None or not common:
                return {"user": {}, "error": "invalid bearer token"}
            user = found
        return {"authenticated": True, "user": user_info(user), "audiences": common}

    # May he?

    async def _access(self, target: Target, review: JsonObject, user: User) -> JsonObject:
        errors = list(_access_errors(target, review))
        if errors:
            raise invalid_object(target.resource, "", errors)
        spec = review.get("spec") or {}
        asking = user if target.resource is SELF_SUBJECT_ACCESS_REVIEWS else _user_of(spec)
        asked = _attributes(asking, spec)
        if asking.is_master:
            return {"allowed": True}
        decision = await self._authorizer.decide(asked)
        reason = decision.reason or (self._index.why_allowed(asked) if decision.allowed else "")
        return {"allowed": decision.allowed, **({"reason": reason} if reason else {})}

    # What may I?

    def _rules(self, review: JsonObject, user: User) -> JsonObject:
        namespace = (review.get("spec") or {}).get("namespace") or ""
        if not namespace:
            raise BadRequest("no namespace on request")
        rules = self._index.rules_for(user, namespace)
        status: JsonObject = {
            "resourceRules": [_shown(rule) for rule in rules if rule.resources],
            "nonResourceRules": [_shown(rule) for rule in rules if rule.non_resource_urls],
            "incomplete": bool(user.node_name),
        }
        if user.node_name:
            status["evaluationError"] = _NODES_ARE_ASKED_ONE_BY_ONE
        return status


def user_info(user: User) -> JsonObject:
    found: JsonObject = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    found["extra"] = {key: list(values) for key, values in user.extra}
    return {key: value for key, value in found.items() if value}


def _shown(rule: PolicyRule) -> JsonObject:
    return {"verbs": [], **rule.to_json()}


def _user_of(spec: JsonObject) -> User:
    extra = sorted((key, tuple(values)) for key, values in (spec.get("extra") or {}).items())
    return User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", tuple(extra))


def _attributes(user: User, spec: JsonObject) -> Attributes:
    path = spec.get("nonResourceAttributes")
    if path is not None:
        return Attributes(user, path.get("verb") or "", path=path.get("path") or "")
    asked = spec["resourceAttributes"]
    verb, group, resource, subresource, namespace, name = (
        str(asked.get(field) or "")
        for field in ("verb", "group", "resource", "subresource", "namespace", "name")
    )
    selector = _field_selector(asked.get("fieldSelector") or {})
    return Attributes(user, verb, group, resource, subresource, namespace, name, field_selector=selector)


def _field_selector(selector: JsonObject) -> str:
    if selector.get("rawSelector"):
        return str(selector["rawSelector"])
    return ",".join(
        f"{each.get('key')}={each['values'][0]}"
        for each in selector.get("requirements") or []
        if each.get("operator") == "In" and len(each.get("values") or []) == 1
    )


def _access_errors(target: Target, review: JsonObject) -> Iterator[FieldError]:
    spec = review.get("spec") or {}
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and path is not None:
        detail = "cannot be specified in combination with resourceAttributes"
        yield invalid("spec.nonResourceAttributes", path, detail)
    if resource is None and path is None:
        yield invalid("spec.resourceAttributes", None, _EXACTLY_ONE)
    asks_for_another = target.resource is not SELF_SUBJECT_ACCESS_REVIEWS
    if asks_for_another and not spec.get("user") and not spec.get("groups"):
        yield invalid("spec.user", "", "at least one of user or group must be specified")
    metadata = {
        key: value
        for key, value in (review.get("metadata") or {}).items()
        if value and key not in ("managedFields", "namespace")
    }
    if metadata:
        yield invalid("metadata", review["metadata"], "must be empty")
    if target.resource is LOCAL_SUBJECT_ACCESS_REVIEWS:
        yield from _local_errors(target, resource, path)


def _local_errors(
    target: Target, resource: JsonObject | None, path: JsonObject | None
) -> Iterator[FieldError]:
    if path is not None:
        yield invalid("spec.nonResourceAttributes", path, "disallowed on this kind of request")
    namespace = (resource or {}).get("namespace") or ""
    if resource is not None and namespace != target.namespace:
        yield invalid("spec.resourceAttributes.namespace", namespace, "must match metadata.namespace")
