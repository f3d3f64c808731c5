"""The door: each request is authenticated, routed, authorized, served, and every failure becomes a Status."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass

from aiohttp import web

from nodeport.api.selectors import parse_field_selector
from nodeport.api.status import ApiError, BadRequest, MethodNotAllowed, Unauthorized
from nodeport.apiserver.auth import ANONYMOUS, OPEN_PATHS, Attributes, Authorizer, User, about, forbidden
from nodeport.apiserver.authentication.authenticator import Authenticator
from nodeport.apiserver.authentication.impersonation import claim_of
from nodeport.apiserver.documents import Documents
from nodeport.apiserver.errors import answer_of, bug, from_store, method_not_allowed, unknown_path
from nodeport.apiserver.metrics import Metrics
from nodeport.apiserver.requests import Address, address_of
from nodeport.apiserver.routes import PROXY, UPGRADED, Router, Target
from nodeport.apiserver.verbs import Call, Verbs
from nodeport.kit.logs import get_logger
from nodeport.store.base import StoreError

_log = get_logger("nodeport.apiserver")
_SELECTING = ("list", "watch", "deletecollection")


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
            response.headers.setdefault("Cache-Control", "no-cache, private")
        self._metrics.count(verb, resource, response.status, time.perf_counter() - began)
        return response

    async def _user(self, request: web.BaseRequest) -> User:
        """Who asks, or whom he is allowed to speak for."""
        transport = request.transport
        connection = transport.get_extra_info("ssl_object") if transport is not None else None
        assert connection is None or isinstance(connection, ssl.SSLObject)
        authorization = request.headers.get("Authorization", "")
        user = await self._doorkeepers.authenticator.user(connection, authorization)
        claim = claim_of(request.raw_headers)
        if claim is None:
            return user
        for question in claim.questions(user):
            await self._authorize(question)
        return claim.user()

    async def _authorize(self, attributes: Attributes) -> None:
        if attributes.user.is_master:
            return
        decision = await self._doorkeepers.authorizer.decide(attributes)
        if not decision.allowed:
            raise forbidden(attributes, decision.reason)

    async def _serve_document(self, request: web.BaseRequest, address: Address) -> web.StreamResponse:
        top = "/" + address.path.split("/")[1]
        try:
            user = await self._user(request)
        except Unauthorized:
            if top not in OPEN_PATHS or "Authorization" in request.headers:
                raise
            user = ANONYMOUS
        if top not in OPEN_PATHS:
            await self._authorize(Attributes(user, request.method.lower(), path=address.path))
        if not self._documents.knows(address.path):
            raise unknown_path()
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"the server does not allow {request.method} on {address.path}")
        return await self._documents.answer(request, address)

    async def _serve_object(
        self, request: web.BaseRequest, address: Address, target: Target, verb: str
    ) -> web.StreamResponse:
        user = await self._user(request)
        resource = target.resource
        asked = verb or request.method.lower()
        if not user.is_master:
            await self._authorize(attributes_of(user, asked, target, address))
            if asked == "get" and target.subresource in UPGRADED:
                await self._authorize(attributes_of(user, "create", target, address))
        if not is_allowed(target, verb):
            raise method_not_allowed(resource, asked)
        return await self._verbs.serve(Call(request, address, target, verb, user))


def attributes_of(user: User, verb: str, target: Target, address: Address) -> Attributes:
    """What is asked for; a field selector of one name asks for that object."""
    name, selector = target.name, ""
    if verb in _SELECTING and (selector := address.query.get("fieldSelector", "")) and not name:
        name = _selected_name(selector)
    return about(user, verb, target.resource, target.namespace, name, target.subresource, selector)


def _selected_name(selector: str) -> str:
    try:
        requirements = parse_field_selector(selector).requirements
    except BadRequest:
        return ""  # whoever reads the selector will say what is wrong
    return next((value for path, word, value in requirements if path == "metadata.name" and word == "="), "")


def target_verb(target: Target, request: web.BaseRequest, address: Address) -> str:
    verb = target.verb(request.method)
    if verb == "list" and address.query.get("watch", "false").lower() not in ("false", "0"):
        return "watch"
    return verb


def is_allowed(target: Target, verb: str) -> bool:
    """Whether the resource, or the subresource, knows the verb at this path."""
    if target.subresource == PROXY:
        return True
    if target.subresource:
        found = target.resource.subresource(target.subresource)
        return found is not None and verb in found.verbs
    if verb == "create" and (target.name or target.all_namespaces):
        return False
    return verb in target.resource.verbs
