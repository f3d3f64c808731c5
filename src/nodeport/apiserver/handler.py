"""The door: each request is authenticated, routed, authorized, served, and every failure becomes a Status."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass

from aiohttp import web

from nodeport.api.status import ApiError, BadRequest, MethodNotAllowed, Unauthorized
from nodeport.apiserver.auth import OPEN_PATHS, Attributes, Authenticator, Authorizer, User, forbidden
from nodeport.apiserver.documents import Documents
from nodeport.apiserver.errors import answer_of, bug, from_store, method_not_allowed, unknown_path
from nodeport.apiserver.metrics import Metrics
from nodeport.apiserver.requests import Address, address_of
from nodeport.apiserver.routes import Router, Target
from nodeport.apiserver.verbs import Call, Verbs
from nodeport.kit.logs import get_logger
from nodeport.store.base import StoreError

_log = get_logger("nodeport.apiserver")
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Doorkeepers:
    authenticator: Authenticator
    authorizer: Authorizer


class Handler:
    def __init__(
        self, router: Router, verbs: Verbs, documents: Documents, doorkeepers: Doorkeepers, metrics: Metrics
    ) -> None:
        self._router = router
        self._verbs = verbs
        self._documents = documents
        self._doorkeepers = doorkeepers
        self._metrics = metrics

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        began = time.perf_counter()
        verb = request.method
        resource = ""
        try:
            address = address_of(request)
            target = self._router.target(address.path)
            if target is None:
                response = await self._serve_document(request, address)
            else:
                verb, resource = target_verb(target, request, address), target.resource.qualified_name
                response = await self._serve_object(request, address, target, verb)
        except ApiError as error:
            response = answer_of(error)
        except StoreError as error:
            response = answer_of(from_store(error))
        except ConnectionError:
            raise
        except RecursionError:
            response = answer_of(BadRequest("the request is nested too deeply"))
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.raw_path)
            response = answer_of(bug(error))
        if not response.prepared:
            response.headers["Cache-Control"] = "no-cache, private"
        self._metrics.count(verb, resource, response.status, time.perf_counter() - began)
        return response

    def _user(self, request: web.BaseRequest) -> User:
        transport = request.transport
        connection = transport.get_extra_info("ssl_object") if transport is not None else None
        assert connection is None or isinstance(connection, ssl.SSLObject)
        return self._doorkeepers.authenticator.user(connection, request.headers.get("Authorization", ""))

    def _authorize(self, attributes: Attributes) -> None:
        if not self._doorkeepers.authorizer.allows(attributes):
            raise forbidden(attributes)

    async def _serve_document(self, request: web.BaseRequest, address: Address) -> web.StreamResponse:
        top = "/" + address.path.split("/")[1]
        try:
            user = self._user(request)
        except Unauthorized:
            if top not in OPEN_PATHS or "Authorization" in request.headers:
                raise
            user = ANONYMOUS
        if top not in OPEN_PATHS:
            self._authorize(Attributes(user, request.method.lower(), path=address.path))
        if not self._documents.knows(address.path):
            raise unknown_path()
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"the server does not allow {request.method} on {address.path}")
        return self._documents.answer(request, address)

    async def _serve_object(
        self, request: web.BaseRequest, address: Address, target: Target, verb: str
    ) -> web.StreamResponse:
        user = self._user(request)
        resource = target.resource
        asked = verb or request.method.lower()
        self._authorize(Attributes(user, asked, resource, target.namespace, target.name, target.subresource))
        if not is_allowed(target, verb):
            raise method_not_allowed(resource, asked)
        return await self._verbs.serve(Call(request, address, target, verb, user))


def target_verb(target: Target, request: web.BaseRequest, address: Address) -> str:
    verb = target.verb(request.method)
    if verb == "list" and address.query.get("watch", "false").lower() not in ("false", "0"):
        return "watch"
    return verb


def is_allowed(target: Target, verb: str) -> bool:
    """Whether the resource, or the subresource, knows the verb at this path."""
    if target.subresource:
        found = target.resource.subresource(target.subresource)
        return found is not None and verb in found.verbs
    if verb == "create" and (target.name or target.all_namespaces):
        return False
    return verb in target.resource.verbs
