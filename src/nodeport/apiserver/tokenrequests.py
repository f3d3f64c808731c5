"""serviceaccounts/{name}/token: TokenRequests, answered with a token.

Rules: the TokenRequest subresource of Kubernetes 1.36, in its order and with its texts.
"""

from __future__ import annotations

from datetime import timedelta

from nodeport.api.meta import JsonObject
from nodeport.api.resources import NODES, PODS, SECRETS, GroupVersionKind, Resource
from nodeport.api.status import BadRequest, Conflict, NotFound, invalid, invalid_object
from nodeport.apiserver.admission import noderestriction
from nodeport.apiserver.auth import User
from nodeport.apiserver.authentication.serviceaccounts import Bound, ServiceAccountTokens
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.routes import Target
from nodeport.kit.clock import rfc3339

TOKEN_REQUEST = GroupVersionKind("authentication.k8s.io", "v1", "TokenRequest")
TOKEN_REQUEST_SCHEMA = "io.k8s.api.authentication.v1.TokenRequest"
DEFAULT_SECONDS = 3600
LEAST_SECONDS = 600
MOST_SECONDS = 1 << 32


class TokenRequests:
    def __init__(self, registry: Registry, tokens: ServiceAccountTokens) -> None:
        self._registry = registry
        self._tokens = tokens

    async def create(self, target: Target, request: JsonObject, user: User, *, dry_run: bool) -> JsonObject:
        """The request with its answer. A dry run answers without a token: it would be a real one."""
        metadata = request.get("metadata") or {}
        _check_identity(target, metadata)
        account = await self._object(target.resource, target.namespace, target.name)
        asked = metadata.get("uid")
        if asked and asked != account["metadata"]["uid"]:
            raise _conflict(
                target.resource.qualified_name,
                target.name,
                f"the UID in the token request ({asked}) does not match the UID of the service account "
                f"({account['metadata']['uid']})",
            )
        spec = request.get("spec") or {}
        seconds = DEFAULT_SECONDS if spec.get("expirationSeconds") is None else spec["expirationSeconds"]
        _check_lifetime(seconds)
        bound = await self._bound(target, spec, user)
        audiences = spec.get("audiences") or list(self._tokens.audiences)
        found = account["metadata"]
        answer: JsonObject = {
            "kind": TOKEN_REQUEST.kind, "apiVersion": TOKEN_REQUEST.api_version,
            "metadata": {
                "name": found["name"], "namespace": found["namespace"], "uid": found["uid"],
                "creationTimestamp": rfc3339(self._registry.clock.now()),
            },
            "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
            "status": {"token": "", "expirationTimestamp": None},
        }  # fmt: skip
        if not dry_run:
            token, end = self._tokens.sign(account, audiences, timedelta(seconds=seconds), bound)
            answer["status"] = {"token": token, "expirationTimestamp": rfc3339(end)}
        return answer

    async def _object(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        kv = await self._registry.find(resource, namespace, name)
        return self._registry.entry(resource).splicer.read(kv)

    async def _bound(self, target: Target, spec: JsonObject, user: User) -> dict[str, Bound]:
        """What the token is to be bound to; for a pod also the node where it runs."""
        reference = spec.get("boundObjectRef")
        if not reference:
            if node := user.node_name:
                noderestriction.check_token(node, target, spec, None)
            return {}
        group, kind = (reference.get("apiVersion") or "").rpartition("/")[0], reference.get("kind") or ""
        name = reference.get("name") or ""
        match (group, kind):
            case ("", "Pod"):
                obj = await self._object(PODS, target.namespace, name)
                _check_account(target, obj)
                found = await self._with_node(obj)
            case ("", "Secret"):
                obj = await self._object(SECRETS, target.namespace, name)
                found = {"secret": _as_bound(obj)}
            case ("", "Node"):
                obj = await self._object(NODES, "", name)
                found = {"node": _as_bound(obj)}
            case _:
                shown = f"{group}/{(reference.get('apiVersion') or '').rpartition('/')[2]}, Kind={kind}"
                raise BadRequest(f"cannot bind token to object of type {shown}")
        _check_uid(kind, name, reference.get("uid") or "", obj["metadata"]["uid"])
        if node := user.node_name:
            noderestriction.check_token(node, target, spec, obj)
        return found

    async def _with_node(self, pod: JsonObject) -> dict[str, Bound]:
        found = {"pod": _as_bound(pod)}
        node = (pod.get("spec") or {}).get("nodeName")
        if node:
            try:
                found["node"] = _as_bound(await self._object(NODES, "", node))
            except NotFound:
                found["node"] = Bound(node)
        return found


def _as_bound(obj: JsonObject) -> Bound:
    return Bound(obj["metadata"]["name"], obj["metadata"]["uid"])


def _check_identity(target: Target, metadata: JsonObject) -> None:
    for field, wanted in (("name", target.name), ("namespace", target.namespace)):
        found = metadata.get(field)
        if found and found != wanted:
            detail = f"must match the service account {field} if specified"
            raise invalid_object(TOKEN_REQUEST, target.name, [invalid(f"metadata.{field}", found, detail)])


def _check_lifetime(seconds: int) -> None:
    if seconds < LEAST_SECONDS:
        detail = "may not specify a duration less than 10 minutes"
    elif seconds > MOST_SECONDS:
        detail = "may not specify a duration larger than 2^32 seconds"
    else:
        return
    raise invalid_object(TOKEN_REQUEST, "", [invalid("spec.expirationSeconds", seconds, detail)])


def _check_account(target: Target, pod: JsonObject) -> None:
    if ((pod.get("spec") or {}).get("serviceAccountName") or "default") != target.name:
        raise BadRequest(
            f'cannot bind token for serviceaccount "{target.name}" to pod running with different serviceaccount name.'
        )


def _check_uid(kind: str, name: str, asked: str, found: str) -> None:
    if asked and asked != found:
        raise _conflict(
            kind,
            name,
            f"the UID in the bound object reference ({asked}) does not match the UID in record. The object might "
            "have been deleted and then recreated",
        )


def _conflict(what: str, name: str, why: str) -> Conflict:
    message = f'Operation cannot be fulfilled on {what} "{name}": {why}'
    return Conflict(message, details={"name": name, "kind": what})
